"""Bodies of ``approvals``: pairing requests and calls that wait for an operator."""

from __future__ import annotations

import msgspec

from palyra.console.models.common import Contract, GrantRisk, Page, Scope, Verdict
from palyra.console.models.pairing import PairingItem


class CallTargetItem(msgspec.Struct, frozen=True):
    """One device that a call wants to run on, and the job that waits for it."""

    device_id: str
    device_name: str
    job_id: str
    identity_fingerprint: str
    descriptor_digest: str


class CallItem(msgspec.Struct, frozen=True):
    """A call under an ``ask`` rule: everything that its digest is made of, nothing cut.

    ``scopes`` are for how long a yes may hold: once, session, timeboxed.  ``may_decide`` says
    whether who asks for this list may decide it.
    """

    capability: str
    risk: str
    input_json: msgspec.Raw
    requested_by: str
    operator_id: str
    targets: list[CallTargetItem]
    max_payload_bytes: int
    timeout_ms: int
    ttl_ms: int | None
    idempotency_key: str
    rule: str
    approvers: list[str]
    four_eyes: bool
    scopes: list[str]
    may_decide: bool


class ApprovalItem(msgspec.Struct, frozen=True):
    """One approval.  ``kind`` is pairing or call, and that one of ``pairing`` and ``call`` is set.

    ``state`` is pending, approved, rejected, expired or consumed.  ``digest`` must be sent with
    the decision on a call: it says what was seen.
    """

    approval_id: str
    kind: str
    state: str
    digest: str
    created_at_unix_ms: int
    expires_at_unix_ms: int
    decided_by: str
    decided_at_unix_ms: int | None
    reason: str
    scope: str
    standing_until_unix_ms: int | None
    pairing: PairingItem | None = None
    call: CallItem | None = None


class ApprovalList(msgspec.Struct, frozen=True):
    """GET approvals, newest first; ``pending`` counts those that wait."""

    contract: Contract
    page: Page
    approvals: list[ApprovalItem]
    pending: int


class ApprovalAnswer(msgspec.Struct, frozen=True):
    """GET approvals/{id}, and the answer to a decision."""

    contract: Contract
    approval: ApprovalItem


class ApprovalDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST approvals/{id}/decision.

    ``decision`` is approve or reject; ``digest`` is that of the call that was seen (calls only).
    ``scope`` is once, session or timeboxed, the last until ``scope_ttl_ms`` are over.  Of a
    pairing request ``grants``, ``grant_risk`` and ``accept_new_identity`` are as in
    pairing/requests/{id}/approve.
    """

    decision: Verdict
    digest: str = ""
    reason: str = ""
    scope: Scope = "once"
    scope_ttl_ms: int | None = None
    grants: list[str] | None = None
    grant_risk: GrantRisk = "low"
    accept_new_identity: bool = False
