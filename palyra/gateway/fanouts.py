"""Fan-outs while they run: which rows may start, and how many are in which state."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from palyra.config.jobs import JobsSection
from palyra.core.callapprovals import APPROVAL, CallApproval
from palyra.core.calldigest import ExactInput
from palyra.core.devices import Device
from palyra.core.fanouts import BATCH, Fanout, Rollout, Tally
from palyra.core.frames import JobUpdate
from palyra.core.identifiers import Entropy, FanoutId, JobId, new_ulid
from palyra.core.interfaces import IdempotencyKey, IStore
from palyra.core.jobmachine import job_machine
from palyra.core.jobs import UNFINISHED, Job, JobState
from palyra.core.policy import Decision
from palyra.errors import (
    ApprovalApart,
    InputInvalid,
    Malformed,
    NoTargets,
    NotFound,
    PalyraError,
    TooManyTargets,
)
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.intake import Intake, Judged
from palyra.gateway.orders import FanoutOrder
from palyra.gateway.rows import Rows
from palyra.gateway.waits import shielded

SLICE = 250
"""Rows made, or started, in one turn of the reactor: heartbeats must not wait for ten thousand."""
T = TypeVar("T")


@attrs.frozen
class FanoutView:
    """A fan-out and what became of its rows so far."""

    fanout: Fanout
    tally: Tally

    @property
    def finished(self) -> bool:
        """Whether every row is final."""
        return not any(self.tally.counts.get(state) for state in UNFINISHED)

    @property
    def stopped(self) -> bool:
        """Whether more rows have failed than may."""
        limit = self.fanout.max_failures
        return limit is not None and self.tally.failures > limit


class RunningFanout:
    """A fan-out with rows that are not final; once all are, it stays as it ended."""

    def __init__(self, fanout: Fanout, tally: Tally) -> None:
        self.rollout = Rollout(fanout, tally.failures)
        self.states: dict[JobId, JobState] = {}
        """The rows that are not final."""
        self.withheld = False
        """Too many have failed: what was never sent will not be."""
        self._counts = Counter(tally.counts)

    def moved(self, job: Job) -> bool:
        """A row's state is on record; whether the row has ended by it."""
        before = self.states.get(job.call.job_id)
        if before is None or before is job.state:
            return False
        self._counts[before] -= 1
        self._counts[job.state] += 1
        self.states[job.call.job_id] = job.state
        if job.final:
            del self.states[job.call.job_id]
            self.rollout.ended(job)
        return job.final

    def view(self) -> FanoutView:
        """The fan-out as it is now."""
        return FanoutView(self.rollout.fanout, Tally(+self._counts, self.rollout.failures))


Asked = tuple[Job, Decision]
"""A row that a rule holds, and what that rule says."""


def _apart(decision: Decision, asked: Sequence[Asked]) -> PalyraError | None:
    """Why a row cannot be asked together with the first that is: others decide it."""
    if not asked:
        return None
    first, this = asked[0][1].rule, decision.rule
    theirs = (frozenset(rule.approvers if rule else ()) for rule in (first, this))
    if len(set(theirs)) == 1:
        return None
    return ApprovalApart(decision.reason, asked[0][1].reason)


class _Room:
    """Room that is kept for rows until they are entered."""

    def __init__(self, rows: Rows, count: int) -> None:
        rows.reserve(count)
        self._rows = rows
        self._count = count

    def take(self) -> None:
        """A row is about to be entered: from then on it takes its room itself."""
        taken = min(1, self._count)
        self._count -= taken
        self._rows.free(taken)

    def free(self) -> None:
        """No other row will be entered."""
        self._rows.free(self._count)
        self._count = 0


class Fanouts:
    """Accepts fan-outs, and lets their rows start as those before them end.

    A :class:`palyra.gateway.settlement.Watcher` of the dispatcher, which does everything that is
    the same for any job.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        entropy: Entropy,
        store: IStore,
        intake: Intake,
        dispatcher: Dispatcher,
        limits: JobsSection,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._store = store
        self._intake = intake
        self._rows = dispatcher.rows
        self._limits = limits
        self._running: dict[FanoutId, RunningFanout] = {}
        self._waiting: deque[
            tuple[Callable[[RunningFanout, JobId], None], RunningFanout, JobId]
        ] = deque()
        self._turn: IDelayedCall | None = None
        self._stopped = False
        self._approvals = dispatcher.approvals
        self._approvals.let_go, self._approvals.refuse = self._approved, self._refused
        dispatcher.watchers.append(self)

    async def start(self, unfinished: Iterable[Job]) -> None:
        """Take over the fan-outs that an earlier life of this gateway left unfinished."""
        rows: dict[FanoutId, list[Job]] = {}
        for job in unfinished:
            if job.call.fanout_id is not None:
                rows.setdefault(job.call.fanout_id, []).append(job)
        for fanout_id, theirs in rows.items():
            fanout = await self._store.fanout(fanout_id)
            tally = await self._store.tally(fanout_id)
            assert fanout is not None, "rows are kept with their fan-out"
            running = self._take_in(fanout, theirs, tally)
            for job in theirs:
                if job.waiting_for == BATCH:
                    running.rollout.waits(job.call.job_id)
                elif job.waiting_for != APPROVAL:
                    running.rollout.started(job.call.job_id)
            self._go_on(running)

    def stop(self) -> None:
        """Start no more rows; the next life of the gateway does."""
        self._stopped = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._waiting.clear()

    def submit(self, order: FanoutOrder, key: IdempotencyKey | None = None) -> Deferred[FanoutView]:
        """Accept a call to many devices; done when it is committed with a row for each of them.

        :raises PalyraError: it was refused as a whole, and nothing was written.
        """
        return shielded(Deferred.fromCoroutine(self._submit(order, key)))

    async def _submit(self, order: FanoutOrder, key: IdempotencyKey | None) -> FanoutView:
        exact = self._check(order)
        room = _Room(self._rows, len(order.devices) if order.batch is not None else 0)
        try:
            fanout = self._fanout(order, exact)
            rows, asked = await self._rows_of(order, exact, fanout)
            if order.batch is None and asked:
                room = _Room(self._rows, len(asked))
            approval = self._approval(order, asked, key)
            if approval is not None:
                fanout = attrs.evolve(fanout, approval_id=approval.approval_id)
            counts = Counter(row.state for row in rows)
            waiting = [row for row in rows if not row.final]
            running = self._take_in(fanout, waiting, Tally(counts, 0))
            # Known before it is on record: whoever hears of a row then can cancel it.
            await self._in_slices(waiting, lambda row: self._enter(running, row, room))
        finally:
            room.free()
        try:
            await self._store.accept_fanout(fanout, rows, key, approval)
        except Exception:
            self._drop(running)
            if approval is not None:
                self._approvals.dropped(approval)
            raise
        self._rows.entered(list(running.states))
        self._go_on(running)
        if approval is not None:
            self._approvals.opened(approval)
        self._end(running)
        return FanoutView(fanout, Tally(counts, 0))

    def _fanout(self, order: FanoutOrder, exact: ExactInput) -> Fanout:
        now_ms = self._intake.now_ms()
        return Fanout(
            fanout_id=FanoutId(new_ulid(now_ms, self._entropy)),
            requested_by=order.requested_by,
            capability=order.capability,
            input_json=exact.json,
            expression=order.expression,
            submitted_at_ms=now_ms,
            targets=len(order.devices),
            batch=order.batch,
            max_failures=order.max_failures,
        )

    def _enter(self, running: RunningFanout, row: Job, room: _Room) -> None:
        if row.waiting_for != APPROVAL:
            running.rollout.waits(row.call.job_id)
        if row.waiting_for:
            room.take()
        self._rows.enter(row)

    def _drop(self, running: RunningFanout) -> None:
        """It was not accepted: as if it had never been asked."""
        for job_id in running.states:
            self._rows.drop(job_id)
        self._running.pop(running.rollout.fanout.fanout_id, None)

    def running(self, fanout_id: FanoutId) -> RunningFanout | None:
        """The fan-out, while some of its rows are not final."""
        return self._running.get(fanout_id)

    async def view(self, fanout_id: FanoutId) -> FanoutView:
        """A fan-out as it is now.

        :raises NotFound: there is none of that id.
        """
        running = self._running.get(fanout_id)
        if running is not None:
            return running.view()
        fanout = await self._store.fanout(fanout_id)
        if fanout is None:
            raise NotFound("fan-out", fanout_id)
        return FanoutView(fanout, await self._store.tally(fanout_id))

    def unfinished(self, fanout_id: FanoutId) -> list[JobId]:
        """The rows that are not final."""
        running = self._running.get(fanout_id)
        return list(running.states) if running is not None else []

    def changed(self, update: JobUpdate) -> None:
        """A row's new state is on record: others may start (Watcher)."""
        job = update.job
        running = self._running.get(job.call.fanout_id) if job.call.fanout_id else None
        if running is None:
            return
        if running.moved(job):
            self._go_on(running)
            self._end(running)
        elif running.rollout.stopped and job.state is JobState.QUEUED:
            # Its dispatch came to nothing.
            self._waiting.append((self._withhold, running, job.call.job_id))
            self._begin_turn()

    # -- inside -----------------------------------------------------------------------------

    def _check(self, order: FanoutOrder) -> ExactInput:
        if not order.devices:
            raise NoTargets(order.expression)
        if len(order.devices) > self._limits.max_targets:
            raise TooManyTargets(len(order.devices), self._limits.max_targets)
        if order.batch is not None and order.batch < 1:
            raise Malformed("batch", "must be at least one device")
        if order.max_failures is not None and order.max_failures < 0:
            raise Malformed("max_failures", "must not be negative")
        return self._intake.check(order)

    async def _rows_of(
        self, order: FanoutOrder, exact: ExactInput, fanout: Fanout
    ) -> tuple[list[Job], list[Asked]]:
        """Every row, and those of them that rules hold.

        :raises InputInvalid: the input fits no device's schema; nobody wants a row of that for
            each.
        """
        rows: list[Job] = []
        asked: list[Asked] = []
        wrong: list[InputInvalid] = []

        def make(device: Device) -> None:
            judged = self._intake.row_for(order, exact, device, fanout.submitted_at_ms)
            if isinstance(judged.refusal, InputInvalid):
                wrong.append(judged.refusal)
            rows.append(self._row(fanout, judged, asked))

        await self._in_slices(order.devices, make)
        if len(wrong) == len(rows):
            raise wrong[0]
        return rows, asked

    def _row(self, fanout: Fanout, judged: Judged, asked: list[Asked]) -> Job:
        job, decision, refusal = judged
        job.call = attrs.evolve(job.call, fanout_id=fanout.fanout_id)
        if refusal is None and not self._rows.may_wait(job.call):
            refusal = self._intake.offline(job.call)
        if refusal is None and judged.asked:
            refusal = _apart(decision, asked)
        if refusal is not None:
            sentence = " ".join(refusal.sentence.splitlines())
            job_machine(job).refused(refusal.code, sentence, fanout.submitted_at_ms)
        elif judged.asked:
            job.waiting_for = APPROVAL
            asked.append((job, decision))
        elif fanout.batch is not None:
            job.waiting_for = BATCH
        return job

    def _approval(
        self, order: FanoutOrder, asked: list[Asked], key: IdempotencyKey | None
    ) -> CallApproval | None:
        """One approval for all rows that are asked; what changed since a row was made is that
        row's."""
        asked = [row for row in asked if self._may_be_asked(row[0])]
        if not asked:
            return None
        return self._approvals.ask(order, asked, key.key if key is not None else "")

    def _may_be_asked(self, job: Job) -> bool:
        try:
            self._intake.check_target(job.call)
        except PalyraError as refusal:
            job_machine(job).refused(refusal.code, refusal.sentence, job.call.submitted_at_ms)
            return False
        return True

    def _approved(self, job_id: JobId) -> None:
        """A job that waited for approval may start: the row of a fan-out when its turn comes."""
        self._in_turn(job_id, self._enter_approved, self._rows.release)

    def _refused(self, job_id: JobId, error: PalyraError) -> None:
        """A job that waited for approval will never start."""

        def refuse(job_id: JobId) -> None:
            self._rows.refuse(job_id, error)

        self._in_turn(job_id, lambda _, job_id: refuse(job_id), refuse)

    def _in_turn(
        self,
        job_id: JobId,
        act: Callable[[RunningFanout, JobId], None],
        alone: Callable[[JobId], object],
    ) -> None:
        """Do with a row what is to be done with it, soon; with any other job at once."""
        fanout_id = self._rows.fanout_of(job_id)
        running = self._running.get(fanout_id) if fanout_id is not None else None
        if running is None:
            alone(job_id)
        elif not self._stopped:
            self._waiting.append((act, running, job_id))
            if self._turn is None:
                self._turn = self._clock.callLater(0, self._take_turn)

    def _enter_approved(self, running: RunningFanout, job_id: JobId) -> None:
        if job_id not in running.states:
            return
        running.rollout.waits(job_id)
        if running.rollout.fanout.batch is not None:
            self._rows.waits_for_turn(job_id)
        self._go_on(running)

    def _take_in(self, fanout: Fanout, unfinished: Sequence[Job], tally: Tally) -> RunningFanout:
        running = RunningFanout(fanout, tally)
        running.states.update((job.call.job_id, job.state) for job in unfinished)
        self._running[fanout.fanout_id] = running
        return running

    def _go_on(self, running: RunningFanout) -> None:
        """Start the rows that may, soon; when too many have failed, end those never sent."""
        if self._stopped:
            return
        rollout = running.rollout
        for job_id in rollout.take_startable():
            self._waiting.append((self._release, running, job_id))
        if rollout.stopped and not running.withheld:
            running.withheld = True
            rollout.take_refused()
            for job_id, state in running.states.items():
                if state is JobState.QUEUED:
                    self._waiting.append((self._withhold, running, job_id))
        self._begin_turn()

    def _release(self, running: RunningFanout, job_id: JobId) -> None:
        if not running.withheld:
            self._rows.release(job_id)

    def _withhold(self, running: RunningFanout, job_id: JobId) -> None:
        rollout = running.rollout
        sentence = (
            f"Not sent: {rollout.failures} others failed before; "
            f"the limit is {rollout.fanout.max_failures}."
        )
        self._rows.withhold(job_id, sentence)

    def _end(self, running: RunningFanout) -> None:
        if not running.states:
            self._running.pop(running.rollout.fanout.fanout_id, None)

    def _begin_turn(self) -> None:
        if self._waiting and self._turn is None:
            self._take_turn()

    def _take_turn(self) -> None:
        """Start, or end, so many rows; more of them in the next turn of the reactor."""
        self._turn = self._clock.callLater(0, self._take_turn)
        for _ in range(SLICE):
            if not self._waiting:
                break
            act, running, job_id = self._waiting.popleft()
            act(running, job_id)
        if not self._waiting:
            self._turn.cancel()
            self._turn = None

    async def _in_slices(self, items: Sequence[T], act: Callable[[T], object]) -> None:
        for begin in range(0, len(items), SLICE):
            if begin:
                await deferLater(self._clock, 0)
            for item in items[begin : begin + SLICE]:
                act(item)
