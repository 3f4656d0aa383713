"""The second opinion: what this client computes is what the node host's own code computes."""

from __future__ import annotations

import hashlib
import os

import pytest
from spake2 import SPAKE2_B

from palyra.core.devices import ClientKind
from palyra.core.handshake import Begun
from palyra.core.pake import Confirmations, DevicePake, PakeTranscript
from palyra.core.transcript import DeviceProof
from palyra.wire import pairing as pairing_wire
from tests.adversarial.device import confirmation
from tests.adversarial.wire import lp, messages, ulid


def some_message(session_id: str) -> messages.CompletePairingSessionRequest:
    """A Complete in which every field is another one."""
    message = messages.CompletePairingSessionRequest(
        v=1,
        session_id=session_id,
        client_kind="node",
        device_signing_public=os.urandom(32),
        device_x25519_public=os.urandom(32),
        challenge_signature=os.urandom(64),
        transcript_mac=os.urandom(32),
    )
    message.device_id.ulid = ulid()
    message.enrolment.csr_der = os.urandom(300)
    message.enrolment.identity_signature = os.urandom(64)
    message.enrolment.announcement = b"{}"
    message.enrolment.pake_confirm = bytes(32)
    return message


@pytest.mark.parametrize("nameplate", [1, 20])
def test_both_confirmations_are_computed_alike(nameplate: int) -> None:
    """T, R, kA and kB from PROTOCOL's text, and from palyra.core.pake."""
    device = DevicePake("418207", os.urandom)
    gateway = SPAKE2_B(b"418207", idA=b"palyra-pake-v1 device", idB=b"palyra-pake-v1 gateway")
    opened = messages.BeginPairingSessionResponse(
        v=1,
        session_id=os.urandom(16).hex(),
        client_kind="node",
        gateway_ephemeral_public=os.urandom(32),
        challenge=os.urandom(32),
    )
    opened.pake.suite, opened.pake.share = 1, gateway.start()
    message = some_message(opened.session_id)
    message.enrolment.pake_share = device.share
    ca = os.urandom(32)
    proof: DeviceProof = pairing_wire.read_complete(message)
    assert proof.client_kind is ClientKind.NODE
    theirs = Confirmations.of(
        device.finish(opened.pake.share),
        PakeTranscript(
            Begun(opened.session_id, opened.challenge, opened.gateway_ephemeral_public),
            nameplate,
            ca,
            opened.pake.share,
            device.share,
            proof,
        ),
    )
    ours = confirmation(gateway.finish(device.share), opened, message, nameplate=nameplate, ca=ca)
    assert (theirs.device, theirs.gateway) == (ours.ours, ours.theirs)


def test_fields_do_not_run_into_each_other() -> None:
    """LP is injective: what moves from one field into the next changes the bytes."""
    assert lp(b"ab", b"c") != lp(b"a", b"bc") != lp(b"abc")
    assert lp(b"x") == b"\x01\x00\x00\x00x"
    assert hashlib.sha256(lp()).digest() == hashlib.sha256(b"").digest()
