"""What the core needs of the store for approvals of calls (:mod:`palyra.core.callapprovals`).

A call that is asked is kept with its approval by :meth:`palyra.core.interfaces.IJobLog.accept` or
``accept_fanout``; the commit of its first attempt uses the approval up, each target's share of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import attrs
from zope.interface import Interface

from palyra.core.approval import ApprovalState
from palyra.core.callapprovals import CallApproval


@attrs.frozen
class CallQuery:
    """Which approvals of calls to list, newest first; ``before`` is the id a page ended with."""

    states: frozenset[ApprovalState] | None = None
    limit: int = 50
    before: str | None = None


class ICallApprovalLog(Interface):
    """Approvals of calls."""

    def call_approval(approval_id: str) -> Awaitable[CallApproval | None]:
        """One approval."""

    def call_approvals(query: CallQuery) -> Awaitable[list[CallApproval]]:
        """Approvals of calls, newest first."""

    def open_calls(now_ms: int) -> Awaitable[list[CallApproval]]:
        """What a gateway that starts takes over, oldest first: approvals that are pending, or
        approved and not used up, and those that stand for repeats until later than ``now_ms``."""

    def find_calls(prefix: str) -> Awaitable[Sequence[str]]:
        """As :meth:`palyra.core.interfaces.IJobLog.find_jobs`."""

    def decide_call(approval: CallApproval) -> Awaitable[None]:
        """Keep a yes or a no.

        :raises palyra.errors.NotFound: there is no such approval.
        :raises palyra.errors.CallDecided: it is not pending any more.
        """

    def close_call(
        approval_id: str, state: ApprovalState, reason: str, now_ms: int
    ) -> Awaitable[None]:
        """Keep that a pending or approved one is over: expired or consumed.  Again: nothing."""

    def forget_calls(before_ms: int, limit: int) -> Awaitable[int]:
        """Delete approvals that ended and were made before ``before_ms`` and that no job kept
        refers to; at most ``limit``.  How many were deleted."""
