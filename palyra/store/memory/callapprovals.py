"""Approvals of calls in memory."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from palyra.core.approval import ApprovalState
from palyra.core.approvallog import CallQuery
from palyra.core.callapprovals import TIMEBOXED, CallApproval
from palyra.core.identifiers import has_prefix
from palyra.core.jobs import Job
from palyra.errors import AlreadyKept, ApprovalVoid
from palyra.store import callfacts
from palyra.store.callapprovals import OPEN, raise_decided
from palyra.store.jobbatch import UNUSED
from palyra.store.joblog import FOUND_AT_MOST
from palyra.store.memory.records import Records, fired, newest


class CallApprovalLog(Records):
    """Provides :class:`palyra.core.approvallog.ICallApprovalLog`."""

    @fired
    def call_approval(self, approval_id: str) -> CallApproval | None:
        kept = self._calls.get(approval_id)
        return None if kept is None else attrs.evolve(kept)

    @fired
    def call_approvals(self, query: CallQuery) -> list[CallApproval]:
        found = [
            attrs.evolve(each)
            for each in newest(self._calls)
            if (query.states is None or each.state in query.states)
            and (query.before is None or each.approval_id < query.before)
        ]
        return found[: query.limit]

    @fired
    def open_calls(self, now_ms: int) -> list[CallApproval]:
        return [
            attrs.evolve(each)
            for _, each in sorted(self._calls.items())
            if each.state.value in OPEN
            or (each.scope == TIMEBOXED and (each.standing_until_ms or 0) > now_ms)
        ]

    @fired
    def find_calls(self, prefix: str) -> Sequence[str]:
        found = sorted((each for each in self._calls if has_prefix(each, prefix)), reverse=True)
        return found[:FOUND_AT_MOST]

    @fired
    def decide_call(self, approval: CallApproval) -> None:
        kept = self._calls.get(approval.approval_id)
        if kept is None or kept.decided:
            raise_decided(approval.approval_id, None if kept is None else kept.state.value)
        self._calls[approval.approval_id] = attrs.evolve(approval)
        self._audit(callfacts.decided(approval))

    @fired
    def close_call(self, approval_id: str, state: ApprovalState, reason: str, now_ms: int) -> None:
        kept = self._calls.get(approval_id)
        if kept is not None and kept.state.value in OPEN:
            kept.state, kept.reason = state, reason or kept.reason
            if state is ApprovalState.EXPIRED:
                self._audit(callfacts.expired(kept, now_ms))

    @fired
    def forget_calls(self, before_ms: int, limit: int) -> int:
        old = [
            each.approval_id
            for _, each in sorted(self._calls.items())
            if each.state.value not in OPEN
            and each.created_at_ms < before_ms
            and not any(target.job_id in self._jobs for target in each.targets)
        ][:limit]
        for approval_id in old:
            del self._calls[approval_id]
        return len(old)

    def _keep_call(self, approval: CallApproval | None) -> None:
        """Keep the approval that comes with a call."""
        if approval is None:
            return
        if approval.approval_id in self._calls:
            raise AlreadyKept()
        self._calls[approval.approval_id] = attrs.evolve(approval)
        self._audit(callfacts.asked(approval))

    def _consume(self, job: Job) -> None:
        """The first attempt of a call that needs an approval uses up its share of it."""
        attempt, approval_id = job.attempt, job.call.approval_id
        if attempt is None or approval_id is None or attempt.number != 1:
            return
        if attempt.attempt_id in self._attempts:
            return
        kept, at_ms = self._calls.get(approval_id), attempt.dispatched_at_ms
        if kept is None or kept.state is not ApprovalState.APPROVED or kept.expires_at_ms <= at_ms:
            raise ApprovalVoid(UNUSED)
        unused = {each.job_id for each in kept.targets if each.consumed_at_ms is None}
        if job.call.job_id not in unused:
            raise ApprovalVoid(UNUSED)
        kept.targets = tuple(
            attrs.evolve(each, consumed_at_ms=at_ms) if each.job_id == job.call.job_id else each
            for each in kept.targets
        )
