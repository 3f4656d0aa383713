"""Devices that are paired: what an approval and a pick-up leave in the store."""

from __future__ import annotations

import hashlib
from random import Random

import attrs

from palyra.core.approval import Approval
from palyra.core.devices import CertificateRecord, ClientKind, Device
from palyra.core.identifiers import DeviceId, RequestId, new_ulid, sha256_hex
from palyra.core.pairing import CodeMethod, PairingCode, PairingRequest, RequestState
from palyra.node.service import announcement
from palyra.store.memory import MemoryStore
from palyra.testing.simulation.device import FOR_EVER_MS, REGISTRY
from palyra.testing.simulation.disk import at_once


def pair(store: MemoryStore, name: str, now_ms: int, random: Random) -> DeviceId:
    """Pair a device of that name; its id."""
    request = _request(name, now_ms, random)
    device = _device(request)
    at_once(store.add_code(_code(request)))
    at_once(store.open_request(request, _approval(request)))
    approved = attrs.evolve(
        request,
        state=RequestState.APPROVED,
        decided_by="ana",
        decided_at_ms=now_ms,
        grants=device.grants,
    )
    at_once(store.approve_request(approved, device))
    at_once(store.add_certificate(approved, _certificate(approved)))
    return device.device_id


def _approval(request: PairingRequest) -> Approval:
    return Approval(
        approval_id=request.approval_id,
        kind="pairing",
        subject_id=request.request_id,
        digest=request.digest,
        created_at_ms=request.created_at_ms,
        expires_at_ms=request.expires_at_ms,
    )


def _request(name: str, now_ms: int, random: Random) -> PairingRequest:
    public = hashlib.sha256(name.encode()).digest()
    return PairingRequest(
        request_id=RequestId(new_ulid(now_ms, random.randbytes)),
        session_digest=sha256_hex(random.randbytes(16)),
        device_id=DeviceId(new_ulid(now_ms, random.randbytes)),
        client_kind=ClientKind.NODE,
        name=name,
        platform="sim",
        version="1",
        source="192.0.2.7",
        identity_public=public,
        csr_der=b"csr",
        capabilities=announcement(REGISTRY, name).capabilities,
        transcript_hash=sha256_hex(b"transcript"),
        digest=sha256_hex(name.encode()),
        code_id=new_ulid(now_ms, random.randbytes),
        method=CodeMethod.QR,
        issued_by="ana",
        issued_at_ms=now_ms,
        labels={},
        approval_id=new_ulid(now_ms, random.randbytes),
        created_at_ms=now_ms,
        expires_at_ms=now_ms + 600_000,
        identity_fingerprint=sha256_hex(public),
    )


def _code(request: PairingRequest) -> PairingCode:
    return PairingCode(
        code_id=request.code_id,
        method=request.method,
        digest=request.digest,
        issued_by=request.issued_by,
        issued_at_ms=request.issued_at_ms,
        expires_at_ms=request.expires_at_ms,
        labels={},
    )


def _device(request: PairingRequest) -> Device:
    return Device(
        device_id=request.device_id,
        client_kind=request.client_kind,
        name=request.name,
        platform=request.platform,
        version=request.version,
        identity_public=request.identity_public,
        identity_fingerprint=request.identity_fingerprint,
        grants=frozenset(each.name for each in request.capabilities),
        capabilities=request.capabilities,
        labels={},
        approved_by="ana",
        paired_at_ms=request.created_at_ms,
    )


def _certificate(request: PairingRequest) -> CertificateRecord:
    return CertificateRecord(
        fingerprint=sha256_hex(request.name.encode() + b" certificate"),
        device_id=request.device_id,
        serial="01",
        pem="pem",
        csr_digest=sha256_hex(request.csr_der),
        not_before_ms=request.created_at_ms,
        not_after_ms=FOR_EVER_MS,
        issued_at_ms=request.created_at_ms,
    )
