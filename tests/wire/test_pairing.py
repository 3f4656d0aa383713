"""The pairing messages: what is written is read, and nothing from outside does any harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.devices import ClientKind
from palyra.core.handshake import Begun
from palyra.core.identifiers import DeviceId
from palyra.core.pairing import CodeMethod
from palyra.core.transcript import DeviceProof, Enrolment
from palyra.errors import Malformed, MalformedIdentifier, RemoteRefusal
from palyra.wire import pairing as wire
from palyra.wire.v1 import node_pb2

SETTINGS = settings(max_examples=100, deadline=None)
DEVICE = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
SESSION = st.binary(min_size=16, max_size=16).map(bytes.hex)
PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=40)
UINT32 = st.integers(0, 2**32 - 1)
BYTES = st.binary(max_size=64)
KINDS = st.sampled_from(ClientKind)

CODES = PLAIN.filter(bool)
SHARES = st.just(b"") | st.binary(min_size=33, max_size=33)
CONFIRMS = st.just(b"") | st.binary(min_size=32, max_size=32)

begins = (
    st.builds(wire.Begin, KINDS, st.sampled_from([CodeMethod.QR, CodeMethod.PIN]), CODES)
    | st.builds(wire.Begin, KINDS, st.just(CodeMethod.PIN), nameplate=UINT32)
    | st.builds(wire.Begin, KINDS, st.just(CodeMethod.REJOIN), device_id=st.just(DEVICE))
)
opened = st.builds(
    wire.SessionOpened,
    st.builds(Begun, SESSION, BYTES, BYTES),
    KINDS,
    st.integers(0, 2**63),
    st.integers(0, 2**63),
    BYTES,
)
proofs = st.builds(
    DeviceProof,
    session_id=SESSION,
    device_id=st.just(DEVICE),
    client_kind=KINDS,
    proof=PLAIN,
    identity_public=BYTES,
    x25519_public=BYTES,
    challenge_signature=BYTES,
    transcript_mac=BYTES,
    enrolment=st.none() | st.builds(Enrolment, BYTES.filter(bool), BYTES, BYTES, SHARES, CONFIRMS),
)
completed = st.builds(
    wire.Completed,
    request_id=PLAIN,
    identity_fingerprint=PLAIN,
    transcript_hash=PLAIN,
    retry_after_ms=UINT32,
    pake_confirm=BYTES,
    certificate_pem=PLAIN,
    ca_pem=PLAIN,
    certificate_expires_at_ms=st.integers(0, 2**63),
    renew_after_s=UINT32,
)
questions = st.builds(wire.StatusQuestion, SESSION, st.just(DEVICE)) | st.builds(
    wire.StatusQuestion, SESSION, st.just(DEVICE), st.integers(0, 2**64 - 1), BYTES.filter(bool)
)
answers = st.builds(
    wire.StatusAnswer,
    status=PLAIN,
    reason=PLAIN,
    request_id=PLAIN,
    approval_id=PLAIN,
    identity_fingerprint=PLAIN,
    transcript_hash=PLAIN,
    retry_after_ms=UINT32,
    certificate_pem=PLAIN,
    ca_pem=PLAIN,
    certificate_expires_at_ms=st.integers(0, 2**63),
    renew_after_s=UINT32,
    device_name=PLAIN,
    decided_by=PLAIN,
    node_rpc_address=PLAIN,
    quic_address=PLAIN,
    pake_confirm=BYTES,
    private_key_pem=PLAIN,
)
renewals = st.builds(
    wire.RenewalAsked, st.just(DEVICE), BYTES, st.binary(min_size=64, max_size=64)
) | st.builds(wire.RenewalAsked, st.just(DEVICE))
renewed = st.builds(wire.Renewed, PLAIN, PLAIN, st.integers(0, 2**63), UINT32, PLAIN)


@given(begins, opened, proofs, completed, questions, answers, renewals, renewed)
@SETTINGS
def test_everything_survives(
    begin: wire.Begin,
    opened: wire.SessionOpened,
    proof: DeviceProof,
    completed: wire.Completed,
    question: wire.StatusQuestion,
    answer: wire.StatusAnswer,
    renewal: wire.RenewalAsked,
    renewed: wire.Renewed,
) -> None:
    """Each of the eight messages is read as it was written."""
    assert wire.read_begin(wire.write_begin(begin)) == begin
    assert wire.read_opened(wire.write_opened(opened)) == opened
    assert wire.read_complete(wire.write_complete(proof)) == proof
    assert wire.read_completed(wire.write_completed(completed)) == completed
    assert wire.read_status_question(wire.write_status_question(question)) == question
    assert wire.read_status_answer(wire.write_status_answer(answer)) == answer
    assert wire.read_renewal(wire.write_renewal(renewal)) == renewal
    assert wire.read_renewed(wire.write_renewed(renewed)) == renewed


@given(st.binary(max_size=300), st.booleans())
@SETTINGS
def test_any_message_is_read_or_refused(data: bytes, versioned: bool) -> None:
    """Whatever protobuf accepts becomes a value or Malformed."""
    data = b"\x08\x01" * versioned + data
    readers: list[tuple[Any, Any]] = [
        (node_pb2.BeginPairingSessionRequest, wire.read_begin),
        (node_pb2.BeginPairingSessionResponse, wire.read_opened),
        (node_pb2.CompletePairingSessionRequest, wire.read_complete),
        (node_pb2.CompletePairingSessionResponse, wire.read_completed),
        (node_pb2.GetPairingRequestStatusRequest, wire.read_status_question),
        (node_pb2.GetPairingRequestStatusResponse, wire.read_status_answer),
        (node_pb2.RotateDeviceCertificateRequest, wire.read_renewal),
        (node_pb2.RotateDeviceCertificateResponse, wire.read_renewed),
    ]
    for kind, read in readers:
        message = kind()
        try:
            message.ParseFromString(data)
        except Exception:
            continue
        try:
            read(message)
        except Malformed as error:
            assert error.sentence


def a_begin() -> node_pb2.BeginPairingSessionRequest:
    return wire.write_begin(wire.Begin(ClientKind.NODE, CodeMethod.QR, "A" * 22))


def test_what_a_begin_may_not_say() -> None:
    """Version, kind, method and length; a code beside a nameplate or a rejoin; another suite."""
    wrong = [a_begin() for _ in range(10)]
    wrong[0].v = 2
    wrong[1].client_kind = "toaster"
    wrong[2].ClearField("method")
    wrong[3].method.qr_token = "A" * 65
    wrong[4].pake.suite = 1
    wrong[5].rejoin.device_id.ulid = DEVICE
    wrong[6].method.pin_code = "004217"
    wrong[6].pake.suite = 1
    wrong[7].method.pin_code = ""
    wrong[7].pake.suite = 2
    wrong[8].method.qr_token = ""
    wrong[9].ClearField("method")
    wrong[9].rejoin.device_id.ulid = DEVICE.lower()
    for message in wrong:
        with pytest.raises(Malformed) as refused:
            wire.read_begin(message)
        assert "004217" not in refused.value.sentence


def test_a_rejoin_beside_a_nameplate() -> None:
    """One of them only."""
    message = wire.write_begin(wire.Begin(ClientKind.NODE, CodeMethod.REJOIN, device_id=DEVICE))
    assert wire.read_begin(message).device_id == DEVICE
    message.pake.suite = 1
    with pytest.raises(Malformed):
        wire.read_begin(message)


def test_the_pin_is_not_sent() -> None:
    """Beside a nameplate pin_code is there, so that version 1 knows the method, and is empty."""
    begin = wire.Begin(ClientKind.NODE, CodeMethod.PIN, nameplate=3)
    message = wire.write_begin(begin)
    assert message.method.WhichOneof("value") == "pin_code" and message.method.pin_code == ""
    assert (message.pake.suite, message.pake.nameplate) == (1, 3)


def test_a_share_of_another_suite() -> None:
    """A device does not take it for one of its own."""
    answer = wire.SessionOpened(Begun("0" * 32, b"c", b"g"), ClientKind.NODE, 5, 6, b"B" * 33)
    message = wire.write_opened(answer)
    message.pake.suite = 2
    assert wire.read_opened(message).share == b""


@pytest.mark.parametrize(("field", "size"), [("pake_share", 33), ("pake_confirm", 32)])
def test_the_sizes_of_pake_fields(field: str, size: int) -> None:
    """They are there in one size, or not at all."""
    message = node_pb2.CompletePairingSessionRequest(v=1, session_id="0" * 32, client_kind="node")
    message.device_id.ulid = DEVICE
    message.enrolment.csr_der = b"csr"
    for given_size in (0, size):
        setattr(message.enrolment, field, b"x" * given_size)
        assert len(getattr(wire.read_complete(message).enrolment, field)) == given_size
    for given_size in (1, size - 1, size + 1, 1_000):
        setattr(message.enrolment, field, b"x" * given_size)
        with pytest.raises(Malformed, match=field):
            wire.read_complete(message)


def test_leaving() -> None:
    """Who leaves and why; an answer that says that it was not done is a refusal with its reason."""
    message = wire.write_leaving(DEVICE, "sold")
    assert (message.v, message.device_id.ulid, message.reason) == (1, DEVICE, "sold")
    wire.read_left(node_pb2.RevokeDevicePairingResponse(v=1, revoked=True))
    with pytest.raises(RemoteRefusal) as refused:
        wire.read_left(node_pb2.RevokeDevicePairingResponse(v=1, reason="not\x1b now"))
    assert refused.value.sentence == "not\\u001b now"


def test_what_a_renewal_may_not_say() -> None:
    """Another version, an id that is none, a CSR beyond its bound or without a signature."""
    wrong = [wire.write_renewal(wire.RenewalAsked(DEVICE, b"csr", b"s" * 64)) for _ in range(4)]
    wrong[0].v = 2
    wrong[1].device_id.ulid = "nonsense"
    wrong[2].csr_der = b"x" * (wire.MAX_CSR + 1)
    wrong[3].identity_signature = b"s" * 63
    for message in wrong:
        with pytest.raises(Malformed):
            wire.read_renewal(message)


@pytest.mark.parametrize(
    "session_id", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n"]
)
def test_a_session_id_has_one_form(session_id: str) -> None:
    """32 lower-case hex digits, in Complete and in the status question."""
    complete = node_pb2.CompletePairingSessionRequest(
        v=1, session_id=session_id, client_kind="node"
    )
    complete.device_id.ulid = DEVICE
    question = node_pb2.GetPairingRequestStatusRequest(v=1, session_id=session_id)
    question.device_id.ulid = DEVICE
    question.proof.counter = 1
    with pytest.raises(Malformed):
        wire.read_complete(complete)
    with pytest.raises(Malformed):
        wire.read_status_question(question)


def test_what_a_complete_may_not_say() -> None:
    """A device id that is none, a CSR or an announcement beyond its bound."""
    message = node_pb2.CompletePairingSessionRequest(v=1, session_id="0" * 32, client_kind="node")
    message.device_id.ulid = "not an id"
    with pytest.raises(MalformedIdentifier):
        wire.read_complete(message)
    message.device_id.ulid = DEVICE
    message.enrolment.csr_der = b"x" * (wire.MAX_CSR + 1)
    with pytest.raises(Malformed):
        wire.read_complete(message)
    message.enrolment.csr_der = b"x"
    message.enrolment.announcement = b"x" * (wire.MAX_ANNOUNCEMENT + 1)
    with pytest.raises(Malformed):
        wire.read_complete(message)


def test_a_status_question_without_a_proof() -> None:
    """That of version 1 has none; a proof without its signature is an error."""
    message = node_pb2.GetPairingRequestStatusRequest(v=1, session_id="0" * 32)
    message.device_id.ulid = DEVICE
    assert wire.read_status_question(message) == wire.StatusQuestion("0" * 32, DEVICE)
    message.proof.counter = 1
    with pytest.raises(Malformed):
        wire.read_status_question(message)


def test_the_published_fields_are_filled() -> None:
    """A version-1 reader finds the state of its request where it looks for it."""
    pending = wire.write_completed(wire.Completed("R", "F", "T", 500))
    assert (pending.paired, pending.reason) == (False, "pending_approval")
    assert pending.mtls_client_private_key_pem == ""
    answer = wire.StatusAnswer("completed", "", "R", "A", "F", "T", certificate_pem="C", ca_pem="B")
    message = wire.write_status_answer(answer)
    assert (message.paired, message.gateway_ca_certificate_pem) == (True, "B")
    assert message.mtls_client_private_key_pem == ""
    in_time = wire.write_completed(wire.Completed("R", "F", "T", certificate_pem="C", ca_pem="B"))
    assert (in_time.paired, in_time.reason) == (True, "")
    assert (in_time.gateway_ca_certificate_pem, in_time.ca_bundle_pem) == ("B", "B")


def test_words_of_a_gateway_are_made_safe() -> None:
    """A device shows them: control characters do not reach its terminal."""
    message = node_pb2.GetPairingRequestStatusResponse(reason="no\x1b[31m", device_name="p\x07i")
    answer = wire.read_status_answer(message)
    assert "\x1b" not in answer.reason and "\x07" not in answer.device_name


def test_secrets_are_not_shown() -> None:
    """Neither a code nor a session id is in what a log would print."""
    assert "SECRET" not in repr(wire.Begin(ClientKind.NODE, CodeMethod.QR, "SECRET"))
    assert "SECRET" not in repr(wire.StatusQuestion("SECRET", DEVICE, 1, b""))
    assert "SECRET" not in repr(wire.StatusAnswer("", "", "", "", "", "", private_key_pem="SECRET"))
    assert "SECRET" not in repr(wire.Renewed("C", "A", 1, 2, "SECRET"))
