"""What an operator may answer to a call that waits, and what a job hears whose call is over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from palyra.core.approval import ApprovalState
from palyra.core.callapprovals import (
    ONCE,
    SESSION,
    TIMEBOXED,
    CallApproval,
    excludes,
    is_own,
    may_stand,
)
from palyra.core.identifiers import short_id
from palyra.core.operators import Caller
from palyra.core.policy import Rule
from palyra.errors import (
    ApprovalChanged,
    ApprovalExpired,
    ApprovalRejected,
    ApprovalVoid,
    FourEyes,
    Malformed,
    NotAnApprover,
    PalyraError,
)

MAX_STANDING_MS = 24 * 3_600_000
SESSION_MS = 12 * 3_600_000
"""How long a browser session can last."""


@attrs.frozen
class Answer:
    """An operator's decision.  ``digest`` says what was seen; ``ttl_ms`` is of a timeboxed yes."""

    by: Caller
    approved: bool
    digest: str
    reason: str = ""
    scope: str = ONCE
    ttl_ms: int | None = None


def expired(approval: CallApproval) -> ApprovalExpired:
    """Why a job ends whose approval was not given, or not used, in time."""
    seconds = (approval.expires_at_ms - approval.created_at_ms) // 1000
    length = f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
    return ApprovalExpired(length, approval.decided)


def ending(approval: CallApproval | None) -> PalyraError:
    """Why a job ends that waits for an approval which is over."""
    if approval is not None and approval.state is ApprovalState.REJECTED:
        return ApprovalRejected(approval.decided_by, approval.reason)
    if approval is not None and approval.state is ApprovalState.EXPIRED:
        return expired(approval)
    return ApprovalVoid("it is not on record any more")


def check_answer(approval: CallApproval, answer: Answer) -> None:
    """Refuse who may not decide, who saw another call, and a yes that may not hold so long."""
    short = short_id(approval.approval_id)
    if excludes(approval, answer.by):
        raise NotAnApprover(short, approval.approvers)
    if is_own(approval, answer.by):
        raise FourEyes(short, approval.requested_by)
    if answer.digest != approval.digest:
        raise ApprovalChanged(short)
    if answer.approved and not may_stand(approval, answer.scope):
        allowed = [each for each in (ONCE, SESSION, TIMEBOXED) if may_stand(approval, each)]
        raise Malformed("scope", f"must be {' or '.join(allowed)}")


def hold(approval: CallApproval, answer: Answer, now_ms: int) -> None:
    """For how long the yes holds."""
    approval.scope = answer.scope
    if answer.scope == SESSION:
        if not approval.session:  # there is no browser session that could repeat it
            approval.scope = ONCE
            return
        approval.standing_until_ms = now_ms + SESSION_MS
    elif answer.scope == TIMEBOXED:
        ttl_ms = answer.ttl_ms
        if ttl_ms is None or not 1_000 <= ttl_ms <= MAX_STANDING_MS:
            raise Malformed("scope_ttl_ms", "must be 1 s to 24 h")
        approval.standing_until_ms = now_ms + ttl_ms


def is_enough(approval: CallApproval, approvers: Iterable[str], four_eyes: bool) -> bool:
    """Whether a yes to ``approval`` is one to a rule that has these approvers, and wants four eyes
    or does not: the rule may have changed since it was asked."""
    wanted = frozenset(approvers)
    same = not wanted or wanted == frozenset(approval.approvers)
    return same and (approval.four_eyes or not four_eyes)


def scopes_of(rules: Sequence[Rule]) -> tuple[str, ...]:
    """What every one of the rules allows."""
    if not rules:
        return (ONCE,)
    return tuple(each for each in rules[0].scopes if all(each in rule.scopes for rule in rules))
