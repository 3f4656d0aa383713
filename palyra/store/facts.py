"""What each change of the records is in a device's journal, the same for every store.

Pure functions, as in :mod:`palyra.store.rules`.
"""

from __future__ import annotations

from palyra.core import journal
from palyra.core.devices import (
    CertificateRecord,
    Device,
    Registration,
    Revocation,
    RotationOrder,
)
from palyra.core.identifiers import DeviceId, JobId
from palyra.core.jobs import Job, JobState
from palyra.core.journal import JournalEntry
from palyra.core.pairing import PairingRequest
from palyra.store import grants

MAX_LISTED = 16
"""Capabilities that one event names."""


def approved(request: PairingRequest, device: Device) -> JournalEntry:
    """An operator said yes to a device."""
    details = {"by": request.decided_by, "name": device.name}
    return JournalEntry(device.device_id, device.paired_at_ms, journal.APPROVED, details)


def identity_replaced(replaced: Revocation) -> JournalEntry:
    """A device id got another identity key; ``replaced`` is the revocation of the old one."""
    details = {"by": replaced.by}
    kind = journal.IDENTITY_REPLACED
    return JournalEntry(replaced.device_id, replaced.at_ms, kind, details)


def registered(registration: Registration) -> JournalEntry:
    """A node came."""
    details = {
        "transport": registration.transport,
        "address": registration.address,
        "version": registration.version,
    }
    return JournalEntry(registration.device_id, registration.at_ms, journal.REGISTERED, details)


def issued(certificate: CertificateRecord) -> JournalEntry:
    """A certificate was made for a device."""
    details: journal.Details = {
        "fingerprint": certificate.fingerprint,
        "not_after_unix_ms": certificate.not_after_ms,
    }
    at_ms = certificate.issued_at_ms
    return JournalEntry(certificate.device_id, at_ms, journal.ISSUED, details)


def renewal_ordered(device_id: DeviceId, order: RotationOrder) -> JournalEntry:
    """An operator wants a device to renew now."""
    return JournalEntry(device_id, order.at_ms, journal.RENEWAL_ORDERED, {"by": order.by})


def changed(before: Device, after: Device, at_ms: int) -> JournalEntry | None:
    """What is different of a device from now on: each as it is; None where nothing is."""
    was, now = _shown(before), _shown(after)
    details = {name: value for name, value in now.items() if value != was[name]}
    return JournalEntry(after.device_id, at_ms, journal.CHANGED, details) if details else None


def reoffered(before: Device, after: Device, at_ms: int) -> list[JournalEntry]:
    """Which grants an announcement suspended, and which ones it restored."""
    suspended, restored = grants.turned(before, after)
    shown = ((journal.SUSPENDED, suspended), (journal.RESTORED, restored))
    return [
        JournalEntry(after.device_id, at_ms, kind, {"capabilities": _listed(names)})
        for kind, names in shown
        if names
    ]


def revoked(revocation: Revocation) -> JournalEntry:
    """A device may not come back."""
    details = {"by": revocation.by, "reason": revocation.reason}
    return JournalEntry(revocation.device_id, revocation.at_ms, journal.REVOKED, details)


def job_ended(job: Job) -> JournalEntry:
    """A job of a device reached its final state."""
    call = job.call
    assert job.finished_at_ms is not None, "a final job has a time"
    return ended(call.device_id, call.job_id, call.capability, job.state, job.finished_at_ms)


def ended(
    device_id: DeviceId, job_id: JobId, capability: str, state: JobState, at_ms: int
) -> JournalEntry:
    """The same of a job that is known by these alone."""
    details = {"job_id": job_id, "capability": capability, "state": state.value}
    return JournalEntry(device_id, at_ms, journal.JOB_ENDED, details)


def _listed(names: list[str]) -> str:
    """Names that a device chose, as many as fit a line."""
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _shown(device: Device) -> dict[str, str]:
    labels = sorted(device.labels.items())
    return {
        "name": device.name,
        "labels": ", ".join(f"{key}={value}" if value else key for key, value in labels),
        "grants": ", ".join(sorted(device.grants)),
        "grant_risk": device.grant_risk.value,
    }
