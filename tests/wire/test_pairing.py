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
from palyra.errors import Malformed, MalformedIdentifier
from palyra.wire import pairing as wire
from palyra.wire.v1 import node_pb2

SETTINGS = settings(max_examples=100, deadline=None)
DEVICE = DeviceId("01M80NKQCNX4K7QM2ZT9B3FVHD")
SESSION = st.binary(min_size=16, max_size=16).map(bytes.hex)
PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=40)
UINT32 = st.integers(0, 2**32 - 1)
BYTES = st.binary(max_size=64)
KINDS = st.sampled_from(ClientKind)

begins = st.builds(wire.Begin, KINDS, st.sampled_from(CodeMethod), PLAIN)
opened = st.builds(
    wire.SessionOpened,
    st.builds(Begun, SESSION, BYTES, BYTES),
    KINDS,
    st.integers(0, 2**63),
    st.integers(0, 2**63),
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
    enrolment=st.none() | st.builds(Enrolment, BYTES.filter(bool), BYTES, BYTES),
)
completed = st.builds(wire.Completed, PLAIN, PLAIN, PLAIN, UINT32)
questions = st.builds(
    wire.StatusQuestion, SESSION, st.just(DEVICE), st.integers(0, 2**64 - 1), BYTES
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
)


@given(begins, opened, proofs, completed, questions, answers)
@SETTINGS
def test_everything_survives(
    begin: wire.Begin,
    opened: wire.SessionOpened,
    proof: DeviceProof,
    completed: wire.Completed,
    question: wire.StatusQuestion,
    answer: wire.StatusAnswer,
) -> None:
    """Each of the six messages is read as it was written."""
    assert wire.read_begin(wire.write_begin(begin)) == begin
    assert wire.read_opened(wire.write_opened(opened)) == opened
    assert wire.read_complete(wire.write_complete(proof)) == proof
    assert wire.read_completed(wire.write_completed(completed)) == completed
    assert wire.read_status_question(wire.write_status_question(question)) == question
    assert wire.read_status_answer(wire.write_status_answer(answer)) == answer


@given(st.binary(max_size=300))
@SETTINGS
def test_any_message_is_read_or_refused(data: bytes) -> None:
    """Whatever protobuf accepts becomes a value or Malformed."""
    readers: list[tuple[Any, Any]] = [
        (node_pb2.BeginPairingSessionRequest, wire.read_begin),
        (node_pb2.BeginPairingSessionResponse, wire.read_opened),
        (node_pb2.CompletePairingSessionRequest, wire.read_complete),
        (node_pb2.CompletePairingSessionResponse, wire.read_completed),
        (node_pb2.GetPairingRequestStatusRequest, wire.read_status_question),
        (node_pb2.GetPairingRequestStatusResponse, wire.read_status_answer),
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
    """Version, kind, method, length, and what this gateway does not pair by."""
    wrong = [a_begin() for _ in range(6)]
    wrong[0].v = 2
    wrong[1].client_kind = "toaster"
    wrong[2].ClearField("method")
    wrong[3].method.qr_token = "A" * 65
    wrong[4].pake.suite = 1
    wrong[5].rejoin.device_id.ulid = DEVICE
    for message in wrong:
        with pytest.raises(Malformed):
            wire.read_begin(message)


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
    """Knowing the session is not enough to ask."""
    message = node_pb2.GetPairingRequestStatusRequest(v=1, session_id="0" * 32)
    message.device_id.ulid = DEVICE
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


def test_words_of_a_gateway_are_made_safe() -> None:
    """A device shows them: control characters do not reach its terminal."""
    message = node_pb2.GetPairingRequestStatusResponse(reason="no\x1b[31m", device_name="p\x07i")
    answer = wire.read_status_answer(message)
    assert "\x1b" not in answer.reason and "\x07" not in answer.device_name


def test_secrets_are_not_shown() -> None:
    """Neither a code nor a session id is in what a log would print."""
    assert "SECRET" not in repr(wire.Begin(ClientKind.NODE, CodeMethod.QR, "SECRET"))
    assert "SECRET" not in repr(wire.StatusQuestion("SECRET", DEVICE, 1, b""))
