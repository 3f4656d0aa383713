"""Whoever stands between device and gateway has one guess, and learns nothing that helps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from spake2 import SPAKE2_B

from tests.adversarial import forging
from tests.adversarial.device import Confirmation, Device, confirmation, parts, sha256, wrong
from tests.adversarial.guessing import guess
from tests.adversarial.house import Gateway
from tests.adversarial.relay import ManInTheMiddle, deceived, standing_between
from tests.adversarial.wire import Refusal, grpc, messages, refusal_of

FAILED = ("FAILED_PRECONDITION", "pairing_failed")
NAMES = {"idA": b"palyra-pake-v1 device", "idB": b"palyra-pake-v1 gateway"}


@pytest.fixture(scope="module")
def config() -> str:
    """Its own gateway: the nameplate is 1 in every test."""
    return ""


@pytest.fixture
def man(gateway: Gateway) -> Iterator[ManInTheMiddle]:
    """Somebody in the middle."""
    with standing_between(gateway) as man:
        yield man


def pairing_fails(device: Device, code: str) -> Refusal:
    """What an honest device is answered that was deceived about the CA."""
    with pytest.raises(grpc.RpcError) as caught:
        device.pair_by_pin(code)
    refusal = refusal_of(caught.value)
    assert not any(secret in refusal.text for secret in device.secrets)
    return refusal


def test_what_he_carries_on_costs_a_guess_and_pairs_nobody(
    gateway: Gateway, man: ManInTheMiddle
) -> None:
    """He passes everything on: the CA in the transcript is his, and the gateway refuses."""
    code, device = gateway.pin(), deceived(man)
    with gateway.unmoved(but=code, guesses=1):
        assert pairing_fails(device, code.pin).kind == FAILED
    assert gateway.tries(man.himself.source) == 1
    assert parts(code.pin)[1].encode() not in b"".join(m.SerializeToString() for m in man.heard)
    assert not any(isinstance(m, messages.CompletePairingSessionResponse) for m in man.told)
    Device(gateway).pair_by_pin(code.pin)


def test_swapping_what_he_carries_does_not_help(gateway: Gateway, man: ManInTheMiddle) -> None:
    """His own CSR, identity key and announcement in the device's message."""
    code, device, thief = gateway.pin(), deceived(man), Device(gateway)

    def swap(message: Any, forward: Any) -> Any:
        message.enrolment.csr_der = thief.csr
        message.device_id.ulid = thief.device_id
        message.device_signing_public = thief.identity_public
        return forward(message)

    man.on_complete = swap
    with gateway.unmoved(but=code, guesses=1):
        assert pairing_fails(device, code.pin).kind == FAILED
    Device(gateway).pair_by_pin(code.pin)


class Player:
    """He plays the gateway with a PIN that he guessed."""

    def __init__(self, man: ManInTheMiddle, guessed: str) -> None:
        scalar = os.urandom(64)
        self._entropy = lambda size: scalar[:size]
        self._man = man
        self._spake = SPAKE2_B(guessed.encode(), **NAMES, entropy_f=self._entropy)
        self._share: bytes = self._spake.start()
        self.opened: Any = None
        self.heard: Any = None
        man.on_begin, man.on_complete = self._begin, self._complete

    def _begin(self, message: Any, forward: Any) -> Any:
        self.opened = messages.BeginPairingSessionResponse(
            v=1,
            session_id=os.urandom(16).hex(),
            client_kind=message.client_kind,
            gateway_ephemeral_public=b"\x09" + bytes(31),
            challenge=os.urandom(32),
        )
        self.opened.pake.suite, self.opened.pake.share = 1, self._share
        return self.opened

    def _complete(self, message: Any, forward: Any) -> Any:
        self.heard = message
        made = self._made(self._spake.finish(message.enrolment.pake_share))
        assert made.ours != message.enrolment.pake_confirm
        return messages.CompletePairingSessionResponse(v=1, pake_confirm=made.theirs)

    def fits(self, pin: str) -> bool:
        """Whether another PIN explains what he has heard, with the share that he has sent."""
        spake = SPAKE2_B(pin.encode(), **NAMES, entropy_f=self._entropy)
        spake.start()
        spake.outbound_message = self._share[1:]
        made = self._made(spake.finish(self.heard.enrolment.pake_share))
        return bool(made.ours == self.heard.enrolment.pake_confirm)

    def _made(self, key: bytes) -> Confirmation:
        ca = sha256(self._man.root.der)
        return confirmation(key, self.opened, self.heard, nameplate=1, ca=ca)


def test_he_has_one_guess_and_the_device_stops(gateway: Gateway, man: ManInTheMiddle) -> None:
    """He plays the gateway with a PIN he guessed: cA tells him that it was wrong, and no more.

    No other PIN fits what he has seen, not even the right one: his guess is in his own share.
    """
    code, device = gateway.pin(), deceived(man)
    right, guessed = parts(code.pin)[1], parts(wrong(code.pin))[1]
    player = Player(man, guessed)
    with gateway.unmoved(but=code, guesses=0):
        with pytest.raises(AssertionError, match="not proven"):
            device.pair_by_pin(f"1-{right}")
        for tried in (right, guessed, *(f"{n:06d}" for n in range(0, 1_000_000, 20_000))):
            assert not player.fits(tried), "the PIN could be searched for"
    assert gateway.tries(man.himself.source) == 0
    Device(gateway).pair_by_pin(code.pin)


def test_he_retries_until_he_is_shut_out(gateway: Gateway, man: ManInTheMiddle) -> None:
    """After the device's run he guesses on by himself: three in all, and the code lives."""
    code, device = gateway.pin(), deceived(man)
    tried = code.pin

    with gateway.unmoved(but=code, guesses=3):
        assert pairing_fails(device, code.pin).kind == FAILED
        for _ in range(2):
            tried = wrong(tried)
            assert guess(man.himself, tried).kind == FAILED
        offer = man.himself.offer_pin(parts(code.pin)[0])
        refusal = man.himself.refused(man.himself.begin, offer)
    assert refusal.kind == ("RESOURCE_EXHAUSTED", "pairing_limited")
    assert gateway.state_of(code) == "active"
    Device(gateway).pair_by_pin(code.pin)


def test_he_replays_what_he_saw_of_an_honest_run(gateway: Gateway) -> None:
    """A wire he can read: Begin, Complete and cB of a run that held are worth nothing later."""
    code, device = gateway.pin(), Device(gateway)
    opened = device.begin(device.offer_pin(parts(code.pin)[0]))
    message, sent = device.prove(opened, code.pin)
    answer = device.complete(message)
    assert answer.pake_confirm == sent.theirs
    next_code, thief = gateway.pin(), Device(gateway)
    fresh = thief.begin(thief.offer_pin(parts(next_code.pin)[0]))
    message.session_id = fresh.session_id
    with gateway.unmoved(but=next_code, guesses=1):
        assert thief.refused(thief.complete, message).kind == FAILED
    with gateway.unmoved(but=next_code, guesses=1):
        message, _ = thief.prove(
            thief.begin(thief.offer_pin(parts(next_code.pin)[0])), wrong(next_code.pin)
        )
        message.enrolment.pake_confirm = answer.pake_confirm  # cB as cA
        assert thief.refused(thief.complete, message).kind == FAILED
    Device(gateway).pair_by_pin(next_code.pin)


@pytest.fixture
def forged(gateway: Gateway) -> x509.Certificate:
    """A root with the real CA's key and name that the CA never signed."""
    return forging.root_with_the_key_of(x509.load_der_x509_certificate(gateway.ca_der))


def test_a_forged_root_with_the_right_key_does_not_pair(
    gateway: Gateway, forged: x509.Certificate
) -> None:
    """TLS takes it: the gateway's own leaf verifies under it.  What both ends hash does not."""
    device = Device(gateway)
    device.ca_der = forged.public_bytes(Encoding.DER)
    code, token = gateway.pin(), gateway.token()
    with gateway.unmoved(but=code, guesses=1):
        opened = device.begin(device.offer_pin(parts(code.pin)[0]))
        message, _ = device.prove(opened, code.pin)
        assert device.refused(device.complete, message).kind == FAILED
    with gateway.unmoved():
        refusal = device.refused(device.pair_by_token, token)
        assert refusal.kind == ("FAILED_PRECONDITION", "verification_failed")
    Device(gateway).pair_by_pin(code.pin)


def test_a_device_that_knows_the_ca_does_not_speak_to_him(
    gateway: Gateway, man: ManInTheMiddle
) -> None:
    """With the CA from a pairing line, a file or an earlier pairing, TLS already fails."""
    device = Device(gateway, way=man.address)
    with gateway.unmoved():
        refusal = device.refused(device.begin, device.offer_rejoin())
    assert refusal.status == "UNAVAILABLE"
    assert man.heard == []


# -- our own node host ------------------------------------------------------------------------


def node_host(gateway: Gateway, address: str, code: str, name: str) -> str:
    """What ``palyra node run`` says when it gives up; it believed and stored nothing."""
    root = gateway.path / name
    where = ["--state-root", str(root), "--gateway", address, "--pairing-code-stdin"]
    process = gateway.run("palyra", "node", "run", *where, stdin=f"{code}\n", log=name)
    assert process.wait() in (1, 3), process.output()
    names = {file.name for file in root.rglob("*") if file.is_file()}
    assert not names & {"pairing.json", "node-host.json"}, names
    kept = b"".join(file.read_bytes() for file in root.rglob("*") if file.is_file())
    assert b"BEGIN CERTIFICATE" not in kept
    assert parts(code)[1] not in process.output()
    return process.output()


def heard(man: ManInTheMiddle) -> bytes:
    """All that he was told."""
    return b"".join(message.SerializeToString() for message in man.heard)


def test_the_node_host_gives_up_where_he_carries_on(gateway: Gateway, man: ManInTheMiddle) -> None:
    """One guess of his, and the PIN is void; nothing is stored, and the PIN is not heard."""
    code = gateway.pin()
    with gateway.unmoved(but=code, guesses=1):
        said = node_host(gateway, man.address, code.pin, "carried")
    assert "That PIN is wrong, expired or used up." in said
    assert parts(code.pin)[1].encode() not in heard(man)
    assert len(man.heard) == 2, "the PIN was used twice"
    Device(gateway).pair_by_pin(code.pin)


def test_the_node_host_gives_up_where_he_plays_the_gateway(
    gateway: Gateway, man: ManInTheMiddle
) -> None:
    """A wrong confirmation of the gateway: the person is told that someone may be in between."""
    code = gateway.pin()
    player = Player(man, parts(wrong(code.pin))[1])
    with gateway.unmoved(but=code, guesses=0):
        said = node_host(gateway, man.address, code.pin, "played")
    assert "did not prove that it knows the PIN" in said and "someone may be in between" in said
    assert not player.fits(parts(code.pin)[1])
    Device(gateway).pair_by_pin(code.pin)


def test_the_node_host_does_not_fall_back_to_version_1(
    gateway: Gateway, man: ManInTheMiddle
) -> None:
    """He takes SPAKE2 out of the gateway's answer: the PIN is not sent instead."""
    code = gateway.pin()

    def strip(message: Any, forward: Any) -> Any:
        opened = forward(message)
        opened.ClearField("pake")
        return opened

    man.on_begin = strip
    with gateway.unmoved(but=code, guesses=None):
        node_host(gateway, man.address, code.pin, "stripped")
    assert parts(code.pin)[1].encode() not in heard(man)
    Device(gateway).pair_by_pin(code.pin)


def test_the_node_host_looks_at_the_signature_of_the_root(
    gateway: Gateway, forged: x509.Certificate
) -> None:
    """To whoever shows a root with the real CA's key that the CA never signed, nothing is sent."""
    code = gateway.pin()
    with standing_between(gateway, forged) as man:
        with gateway.unmoved(but=code, guesses=0):
            node_host(gateway, man.address, code.pin, "forged")
        assert man.heard == []
    Device(gateway).pair_by_pin(code.pin)
