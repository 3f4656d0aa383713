"""What must always hold, and what must hold in the end."""

from __future__ import annotations

from typing import Any

import attrs

from palyra.core.fanouts import Fanout
from palyra.core.identifiers import AttemptId, FanoutId, JobId
from palyra.core.jobs import Job, JobState
from palyra.store.memory import MemoryStore
from palyra.testing.simulation.disk import at_once
from palyra.testing.simulation.gateway import LIMITS
from palyra.testing.simulation.trace import Violation
from palyra.testing.simulation.work import BEHAVIOURS, Ledger, output_of

_HARMLESS = frozenset({JobState.EXPIRED, JobState.REJECTED, JobState.CANCELLED})
SETTLED_S = 3_600.0
"""Within this time after all faults ended every job is final: a queue of twelve, each of which may
ask a person (30 s) and run out of time (20 s) on up to five attempts, with a minute to connect."""


@attrs.define
class _Known:
    """What was seen of a job on the durable store."""

    job: Job
    effects_at_end: int = 0


class Checks:
    """Watches the durable store, the ledger of effects, and what callers are told."""

    def __init__(self, store: MemoryStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._known: dict[JobId, _Known] = {}
        self._accepted: set[JobId] = set()
        self._fanouts: dict[FanoutId, tuple[Fanout, frozenset[JobId]]] = {}
        ledger.started = self.started
        ledger.happened = self.happened

    @property
    def unfinished(self) -> list[Job]:
        """The durable jobs that are not final."""
        return [each.job for each in self._known.values() if not each.job.final]

    @property
    def jobs(self) -> list[Job]:
        """Every durable job, oldest first."""
        return [each.job for each in self._known.values()]

    # -- when something happens -----------------------------------------------------------------

    def committed(self, group: list[tuple[str, tuple[Any, ...]]]) -> list[Job]:
        """A group of writes is durable; the jobs whose state it changed."""
        changed: list[Job] = []
        for name, arguments in group:
            if name in ("accept", "update"):
                self._look(arguments[0].call.job_id, changed)
            elif name == "accept_fanout":
                self._keep_fanout(arguments[0], arguments[1], changed)
            elif name == "revoke":
                for job in self.unfinished:
                    if job.call.device_id == arguments[0]:
                        self._look(job.call.job_id, changed)
        return changed

    def _keep_fanout(self, fanout: Fanout, rows: list[Job], changed: list[Job]) -> None:
        if at_once(self._store.fanout(fanout.fanout_id)) is not None:
            ids = frozenset(row.call.job_id for row in rows)
            self._fanouts.setdefault(fanout.fanout_id, (fanout, ids))
            for row in rows:
                self._look(row.call.job_id, changed)

    def _look(self, job_id: JobId, changed: list[Job]) -> None:
        job: Job | None = at_once(self._store.job(job_id))
        known = self._known.get(job_id)
        if job is None:
            if known is not None:
                raise Violation(f"job {job_id} vanished from the store")
            return
        if known is None:
            known = self._known[job_id] = _Known(job)
            changed.append(job)
        elif known.job.final:
            self._check_final(known.job, job)
            return
        elif known.job.state is not job.state:
            changed.append(job)
        known.job = job
        if job.final:
            self._ended(known)

    def _check_final(self, before: Job, now: Job) -> None:
        same = attrs.evolve(now, notes=before.notes) == before
        if not same:
            raise Violation(
                f"final job {before.call.job_id} changed: {before.state.value} -> {now.state.value}"
            )

    def _ended(self, known: _Known) -> None:
        job = known.job
        effects = known.effects_at_end = self._ledger.effects[job.call.job_id]
        if job.state is JobState.SUCCEEDED:
            if not effects:
                raise Violation(f"job {job.call.job_id} succeeded without effect")
            if job.output_json != output_of(job.call.job_id, job.call.input_json):
                raise Violation(f"job {job.call.job_id} has another job's output")
        if job.state in _HARMLESS and not job.effect_possible and not job.attempts and effects:
            raise Violation(f"job {job.call.job_id} is {job.state.value} and took effect")

    def started(self, job_id: str, capability: str) -> None:
        """A handler began: it was on record before, and begins once unless it may be repeated."""
        if JobId(job_id) not in self._known:
            raise Violation(f"job {job_id} was started and is not on record")
        if not BEHAVIOURS[capability].idempotent and self._ledger.starts[job_id] > 1:
            raise Violation(f"job {job_id} ({capability}) was started twice")

    def happened(self, job_id: str, capability: str) -> None:
        """A handler took effect: once unless it may be repeated, and not after all was said."""
        if not BEHAVIOURS[capability].idempotent and self._ledger.effects[job_id] > 1:
            raise Violation(f"job {job_id} ({capability}) took effect twice")
        job = self._known[JobId(job_id)].job
        surely_over = job.final and not job.effect_possible and not job.call.idempotent
        if surely_over and job.state in _HARMLESS | {JobState.TIMED_OUT}:
            raise Violation(f"job {job_id} is {job.state.value} for good and took effect later")

    def told_accepted(self, job_id: JobId) -> None:
        """A caller was told that a job is accepted."""
        self._accepted.add(job_id)
        if job_id not in self._known:
            raise Violation(f"job {job_id} was accepted and is not on record")

    def told_final(self, job: Job) -> None:
        """A caller was told how a job ended."""
        known = self._known.get(job.call.job_id)
        if known is None or known.job.state is not job.state or not job.final:
            kept = "nothing" if known is None else known.job.state.value
            raise Violation(
                f"a caller was told {job.state.value} of {job.call.job_id}; on record is {kept}"
            )

    def told_fanout(self, fanout: Fanout, targets: int) -> None:
        """A caller was told that a fan-out is accepted: there is a row for every target."""
        kept = self._fanouts.get(fanout.fanout_id)
        if kept is None or len(kept[1]) != targets or not kept[1] <= self._known.keys():
            raise Violation(f"fan-out {fanout.fanout_id} was accepted without all its rows")

    def acknowledged(self, attempt_id: AttemptId) -> None:
        """A node was told that its report is on record, so that it need not keep it."""
        job: Job | None = at_once(self._store.job_of_attempt(attempt_id))
        if job is not None and not job.final:
            raise Violation(f"a report on {job.call.job_id} was acknowledged and is not on record")

    # -- after every step -----------------------------------------------------------------------

    def after_step(self) -> None:
        """Nothing that was ever durable or accepted is lost; queues keep their bounds."""
        kept = self._store._jobs.keys()  # as they are: a copy of every job would cost most of all
        lost = self._known.keys() - kept
        lost |= self._accepted - kept
        if lost:
            raise Violation(f"accepted jobs are lost: {sorted(lost)}")
        self._check_bounds()

    def _check_bounds(self) -> None:
        waiting: dict[str, int] = {}
        for job in self.unfinished:
            if job.state is JobState.QUEUED and not job.attempts and job.call.fanout_id is None:
                waiting[job.call.device_id] = waiting.get(job.call.device_id, 0) + 1
        most = LIMITS.max_waiting_per_device + LIMITS.in_flight_per_device
        for device_id, count in waiting.items():
            if count > most:
                raise Violation(f"{count} jobs wait for {device_id}; {most} may")

    # -- in the end -----------------------------------------------------------------------------

    def at_end(self, *, calm: bool) -> None:
        """All faults are over, and time has passed: every job is final, every target has a row.

        ``calm``: nothing happened but renewals, and no job may have noticed.
        """
        left = [(job.call.job_id, job.state.value, job.waiting_for) for job in self.unfinished]
        if left:
            raise Violation(f"never final: {left}")
        for fanout, ids in self._fanouts.values():
            self.told_fanout(fanout, fanout.targets)
            self._check_withheld(fanout, ids)
        if calm:
            self._check_undisturbed()

    def _check_undisturbed(self) -> None:
        for known in self._known.values():
            job = known.job
            wanted = job.cancel_requested_at_ms is not None or job.error_code == "max_failures"
            lost = job.state is JobState.OUTCOME_UNKNOWN or job.attempts > 1
            if lost or (job.state is JobState.CANCELLED and not wanted):
                raise Violation(
                    f"job {job.call.job_id} is {job.state.value} after {job.attempts} attempts, "
                    "and only certificates were renewed"
                )

    def _check_withheld(self, fanout: Fanout, ids: frozenset[JobId]) -> None:
        withheld = [each for each in ids if self._known[each].job.error_code == "max_failures"]
        started = sum(self._ledger.starts[each] for each in withheld)
        if started:
            raise Violation(f"fan-out {fanout.fanout_id}: a withheld row was started")
