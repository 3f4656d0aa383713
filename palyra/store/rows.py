"""Between the core's values and the rows of tables: pairing, devices, certificates."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import RowMapping

from palyra.core.approval import Approval
from palyra.core.devices import (
    AnnouncedCapability,
    CertificateRecord,
    CertificateState,
    ClientKind,
    Device,
    DeviceState,
    Revocation,
    RevokedCertificate,
    Risk,
)
from palyra.core.identifiers import RequestId
from palyra.core.pairing import CodeMethod, CodeState, PairingCode, PairingRequest, RequestState

Row = dict[str, Any]


class _Described(msgspec.Struct):
    digest: str = ""


_capabilities = msgspec.json.Decoder(tuple[AnnouncedCapability, ...])
_described = msgspec.json.Decoder(tuple[_Described, ...])
_labels = msgspec.json.Decoder(dict[str, str])
_names = msgspec.json.Decoder(frozenset[str])
_revoked = msgspec.json.Decoder(tuple[RevokedCertificate, ...])


def _json(value: object) -> str:
    """JSON text with sorted sets, so that equal values make equal rows."""
    return msgspec.json.encode(value, order="deterministic").decode()


def code_row(code: PairingCode) -> Row:
    """The row of a pairing code."""
    return {
        "code_id": code.code_id,
        "method": code.method.value,
        "digest": code.digest,
        "issued_by": code.issued_by,
        "issued_at_ms": code.issued_at_ms,
        "expires_at_ms": code.expires_at_ms,
        "labels": _json(dict(code.labels)),
        "source": code.source,
        "nameplate": code.nameplate,
        "state": code.state.value,
        "reserved": code.reserved,
        "failed": code.failed,
        "sealed_pin": code.sealed_pin or None,
    }


def code_of(row: RowMapping) -> PairingCode:
    """The pairing code of a row."""
    values: Row = {**row}
    values["method"] = CodeMethod(values["method"])
    values["labels"] = _labels.decode(values["labels"])
    values["state"] = CodeState(values["state"])
    values["sealed_pin"] = values["sealed_pin"] or b""
    return PairingCode(**values)


def request_row(request: PairingRequest) -> Row:
    """The row of a pairing request."""
    return {
        "request_id": request.request_id,
        "session_digest": request.session_digest,
        "device_id": request.device_id,
        "client_kind": request.client_kind.value,
        "name": request.name,
        "platform": request.platform,
        "version": request.version,
        "source": request.source,
        "identity_public": request.identity_public,
        "csr_der": request.csr_der,
        "capabilities": _json(request.capabilities),
        "transcript_hash": request.transcript_hash,
        "digest": request.digest,
        "code_id": request.code_id or None,
        "method": request.method.value,
        "issued_by": request.issued_by,
        "issued_at_ms": request.issued_at_ms,
        "labels": _json(dict(request.labels)),
        "approval_id": request.approval_id,
        "created_at_ms": request.created_at_ms,
        "expires_at_ms": request.expires_at_ms,
        "identity_fingerprint": request.identity_fingerprint,
        "pake_confirm": request.pake_confirm or None,
        "sealed_key": request.sealed_key or None,
        **decision_row(request),
    }


def decision_row(request: PairingRequest) -> Row:
    """The columns of a pairing request that a decision changes."""
    return {
        "state": request.state.value,
        "decided_by": request.decided_by,
        "decided_at_ms": request.decided_at_ms,
        "reason": request.reason,
        "grants": _json(request.grants),
        "grant_risk": request.grant_risk.value,
    }


def request_of(row: RowMapping) -> PairingRequest:
    """The pairing request of a row."""
    values: Row = {**row}
    values["request_id"] = RequestId(values["request_id"])
    values["client_kind"] = ClientKind(values["client_kind"])
    values["capabilities"] = _capabilities.decode(values["capabilities"])
    values["method"] = CodeMethod(values["method"])
    values["labels"] = _labels.decode(values["labels"])
    values["state"] = RequestState(values["state"])
    values["grants"] = _names.decode(values["grants"])
    values["grant_risk"] = Risk(values["grant_risk"])
    for name, absent in (("code_id", ""), ("pake_confirm", b""), ("sealed_key", b"")):
        values[name] = values[name] or absent
    return PairingRequest(**values)


def approval_row(approval: Approval) -> Row:
    """The row of an approval."""
    return {
        "approval_id": approval.approval_id,
        "kind": approval.kind,
        "subject_id": approval.subject_id,
        "digest": approval.digest,
        "created_at_ms": approval.created_at_ms,
        "expires_at_ms": approval.expires_at_ms,
        "state": approval.state.value,
        "decided_by": approval.decided_by,
        "decided_at_ms": approval.decided_at_ms,
        "reason": approval.reason,
    }


def device_row(device: Device) -> Row:
    """The row of a device."""
    return {
        "device_id": device.device_id,
        "client_kind": device.client_kind.value,
        "name": device.name,
        "platform": device.platform,
        "version": device.version,
        "identity_public": device.identity_public,
        "identity_fingerprint": device.identity_fingerprint,
        "grants": _json(device.grants),
        "capabilities": _json(device.capabilities),
        "labels": _json(dict(device.labels)),
        "approved_by": device.approved_by,
        "paired_at_ms": device.paired_at_ms,
        "state": device.state.value,
        "revoked_at_ms": device.revoked_at_ms,
        "revoke_reason": device.revoke_reason,
        "gateway_id": device.gateway_id,
        "session_epoch": device.session_epoch,
        "memory_id": device.memory_id,
        "last_heard_ms": device.last_heard_ms,
        "transport": device.transport,
        "address": device.address,
        "grant_risk": device.grant_risk.value,
        "withheld": _json(device.withheld),
        "rotate_asked_at_ms": device.rotate_asked_at_ms,
        "rotate_asked_by": device.rotate_asked_by,
        "contracts": _json(dict(device.contracts)),
    }


def digests_of(capabilities: str) -> set[str]:
    """The digests in the column of a device's capabilities, without anything else of them."""
    return {each.digest for each in _described.decode(capabilities)}


def device_of(row: RowMapping) -> Device:
    """The device of a row."""
    values: Row = {**row}
    values["client_kind"] = ClientKind(values["client_kind"])
    values["grants"] = _names.decode(values["grants"])
    values["capabilities"] = _capabilities.decode(values["capabilities"])
    values["labels"] = _labels.decode(values["labels"])
    values["state"] = DeviceState(values["state"])
    values["grant_risk"] = Risk(values["grant_risk"])
    values["withheld"] = _names.decode(values["withheld"])
    values["contracts"] = _labels.decode(values["contracts"])
    return Device(**values)


def certificate_row(certificate: CertificateRecord) -> Row:
    """The row of a certificate, without the request it was issued for."""
    return {
        "fingerprint": certificate.fingerprint,
        "device_id": certificate.device_id,
        "serial": certificate.serial,
        "pem": certificate.pem,
        "csr_digest": certificate.csr_digest,
        "not_before_ms": certificate.not_before_ms,
        "not_after_ms": certificate.not_after_ms,
        "issued_at_ms": certificate.issued_at_ms,
        "state": certificate.state.value,
        "issuer": certificate.issuer,
        "made_key": certificate.made_key,
    }


def certificate_of(row: RowMapping) -> CertificateRecord:
    """The certificate of a row."""
    values: Row = {**row}
    del values["request_id"]
    values["state"] = CertificateState(values["state"])
    return CertificateRecord(**values)


def revocation_row(revocation: Revocation) -> Row:
    """The row of a revocation."""
    return {
        "device_id": revocation.device_id,
        "identity_fingerprint": revocation.identity_fingerprint,
        "certificates": _json(revocation.certificates),
        "at_ms": revocation.at_ms,
        "by": revocation.by,
        "reason": revocation.reason,
        "device_name": revocation.device_name,
        "removed_at_ms": revocation.removed_at_ms,
        "removed_by": revocation.removed_by,
        "allowed_at_ms": revocation.allowed_at_ms,
    }


def revocation_of(row: RowMapping) -> Revocation:
    """The revocation of a row."""
    values: Row = {**row}
    values["certificates"] = _revoked.decode(values["certificates"])
    return Revocation(**values)
