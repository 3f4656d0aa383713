"""Dispatch: from an accepted call to its final state (DESIGN: record first).

A job is committed before it is sent, and its final state before anybody is told.  Unfinished jobs
live here, each with its machine; the store holds them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from palyra.config.jobs import JobsSection
from palyra.core.callapprovals import APPROVAL, CallApproval
from palyra.core.frames import JobUpdate, Progress
from palyra.core.identifiers import DeviceId, Entropy, JobId, short_id
from palyra.core.interfaces import IdempotencyKey, IJobLog
from palyra.core.jobmachine import RETRY, job_machine
from palyra.core.jobs import Call, Job
from palyra.core.policy import Decision, Effect
from palyra.errors import Draining, JobFinal, JobStillRunning, NotRegistered, PalyraError
from palyra.gateway.backlog import HELD, Backlog
from palyra.gateway.callapprovals import CallApprovals
from palyra.gateway.deadlines import Deadlines
from palyra.gateway.intake import Intake, check_carried
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.orders import Order
from palyra.gateway.presence import LINGER_MS
from palyra.gateway.rechecks import Rechecks
from palyra.gateway.rows import Rows
from palyra.gateway.sending import Sender
from palyra.gateway.sessions import Sessions
from palyra.gateway.settlement import Settlement
from palyra.gateway.statements import Statements
from palyra.gateway.tracing import JobTraces
from palyra.gateway.unfinished import Live, Unfinished
from palyra.gateway.waiters import Waiters
from palyra.gateway.waits import deferred, shielded

CANCEL_WAIT_MS = 5_000
"""How long a cancel waits for the end of a job that is on its way to the store."""


class Dispatcher:
    """Accepts calls, and is asked what became of them.

    Between the two, what nodes say goes to :class:`Statements`, what they are sent comes from
    :class:`Sender`, and what is on record is told by :class:`Settlement`.  ``rows`` is what
    fan-outs use; ``watchers`` are told of every job.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        entropy: Entropy,
        log: IJobLog,
        intake: Intake,
        sessions: Sessions,
        gateway_id: str,
        limits: JobsSection,
        changed: Callable[[], object],
        elapsed_ms: Callable[[], int],
        approvals: CallApprovals,
    ) -> None:
        self._store = log
        self.approvals = approvals
        self._intake = intake
        self._sessions = sessions
        self._changed = changed
        self._idle: list[Deferred[None]] = []
        self._unfinished = unfinished = Unfinished()
        self._backlog = backlog = Backlog(limits)
        self._waiters = Waiters(clock, elapsed_ms)
        self._deadlines = deadlines = Deadlines(
            clock=clock,
            intake=intake,
            sessions=sessions,
            unfinished=unfinished,
            passed=lambda live, session: self._sender.act(live, session),
        )
        self._settlement = settlement = Settlement(
            clock=clock,
            log=log,
            sessions=sessions,
            unfinished=unfinished,
            backlog=backlog,
            deadlines=deadlines,
            waiters=self._waiters,
            changed=changed,
            settled=self._settled,
        )
        self._sender = Sender(
            entropy=entropy,
            log=log,
            gateway_id=gateway_id,
            intake=intake,
            sessions=sessions,
            unfinished=unfinished,
            backlog=backlog,
            deadlines=deadlines,
            settlement=settlement,
            recheck=approvals.recheck,
        )
        self.rows = Rows(
            intake=intake,
            sessions=sessions,
            unfinished=unfinished,
            backlog=backlog,
            deadlines=deadlines,
            settlement=settlement,
            sender=self._sender,
        )
        self._rechecks = Rechecks(clock, self._recheck)
        approvals.let_go, approvals.refuse = self.rows.release, self.rows.refuse
        self.watchers = settlement.watchers
        self.watchers.append(approvals)
        sessions.house = Statements(
            log=log,
            intake=intake,
            unfinished=unfinished,
            deadlines=deadlines,
            settlement=settlement,
            sender=self._sender,
        )

    # -- life -------------------------------------------------------------------------------

    def start(self, unfinished: Iterable[Job]) -> None:
        """Take over the jobs that an earlier life of this gateway left, and watch deadlines."""
        for job in unfinished:
            live = self._unfinished.keep(Live(job, job_machine(job)))
            if job.waiting_for in HELD:
                self._backlog.hold(live)
            elif live.queued and job.waiting_for != RETRY:
                self._backlog.append(live)
            self._deadlines.watch(live)
        self._deadlines.start()
        self._waiters.start()

    def trace(self, traces: JobTraces) -> None:
        """Say in spans what becomes of jobs from now on."""
        self._unfinished.kept = traces.kept
        self._unfinished.forgotten = traces.forgotten
        self._sender.traceparent = traces.sending

    def drain(self) -> None:
        """Take no new work from now on."""
        self._sender.draining = True

    def when_idle(self) -> Deferred[None]:
        """Fires when no dispatched job is left."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._check_idle()
        return idle

    def stop(self) -> None:
        """Stop watching; callers that still wait are told that the gateway went away."""
        self._deadlines.stop()
        self._waiters.stop()
        self._settlement.records.stop()
        self._rechecks.stop()
        for live in self._unfinished.all():
            self._waiters.dismiss(live, Draining())

    # -- calls ------------------------------------------------------------------------------

    def submit(self, order: Order, key: IdempotencyKey | None = None) -> Deferred[Job]:
        """Accept a call: fires when the job is committed, with its idempotency key if it has one.

        :raises PalyraError: it was refused; only ``device_offline`` leaves a record.
        """
        accepted, live = self._accept(order, key)
        return shielded(accepted.addCallback(lambda _: live.job))

    def run(
        self,
        order: Order,
        wait_ms: Callable[[Call], int] | None = None,
        accepted: Callable[[Job], object] | None = None,
    ) -> Deferred[Job]:
        """Accept a call and wait: fires with the final job; ``accepted`` hears of its commit.

        Fails with :class:`JobStillRunning` when ``wait_ms`` of the call is over first; the job
        goes on.
        """
        committed, live = self._accept(order, None)
        patience_ms = None if wait_ms is None else wait_ms(live.job.call) + live.asked_ms
        waiter = self._waiters.add(live, patience_ms)
        if accepted is not None:
            committed.addCallback(lambda _: accepted(live.job))
        committed.addErrback(self._waiters.refuse, live, waiter)
        return waiter

    def wait(self, job: Job, wait_ms: int) -> Deferred[Job]:
        """Fires with the job once it is final, or as it is after ``wait_ms``."""
        live = self._unfinished.by_id(job.call.job_id)
        if live is None:
            return succeed(job)
        if wait_ms <= 0:
            return self._settlement.on_record(live)

        def still_running(failure: Failure) -> Deferred[Job]:
            failure.trap(JobStillRunning)
            return self._settlement.on_record(live)

        return self._waiters.add(live, wait_ms).addErrback(still_running)

    def asked_ms(self, job_id: JobId) -> int:
        """How long a job may wait for approval, besides all else that it may wait for."""
        live = self._unfinished.by_id(job_id)
        return live.asked_ms if live is not None else 0

    def recheck(self) -> None:
        """The rules have changed: what waits and may not be sent any more is refused, soon."""
        self._rechecks.begin(self._unfinished.all())

    def _recheck(self, live: Live) -> None:
        if not live.queued or not live.accepted:
            return
        try:
            self.approvals.recheck(live.job, sending=False)
        except PalyraError as refusal:
            live.machine.refused(refusal.code, refusal.sentence, self._intake.now_ms())
            self._sender.act(live, None)

    def cancel(self, job_id: JobId, by: str = "", reason: str = "") -> Deferred[Job]:
        """Ask for the end of a job; fires with what it is once that is on record.

        A job that was never sent is cancelled then.  Of one that was sent the node decides.  Who
        asked first, and why, is on record; a second request changes nothing.

        :raises JobFinal: it has ended; :class:`NotFound`: there is no such job.
        :raises JobStillRunning: its end, or another gateway's say in it, is long in coming.
        """
        live = self._unfinished.by_id(job_id)
        if live is None or not live.accepted:
            return self._settlement.stored(job_id).addCallback(_refuse_final)
        if live.job.final:  # being committed: it is what it will be
            return self._waiters.add(live, CANCEL_WAIT_MS).addCallback(_refuse_final)
        live.machine.cancel_requested(self._intake.now_ms(), by, reason)
        session = self._sessions.owner(live.job.call.device_id)
        return self._sender.act(live, session).addCallback(self._kept, live)

    def running(self, device_id: DeviceId) -> int:
        """How many jobs the device has that are not final."""
        return self._unfinished.count(device_id)

    @property
    def waiting(self) -> int:
        """How many jobs wait to be sent."""
        return self._backlog.waiting

    def states(self) -> Counter[str]:
        """How many jobs that are not final are in which state."""
        return Counter(live.job.state.value for live in self._unfinished.all())

    @property
    def unfinished(self) -> int:
        """How many jobs are not final."""
        return len(self._unfinished)

    def told(self, job_id: JobId) -> JobUpdate | None:
        """A job that is not final as the watchers are told of it; None while what it is now is not
        on record."""
        live = self._unfinished.by_id(job_id)
        return self._settlement.told(live) if live is not None else None

    def progress_of(self, job_id: JobId) -> Progress | None:
        """How far a job that is not final is."""
        live = self._unfinished.by_id(job_id)
        return live.progress if live is not None else None

    def job(self, job_id: JobId) -> Deferred[Job]:
        """A job as it is, its end only once that is on record; fails with NotFound where there is
        none."""
        live = self._unfinished.by_id(job_id)
        if live is not None:
            return self._settlement.on_record(live)
        return self._settlement.stored(job_id)

    def queued(self, device_id: DeviceId | None) -> list[JobId]:
        """The jobs that wait to be sent, to one device or (None) to any."""
        known = (
            self._unfinished.all() if device_id is None else self._unfinished.of_device(device_id)
        )
        waiting = (live for live in known if live.accepted and live.queued)
        return [live.job.call.job_id for live in waiting]

    def _kept(self, failures: list[Failure] | None, live: Live) -> Deferred[Job]:
        """The job, whose change is on record."""
        if failures:
            failures[0].raiseException()
        return self._settlement.on_record(live)

    # -- revocations ----------------------------------------------------------------------------

    def silence(self, device_id: DeviceId) -> None:
        """A revocation is being committed: what the device says from now on changes nothing."""
        self._settlement.silence(device_id)

    def listen_to(self, device_id: DeviceId) -> None:
        """The revocation was committed, or was not."""
        self._settlement.listen_to(device_id)

    async def device_ended(self, device_id: DeviceId) -> None:
        """The store ended a device's jobs in its own transaction (revocation): tell who waits."""
        await self._settlement.device_ended(device_id)

    # -- accepting ---------------------------------------------------------------------------

    def _accept(self, order: Order, key: IdempotencyKey | None) -> tuple[Deferred[None], Live]:
        if self._sender.draining:
            raise Draining()
        judged = self._intake.job_for(order)
        job = judged.job
        if key is not None:
            job.call = attrs.evolve(job.call, idempotency_key=key.key)
        live = Live(job, job_machine(job))
        session = self._sessions.owner(job.call.device_id)
        check_carried(job.call, session)
        if judged.decision.effect is Effect.ASK:
            return self._accept_asked(live, order, judged.decision, key), live
        in_turn = not self._backlog.size(job.call.device_id)
        if session is not None and session.has_room and in_turn:
            return self._accept_sent(live, session, key), live
        waiting = self._intake.waiting(job.call, session)
        if waiting is None:
            return self._accept_refused(live), live
        self._backlog.check(live)
        job.call = waiting
        return self._accept_queued(live, key), live

    def _accept_asked(
        self, live: Live, order: Order, decision: Decision, key: IdempotencyKey | None
    ) -> Deferred[None]:
        """It is kept with the approval that it waits for, and held until that is given."""
        if not self.rows.may_wait(live.job.call):
            return self._accept_refused(live)
        self._backlog.check(live)
        used = key.key if key is not None else ""
        approval = self.approvals.ask(order, [(live.job, decision)], used)
        live.job.waiting_for = APPROVAL
        live.asked_ms = approval.expires_at_ms - approval.created_at_ms
        self._backlog.hold(self._unfinished.keep(live))
        committed = deferred(self._store.accept(live.job, key, approval))
        return committed.addCallbacks(
            self._asked,
            self._not_asked,
            callbackArgs=(live, approval),
            errbackArgs=(live, key, approval),
        )

    def _asked(self, _: None, live: Live, approval: CallApproval) -> None:
        self._settlement.records.store_writes()
        self._settlement.recorded(live)
        self.approvals.opened(approval)

    def _not_asked(
        self, failure: Failure, live: Live, key: IdempotencyKey | None, approval: CallApproval
    ) -> Any:
        self.approvals.dropped(approval)
        return self._not_accepted(failure, live, key)

    def _accept_sent(
        self, live: Live, session: NodeSession, key: IdempotencyKey | None
    ) -> Deferred[None]:
        self._sender.dispatch(live, session)
        self._unfinished.keep(live)
        committed = deferred(self._store.accept(live.job, key))
        return committed.addCallbacks(
            self._sender.sent,
            self._not_accepted,
            callbackArgs=(live, session),
            errbackArgs=(live, key, session),
        )

    def _accept_queued(self, live: Live, key: IdempotencyKey | None) -> Deferred[None]:
        self._unfinished.keep(live)
        self._backlog.enters(live.job.call)
        committed = deferred(self._store.accept(live.job, key)).addBoth(self._entered, live)
        return committed.addCallbacks(
            self._queued, self._not_accepted, callbackArgs=(live,), errbackArgs=(live, key)
        )

    def _entered(self, result: Any, live: Live) -> Any:
        self._backlog.entered(live.job.call)
        return result

    def _accept_refused(self, live: Live) -> Deferred[None]:
        refusal = self._intake.offline(live.job.call)
        live.machine.refused(refusal.code, refusal.sentence, self._intake.now_ms())

        def refuse(_: None) -> None:
            self._changed()
            raise refusal

        return deferred(self._store.accept(live.job)).addCallback(refuse)

    def _queued(self, _: None, live: Live) -> None:
        self._settlement.records.store_writes()
        self._changed()
        self._sender.enqueue(live)

    def _not_accepted(
        self,
        failure: Failure,
        live: Live,
        key: IdempotencyKey | None,
        session: NodeSession | None = None,
    ) -> Any:
        """Nothing was written: as if the call had never come, unless only the session is stale."""
        self._settlement.forget(live)
        if session is not None:
            self._sender.take_back(live, session)
        if failure.check(NotRegistered):
            self._intake.check_device(live.job.call)  # it may have been revoked meanwhile
            if live.job.call.queue_expires_at_ms is None:
                expires_ms = self._intake.now_ms() + LINGER_MS
                live.job.call = attrs.evolve(live.job.call, queue_expires_at_ms=expires_ms)
            return self._accept_queued(live, key)
        return failure

    # -- leaving -----------------------------------------------------------------------------

    def _settled(self, device_id: DeviceId) -> None:
        self._sender.pump(device_id)
        self._check_idle()

    def _check_idle(self) -> None:
        if self._idle and not any(map(self._works, self._unfinished.all())):
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)

    def _works(self, live: Live) -> bool:
        """Whether a connected device has the job in hand; one that is away cannot be waited for."""
        job = live.job
        return self._sessions.owner(job.call.device_id) is not None and job.attempt is not None


def _refuse_final(job: Job) -> Job:
    """What was asked of a job comes too late."""
    shown_id = short_id(job.call.job_id)
    if not job.final:  # another gateway on this store has it
        raise JobStillRunning(shown_id, job.state.value)
    when = datetime.fromtimestamp((job.finished_at_ms or 0) / 1000).strftime("%H:%M")
    raise JobFinal(shown_id, job.state.value, when)
