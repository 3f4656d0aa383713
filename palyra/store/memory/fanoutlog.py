"""Fan-outs in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from palyra.core.callapprovals import CallApproval
from palyra.core.fanouts import Fanout, Tally, is_failure
from palyra.core.identifiers import FanoutId, has_prefix
from palyra.core.interfaces import IdempotencyKey
from palyra.core.jobs import Job
from palyra.errors import AlreadyKept
from palyra.store import audited, facts, rules
from palyra.store.joblog import FOUND_AT_MOST
from palyra.store.memory.callapprovals import CallApprovalLog
from palyra.store.memory.records import fired


class FanoutLog(CallApprovalLog):
    """Provides :class:`palyra.core.interfaces.IFanoutLog`."""

    @fired
    def accept_fanout(
        self,
        fanout: Fanout,
        rows: Sequence[Job],
        key: IdempotencyKey | None = None,
        approval: CallApproval | None = None,
    ) -> None:
        ids = {row.call.job_id for row in rows}
        if fanout.fanout_id in self._fanouts or len(ids) < len(rows) or ids & self._jobs.keys():
            raise AlreadyKept()
        self._use(key, fanout.submitted_at_ms, fanout_id=fanout.fanout_id)
        self._keep_call(approval)
        self._fanouts[fanout.fanout_id] = fanout
        self._jobs.update((row.call.job_id, rules.own_job(row)) for row in rows)
        self._link(audited.of_fanout(fanout, rows))
        for row in rows:
            if row.final:
                self._note(facts.job_ended(row))

    @fired
    def fanout(self, fanout_id: FanoutId) -> Fanout | None:
        return self._fanouts.get(fanout_id)

    @fired
    def tally(self, fanout_id: FanoutId) -> Tally:
        rows = [job for job in self._jobs.values() if job.call.fanout_id == fanout_id]
        return Tally(dict(Counter(job.state for job in rows)), sum(map(is_failure, rows)))

    @fired
    def find_fanouts(self, prefix: str) -> Sequence[FanoutId]:
        found = sorted((each for each in self._fanouts if has_prefix(each, prefix)), reverse=True)
        return found[:FOUND_AT_MOST]
