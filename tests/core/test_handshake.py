"""The handshake: what one end proves the other verifies, once, and nothing else holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.announcement import Announcement, encode_announcement
from palyra.core.devices import AnnouncedCapability, ClientKind
from palyra.core.handshake import (
    Begun,
    DeviceHandshake,
    GatewayHandshake,
    HandshakeInputs,
    HandshakeState,
    Verified,
    handshake_machine,
)
from palyra.core.identifiers import DeviceId, Entropy, sha256_hex
from palyra.core.pairing import SESSION_WINDOW_MS
from palyra.core.transcript import (
    DeviceProof,
    Enrolment,
    Purpose,
    bound_fields,
    identity_payload,
    lp,
    request_digest,
    status_payload,
    v1_signature_payload,
    v1_transcript_mac,
    verify_identity_signature,
)
from palyra.errors import (
    Malformed,
    PairingFailed,
    PairingSessionUnknown,
    PalyraError,
    VerificationFailed,
    VersionOneRefused,
)

from .machines import check_pair, every_pair, input_names

S = HandshakeState
VECTORS = Path(__file__).parent / "vectors" / "handshake.json"
DEVICE = DeviceId("01J9ZC5QXG0123456789ABCDEF")
OTHER = DeviceId("01J9ZC5QXGZZZZZZZZZZZZZZZZ")
CA, OTHER_CA = b"\xca" * 32, b"\xcb" * 32
TOKEN = "AAECAwQFBgcICQoLDA0ODw"
SAID = Announcement("anna-laptop", "linux", "0.1.0", (AnnouncedCapability("echo"),))
LEGAL = {
    (S.OPENED, "completed"): S.COMPLETED,
    (S.OPENED, "failed"): S.FAILED,
    (S.OPENED, "time_passed"): S.EXPIRED,
}


def counting(seed: int = 0) -> Entropy:
    """Entropy for tests: different bytes at every call, the same in every run."""
    drawn = iter(range(seed, seed + 200))
    return lambda size: bytes([next(drawn)]) * size


def opened(purpose: Purpose = Purpose.PAIR_URI) -> GatewayHandshake:
    return GatewayHandshake.begin(ClientKind.NODE, purpose, counting(), 0)


def a_device(seed: int = 7) -> DeviceHandshake:
    return DeviceHandshake(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32), DEVICE)


def answered(begun: Begun, proof: str = TOKEN, **changes: Any) -> DeviceProof:
    arguments: dict[str, Any] = {
        "ca_hash": CA,
        "csr_der": b"csr",
        "announcement": encode_announcement(SAID),
        "purpose": Purpose.PAIR_URI,
        "entropy": counting(100),
    }
    return a_device().complete(begun, proof=proof, **(arguments | changes))


def verified(handshake: GatewayHandshake, message: DeviceProof, **changes: Any) -> Verified:
    arguments: dict[str, Any] = {"ca_hashes": [CA], "proof_expected": TOKEN, "now_ms": 1}
    return handshake.verify(message, **(arguments | changes))


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def test_the_table_is_complete() -> None:
    """The three inputs of a pairing session, none of which takes an argument."""
    assert input_names(HandshakeInputs) == {"completed", "failed", "time_passed"}


@pytest.mark.parametrize(("state", "name"), every_pair(HandshakeState, HandshakeInputs))
def test_every_pair(state: HandshakeState, name: str) -> None:
    """A session ends once, and whatever comes after that is illegal."""
    handshake = opened()
    handshake.state = state
    check_pair(handshake, handshake_machine, name, (), LEGAL)


def test_begin_is_drawn_from_entropy() -> None:
    """Session id, challenge and key are fresh and of their sizes; the window is five minutes."""
    handshake = GatewayHandshake.begin(ClientKind.CLI, Purpose.PAIR_PIN, counting(), 1_000)
    begun = handshake.begun
    assert begun.session_id == "00" * 16
    assert begun.challenge == b"\x01" * 32
    private = X25519PrivateKey.from_private_bytes(b"\x02" * 32)
    assert begun.gateway_public == private.public_key().public_bytes_raw()
    assert handshake.expires_at_ms == 1_000 + 300_000


@settings(max_examples=50)
@given(
    st.sampled_from(ClientKind),
    st.sampled_from(Purpose),
    st.text(max_size=30),
    st.binary(min_size=1, max_size=40),
    st.integers(0, 50),
)
def test_a_round_trip_is_verified(
    kind: ClientKind, purpose: Purpose, proof: str, csr_der: bytes, seed: int
) -> None:
    """What the device answers the gateway verifies, and hands on what the device said."""
    handshake = GatewayHandshake.begin(kind, purpose, counting(seed), 0)
    device = attrs.evolve(a_device(), client_kind=kind)
    message = device.complete(
        handshake.begun,
        proof=proof,
        ca_hash=CA,
        csr_der=csr_der,
        announcement=encode_announcement(SAID),
        purpose=purpose,
        entropy=counting(100),
    )
    result = verified(handshake, message, proof_expected=proof)
    assert result.csr_der == csr_der
    assert result.announcement == SAID
    assert (result.device_id, result.client_kind) == (DEVICE, kind)
    assert result.identity_fingerprint == sha256_hex(message.identity_public)
    assert result.transcript_hash == sha256_hex(message.transcript_mac)
    assert handshake.state is S.COMPLETED


def with_enrolment(**changes: Callable[[Any], Any]) -> Callable[[DeviceProof], DeviceProof]:
    def change(message: DeviceProof) -> DeviceProof:
        assert message.enrolment is not None
        values = {name: alter(getattr(message.enrolment, name)) for name, alter in changes.items()}
        return attrs.evolve(message, enrolment=attrs.evolve(message.enrolment, **values))

    return change


def with_field(**changes: Callable[[Any], Any]) -> Callable[[DeviceProof], DeviceProof]:
    def change(message: DeviceProof) -> DeviceProof:
        values = {name: alter(getattr(message, name)) for name, alter in changes.items()}
        return attrs.evolve(message, **values)

    return change


TAMPERINGS: dict[str, tuple[Callable[[DeviceProof], DeviceProof], type[PalyraError]]] = {
    "session": (with_field(session_id=lambda _: "f" * 32), PairingSessionUnknown),
    "device": (with_field(device_id=lambda _: OTHER), VerificationFailed),
    "device form": (with_field(device_id=lambda old: old.lower()), Malformed),
    "kind": (with_field(client_kind=lambda _: ClientKind.CLI), VerificationFailed),
    "proof": (with_field(proof=lambda old: old[:-1] + "g"), PairingFailed),
    "no proof": (with_field(proof=lambda _: ""), PairingFailed),
    "identity": (with_field(identity_public=flipped), VerificationFailed),
    "small-order identity": (with_field(identity_public=lambda _: bytes(32)), VerificationFailed),
    "identity size": (with_field(identity_public=lambda old: old[:-1]), Malformed),
    "ephemeral": (with_field(x25519_public=flipped), VerificationFailed),
    "zero ephemeral": (with_field(x25519_public=lambda _: bytes(32)), VerificationFailed),
    "ephemeral size": (with_field(x25519_public=lambda old: old + b"x"), Malformed),
    "signature": (with_field(challenge_signature=flipped), VerificationFailed),
    "signature size": (with_field(challenge_signature=lambda _: b""), Malformed),
    "mac": (with_field(transcript_mac=flipped), VerificationFailed),
    "mac size": (with_field(transcript_mac=lambda old: old[:16]), Malformed),
    "csr": (with_enrolment(csr_der=lambda old: old + b"x"), VerificationFailed),
    "no csr": (with_enrolment(csr_der=lambda _: b""), Malformed),
    "identity signature": (with_enrolment(identity_signature=flipped), VerificationFailed),
    "no identity signature": (
        with_enrolment(identity_signature=lambda _: b""),
        VerificationFailed,
    ),
    "announcement": (with_enrolment(announcement=lambda old: old + b" "), VerificationFailed),
    "no announcement": (with_enrolment(announcement=lambda _: b""), VerificationFailed),
    "no enrolment": (lambda message: attrs.evolve(message, enrolment=None), VersionOneRefused),
}


def test_every_field_is_tampered_with() -> None:
    """The table of tamperings has an entry for each field that a device sends."""
    sent = {field.name for field in (*attrs.fields(DeviceProof), *attrs.fields(Enrolment))}
    sent -= {"pake_share", "pake_confirm"}  # checked before, and not by the handshake
    assert len(sent) == 12
    touched = set()
    for change, _ in TAMPERINGS.values():
        before = answered(opened().begun)
        after = change(before)
        touched |= {name for name in sent if _value(before, name) != _value(after, name)}
    assert touched == sent


def _value(message: DeviceProof, name: str) -> object:
    return getattr(message, name, None) or getattr(message.enrolment, name, None)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_refused_and_ends_the_session(name: str) -> None:
    """Any single field changed on the way is refused, and the right answer comes too late then."""
    change, error = TAMPERINGS[name]
    handshake = opened()
    message = answered(handshake.begun)
    with pytest.raises(error):
        verified(handshake, change(message))
    assert handshake.state is S.FAILED
    with pytest.raises(PairingSessionUnknown):
        verified(handshake, message)


@pytest.mark.parametrize(
    "changes",
    [
        {"ca_hash": OTHER_CA},
        {"purpose": Purpose.PAIR_PIN},
        {"purpose": Purpose.REJOIN},
    ],
)
def test_what_the_device_signed_must_be_the_gateways_own(changes: dict[str, Any]) -> None:
    """A device that saw another CA, or signed for another purpose, is refused."""
    handshake = opened()
    with pytest.raises(VerificationFailed):
        verified(handshake, answered(handshake.begun, **changes))


@pytest.mark.parametrize("field", ["session_id", "challenge", "gateway_public"])
def test_an_answer_to_another_begin_is_refused(field: str) -> None:
    """An answer made for a Begin that differs in one value does not verify."""
    handshake = opened()
    other = attrs.evolve(
        handshake.begun,
        **{
            field: getattr(
                GatewayHandshake.begin(ClientKind.NODE, Purpose.PAIR_URI, counting(50), 0).begun,
                field,
            )
        },
    )
    message = attrs.evolve(answered(other), session_id=handshake.session_id)
    with pytest.raises(VerificationFailed):
        verified(handshake, message)


def test_a_session_verifies_once() -> None:
    """The same right answer again is refused: a pairing session is used once."""
    handshake = opened()
    message = answered(handshake.begun)
    verified(handshake, message)
    with pytest.raises(PairingSessionUnknown):
        verified(handshake, message)
    assert handshake.state is S.COMPLETED


def test_a_session_expires() -> None:
    """The window ends at its very millisecond, whoever looks first."""
    handshake = opened()
    message = answered(handshake.begun)
    with pytest.raises(PairingSessionUnknown):
        verified(handshake, message, now_ms=SESSION_WINDOW_MS)
    assert handshake.state is S.EXPIRED
    other = opened()
    other.time_passed(SESSION_WINDOW_MS - 1)
    verified(other, answered(other.begun), now_ms=SESSION_WINDOW_MS - 1)
    other.time_passed(SESSION_WINDOW_MS)
    assert other.state is S.COMPLETED


def test_a_session_can_be_failed_before() -> None:
    """A proof refused elsewhere ends the session as well."""
    handshake = opened()
    handshake.fail()
    with pytest.raises(PairingSessionUnknown):
        verified(handshake, answered(handshake.begun))


def test_an_announcement_that_does_not_parse_ends_the_session() -> None:
    """Signed nonsense is nonsense."""
    handshake = opened()
    with pytest.raises(Malformed):
        verified(handshake, answered(handshake.begun, announcement=b"["))
    assert handshake.state is S.FAILED


def test_rotation_accepts_each_ca_of_the_gateway() -> None:
    """While the CA is rotated a device may have seen the old or the new one; none is none."""
    for seen in (CA, OTHER_CA):
        handshake = opened()
        verified(handshake, answered(handshake.begun, ca_hash=seen), ca_hashes=[CA, OTHER_CA])
    handshake = opened()
    with pytest.raises(VerificationFailed):
        verified(handshake, answered(handshake.begun), ca_hashes=[])


def test_a_rejoin_is_checked_against_the_recorded_key() -> None:
    """A device that signs with another key than the recorded one is refused."""
    known = a_device().identity_key.public_key().public_bytes_raw()
    changes: dict[str, Any] = {"purpose": Purpose.REJOIN, "announcement": b""}
    for recorded, holds in ((known, True), (flipped(known), False)):
        handshake = opened(Purpose.REJOIN)
        message = answered(handshake.begun, proof="", **changes)
        arguments: dict[str, Any] = {"proof_expected": "", "recorded_identity": recorded}
        if holds:
            assert verified(handshake, message, **arguments).announcement == Announcement()
        else:
            with pytest.raises(VerificationFailed):
                verified(handshake, message, **arguments)


def test_version_one_pairs_where_it_is_allowed() -> None:
    """Without an enrolment there is no CSR and nothing announced, and the rest is checked."""
    handshake = opened()
    message = attrs.evolve(answered(handshake.begun), enrolment=None)
    result = verified(handshake, message, allow_version_one=True)
    assert result.csr_der == b""
    assert result.announcement == Announcement()
    handshake = opened()
    bad = attrs.evolve(answered(handshake.begun), enrolment=None, transcript_mac=bytes(32))
    with pytest.raises(VerificationFailed):
        verified(handshake, bad, allow_version_one=True)


def test_the_digest_binds_the_whole_transcript() -> None:
    """A change of any value changes the digest that an approval is bound to."""
    begun = opened().begun
    message = answered(begun)
    values: list[Any] = [
        Purpose.PAIR_URI,
        begun.session_id,
        begun.challenge,
        begun.gateway_public,
        CA,
        message,
    ]
    others: list[Any] = [Purpose.PAIR_PIN, "0" * 31 + "1", b"\x09" * 32, b"\x08" * 32, OTHER_CA]
    digest: Callable[..., str] = request_digest
    digests = {digest(*values)}
    for place, other in enumerate(others):
        digests.add(digest(*values[:place], other, *values[place + 1 :]))
    changes = [change for change, error in TAMPERINGS.values() if error is not PairingFailed]
    tampered = {bound_fields(change(message)) for change in changes}
    digests |= {digest(*values[:-1], change(message)) for change in changes}
    assert len(digests) == 1 + len(others) + len(tampered) - 1


def test_secrets_are_not_shown() -> None:
    """Neither a session id nor a code nor a key appears in a repr."""
    handshake = GatewayHandshake.begin(ClientKind.NODE, Purpose.PAIR_URI, counting(77), 0)
    message = answered(handshake.begun)
    for value in (handshake, handshake.begun, message, a_device()):
        shown = repr(value)
        assert handshake.session_id not in shown
        assert TOKEN not in shown
        assert "PrivateKey" not in shown


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"session_id": "A" * 32}, Malformed),
        ({"session_id": "0" * 31}, Malformed),
        ({"challenge": b"x" * 31}, Malformed),
        ({"gateway_public": b"x" * 33}, Malformed),
        ({"gateway_public": bytes(32)}, VerificationFailed),
    ],
)
def test_the_device_checks_what_it_is_told(
    changes: dict[str, Any], error: type[PalyraError]
) -> None:
    """A device signs nothing for a gateway whose values are not what they should be."""
    with pytest.raises(error):
        answered(attrs.evolve(opened().begun, **changes))


def test_a_status_proof_verifies() -> None:
    """The device signs each poll with a counter, under its session and CA."""
    device = a_device()
    public = device.identity_key.public_key().public_bytes_raw()
    signature = device.status_proof("5e" * 16, CA, 3)
    verify_identity_signature(public, signature, status_payload("5e" * 16, DEVICE, CA, 3))
    with pytest.raises(VerificationFailed):
        verify_identity_signature(public, signature, status_payload("5e" * 16, DEVICE, CA, 4))


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_bytes())["vectors"])
def test_known_answers(vector: dict[str, Any]) -> None:
    """The fixed vectors hold, value by value and through both ends."""
    given, expected = vector["given"], vector["expected"]
    raw = {name: bytes.fromhex(value) for name, value in given["hex"].items()}
    text = given["text"]
    kind, purpose = ClientKind(text["client_kind"]), Purpose(text["purpose"])
    identity = Ed25519PrivateKey.from_private_bytes(raw["identity_private"])
    draws = [bytes.fromhex(text["session_id"]), raw["challenge"], raw["gateway_private"]]
    handshake = GatewayHandshake.begin(kind, purpose, lambda _: draws.pop(0), 0)
    begun = handshake.begun
    device = DeviceHandshake(identity, DeviceId(text["device_id"]), kind)
    message = device.complete(
        begun,
        proof=text["proof"],
        ca_hash=raw["ca_hash"],
        csr_der=raw["csr_der"],
        announcement=raw["announcement"],
        purpose=purpose,
        entropy=lambda _: raw["device_x25519_private"],
    )
    who = (text["device_id"], kind)
    shared = X25519PrivateKey.from_private_bytes(raw["gateway_private"]).exchange(
        X25519PrivateKey.from_private_bytes(raw["device_x25519_private"]).public_key()
    )
    result = handshake.verify(
        message, ca_hashes=[raw["ca_hash"]], proof_expected=text["proof"], now_ms=0
    )
    session, challenge = text["session_id"], raw["challenge"]
    assert message.enrolment is not None
    assert {
        "gateway_ephemeral_public": begun.gateway_public.hex(),
        "device_signing_public": message.identity_public.hex(),
        "device_x25519_public": message.x25519_public.hex(),
        "shared_secret": shared.hex(),
        "v1_signature_payload": v1_signature_payload(
            session, challenge, begun.gateway_public, *who, text["proof"]
        ).hex(),
        "challenge_signature": message.challenge_signature.hex(),
        "transcript_mac": v1_transcript_mac(shared, challenge, session, *who).hex(),
        "transcript_hash": result.transcript_hash,
        "identity_fingerprint": result.identity_fingerprint,
        "identity_payload": identity_payload(
            purpose,
            session,
            challenge,
            raw["ca_hash"],
            *who,
            message.identity_public,
            raw["csr_der"],
            raw["announcement"],
        ).hex(),
        "identity_signature": message.enrolment.identity_signature.hex(),
        "bound_fields_sha256": sha256_hex(bound_fields(message)),
        "request_digest": result.digest,
        "status_signature": device.status_proof(session, raw["ca_hash"], 1).hex(),
        "lp_of_session_and_challenge": lp(session.encode(), challenge).hex(),
    } == expected
    assert message.transcript_mac.hex() == expected["transcript_mac"]
