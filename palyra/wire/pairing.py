"""Translation of the pairing and renewal calls between protobuf and core values.

Reading never trusts: what does not fit raises :class:`palyra.errors.Malformed`.
"""

from __future__ import annotations

import re

import attrs

from palyra.core.devices import ClientKind, clean_text
from palyra.core.handshake import Begun
from palyra.core.identifiers import DeviceId, parse_ulid
from palyra.core.pairing import CodeMethod
from palyra.core.pake import CONFIRM_BYTES, SHARE_BYTES, SUITE
from palyra.core.transcript import DeviceProof, Enrolment
from palyra.errors import Malformed, RemoteRefusal
from palyra.wire.checks import VERSION, check_version
from palyra.wire.v1 import common_pb2, node_pb2

MAX_CSR = 4_096
MAX_ANNOUNCEMENT = 65_536
_SESSION_ID = re.compile(r"[0-9a-f]{32}\Z", re.ASCII)


@attrs.frozen
class Begin:
    """What a device opens a pairing session with.

    ``code`` is the token, or the PIN of a version-1 device, as sent; empty where the PIN is not
    sent (``nameplate`` names its code) and in a rejoin (``device_id`` names the device).
    """

    client_kind: ClientKind
    method: CodeMethod
    code: str = attrs.field(default="", repr=False)
    nameplate: int | None = None
    device_id: DeviceId | None = None


@attrs.frozen
class SessionOpened:
    """The gateway's answer to :class:`Begin`."""

    begun: Begun
    client_kind: ClientKind
    expires_at_ms: int
    gateway_unix_ms: int
    share: bytes = b""
    """Y, where the answer is to a nameplate."""


@attrs.frozen
class Completed:
    """The gateway's answer to a proof that held: the request waits for an operator, or (a rejoin
    in time) the certificate is here."""

    request_id: str
    identity_fingerprint: str
    transcript_hash: str
    retry_after_ms: int = 0
    pake_confirm: bytes = b""
    """cB, where the proof was a PIN's."""
    certificate_pem: str = ""
    ca_pem: str = ""
    certificate_expires_at_ms: int = 0
    renew_after_s: int = 0


@attrs.frozen
class StatusQuestion:
    """A device asks what became of its pairing request, and proves that it is the one.

    A version-1 device has no proof but its session id: counter 0, no signature.
    """

    session_id: str = attrs.field(repr=False)
    device_id: DeviceId
    counter: int = 0
    signature: bytes = b""


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
    quic_address: str = ""
    """HOST:PORT of the QUIC listener; empty where the gateway has none."""
    pake_confirm: bytes = b""
    private_key_pem: str = attrs.field(default="", repr=False)
    """The key that was made for a version-1 device."""


@attrs.frozen
class RenewalAsked:
    """A device asks for its next certificate; a version-1 device sends no CSR and no signature."""

    device_id: DeviceId
    csr_der: bytes = b""
    signature: bytes = b""


@attrs.frozen
class Renewed:
    """The answer: a certificate to the CSR's key, and in how many seconds to renew that one."""

    certificate_pem: str
    ca_pem: str
    certificate_expires_at_ms: int
    renew_after_s: int
    private_key_pem: str = attrs.field(default="", repr=False)


def read_begin(message: node_pb2.BeginPairingSessionRequest) -> Begin:
    """BeginPairingSessionRequest, checked."""
    check_version(message.v)
    kind = _client_kind(message.client_kind)
    which = message.method.WhichOneof("value")
    if message.HasField("rejoin"):
        if message.HasField("pake") or which is not None:
            raise Malformed("method", "a rejoin has no code")
        device_id = parse_ulid(message.rejoin.device_id.ulid, "rejoin.device_id")
        return Begin(kind, CodeMethod.REJOIN, device_id=DeviceId(device_id))
    if which is None:
        raise Malformed("method", "must be a pin_code or a qr_token")
    code = message.method.pin_code if which == "pin_code" else message.method.qr_token
    if len(code) > 64:
        raise Malformed("method", "the code is longer than 64 characters")
    if message.HasField("pake"):
        if which != "pin_code" or code:
            raise Malformed("method", "beside a nameplate pin_code is present and empty")
        return Begin(kind, CodeMethod.PIN, nameplate=_nameplate(message.pake))
    if not code:
        raise Malformed("method", "the code is empty")
    return Begin(kind, CodeMethod.PIN if which == "pin_code" else CodeMethod.QR, code)


def _nameplate(offer: node_pb2.PakeOffer) -> int:
    if offer.suite != SUITE:
        raise Malformed("pake.suite", f"must be {SUITE} (got {offer.suite})")
    return offer.nameplate


def write_begin(begin: Begin) -> node_pb2.BeginPairingSessionRequest:
    """The device's side of :func:`read_begin`."""
    message = node_pb2.BeginPairingSessionRequest(v=VERSION, client_kind=begin.client_kind.value)
    if begin.method is CodeMethod.REJOIN:
        message.rejoin.device_id.ulid = begin.device_id or ""
    elif begin.method is CodeMethod.PIN:
        message.method.pin_code = begin.code
    else:
        message.method.qr_token = begin.code
    if begin.nameplate is not None:
        message.pake.suite, message.pake.nameplate = SUITE, begin.nameplate
    return message


def write_opened(opened: SessionOpened) -> node_pb2.BeginPairingSessionResponse:
    """The gateway's answer to Begin."""
    message = node_pb2.BeginPairingSessionResponse(
        v=VERSION,
        session_id=opened.begun.session_id,
        client_kind=opened.client_kind.value,
        gateway_ephemeral_public=opened.begun.gateway_public,
        challenge=opened.begun.challenge,
        expires_at_unix_ms=opened.expires_at_ms,
        gateway_unix_ms=opened.gateway_unix_ms,
    )
    if opened.share:
        message.pake.suite, message.pake.share = SUITE, opened.share
    return message


def read_opened(message: node_pb2.BeginPairingSessionResponse) -> SessionOpened:
    """BeginPairingSessionResponse, as a device reads it."""
    return SessionOpened(
        begun=Begun(message.session_id, message.challenge, message.gateway_ephemeral_public),
        client_kind=_client_kind(message.client_kind),
        expires_at_ms=message.expires_at_unix_ms,
        gateway_unix_ms=message.gateway_unix_ms,
        share=message.pake.share if message.pake.suite == SUITE else b"",
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
        for field, size in (("pake_share", SHARE_BYTES), ("pake_confirm", CONFIRM_BYTES)):
            if len(getattr(sent, field)) not in (0, size):
                raise Malformed(f"enrolment.{field}", f"must be {size} bytes")
        enrolment = Enrolment(
            sent.csr_der,
            sent.identity_signature,
            sent.announcement,
            sent.pake_share,
            sent.pake_confirm,
        )
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
        message.enrolment.pake_share = proof.enrolment.pake_share
        message.enrolment.pake_confirm = proof.enrolment.pake_confirm
    return message


def write_completed(completed: Completed) -> node_pb2.CompletePairingSessionResponse:
    """The gateway's answer to a proof that held."""
    return node_pb2.CompletePairingSessionResponse(
        v=VERSION,
        paired=bool(completed.certificate_pem),
        reason="" if completed.certificate_pem else "pending_approval",
        identity_fingerprint=completed.identity_fingerprint,
        transcript_hash=completed.transcript_hash,
        retry_after_ms=completed.retry_after_ms,
        request_id=completed.request_id,
        pake_confirm=completed.pake_confirm,
        mtls_client_certificate_pem=completed.certificate_pem,
        gateway_ca_certificate_pem=completed.ca_pem,
        ca_bundle_pem=completed.ca_pem,
        cert_expires_at_unix_ms=completed.certificate_expires_at_ms,
        renew_after_s=completed.renew_after_s,
    )


def read_completed(message: node_pb2.CompletePairingSessionResponse) -> Completed:
    """CompletePairingSessionResponse, as a device reads it."""
    return Completed(
        request_id=message.request_id,
        identity_fingerprint=message.identity_fingerprint,
        transcript_hash=message.transcript_hash,
        retry_after_ms=message.retry_after_ms,
        pake_confirm=message.pake_confirm,
        certificate_pem=message.mtls_client_certificate_pem,
        ca_pem=message.ca_bundle_pem or message.gateway_ca_certificate_pem,
        certificate_expires_at_ms=message.cert_expires_at_unix_ms,
        renew_after_s=message.renew_after_s,
    )


def read_status_question(message: node_pb2.GetPairingRequestStatusRequest) -> StatusQuestion:
    """GetPairingRequestStatusRequest, checked."""
    check_version(message.v)
    if message.HasField("proof") and not message.proof.signature:
        raise Malformed("proof.signature", "is missing")
    return StatusQuestion(
        session_id=_session_id(message.session_id),
        device_id=DeviceId(parse_ulid(message.device_id.ulid, "device_id")),
        counter=message.proof.counter,
        signature=message.proof.signature,
    )


def write_status_question(question: StatusQuestion) -> node_pb2.GetPairingRequestStatusRequest:
    """The device's side of :func:`read_status_question`."""
    message = node_pb2.GetPairingRequestStatusRequest(
        v=VERSION,
        session_id=question.session_id,
        device_id=common_pb2.CanonicalId(ulid=question.device_id),
    )
    if question.signature:
        message.proof.counter, message.proof.signature = question.counter, question.signature
    return message


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
        mtls_client_private_key_pem=answer.private_key_pem,
        gateway_ca_certificate_pem=answer.ca_pem,
        cert_expires_at_unix_ms=answer.certificate_expires_at_ms,
        ca_bundle_pem=answer.ca_pem,
        pake_confirm=answer.pake_confirm,
        retry_after_ms=answer.retry_after_ms,
        request_id=answer.request_id,
        device_name=answer.device_name,
        decided_by=answer.decided_by,
        node_rpc_address=answer.node_rpc_address,
        quic_address=answer.quic_address,
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
        quic_address=message.quic_address,
        pake_confirm=message.pake_confirm,
        private_key_pem=message.mtls_client_private_key_pem,
    )


def read_renewal(message: node_pb2.RotateDeviceCertificateRequest) -> RenewalAsked:
    """RotateDeviceCertificateRequest, checked."""
    check_version(message.v)
    if len(message.csr_der) > MAX_CSR:
        raise Malformed("csr_der", f"is longer than {MAX_CSR} bytes")
    if message.csr_der and len(message.identity_signature) != 64:
        raise Malformed("identity_signature", "must be 64 bytes")
    device_id = DeviceId(parse_ulid(message.device_id.ulid, "device_id"))
    return RenewalAsked(device_id, message.csr_der, message.identity_signature)


def write_renewal(asked: RenewalAsked) -> node_pb2.RotateDeviceCertificateRequest:
    """The device's side of :func:`read_renewal`."""
    return node_pb2.RotateDeviceCertificateRequest(
        v=VERSION,
        device_id=common_pb2.CanonicalId(ulid=asked.device_id),
        csr_der=asked.csr_der,
        identity_signature=asked.signature,
    )


def write_renewed(renewed: Renewed) -> node_pb2.RotateDeviceCertificateResponse:
    """The gateway's answer to a renewal."""
    return node_pb2.RotateDeviceCertificateResponse(
        v=VERSION,
        rotated=True,
        mtls_client_certificate_pem=renewed.certificate_pem,
        mtls_client_private_key_pem=renewed.private_key_pem,
        cert_expires_at_unix_ms=renewed.certificate_expires_at_ms,
        ca_bundle_pem=renewed.ca_pem,
        renew_after_s=renewed.renew_after_s,
    )


def read_renewed(message: node_pb2.RotateDeviceCertificateResponse) -> Renewed:
    """RotateDeviceCertificateResponse, as a device reads it."""
    return Renewed(
        certificate_pem=message.mtls_client_certificate_pem,
        ca_pem=message.ca_bundle_pem,
        certificate_expires_at_ms=message.cert_expires_at_unix_ms,
        renew_after_s=message.renew_after_s,
        private_key_pem=message.mtls_client_private_key_pem,
    )


def write_leaving(device_id: DeviceId, reason: str) -> node_pb2.RevokeDevicePairingRequest:
    """RevokeDevicePairing, by which a device takes its own trust away."""
    return node_pb2.RevokeDevicePairingRequest(
        v=VERSION, device_id=common_pb2.CanonicalId(ulid=device_id), reason=reason
    )


def read_left(message: node_pb2.RevokeDevicePairingResponse) -> None:
    """Its answer.

    :raises RemoteRefusal: the gateway has not done it.
    """
    if not message.revoked:
        raise RemoteRefusal("not_revoked", clean_text(message.reason, 240))


def _client_kind(text: str) -> ClientKind:
    try:
        return ClientKind(text)
    except ValueError as error:
        raise Malformed("client_kind", "must be node, cli or desktop") from error


def _session_id(text: str) -> str:
    if not _SESSION_ID.match(text):
        raise Malformed("session_id", "must be 32 hex digits")
    return text
