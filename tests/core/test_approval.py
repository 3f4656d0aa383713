"""Approvals: decided once, consumed once, over when their time is."""

from __future__ import annotations

import pytest

from palyra.core.approval import Approval, ApprovalInputs, ApprovalState, approval_machine
from palyra.core.identifiers import RequestId

from .machines import check_pair, every_pair, input_names

S = ApprovalState
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "approved": ("anna", "known", 5),
    "rejected": ("anna", "unknown", 5),
    "time_passed": (),
    "consumed": (),
}
LEGAL = {
    (S.PENDING, "approved"): S.APPROVED,
    (S.PENDING, "rejected"): S.REJECTED,
    (S.PENDING, "time_passed"): S.EXPIRED,
    (S.APPROVED, "time_passed"): S.EXPIRED,
    (S.APPROVED, "consumed"): S.CONSUMED,
}


def an_approval(state: ApprovalState = S.PENDING) -> Approval:
    return Approval("a", "pairing", RequestId("r"), "digest", 0, 600_000, state)


def test_the_table_is_complete() -> None:
    """Every input of an approval is in the table."""
    assert set(ARGUMENTS) == input_names(ApprovalInputs)


@pytest.mark.parametrize(("state", "name"), every_pair(ApprovalState, ApprovalInputs))
def test_every_pair(state: ApprovalState, name: str) -> None:
    """Each input takes an approval where the table says, or is illegal in that state."""
    check_pair(an_approval(state), approval_machine, name, ARGUMENTS[name], LEGAL)


@pytest.mark.parametrize("answer", ["approved", "rejected"])
def test_a_decision_is_recorded(answer: str) -> None:
    """Who decided, when and why is kept with the approval."""
    approval = an_approval()
    getattr(approval_machine(approval), answer)("anna", "seen it", 7)
    assert (approval.decided_by, approval.reason, approval.decided_at_ms) == ("anna", "seen it", 7)
