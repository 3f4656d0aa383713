"""What each change of an approval of calls is on the audit chain, the same for every store."""

from __future__ import annotations

from palyra.core.approval import ApprovalState
from palyra.core.audit import AuditEntry, Details, acting
from palyra.core.callapprovals import ONCE, CallApproval


def asked(approval: CallApproval) -> AuditEntry:
    """A rule holds a call; or lets it go at once, since a yes to the same call still stands."""
    by_standing = approval.state is ApprovalState.APPROVED
    return AuditEntry(
        at_ms=approval.created_at_ms,
        action="approval.repeated" if by_standing else "approval.asked",
        subject=f"approval:{approval.approval_id}",
        subject_name=_about(approval),
        result=f"{'ok' if by_standing else 'pending'}, {approval.rule_names or 'no rule'}",
        reason=approval.reason,
        who="" if acting() else approval.requested_by,
        operator_id="" if acting() or _of_client(approval) else approval.operator_id,
        details={**_details(approval), "requested_by": approval.requested_by},
    )


def decided(approval: CallApproval) -> AuditEntry:
    """An operator said yes or no."""
    return AuditEntry(
        at_ms=approval.decided_at_ms or approval.created_at_ms,
        action=f"approval.{approval.state.value}",
        subject=f"approval:{approval.approval_id}",
        subject_name=_about(approval),
        reason=approval.reason,
        who=approval.decided_by,
        details=_details(approval),
    )


def expired(approval: CallApproval, at_ms: int) -> AuditEntry:
    """It is over without having been used up."""
    return AuditEntry(
        at_ms=at_ms,
        action="approval.expired",
        subject=f"approval:{approval.approval_id}",
        subject_name=_about(approval),
        reason=approval.reason,
        details=_details(approval),
    )


def _of_client(approval: CallApproval) -> bool:
    """Whether a paired client asked, which is its own owner and no operator."""
    return approval.operator_id == approval.requested_by


def _about(approval: CallApproval) -> str:
    targets = approval.targets
    one = targets[0].device_name if targets else ""
    return f"{approval.capability} on {one if len(targets) == 1 else f'{len(targets)} devices'}"


def _details(approval: CallApproval) -> Details:
    details: dict[str, str | int | bool] = {"digest": approval.digest}
    if approval.scope != ONCE:
        details["scope"] = approval.scope
    if approval.standing_until_ms is not None:
        details["standing_until_unix_ms"] = approval.standing_until_ms
    return details
