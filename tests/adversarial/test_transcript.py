"""Pairing by PIN: shares, confirmations and messages that are not what both ends saw."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from palyra.console.models import MintedCode
from tests.adversarial import forging
from tests.adversarial.device import Device, parts
from tests.adversarial.guessing import each_is_a_wrong_guess, end, opened_for
from tests.adversarial.house import Gateway
from tests.adversarial.wire import messages, ulid

FAILED = ("FAILED_PRECONDITION", "pairing_failed")
SESSION_OVER = ("FAILED_PRECONDITION", "pairing_session_unknown")
STRANGER = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
Change = Callable[[Any], object]
Proof = Callable[[Device, MintedCode], Any]


@pytest.fixture(scope="module")
def config() -> str:
    """Its own gateway: after fifty wrong guesses nobody may try a PIN for a while."""
    return ""


def identity_share() -> bytes:
    """The neutral element: K would not depend on the PIN."""
    return b"A" + (1).to_bytes(32, "little")


SHARES = {
    "the identity": identity_share(),
    "zero": b"A" + bytes(32),
    "order 2": b"A" + (2**255 - 20).to_bytes(32, "little"),
    "order 4": b"A" + bytes(31) + b"\x80",
    "order 8": b"A"
    + bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "not canonical": b"A" + (2**255 - 18).to_bytes(32, "little"),
    "not on the curve": b"A" + (2).to_bytes(32, "little"),
    "all ones": b"\xff" * 33,
    "the wrong side": b"B" + bytes.fromhex("58" + "66" * 31),
    "the base point": b"A" + bytes.fromhex("58" + "66" * 31),
}


def with_share(share: bytes) -> Proof:
    """An honest proof but for X, which is in the transcript as it is sent."""

    def proof(device: Device, code: MintedCode) -> Any:
        def swap(message: Any) -> None:
            message.enrolment.pake_share = share

        return device.prove(opened_for(device, code), code.pin, before=swap)[0]

    return proof


def reflected(letter: bytes) -> Proof:
    """Y comes back as X, under either side's letter."""

    def proof(device: Device, code: MintedCode) -> Any:
        opened = opened_for(device, code)

        def reflect(message: Any) -> None:
            message.enrolment.pake_share = letter + opened.pake.share[1:]

        return device.prove(opened, code.pin, before=reflect)[0]

    return proof


def test_a_bad_share_is_a_wrong_guess(gateway: Gateway) -> None:
    """Whatever is wrong with X, it costs a guess and says what a wrong PIN says."""
    proofs = {name: with_share(share) for name, share in SHARES.items()}
    mirrors = {f"Y as {letter!r}": reflected(letter) for letter in (b"A", b"B")}
    each_is_a_wrong_guess(gateway, proofs | mirrors)


UNPROVEN: dict[str, Change] = {
    "no share": lambda m: setattr(m.enrolment, "pake_share", b""),
    "no confirmation": lambda m: setattr(m.enrolment, "pake_confirm", b""),
    "neither": lambda m: [m.enrolment.ClearField(f) for f in ("pake_share", "pake_confirm")],
    "zeros": lambda m: setattr(m.enrolment, "pake_confirm", bytes(32)),
    "the share as confirmation": lambda m: setattr(
        m.enrolment, "pake_confirm", m.enrolment.pake_share[1:]
    ),
}
MALFORMED: dict[str, Change] = {
    "share of 32 bytes": lambda m: setattr(m.enrolment, "pake_share", m.enrolment.pake_share[:32]),
    "share of 34 bytes": lambda m: setattr(m.enrolment, "pake_share", bytes(34)),
    "confirmation of 31 bytes": lambda m: setattr(m.enrolment, "pake_confirm", bytes(31)),
    "confirmation of 64 bytes": lambda m: setattr(m.enrolment, "pake_confirm", bytes(64)),
}


def changed(change: Change) -> Proof:
    """A proof that held until something was changed on the way."""

    def proof(device: Device, code: MintedCode) -> Any:
        message, _ = device.prove(opened_for(device, code), code.pin)
        change(message)
        return message

    return proof


def test_without_a_confirmation_there_is_no_proof(gateway: Gateway) -> None:
    """What is empty or made up is a wrong guess: it never asks for less than SPAKE2."""
    each_is_a_wrong_guess(gateway, {what: changed(how) for what, how in UNPROVEN.items()})


def test_another_length_is_not_looked_at(gateway: Gateway, device: Device) -> None:
    """A share has 33 bytes and a confirmation 32."""
    code = gateway.pin()
    with gateway.unmoved():
        for what, change in MALFORMED.items():
            message = changed(change)(device, code)
            refusal = device.refused(device.complete, message)
            assert refusal.status == "INVALID_ARGUMENT", (what, refusal)
    end(gateway, code)


@pytest.mark.parametrize("change", ["no enrolment", "the PIN as proof"])
def test_a_right_pin_does_not_excuse_another_form(gateway: Gateway, change: str) -> None:
    """A version-1 message in a PIN's session, and a proof where PROTOCOL wants none."""
    code, device = gateway.pin(), Device(gateway)
    message, _ = device.prove(opened_for(device, code), code.pin)
    if change == "no enrolment":
        message.ClearField("enrolment")
    else:
        message.proof = parts(code.pin)[1]
    with gateway.unmoved(but=code, guesses=None):
        assert device.refused(device.complete, message).status == "FAILED_PRECONDITION"
    end(gateway, code)


def test_a_replayed_complete_is_worthless(gateway: Gateway, device: Device) -> None:
    """The same message again, in another session, and after the code was used."""
    code, other = gateway.pin(), gateway.pin()
    opened, second = opened_for(device, code), opened_for(device, other)
    message, _ = device.prove(opened, code.pin)
    moved = messages.CompletePairingSessionRequest.FromString(message.SerializeToString())
    moved.session_id = second.session_id
    with gateway.unmoved(but=other, guesses=1):
        assert device.refused(device.complete, moved).kind == FAILED
    answer = device.complete(message)
    with gateway.unmoved():
        assert device.refused(device.complete, message).kind == SESSION_OVER
        moved.session_id = opened_for(device, other).session_id
    with gateway.unmoved(but=other, guesses=1):
        assert device.refused(device.complete, moved).kind == FAILED
    assert device.pick_up(opened, answer).register().accepted
    end(gateway, other)


OTHERS: dict[str, Change] = {
    "challenge": lambda opened: setattr(opened, "challenge", bytes(32)),
    "session": lambda opened: setattr(opened, "session_id", "0" * 32),
    "ephemeral": lambda opened: setattr(opened, "gateway_ephemeral_public", b"\x09" + bytes(31)),
    "nameplate": lambda opened: None,
}


def of_another(what: str) -> Proof:
    """A proof by the right PIN for another run than the gateway's."""

    def proof(device: Device, code: MintedCode) -> Any:
        opened = opened_for(device, code)
        seen = messages.BeginPairingSessionResponse.FromString(opened.SerializeToString())
        OTHERS[what](seen)
        nameplate, pin = parts(code.pin)
        message, _ = device.prove(seen, f"{nameplate + (what == 'nameplate')}-{pin}")
        message.session_id = opened.session_id
        return message

    return proof


def test_a_confirmation_of_another_transcript_does_not_hold(gateway: Gateway) -> None:
    """cA made under another challenge, session, ephemeral key or nameplate, by the right PIN."""
    each_is_a_wrong_guess(gateway, {what: of_another(what) for what in OTHERS})


FIELDS: dict[str, Change] = {
    "csr": lambda m: setattr(m.enrolment, "csr_der", forging.csr(forging.fresh_key(), ulid())),
    "announcement": lambda m: setattr(m.enrolment, "announcement", b'{"name":"innocent"}'),
    "identity key": lambda m: setattr(m, "device_signing_public", STRANGER),
    "x25519": lambda m: setattr(m, "device_x25519_public", b"\x09" + bytes(31)),
    "sig": lambda m: setattr(m.enrolment, "identity_signature", bytes(64)),
    "v1 signature": lambda m: setattr(m, "challenge_signature", bytes(64)),
    "mac": lambda m: setattr(m, "transcript_mac", bytes(32)),
}


def test_what_is_swapped_on_the_way_fails_the_confirmation(gateway: Gateway) -> None:
    """Every field of the message is in the transcript: a change of any is a wrong guess."""
    each_is_a_wrong_guess(gateway, {what: changed(how) for what, how in FIELDS.items()})


def test_what_is_swapped_before_confirming_fails_the_signature(gateway: Gateway) -> None:
    """With the right PIN it is a fault and no guess, and the code is not used up by it.

    So it is with a signature for another purpose than pairing by PIN.
    """
    strange: dict[str, dict[str, Any]] = {what: {"before": how} for what, how in FIELDS.items()}
    strange |= {purpose: {"purpose": purpose} for purpose in ("pair-uri", "rejoin", "")}
    left = iter(strange.items())
    while some := list(itertools.islice(left, 4)):
        code = gateway.pin()
        for what, how in some:
            device = Device(gateway)
            message, _ = device.prove(opened_for(device, code), code.pin, **how)
            with gateway.unmoved():
                refusal = device.refused(device.complete, message)
            assert refusal.kind == ("FAILED_PRECONDITION", "verification_failed"), (what, refusal)
            assert gateway.tries(device.source) == 0
        end(gateway, code)
