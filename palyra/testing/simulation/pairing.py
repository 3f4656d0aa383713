"""Devices that are paired: what an approval and a pick-up leave in the store."""

from __future__ import annotations

from random import Random

import attrs

from palyra.core.approval import Approval
from palyra.core.devices import ClientKind, Device
from palyra.core.identifiers import DeviceId, RequestId, new_ulid, sha256_hex
from palyra.core.pairing import CodeMethod, PairingCode, PairingRequest, RequestState
from palyra.gateway.issuing import Issuer
from palyra.node.announcing import announcement
from palyra.store.memory import MemoryStore
from palyra.testing.simulation.clock import HostClock
from palyra.testing.simulation.device import CATALOGUE
from palyra.testing.simulation.disk import Disk, at_once
from palyra.testing.simulation.identity import IdentityOnDisk, KeptIdentity


def pair(
    store: MemoryStore, issuer: Issuer, name: str, clock: HostClock, disk: Disk
) -> KeptIdentity:
    """Pair a device of that name; what it has on its ``disk`` then."""
    now_ms, random = clock.now_ms(), disk.random
    kept = KeptIdentity(name, DeviceId(new_ulid(now_ms, random.randbytes)), disk)
    identity = IdentityOnDisk(kept, clock)
    csr_der = identity.new_csr(kept.identity.device_id)
    request = _request(name, kept, csr_der, now_ms, random)
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
    certificate = issuer.issue(device.device_id, csr_der)
    at_once(store.add_certificate(approved, certificate))
    identity.accept(device.device_id, certificate.pem, issuer.ca_bundle_pem)
    return kept


def _approval(request: PairingRequest) -> Approval:
    return Approval(
        approval_id=request.approval_id,
        kind="pairing",
        subject_id=request.request_id,
        digest=request.digest,
        created_at_ms=request.created_at_ms,
        expires_at_ms=request.expires_at_ms,
    )


def _request(
    name: str, kept: KeptIdentity, csr_der: bytes, now_ms: int, random: Random
) -> PairingRequest:
    identity = kept.identity
    return PairingRequest(
        request_id=RequestId(new_ulid(now_ms, random.randbytes)),
        session_digest=sha256_hex(random.randbytes(16)),
        device_id=identity.device_id,
        client_kind=ClientKind.NODE,
        name=name,
        platform="sim",
        version="1",
        source="192.0.2.7",
        identity_public=identity.key.public_key().public_bytes_raw(),
        csr_der=csr_der,
        capabilities=announcement(CATALOGUE, name).capabilities,
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
        identity_fingerprint=identity.fingerprint,
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
