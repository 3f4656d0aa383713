"""What revoking, removing and allowing again come to, the same for every store.

Pure functions, as in :mod:`palyra.store.rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import attrs

from palyra.core.devices import (
    CertificateRecord,
    Device,
    DeviceState,
    Revocation,
    RevokedCertificate,
)
from palyra.core.identifiers import DeviceId, Fingerprint, short_id
from palyra.errors import DeviceRevoked, NotFound


def present(device: Device | None, device_id: DeviceId) -> Device:
    """The device, if there is one; else NotFound."""
    if device is None:
        raise NotFound("device", short_id(device_id))
    return device


def device_revoked(name: str, revocation: Revocation) -> DeviceRevoked:
    """The refusal that says when and why."""
    return DeviceRevoked(name, _day(revocation.at_ms), revocation.reason)


def refuse_revoked_key(device: Device, of_its_key: Sequence[Revocation]) -> None:
    """Refuse to pair an identity key that is revoked, whatever device it was revoked with.

    A tombstone refuses nothing: whoever approves was shown it.
    """
    for each in of_its_key:
        if each.removed_at_ms is None:
            raise device_revoked(device.name, each)


def refuse_revoked_device(kept: Device) -> None:
    """Refuse anything for a device that is revoked."""
    if kept.state is DeviceState.REVOKED:
        raise DeviceRevoked(kept.name, _day(kept.revoked_at_ms or 0), kept.revoke_reason)


def refuse_other_key(device: Device, asking: Fingerprint) -> None:
    """Refuse an identity key that is not the device's any more."""
    if device.identity_fingerprint != asking:
        raise DeviceRevoked(device.name, "", "paired again with another key")


def revocation_of(
    device: Device,
    certificates: Iterable[CertificateRecord],
    kept: Revocation | None,
    by: str,
    reason: str,
    now_ms: int,
) -> Revocation:
    """The revocation of a device's identity key with all certificates that have not run out.

    ``kept``: an earlier one of that id and key, whose certificates it takes over.
    """
    every = {each.fingerprint: each for each in kept.certificates} if kept else {}
    every |= {each.fingerprint: _revoked_certificate(each) for each in certificates}
    alive = sorted(each for each in every if every[each].not_after_ms > now_ms)
    return Revocation(
        device_id=device.device_id,
        identity_fingerprint=device.identity_fingerprint,
        certificates=tuple(every[each] for each in alive),
        at_ms=now_ms,
        by=by,
        reason=reason,
        device_name=device.name,
    )


def revoked(device: Device, revocation: Revocation) -> Device:
    """The device after its revocation."""
    return attrs.evolve(
        device,
        state=DeviceState.REVOKED,
        revoked_at_ms=revocation.at_ms,
        revoke_reason=revocation.reason,
    )


def tombstone(revocation: Revocation, by: str, now_ms: int) -> Revocation:
    """The revocation once its device is removed; the first removal stands."""
    if revocation.removed_at_ms is not None:
        return revocation
    return attrs.evolve(revocation, removed_at_ms=now_ms, removed_by=by)


def allowed(of_id_or_key: Iterable[Revocation], device: Device) -> list[Revocation]:
    """The tombstones among the revocations of a device's id or key, now that it is approved."""
    return [
        attrs.evolve(each, allowed_at_ms=device.paired_at_ms)
        for each in of_id_or_key
        if each.removed_at_ms is not None
    ]


def _revoked_certificate(certificate: CertificateRecord) -> RevokedCertificate:
    return RevokedCertificate(
        certificate.fingerprint, certificate.not_after_ms, certificate.serial, certificate.issuer
    )


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
