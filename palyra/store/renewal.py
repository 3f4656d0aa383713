"""Which certificate of a device is live, and what a renewal comes to (PROTOCOL: Trust, RENEWAL,
REJOIN), the same for every store.

Pure functions, as in :mod:`palyra.store.rules`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from palyra.core.devices import CertificateRecord, CertificateState, Device, Renewal
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.errors import (
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    NotBoundToDevice,
)
from palyra.store.revocation import present, refuse_other_key, refuse_revoked_device

LIVE = frozenset({CertificateState.CURRENT, CertificateState.PENDING})
RECOGNISED = LIVE | {CertificateState.SUPERSEDED}
"""Certificates that the gateway still tells apart from unknown ones."""


@attrs.frozen
class Renewed:
    """What a renewal comes to."""

    answer: CertificateRecord
    is_new: bool = False
    """Whether the answer is to be kept; else nothing changes at all."""
    states: Mapping[Fingerprint, CertificateState] = attrs.Factory(dict)
    """Older certificates of the device that get another state."""


def require_live(
    certificate: CertificateRecord | None, device_id: DeviceId, now_ms: int
) -> CertificateRecord:
    """The certificate, if it is a live one of that device; else CertificateUnknown,
    NotBoundToDevice, CertificateSuperseded or CertificateRefused."""
    if certificate is None:
        raise CertificateUnknown()
    if certificate.device_id != device_id:
        raise NotBoundToDevice(device_id)
    if certificate.state is CertificateState.SUPERSEDED:
        raise CertificateSuperseded()
    if certificate.state is CertificateState.REVOKED:
        raise CertificateRefused("revoked")
    if now_ms >= certificate.not_after_ms:
        raise CertificateRefused("expired")
    return certificate


def renewed(
    device: Device | None,
    held: Sequence[CertificateRecord],
    over: CertificateRecord | None,
    renewal: Renewal,
) -> Renewed:
    """What a renewal comes to for a device that holds these certificates; ``over`` is the record
    of the one it was asked over.

    NotFound, DeviceRevoked, or as :func:`require_live` where it is refused.
    """
    offered = renewal.certificate
    device = present(device, offered.device_id)
    refuse_revoked_device(device)
    refuse_other_key(device, renewal.identity_fingerprint)
    if renewal.over is not None:
        require_live(over, device.device_id, offered.issued_at_ms)
    answered = _answered_before(held, offered)
    if answered is not None:
        return Renewed(answered)
    return Renewed(
        answer=attrs.evolve(offered, state=CertificateState.PENDING),
        is_new=True,
        states=_states(held, renewal.over),
    )


def _answered_before(
    held: Sequence[CertificateRecord], offered: CertificateRecord
) -> CertificateRecord | None:
    """The live certificate that the same CSR got, so that a lost answer changes nothing."""
    same = [
        each
        for each in held
        if each.csr_digest == offered.csr_digest
        and each.state in LIVE
        and each.not_after_ms > offered.issued_at_ms
    ]
    return max(same, key=lambda each: each.issued_at_ms, default=None)


def _states(
    held: Sequence[CertificateRecord], over: Fingerprint | None
) -> dict[Fingerprint, CertificateState]:
    """All but the one the device asked over is superseded, also an older answer.  Whoever asks
    over the pending one uses it: it becomes the current one, as by a registration.
    """
    return {
        each.fingerprint: (
            CertificateState.CURRENT if each.fingerprint == over else CertificateState.SUPERSEDED
        )
        for each in held
        if each.state in LIVE
    }
