"""What a change of the records demands and results in, the same for every store.

Pure functions from what is kept and what is wanted to what is kept next; a store reads, asks here
and writes, in one transaction.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from itertools import islice

import attrs

from palyra.core.approval import Approval, ApprovalState
from palyra.core.devices import (
    MAX_LABELS,
    CertificateRecord,
    Device,
    DeviceChange,
    DeviceState,
    Offering,
    Registration,
    free_name,
)
from palyra.core.identifiers import RequestId, short_id
from palyra.core.interfaces import LISTED_OUTPUT
from palyra.core.jobmachine import job_machine
from palyra.core.jobs import Job, JobState
from palyra.core.pairing import PairingCode, PairingRequest, RequestState
from palyra.errors import ApprovalFinal, Malformed, NameTaken, NotFound, NotRegistered
from palyra.store import grants
from palyra.store.renewal import require_live
from palyra.store.revocation import present, refuse_other_key, refuse_revoked_device

APPROVAL_STATES: Mapping[RequestState, ApprovalState] = {
    RequestState.PENDING: ApprovalState.PENDING,
    RequestState.APPROVED: ApprovalState.APPROVED,
    RequestState.REJECTED: ApprovalState.REJECTED,
    RequestState.EXPIRED: ApprovalState.EXPIRED,
    RequestState.COMPLETED: ApprovalState.CONSUMED,
}
"""What the approval of a pairing request is in each state of the request."""


def own_code(code: PairingCode) -> PairingCode:
    """A copy that shares nothing mutable."""
    return attrs.evolve(code, labels=dict(code.labels))


def own_request(request: PairingRequest) -> PairingRequest:
    """A copy that shares nothing mutable."""
    return attrs.evolve(request, labels=dict(request.labels))


def own_device(device: Device) -> Device:
    """A copy that shares nothing mutable."""
    return attrs.evolve(device, labels=dict(device.labels), contracts=dict(device.contracts))


def own_job(job: Job) -> Job:
    """A copy that shares nothing mutable.  Wants are the host's and are not kept."""
    return attrs.evolve(job, notes=list(job.notes), wants=[])


def listed_job(job: Job) -> Job:
    """A copy with as much of the job as a list has."""
    output = None if job.output_json is None else job.output_json[:LISTED_OUTPUT]
    call = attrs.evolve(job.call, input_json=b"")
    return attrs.evolve(job, call=call, output_json=output, notes=[], wants=[])


def decided(approval: Approval, request: PairingRequest) -> Approval:
    """The approval of a request, as the request's decision leaves it."""
    return attrs.evolve(
        approval,
        state=APPROVAL_STATES[request.state],
        decided_by=request.decided_by,
        decided_at_ms=request.decided_at_ms,
        reason=request.reason,
    )


def require_state(
    kept: PairingRequest | None, request_id: RequestId, state: RequestState
) -> PairingRequest:
    """The kept request, if it is in ``state``; else NotFound or ApprovalFinal."""
    if kept is None:
        raise NotFound("pairing request", short_id(request_id))
    if kept.state is not state:
        raise ApprovalFinal(short_id(request_id), kept.state.value)
    return kept


def ended_before(request: PairingRequest, before_ms: int) -> bool:
    """Whether a request came to nothing before ``before_ms``."""
    if request.state is RequestState.REJECTED and request.decided_at_ms is not None:
        return request.decided_at_ms < before_ms
    over = (RequestState.REJECTED, RequestState.EXPIRED)
    return request.state in over and request.expires_at_ms < before_ms


def paired(
    kept: Device | None, device: Device, request: PairingRequest, taken: Container[str]
) -> Device:
    """The device after its approval.  ``taken`` are the names of the others.

    Its labels are the request's, added to its own where the identity key is the same; its grants
    are the decision's.  The session epoch never falls: with another key it rises, so that no
    session of the old key owns dispatch.
    """
    same_key = kept is not None and kept.identity_fingerprint == device.identity_fingerprint
    wanted = attrs.evolve(
        grants.approved(device, kept if same_key else None),
        state=DeviceState.PAIRED,
        name=free_name(device.name, taken),
        labels=dict(request.labels),
        grant_risk=request.grant_risk,
        revoked_at_ms=None,
        revoke_reason="",
        gateway_id="",
        memory_id="",
        session_epoch=0 if kept is None else kept.session_epoch + 1,
    )
    if kept is None or not same_key:
        return wanted
    return attrs.evolve(
        wanted,
        labels=_joined(request.labels, kept.labels),
        gateway_id=kept.gateway_id,
        memory_id=kept.memory_id,
        session_epoch=kept.session_epoch,
        last_heard_ms=kept.last_heard_ms,
        transport=kept.transport,
        address=kept.address,
        rotate_asked_at_ms=kept.rotate_asked_at_ms,
        rotate_asked_by=kept.rotate_asked_by,
    )


def _joined(newer: Mapping[str, str], older: Mapping[str, str]) -> dict[str, str]:
    """Labels of both, the newer ones first: a device may have only so many."""
    kept = {key: value for key, value in older.items() if key not in newer}
    return dict(islice((*newer.items(), *kept.items()), MAX_LABELS))


def end_job(job: Job, code: str, sentence: str, now_ms: int) -> Job:
    """The job after its device's key was revoked: rejected if unsent, else outcome_unknown."""
    if job.state is JobState.QUEUED:
        job_machine(job).refused(code, sentence, now_ms)
    else:
        job_machine(job).lost(now_ms)
    return job


def identity_changed(device: Device) -> tuple[str, str]:
    """Code and sentence for a queued job whose device was paired with another key."""
    return "identity_changed", f"{device.name} was paired again with another key; it was not sent."


def registered(
    device: Device | None, certificate: CertificateRecord | None, registration: Registration
) -> Device:
    """The device after RegisterNode.

    NotFound, DeviceRevoked, CertificateUnknown, NotBoundToDevice, CertificateSuperseded or
    CertificateRefused where it may not register over that certificate.
    """
    device = present(device, registration.device_id)
    refuse_revoked_device(device)
    over = require_live(certificate, registration.device_id, registration.at_ms)
    device = _without_done_order(device, over)
    return attrs.evolve(
        grants.announced(device, registration.capabilities),
        platform=registration.platform,
        version=registration.version,
        gateway_id=registration.gateway_id,
        session_epoch=device.session_epoch + 1,
        memory_id=registration.memory_id,
        last_heard_ms=registration.at_ms,
        transport=registration.transport,
        address=registration.address,
    )


def offered(device: Device | None, offering: Offering) -> Device:
    """The device after its node said what it offers from now on.

    NotFound, DeviceRevoked, or NotRegistered where that session does not own dispatch any more.
    """
    device = present(device, offering.device_id)
    refuse_revoked_device(device)
    owner = (device.gateway_id, device.session_epoch)
    if owner != (offering.gateway_id, offering.session_epoch):
        raise NotRegistered()
    return grants.announced(device, offering.capabilities)


def _without_done_order(device: Device, over: CertificateRecord) -> Device:
    asked_at_ms = device.rotate_asked_at_ms
    if asked_at_ms is None or over.issued_at_ms < asked_at_ms:
        return device
    return attrs.evolve(device, rotate_asked_at_ms=None, rotate_asked_by="")


def changed(device: Device | None, change: DeviceChange, taken: Container[str]) -> Device:
    """The device with another name, other labels or other grants.  ``taken`` are the names of the
    others."""
    device = grants.regranted(present(device, change.device_id), change)
    if change.name is not None and change.name in taken:
        raise NameTaken(change.name)
    stay = {key: value for key, value in device.labels.items() if key not in change.unlabel}
    labels = {**stay, **change.labels}
    if len(labels) > MAX_LABELS:
        problem = f"{device.name} would have {len(labels)}; a device has {MAX_LABELS} at most"
        raise Malformed("labels", problem)
    return attrs.evolve(device, name=change.name or device.name, labels=labels)


def refuse_pick_up(request: PairingRequest, device: Device | None) -> None:
    """Refuse a certificate to a device, or an identity key, that was revoked since approval."""
    device = present(device, request.device_id)
    refuse_revoked_device(device)
    refuse_other_key(device, request.identity_fingerprint)
