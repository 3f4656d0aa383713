"""Approvals: an operator's recorded yes or no, bound to a digest, single use, expiring."""

from __future__ import annotations

import enum
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from palyra.core.identifiers import RequestId


class ApprovalState(enum.Enum):
    """Pending until decided or expired; an approved one is consumed by the act it allows."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CONSUMED = "consumed"


@attrs.define
class Approval:
    """A question to an operator and what became of it.  Times are Unix milliseconds."""

    approval_id: str
    kind: str
    """What is asked: ``pairing``."""
    subject_id: RequestId
    digest: str
    """SHA-256 (hex) of exactly what is approved; the act must show the same digest."""
    created_at_ms: int
    expires_at_ms: int
    state: ApprovalState = ApprovalState.PENDING
    decided_by: str = ""
    decided_at_ms: int | None = None
    reason: str = ""


class ApprovalInputs(Protocol):
    """What happens to an approval."""

    def approved(self, by: str, reason: str, now_ms: int) -> None:
        """An operator said yes."""

    def rejected(self, by: str, reason: str, now_ms: int) -> None:
        """An operator said no."""

    def time_passed(self) -> None:
        """Its life is over without a decision, or without the act it allowed."""

    def consumed(self) -> None:
        """The act it allowed was done."""


_builder = TypeMachineBuilder(ApprovalInputs, Approval)
_pending = _builder.state("pending")
_approved = _builder.state("approved")
_rejected = _builder.state("rejected")
_expired = _builder.state("expired")
_consumed = _builder.state("consumed")
_STATES = {
    ApprovalState.PENDING: _pending,
    ApprovalState.APPROVED: _approved,
    ApprovalState.REJECTED: _rejected,
    ApprovalState.EXPIRED: _expired,
    ApprovalState.CONSUMED: _consumed,
}


@_pending.upon(ApprovalInputs.approved).to(_approved)
def _say_yes(_: ApprovalInputs, approval: Approval, by: str, reason: str, now_ms: int) -> None:
    _decide(approval, ApprovalState.APPROVED, by, reason, now_ms)


@_pending.upon(ApprovalInputs.rejected).to(_rejected)
def _say_no(_: ApprovalInputs, approval: Approval, by: str, reason: str, now_ms: int) -> None:
    _decide(approval, ApprovalState.REJECTED, by, reason, now_ms)


@_pending.upon(ApprovalInputs.time_passed).to(_expired)
@_approved.upon(ApprovalInputs.time_passed).to(_expired)
def _expire(_: ApprovalInputs, approval: Approval) -> None:
    approval.state = ApprovalState.EXPIRED


@_approved.upon(ApprovalInputs.consumed).to(_consumed)
def _consume(_: ApprovalInputs, approval: Approval) -> None:
    approval.state = ApprovalState.CONSUMED


_machine = _builder.build()


def approval_machine(approval: Approval) -> ApprovalInputs:
    """The machine of an approval, in the state the approval is in.

    An input that its state does not know raises ``automat.NoTransition``: an approval is decided
    once and consumed once.
    """
    return _machine(approval, _STATES[approval.state])


def _decide(approval: Approval, state: ApprovalState, by: str, reason: str, now_ms: int) -> None:
    approval.state = state
    approval.decided_by = by
    approval.decided_at_ms = now_ms
    approval.reason = reason
