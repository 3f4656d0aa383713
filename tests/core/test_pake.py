"""PIN pairing: both ends agree on everything they said, or they agree on nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.devices import ClientKind
from palyra.core.handshake import Begun
from palyra.core.identifiers import DeviceId
from palyra.core.pake import (
    Confirmations,
    DevicePake,
    GatewayPake,
    PakeTranscript,
    confirms,
    with_pake,
)
from palyra.core.transcript import DeviceProof, Enrolment
from palyra.errors import VerificationFailed

from .edwards import P
from .reference_pake import reference
from .test_transcript import small_order_points

VECTORS = Path(__file__).parent / "vectors" / "pake.json"
PIN = "004217"
SHARES = st.builds(
    bytes.__add__, st.sampled_from([b"A", b"B"]), st.binary(min_size=32, max_size=32)
)
pins = st.from_regex(r"[0-9]{6}", fullmatch=True)
Change = Callable[[PakeTranscript], PakeTranscript]


def entropy(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def a_proof() -> DeviceProof:
    return DeviceProof(
        session_id="5e" * 16,
        device_id=DeviceId("01J9ZC5QXG0123456789ABCDEF"),
        client_kind=ClientKind.NODE,
        proof="",
        identity_public=b"i" * 32,
        x25519_public=b"x" * 32,
        challenge_signature=b"s" * 64,
        transcript_mac=b"m" * 32,
        enrolment=Enrolment(b"csr", b"S" * 64, b"{}"),
    )


def a_transcript(device: bytes = b"A" + b"d" * 32, gateway: bytes = b"B" + b"g" * 32) -> Any:
    return PakeTranscript(
        begun=Begun("5e" * 16, b"c" * 32, b"e" * 32),
        nameplate=1,
        ca_hash=b"\xca" * 32,
        gateway_share=gateway,
        device_share=device,
        proof=a_proof(),
    )


def run(device_pin: str, gateway_pin: str, seed: int = 0) -> tuple[Confirmations, Confirmations]:
    """Both ends of one run, as the device and as the gateway see it."""
    device = DevicePake(device_pin, entropy(seed))
    gateway = GatewayPake(gateway_pin, entropy(seed + 1))
    transcript = a_transcript(device.share, gateway.share)
    at_device = Confirmations.of(device.finish(gateway.share), transcript)
    return at_device, Confirmations.of(gateway.finish(device.share), transcript)


@settings(max_examples=20, deadline=None)
@given(pins, pins, st.integers(0, 2**64))
def test_both_ends_agree_on_one_pin_only(pin: str, other: str, seed: int) -> None:
    """With one PIN both confirmations are the same at both ends; with two neither is."""
    at_device, at_gateway = run(pin, pin, seed)
    assert confirms(at_device.device, at_gateway.device)
    assert confirms(at_gateway.gateway, at_device.gateway)
    assert at_device.device != at_device.gateway
    if other != pin:
        wrong, right = run(pin, other, seed)
        assert not confirms(wrong.device, right.device)
        assert not confirms(right.gateway, wrong.gateway)


def test_a_run_is_never_the_same_again() -> None:
    """Fresh entropy gives other shares and other confirmations for the same PIN."""
    (one, _), (other, _) = run(PIN, PIN, 1), run(PIN, PIN, 2)
    assert {one.device, one.gateway}.isdisjoint({other.device, other.gateway})
    assert DevicePake(PIN, entropy(1)).share != DevicePake(PIN, entropy(2)).share
    assert DevicePake("999999", entropy(1)).share != DevicePake(PIN, entropy(1)).share


# -- the transcript -------------------------------------------------------------------------------


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def at_top(**changes: Callable[[Any], Any]) -> Change:
    def change(transcript: PakeTranscript) -> PakeTranscript:
        return attrs.evolve(transcript, **_altered(transcript, changes))

    return change


def in_begun(**changes: Callable[[Any], Any]) -> Change:
    return at_top(begun=lambda begun: attrs.evolve(begun, **_altered(begun, changes)))


def in_proof(**changes: Callable[[Any], Any]) -> Change:
    return at_top(proof=lambda proof: attrs.evolve(proof, **_altered(proof, changes)))


def in_enrolment(**changes: Callable[[Any], Any]) -> Change:
    return in_proof(enrolment=lambda sent: attrs.evolve(sent, **_altered(sent, changes)))


def _altered(value: Any, changes: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return {name: alter(getattr(value, name)) for name, alter in changes.items()}


CHANGES: dict[str, Change] = {
    "begun.session_id": in_begun(session_id=lambda _: "5f" * 16),
    "begun.challenge": in_begun(challenge=flipped),
    "begun.gateway_public": in_begun(gateway_public=flipped),
    "nameplate": at_top(nameplate=lambda old: old + 1),
    "ca_hash": at_top(ca_hash=flipped),
    "gateway_share": at_top(gateway_share=flipped),
    "device_share": at_top(device_share=flipped),
    "proof.device_id": in_proof(device_id=lambda old: old[:-1] + "0"),
    "proof.client_kind": in_proof(client_kind=lambda _: ClientKind.CLI),
    "proof.identity_public": in_proof(identity_public=flipped),
    "proof.x25519_public": in_proof(x25519_public=flipped),
    "proof.challenge_signature": in_proof(challenge_signature=flipped),
    "proof.transcript_mac": in_proof(transcript_mac=flipped),
    "proof.enrolment.csr_der": in_enrolment(csr_der=flipped),
    "proof.enrolment.identity_signature": in_enrolment(identity_signature=flipped),
    "proof.enrolment.announcement": in_enrolment(announcement=flipped),
}
SAID_ELSEWHERE = {
    "proof.session_id",  # compared with begun.session_id
    "proof.proof",  # empty, and covered by challenge_signature
    "proof.enrolment.pake_share",  # device_share
    "proof.enrolment.pake_confirm",  # what is computed here
}


def test_every_field_is_changed_once() -> None:
    """The table has an entry for each field of the run that is not bound by another."""
    names = {field.name for field in attrs.fields(PakeTranscript)} - {"begun", "proof"}
    names |= {f"begun.{field.name}" for field in attrs.fields(Begun)}
    names |= {f"proof.{field.name}" for field in attrs.fields(DeviceProof)} - {"proof.enrolment"}
    names |= {f"proof.enrolment.{field.name}" for field in attrs.fields(Enrolment)}
    assert names == set(CHANGES) | SAID_ELSEWHERE


@pytest.mark.parametrize("name", CHANGES)
def test_a_field_that_was_changed_on_the_way(name: str) -> None:
    """Whatever one end saw otherwise, neither confirmation of the one holds for the other."""
    before, after = a_transcript(), CHANGES[name](a_transcript())
    one, other = Confirmations.of(b"K" * 32, before), Confirmations.of(b"K" * 32, after)
    assert before.digest() != after.digest()
    assert not confirms(one.device, other.device) and not confirms(one.gateway, other.gateway)


def test_shares_that_changed_places() -> None:
    """The shares are bound to the end that sent them."""
    transcript = a_transcript()
    swapped = a_transcript(transcript.gateway_share, transcript.device_share)
    assert transcript.digest() != swapped.digest()


def test_fields_that_flow_into_each_other() -> None:
    """A byte that moves from one field to the next makes another transcript."""
    moved = in_enrolment(csr_der=lambda _: b"cs", identity_signature=lambda old: b"r" + old)
    assert a_transcript().digest() != moved(a_transcript()).digest()


@settings(max_examples=100)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=40))
def test_only_the_confirmation_itself_confirms(key: bytes, given_one: bytes) -> None:
    """Nothing of another length or content does, the empty one included."""
    expected = Confirmations.of(key, a_transcript()).device
    assert len(expected) == 32
    assert confirms(given_one, expected) is (given_one == expected)


# -- shares ---------------------------------------------------------------------------------------


def spellings_of_small_order() -> list[bytes]:
    """Every way to write one of the eight points, with either sign."""
    ys = {y for _, y in small_order_points()}
    numbers = ys | {y + P for y in ys if y + P < 2**255}
    return [(y | sign << 255).to_bytes(32, "little") for y in sorted(numbers) for sign in (0, 1)]


@pytest.mark.parametrize("point", spellings_of_small_order(), ids=bytes.hex)
@pytest.mark.parametrize("end", [DevicePake, GatewayPake])
def test_shares_of_small_order(end: Any, point: bytes) -> None:
    """None is taken, the neutral element in all its spellings included."""
    side = b"B" if end is DevicePake else b"A"
    with pytest.raises(VerificationFailed):
        end(PIN, entropy(1)).finish(side + point)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([DevicePake, GatewayPake]), st.binary(max_size=40) | SHARES)
def test_any_bytes_for_a_share(end: Any, share: bytes) -> None:
    """They give a key that nobody shares, or are refused; nothing else happens."""
    try:
        key = end(PIN, entropy(1)).finish(share)
    except VerificationFailed as error:
        assert PIN not in error.sentence
        return
    assert len(key) == 32 and len(share) == 33


def test_a_share_of_the_wrong_end() -> None:
    """Neither its own share sent back nor another of the same end is taken."""
    for end, other in ((DevicePake, DevicePake), (GatewayPake, GatewayPake)):
        mine, another = end(PIN, entropy(1)), other(PIN, entropy(2))
        with pytest.raises(VerificationFailed):
            mine.finish(another.share)
    device = DevicePake(PIN, entropy(1))
    with pytest.raises(VerificationFailed):
        device.finish(b"B" + device.share[1:])


def test_a_run_is_finished_once() -> None:
    """A second share, after the right one or a wrong one, is refused: one guess a run."""
    device, gateway = DevicePake(PIN, entropy(1)), GatewayPake(PIN, entropy(2))
    gateway.finish(device.share)
    with pytest.raises(VerificationFailed):
        gateway.finish(device.share)
    gateway = GatewayPake(PIN, entropy(2))
    with pytest.raises(VerificationFailed):
        gateway.finish(b"A" + b"\x02" * 32)
    with pytest.raises(VerificationFailed):
        gateway.finish(device.share)


# -- known answers, and what is shown -------------------------------------------------------------


@pytest.mark.parametrize(
    "vector", json.loads(VECTORS.read_bytes())["vectors"], ids=lambda vector: vector["name"]
)
def test_known_answers(vector: Any) -> None:
    """The fixed vectors hold, by the protocol's formulas written anew and through both ends."""
    text = vector["given"]["text"]
    raw = {name: bytes.fromhex(value) for name, value in vector["given"]["hex"].items()}
    expected = {name: bytes.fromhex(value) for name, value in vector["expected"].items()}
    assert reference({**{name: value.encode() for name, value in text.items()}, **raw}) == expected
    device = DevicePake(text["pin"], lambda size: raw["device_entropy"][:size])
    gateway = GatewayPake(text["pin"], lambda size: raw["gateway_entropy"][:size])
    assert (device.share, gateway.share) == (expected["device_share"], expected["gateway_share"])
    assert device.finish(gateway.share) == gateway.finish(device.share) == expected["key"]
    enrolment = Enrolment(raw["csr_der"], raw["identity_signature"], raw["announcement"])
    names = ("identity_public", "x25519_public", "challenge_signature", "transcript_mac")
    proof = DeviceProof(
        session_id=text["session_id"],
        device_id=DeviceId(text["device_id"]),
        client_kind=ClientKind(text["client_kind"]),
        proof="",
        enrolment=enrolment,
        **{name: raw[name] for name in names},
    )
    begun = Begun(text["session_id"], raw["challenge"], raw["gateway_public"])
    transcript = PakeTranscript(
        begun, int(text["nameplate"]), raw["ca_hash"], gateway.share, device.share, proof
    )
    assert transcript.digest() == expected["transcript"]
    both = Confirmations.of(expected["key"], transcript)
    assert (both.device, both.gateway) == (expected["device_confirm"], expected["gateway_confirm"])


def test_the_message_carries_both() -> None:
    """X and cA go into the enrolment, and nothing of the rest changes."""
    sent = with_pake(a_proof(), b"X" * 33, b"c" * 32)
    assert sent.enrolment == Enrolment(b"csr", b"S" * 64, b"{}", b"X" * 33, b"c" * 32)
    assert attrs.evolve(sent, enrolment=a_proof().enrolment) == a_proof()


def test_nothing_secret_is_shown() -> None:
    """Neither the PIN nor a confirmation nor the session id is in what a log would print."""
    device, gateway = DevicePake(PIN, entropy(1)), GatewayPake(PIN, entropy(2))
    both = Confirmations.of(b"K" * 32, a_transcript())
    shown = repr([device, gateway, both, a_transcript(), with_pake(a_proof(), b"X", both.device)])
    assert PIN not in shown and "5e" * 16 not in shown
    assert repr(both.device) not in shown and both.device.hex() not in shown
