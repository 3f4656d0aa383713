"""Calls that wait for an operator's yes: exactly what is asked, and what became of it.

The machine is that of every approval (:mod:`palyra.core.approval`); what is different is what the
yes is bound to: the digest of the whole call, all of its targets included (ACCESS: Policy).
"""

from __future__ import annotations

import attrs

from palyra.core.approval import ApprovalState
from palyra.core.devices import Risk
from palyra.core.identifiers import DeviceId, Fingerprint, JobId
from palyra.core.operators import Caller, Right

KIND = "call"
"""What is asked, as ``kind`` of an approval."""
APPROVAL = "approval"
"""What a job waits for until an operator has said yes."""
ONCE, SESSION, TIMEBOXED = "once", "session", "timeboxed"
SCOPES = (ONCE, SESSION, TIMEBOXED)
"""For how long a yes holds: for this call; for repeats of it while the caller's browser session
lasts; for repeats until a time.  Never longer than once at risk high."""


@attrs.frozen
class CallTarget:
    """One device that is asked.  ``descriptor_digest`` is of the capability as granted there.

    ``consumed_at_ms`` is when the call was sent there: the yes is used up for it.
    """

    device_id: DeviceId
    device_name: str
    job_id: JobId
    identity_fingerprint: Fingerprint
    descriptor_digest: str
    consumed_at_ms: int | None = None


@attrs.define
class CallApproval:
    """A call that an ``ask`` rule holds.  Times are Unix milliseconds, lengths milliseconds.

    ``digest`` is SHA-256 (hex) of everything that is approved; ``repeat_digest`` of the same
    without its idempotency key.  ``approvers`` are who may decide (empty: any approver), as in a
    rule; ``person`` is whose will the call is, who may not decide it under ``four_eyes``.
    """

    approval_id: str
    digest: str
    repeat_digest: str
    operator_id: str
    requested_by: str
    person: str
    session: str
    capability: str
    risk: str
    input_json: bytes
    max_payload_bytes: int
    run_timeout_ms: int
    queue_ttl_ms: int | None
    idempotency_key: str
    targets: tuple[CallTarget, ...]
    rule_id: str
    approvers: tuple[str, ...]
    four_eyes: bool
    scopes: tuple[str, ...]
    created_at_ms: int
    expires_at_ms: int
    state: ApprovalState = ApprovalState.PENDING
    decided_by: str = ""
    decided_at_ms: int | None = None
    decided_by_id: str = ""
    """The operator who decided; a name may be another's later."""
    reason: str = ""
    scope: str = ONCE
    standing_until_ms: int | None = None
    """Until when repeats of the call are approved too."""
    rule_names: str = ""
    """The rules of ``rule_id`` as people are told them: ``rule 2: docs``."""

    @property
    def decided(self) -> bool:
        """Whether nobody can decide it any more."""
        return self.state is not ApprovalState.PENDING


def excludes(approval: CallApproval, by: Caller) -> bool:
    """Whether a rule's approvers are others: ``role:R`` is every operator of that role,
    ``operator:ID`` one operator.  Without any, whoever may decide at all may decide it."""
    role = "" if by.role is None else f"role:{by.role.value}"
    mine = {role, f"operator:{by.operator_id}"} - {""}
    return bool(approval.approvers) and mine.isdisjoint(approval.approvers)


def is_own(approval: CallApproval, by: Caller) -> bool:
    """Whether the call is the will of the person who would decide it, where that may not be."""
    return approval.four_eyes and by.person == approval.person


def may_decide(approval: CallApproval, by: Caller) -> bool:
    """Whether ``by`` may say yes or no now."""
    if approval.decided or not by.may(Right.DECIDE):
        return False
    return not excludes(approval, by) and not is_own(approval, by)


def may_stand(approval: CallApproval, scope: str) -> bool:
    """Whether a yes may hold for repeats too, as ``scope`` says."""
    return scope == ONCE or (scope in approval.scopes and approval.risk != Risk.HIGH.value)
