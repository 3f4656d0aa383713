"""What each change of the records is in the audit chain, the same for every store.

Pure functions, as in :mod:`palyra.store.rules`.  Whoever the present context acts for did it; the
name that comes with the change counts where there is no such context.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from palyra.core.audit import (
    GATEWAY,
    NO_DETAILS,
    SALT_BYTES,
    AuditEntry,
    Details,
    Line,
    acting,
    clean,
    kept_details,
    line_of,
)
from palyra.core.audithead import Head
from palyra.core.auditverify import CHAIN, STARTED, citation
from palyra.core.callapprovals import APPROVAL
from palyra.core.devices import CertificateRecord, Device, Removal, Revocation, RotationOrder
from palyra.core.fanouts import Fanout
from palyra.core.identifiers import DeviceId, JobId
from palyra.core.jobs import REFUSED, Call, Job, JobState
from palyra.core.pairing import PairingCode, PairingRequest, RequestState
from palyra.store import facts

DEVICE = "device:"
"""What the subject of a row about a device begins with; its id follows."""
ASKED = "asked"
"""The result of a job that waits for approval."""
_JOB = "job:"


def started(at_ms: int, before: Head | None, why: str) -> AuditEntry:
    """The first row of every chain; it cites the head of the one ``before``."""
    if before is None:
        return AuditEntry(at_ms, STARTED, who=GATEWAY, reason=why)
    reason = f"{why}; {citation(before)}"
    return AuditEntry(at_ms, STARTED, CHAIN + before.chain_id, who=GATEWAY, reason=reason)


def minted(code: PairingCode) -> AuditEntry:
    """Somebody made a pairing code."""
    details: Details = {
        "method": code.method.value,
        "expires_unix_ms": code.expires_at_ms,
        "labels": _labels(code.labels),
    }
    subject, who = f"code:{code.code_id}", _by(code.issued_by)
    return AuditEntry(code.issued_at_ms, "pairing.code_made", subject, who=who, details=details)


def withdrawn(code_id: str, now_ms: int) -> AuditEntry:
    """Somebody took a pairing code back."""
    return AuditEntry(now_ms, "pairing.code_withdrawn", f"code:{code_id}")


def approved(request: PairingRequest, device: Device) -> AuditEntry:
    """An operator said yes to a device."""
    details: Details = {
        "request_id": request.request_id,
        "method": request.method.value,
        "source": request.source,
        "identity_fingerprint": request.identity_fingerprint,
        "grants": ", ".join(sorted(request.grants)),
        "grant_risk": request.grant_risk.value,
    }
    return AuditEntry(
        device.paired_at_ms,
        "pairing.approved",
        DEVICE + device.device_id,
        device.name,
        reason=request.reason,
        who=_by(request.decided_by),
        details=details,
    )


def closed(request: PairingRequest) -> AuditEntry:
    """A pairing request was rejected, or nobody answered it in time."""
    rejected = request.state is RequestState.REJECTED
    details: Details = {
        "request_id": request.request_id,
        "source": request.source,
        "identity_fingerprint": request.identity_fingerprint,
    }
    return AuditEntry(
        request.decided_at_ms or request.expires_at_ms,
        "pairing.rejected" if rejected else "pairing.expired",
        DEVICE + request.device_id,
        request.name,
        reason=request.reason,
        who=_by(request.decided_by) if rejected else GATEWAY,
        details=details,
    )


def identity_replaced(replaced: Revocation) -> AuditEntry:
    """A device id got another identity key; ``replaced`` is the revocation of the old one."""
    details: Details = {"old_fingerprint": replaced.identity_fingerprint}
    return _of_revocation(replaced, "device.identity_replaced", details)


def issued(certificate: CertificateRecord, name: str) -> AuditEntry:
    """A device that was paired got its first certificate."""
    details: Details = {
        "serial": certificate.serial,
        "fingerprint": certificate.fingerprint,
        "not_after_unix_ms": certificate.not_after_ms,
    }
    return AuditEntry(
        certificate.issued_at_ms,
        "certificate.issued",
        DEVICE + certificate.device_id,
        name,
        who=GATEWAY,
        details=details,
    )


def rotation_ordered(order: RotationOrder, ordered: Sequence[Device]) -> AuditEntry | None:
    """An operator wants devices to renew now; None where none of them is paired."""
    if not ordered:
        return None
    one = ordered[0] if len(ordered) == 1 else None
    subject = DEVICE + one.device_id if one else ""
    name = one.name if one else f"{len(ordered)} devices"
    action = "certificate.rotation_ordered"
    return AuditEntry(order.at_ms, action, subject, name, who=_by(order.by))


def changed(before: Device, after: Device, at_ms: int) -> AuditEntry | None:
    """What is different of a device from now on; None where nothing is."""
    was, now = _shown(before), _shown(after)
    details = {name: value for name, value in now.items() if value != was[name]}
    if not details:
        return None
    granting = "grants" in details or "grant_risk" in details
    action = "device.granted" if granting else "device.changed"
    return AuditEntry(at_ms, action, DEVICE + after.device_id, after.name, details=details)


def reoffered(before: Device, after: Device, at_ms: int) -> list[AuditEntry]:
    """Which grants an announcement suspended, and which ones it restored."""
    return [
        AuditEntry(
            at_ms,
            each.kind,
            DEVICE + after.device_id,
            after.name,
            who=GATEWAY,
            details=each.details,
        )
        for each in facts.reoffered(before, after, at_ms)
    ]


def revoked(revocation: Revocation) -> AuditEntry:
    """A device may not come back."""
    details: Details = {"identity_fingerprint": revocation.identity_fingerprint}
    return _of_revocation(revocation, "device.revoked", details)


def removed(removal: Removal, by: str, reason: str, at_ms: int) -> AuditEntry:
    """A device's record is gone; so are the details of what was said of it before."""
    device = removal.device
    subject, who = DEVICE + device.device_id, _by(by)
    return AuditEntry(at_ms, "device.removed", subject, device.name, reason=reason, who=who)


def of_job(job: Job, new: bool) -> tuple[Line, ...]:
    """The decision over a job where it is new, and what became of it at last where that is so."""
    if not new:
        return () if job.finished_at_ms is None else (job_ended(job),)
    submitted = job_submitted(job.call, job.waiting_for)
    return (submitted,) if job.finished_at_ms is None else (submitted, job_ended(job))


def of_fanout(fanout: Fanout, rows: Sequence[Job]) -> list[Line]:
    """The decision over all rows of a fan-out, and what became of those that never begin."""
    return [fanout_submitted(fanout, rows), *(job_ended(job) for job in rows if job.final)]


def job_submitted(call: Call, waiting_for: str) -> Line:
    """The decision over a job; by hand, since every job passes here."""
    by = acting()
    details = {"capability": call.capability, "device_id": call.device_id}
    return Line(
        call.submitted_at_ms,
        by.operator_id if by else call.operator_id,
        by.name if by else call.requested_by,
        by.via if by else "",
        "job.submitted",
        _JOB + call.job_id,
        call.device_name,
        ASKED if call.approval_id and waiting_for == APPROVAL else "ok",
        "",
        *kept_details(details, os.urandom(SALT_BYTES)),
    )


def fanout_submitted(fanout: Fanout, rows: Sequence[Job]) -> Line:
    """The decision over all rows of a fan-out."""
    asked = any(row.call.approval_id and row.waiting_for == APPROVAL for row in rows)
    operator_id = rows[0].call.operator_id if rows else ""
    details: Details = {
        "capability": fanout.capability,
        "expression": fanout.expression,
        "targets": fanout.targets,
    }
    entry = AuditEntry(
        fanout.submitted_at_ms,
        "fanout.submitted",
        f"fanout:{fanout.fanout_id}",
        f"{fanout.targets} device" + ("" if fanout.targets == 1 else "s"),
        ASKED if asked else "ok",
        who=_by(fanout.requested_by),
        operator_id=_operator(operator_id),
        details=details,
    )
    return line_of(entry, os.urandom(SALT_BYTES), acting())


def job_ended(job: Job) -> Line:
    """What became of a job at last."""
    call = job.call
    assert job.finished_at_ms is not None, "a final job has a time"
    return ended(
        call.job_id,
        call.device_name,
        job.state.value,
        job.error_code,
        job.finished_at_ms,
        _who_ended(job),
    )


def _who_ended(job: Job) -> str:
    """Who wanted it to end so; empty: nobody but the gateway and the device."""
    if job.state is JobState.CANCELLED:
        return job.cancel_requested_by
    said = job.mediation
    # A yes ends nothing: what was allowed may still be rejected, by a full disk for example.
    if job.state is JobState.REJECTED and said is not None and said.choice == REFUSED:
        by = said.decided_by  # a name of the device's, no operator
        return f"{job.call.device_name}: {by}" if by else ""
    return ""


def ended(
    job_id: JobId, device_name: str, state: str, error_code: str, at_ms: int, who: str = ""
) -> Line:
    """The same of a job that is known by these alone; by hand, since every job passes here."""
    return Line(
        at_ms,
        "",
        who or GATEWAY,
        "",
        "job.ended",
        _JOB + job_id,
        device_name,
        state,
        "" if error_code == state else clean(error_code),
        None,
        None,
        NO_DETAILS,
    )


def state_confirmed(at_ms: int) -> AuditEntry:
    """An operator confirmed the revocations of a restored or imported state."""
    return AuditEntry(at_ms, "state.confirmed")


def subject_of(device_id: DeviceId) -> str:
    """The subject of rows about a device."""
    return DEVICE + device_id


def _of_revocation(revocation: Revocation, action: str, details: Details) -> AuditEntry:
    return AuditEntry(
        revocation.at_ms,
        action,
        DEVICE + revocation.device_id,
        revocation.device_name,
        reason=revocation.reason,
        who=_by(revocation.by),
        details=details,
    )


def _by(name: str) -> str:
    return "" if acting() else name


def _operator(operator_id: str) -> str:
    return "" if acting() else operator_id


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" if value else key for key, value in sorted(labels.items()))


def _shown(device: Device) -> dict[str, str]:
    return {
        "name": device.name,
        "labels": _labels(device.labels),
        "grants": ", ".join(sorted(device.grants)),
        "grant_risk": device.grant_risk.value,
    }
