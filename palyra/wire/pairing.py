"""Translation of the pairing calls between protobuf and core values.

Reading never trusts: what does not fit raises :class:`palyra.errors.Malformed`.
"""

from __future__ import annotations

import re

import attrs

from palyra.core.devices import ClientKind, clean_text
from palyra.core.handshake import Begun
from palyra.core.identifiers import DeviceId, parse_ulid
from palyra.core.pairing import CodeMethod
from palyra.core.transcript import DeviceProof, Enrolment
from palyra.errors import Malformed
from palyra.wire.session import VERSION, check_version
from palyra.wire.v1 import common_pb2, node_pb2

MAX_CSR = 4_096
MAX_ANNOUNCEMENT = 65_536
_SESSION_ID = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)


@attrs.frozen
class Begin:
    """What a device opens a pairing session with.  ``code`` is the token or PIN as sent."""

    client_kind: ClientKind
    method: CodeMethod
    code: str = attrs.field(repr=False)


@attrs.frozen
class SessionOpened:
    """The gateway's answer to :class:`Begin`."""

    begun: Begun
    client_kind: ClientKind
    expires_at_ms: int
    gateway_unix_ms: int


@attrs.frozen
class Completed:
    """The gateway's answer to a proof that held: the request waits for an operator."""

    request_id: str
    identity_fingerprint: str
    transcript_hash: str
    retry_after_ms: int


@attrs.frozen
class StatusQuestion:
    """A device asks what became of its pairing request, and proves that it is the one."""

    session_id: str = attrs.field(repr=False)
    device_id: DeviceId
    counter: int
    signature: bytes


@attrs.frozen
class StatusAnswer:
    """What became of a pairing request; the certificate once it is approved."""

    status: str
    reason: str
    request_id: str
    approval_id: str
    identity_fingerprint: str
    transcript_hash: str
    retry_after_ms: int = 0
    certificate_pem: str = ""
    ca_pem: str = ""
    certificate_expires_at_ms: int = 0
    renew_after_s: int = 0
    device_name: str = ""
    decided_by: str = ""
    node_rpc_address: str = ""


def read_begin(message: node_pb2.BeginPairingSessionRequest) -> Begin:
    """BeginPairingSessionRequest, checked."""
    check_version(message.v)
    kind = _client_kind(message.client_kind)
    which = message.method.WhichOneof("value")
    if message.HasField("pake") or message.HasField("rejoin") or which is None:
        raise Malformed("method", "this gateway pairs by qr_token")
    code = message.method.pin_code if which == "pin_code" else message.method.qr_token
    if len(code) > 64:
        raise Malformed("method", "the code is longer than 64 characters")
    return Begin(kind, CodeMethod.PIN if which == "pin_code" else CodeMethod.QR, code)


def write_begin(begin: Begin) -> node_pb2.BeginPairingSessionRequest:
    """The device's side of :func:`read_begin`."""
    method = (
        node_pb2.PairingMethod(pin_code=begin.code)
        if begin.method is CodeMethod.PIN
        else node_pb2.PairingMethod(qr_token=begin.code)
    )
    return node_pb2.BeginPairingSessionRequest(
        v=VERSION, client_kind=begin.client_kind.value, method=method
    )


def write_opened(opened: SessionOpened) -> node_pb2.BeginPairingSessionResponse:
    """The gateway's answer to Begin."""
    return node_pb2.BeginPairingSessionResponse(
        v=VERSION,
        session_id=opened.begun.session_id,
        client_kind=opened.client_kind.value,
        gateway_ephemeral_public=opened.begun.gateway_public,
        challenge=opened.begun.challenge,
        expires_at_unix_ms=opened.expires_at_ms,
        gateway_unix_ms=opened.gateway_unix_ms,
    )


def read_opened(message: node_pb2.BeginPairingSessionResponse) -> SessionOpened:
    """BeginPairingSessionResponse, as a device reads it."""
    return SessionOpened(
        begun=Begun(message.session_id, message.challenge, message.gateway_ephemeral_public),
        client_kind=_client_kind(message.client_kind),
        expires_at_ms=message.expires_at_unix_ms,
        gateway_unix_ms=message.gateway_unix_ms,
    )


def read_complete(message: node_pb2.CompletePairingSessionRequest) -> DeviceProof:
    """CompletePairingSessionRequest, checked for form; the handshake checks what it says."""
    check_version(message.v)
    enrolment = None
    if message.HasField("enrolment"):
        sent = message.enrolment
        if len(sent.csr_der) > MAX_CSR:
            raise Malformed("enrolment.csr_der", f"is longer than {MAX_CSR} bytes")
        if len(sent.announcement) > MAX_ANNOUNCEMENT:
            raise Malformed("enrolment.announcement", f"is longer than {MAX_ANNOUNCEMENT} bytes")
        enrolment = Enrolment(sent.csr_der, sent.identity_signature, sent.announcement)
    return DeviceProof(
        session_id=_session_id(message.session_id),
        device_id=DeviceId(parse_ulid(message.device_id.ulid, "device_id")),
        client_kind=_client_kind(message.client_kind),
        proof=message.proof,
        identity_public=message.device_signing_public,
        x25519_public=message.device_x25519_public,
        challenge_signature=message.challenge_signature,
        transcript_mac=message.transcript_mac,
        enrolment=enrolment,
    )


def write_complete(proof: DeviceProof) -> node_pb2.CompletePairingSessionRequest:
    """The device's side of :func:`read_complete`."""
    message = node_pb2.CompletePairingSessionRequest(
        v=VERSION,
        session_id=proof.session_id,
        device_id=common_pb2.CanonicalId(ulid=proof.device_id),
        client_kind=proof.client_kind.value,
        proof=proof.proof,
        device_signing_public=proof.identity_public,
        device_x25519_public=proof.x25519_public,
        challenge_signature=proof.challenge_signature,
        transcript_mac=proof.transcript_mac,
    )
    if proof.enrolment is not None:
        message.enrolment.csr_der = proof.enrolment.csr_der
        message.enrolment.identity_signature = proof.enrolment.identity_signature
        message.enrolment.announcement = proof.enrolment.announcement
    return message


def write_completed(completed: Completed) -> node_pb2.CompletePairingSessionResponse:
    """The gateway's answer to a proof that held."""
    return node_pb2.CompletePairingSessionResponse(
        v=VERSION,
        paired=False,
        reason="pending_approval",
        identity_fingerprint=completed.identity_fingerprint,
        transcript_hash=completed.transcript_hash,
        retry_after_ms=completed.retry_after_ms,
        request_id=completed.request_id,
    )


def read_completed(message: node_pb2.CompletePairingSessionResponse) -> Completed:
    """CompletePairingSessionResponse, as a device reads it."""
    return Completed(
        request_id=message.request_id,
        identity_fingerprint=message.identity_fingerprint,
        transcript_hash=message.transcript_hash,
        retry_after_ms=message.retry_after_ms,
    )


def read_status_question(message: node_pb2.GetPairingRequestStatusRequest) -> StatusQuestion:
    """GetPairingRequestStatusRequest, checked."""
    check_version(message.v)
    if not message.HasField("proof"):
        raise Malformed("proof", "is missing: the device must prove that it is the one that paired")
    return StatusQuestion(
        session_id=_session_id(message.session_id),
        device_id=DeviceId(parse_ulid(message.device_id.ulid, "device_id")),
        counter=message.proof.counter,
        signature=message.proof.signature,
    )


def write_status_question(question: StatusQuestion) -> node_pb2.GetPairingRequestStatusRequest:
    """The device's side of :func:`read_status_question`."""
    return node_pb2.GetPairingRequestStatusRequest(
        v=VERSION,
        session_id=question.session_id,
        device_id=common_pb2.CanonicalId(ulid=question.device_id),
        proof=node_pb2.StatusProof(counter=question.counter, signature=question.signature),
    )


def write_status_answer(answer: StatusAnswer) -> node_pb2.GetPairingRequestStatusResponse:
    """The gateway's answer to a status question."""
    return node_pb2.GetPairingRequestStatusResponse(
        v=VERSION,
        status=answer.status,
        reason=answer.reason,
        paired=bool(answer.certificate_pem),
        approval_id=answer.approval_id,
        identity_fingerprint=answer.identity_fingerprint,
        transcript_hash=answer.transcript_hash,
        mtls_client_certificate_pem=answer.certificate_pem,
        gateway_ca_certificate_pem=answer.ca_pem,
        cert_expires_at_unix_ms=answer.certificate_expires_at_ms,
        ca_bundle_pem=answer.ca_pem,
        retry_after_ms=answer.retry_after_ms,
        request_id=answer.request_id,
        device_name=answer.device_name,
        decided_by=answer.decided_by,
        node_rpc_address=answer.node_rpc_address,
        renew_after_s=answer.renew_after_s,
    )


def read_status_answer(message: node_pb2.GetPairingRequestStatusResponse) -> StatusAnswer:
    """GetPairingRequestStatusResponse, as a device reads it."""
    return StatusAnswer(
        status=clean_text(message.status, 64),
        reason=clean_text(message.reason, 240),
        request_id=message.request_id,
        approval_id=message.approval_id,
        identity_fingerprint=message.identity_fingerprint,
        transcript_hash=message.transcript_hash,
        retry_after_ms=message.retry_after_ms,
        certificate_pem=message.mtls_client_certificate_pem,
        ca_pem=message.ca_bundle_pem or message.gateway_ca_certificate_pem,
        certificate_expires_at_ms=message.cert_expires_at_unix_ms,
        renew_after_s=message.renew_after_s,
        device_name=clean_text(message.device_name, 64),
        decided_by=clean_text(message.decided_by, 64),
        node_rpc_address=message.node_rpc_address,
    )


def _client_kind(text: str) -> ClientKind:
    try:
        return ClientKind(text)
    except ValueError as error:
        raise Malformed("client_kind", "must be node, cli or desktop") from error


def _session_id(text: str) -> str:
    if not _SESSION_ID.match(text):
        raise Malformed("session_id", "must be 32 hex digits")
    return text
