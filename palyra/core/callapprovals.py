"""Calls that wait for an operator's yes: exactly what is asked, and what became of it.

The machine is that of every approval (:mod:`palyra.core.approval`); what is different is what the
yes is bound to: the digest of the whole call, all of its targets included (ACCESS: Policy).
"""

from __future__ import annotations

import attrs

from palyra.core.approval import ApprovalState
from palyra.core.identifiers import DeviceId, Fingerprint, JobId

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
    """One device that is asked.  ``descriptor_digest`` is of the capability as granted there."""

    device_id: DeviceId
    device_name: str
    job_id: JobId
    identity_fingerprint: Fingerprint
    descriptor_digest: str


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
    reason: str = ""
    scope: str = ONCE
    standing_until_ms: int | None = None
    """Until when repeats of the call are approved too."""
