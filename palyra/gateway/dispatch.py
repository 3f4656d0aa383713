"""Dispatch: from an accepted call to its final state (DESIGN: record first).

A job is committed before it is sent, and its final state before anybody is told.  Unfinished jobs
live here, each with its machine; the store holds them all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from datetime import datetime
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.config.jobs import JobsSection
from palyra.core.fanouts import BATCH
from palyra.core.frames import Dispatch, Hello, JobUpdate, Progress, Waiting
from palyra.core.identifiers import AttemptId, DeviceId, Entropy, JobId, new_ulid, short_id
from palyra.core.interfaces import IdempotencyKey, IJobLog
from palyra.core.jobmachine import (
    RETRY,
    STOP,
    job_machine,
    next_deadline_ms,
    reconcile,
    report_to,
    time_passed,
)
from palyra.core.jobs import Attempt, Call, Job, JobState, Outcome, Report, Standing, Want
from palyra.errors import (
    Draining,
    JobFinal,
    JobStillRunning,
    NotFound,
    NotRegistered,
    PalyraError,
    PayloadTooLarge,
)
from palyra.gateway.backlog import Backlog
from palyra.gateway.intake import Intake, check_carried, payload_limit
from palyra.gateway.orders import MEDIATION_MS, Order
from palyra.gateway.presence import LINGER_MS
from palyra.gateway.records import Records
from palyra.gateway.reports import LateReports, checked
from palyra.gateway.sessions import NodeSession, Sessions
from palyra.gateway.unfinished import Live, Unfinished
from palyra.gateway.waiters import Waiters
from palyra.gateway.waits import deferred, shielded
from palyra.gateway.wheel import TimerWheel

MAX_MEDIATION_MS = 3_600_000
CANCEL_WAIT_MS = 5_000
"""How long a cancel waits for the end of a job that is on its way to the store."""


class Watcher(Protocol):
    """Is told what became of jobs: fan-outs, and whoever follows."""

    def changed(self, update: JobUpdate) -> None:
        """A job's new state is on record, or it got further.

        The job goes on changing: what is kept of it must be a copy.
        """


class Dispatcher:
    """Accepts calls, sends attempts, takes reports, and watches every deadline."""

    _log = Logger()

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
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._store = log
        self._intake = intake
        self._sessions = sessions
        self._gateway_id = gateway_id
        self._limits = limits
        self._changed = changed
        self._unfinished = Unfinished()
        self._backlog = Backlog(limits)
        self._records = Records(
            clock=clock, log=log, unfinished=self._unfinished, committed=self._committed
        )
        self._draining = False
        self._idle: list[Deferred[None]] = []
        self._refilling: set[DeviceId] = set()
        self._silenced: set[DeviceId] = set()
        self._late = LateReports(log, self._now_ms)
        self._wheel = TimerWheel(clock, self._now_ms, self._due)
        self._waiters = Waiters(clock, elapsed_ms)
        self.watchers: list[Watcher] = []
        sessions.house = self

    # -- life -------------------------------------------------------------------------------

    def start(self, unfinished: Iterable[Job]) -> None:
        """Take over the jobs that an earlier life of this gateway left, and watch deadlines."""
        for job in unfinished:
            live = self._unfinished.keep(Live(job, job_machine(job)))
            if job.waiting_for == BATCH:
                self._backlog.hold(live)
            elif _is_queued(job) and job.waiting_for != RETRY:
                self._backlog.append(live)
            self._watch(live)
        self._wheel.start()
        self._waiters.start()

    def drain(self) -> None:
        """Take no new work from now on."""
        self._draining = True

    def when_idle(self) -> Deferred[None]:
        """Fires when no dispatched job is left."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._check_idle()
        return idle

    def stop(self) -> None:
        """Stop watching; callers that still wait are told that the gateway went away."""
        self._wheel.stop()
        self._waiters.stop()
        self._records.stop()
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
        waiter = self._waiters.add(live, None if wait_ms is None else wait_ms(live.job.call))
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
            return self._on_record(live)

        def still_running(failure: Failure) -> Deferred[Job]:
            failure.trap(JobStillRunning)
            return self._on_record(live)

        return self._waiters.add(live, wait_ms).addErrback(still_running)

    def cancel(self, job_id: JobId, by: str = "", reason: str = "") -> Deferred[Job]:
        """Ask for the end of a job; fires with what it is once that is on record.

        A job that was never sent is cancelled then.  Of one that was sent the node decides.  Who
        asked first, and why, is on record; a second request changes nothing.

        :raises JobFinal: it has ended; :class:`NotFound`: there is no such job.
        :raises JobStillRunning: its end, or another gateway's say in it, is long in coming.
        """
        live = self._unfinished.by_id(job_id)
        if live is None or not live.accepted:
            return deferred(self._store.job(job_id)).addCallback(_refuse_final, job_id)
        if live.job.final:  # being committed: it is what it will be
            return self._waiters.add(live, CANCEL_WAIT_MS).addCallback(_refuse_final, job_id)
        live.machine.cancel_requested(self._now_ms(), by, reason)
        return self._act(live, self._owner(live)).addCallback(self._kept, live)

    def running(self, device_id: DeviceId) -> int:
        """How many jobs the device has that are not final."""
        return self._unfinished.count(device_id)

    def progress_of(self, job_id: JobId) -> Progress | None:
        """How far a job that is not final is."""
        live = self._unfinished.by_id(job_id)
        return live.progress if live is not None else None

    def job(self, job_id: JobId) -> Deferred[Job]:
        """A job as it is, its end only once that is on record; fails with NotFound where there is
        none."""
        live = self._unfinished.by_id(job_id)
        if live is not None:
            return self._on_record(live)
        return deferred(self._store.job(job_id)).addCallback(_found, job_id)

    def _accept(self, order: Order, key: IdempotencyKey | None) -> tuple[Deferred[None], Live]:
        if self._draining:
            raise Draining()
        job = self._intake.job_for(order)
        if key is not None:
            job.call = attrs.evolve(job.call, idempotency_key=key.key)
        live = Live(job, job_machine(job))
        session = self._owner(live)
        check_carried(job.call, session)
        in_turn = not self._backlog.size(job.call.device_id)
        if session is not None and session.has_room and in_turn:
            return self._accept_sent(live, session, key), live
        waiting = self._intake.waiting(job.call, session)
        if waiting is None:
            return self._accept_refused(live), live
        self._backlog.check(live)
        job.call = waiting
        return self._accept_queued(live, key), live

    def _accept_sent(
        self, live: Live, session: NodeSession, key: IdempotencyKey | None
    ) -> Deferred[None]:
        self._dispatch(live, session)
        self._unfinished.keep(live)
        committed = deferred(self._store.accept(live.job, key))
        return committed.addCallbacks(
            self._sent,
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
        live.machine.refused(refusal.code, refusal.sentence, self._now_ms())

        def refuse(_: None) -> None:
            self._changed()
            raise refusal

        return deferred(self._store.accept(live.job)).addCallback(refuse)

    def reserve(self, rows: int) -> None:
        """Keep room for ``rows`` that will be entered; :meth:`Backlog.free` gives it back.

        :raises QueueFull: more would wait than may; :class:`Draining`: nothing is accepted.
        """
        if self._draining:
            raise Draining()
        self._backlog.reserve(rows)

    def free(self, rows: int) -> None:
        """Give back room that :meth:`reserve` kept."""
        self._backlog.free(rows)

    # -- rows of fan-outs ---------------------------------------------------------------------

    def enter(self, row: Job) -> None:
        """Take in a row of a fan-out that is being accepted.  It starts at :meth:`release`."""
        live = self._unfinished.keep(Live(row, job_machine(row), accepted=False))
        self._backlog.hold(live)

    def entered(self, job_ids: Iterable[JobId]) -> None:
        """The rows' fan-out is on record."""
        for job_id in job_ids:
            live = self._unfinished.by_id(job_id)
            if live is not None:
                live.accepted = True
                self._watch(live)

    def drop(self, job_id: JobId) -> None:
        """The row's fan-out was not accepted."""
        live = self._unfinished.by_id(job_id)
        if live is not None:
            self._forget(live)

    def may_wait(self, call: Call) -> bool:
        """Whether a call to this device would be sent, or may wait for it."""
        session = self._sessions.owner(call.device_id)
        return self._intake.waiting(call, session) is not None

    def release(self, job_id: JobId) -> None:
        """A row may start: it is sent, waits for its device, or is refused for itself alone."""
        live = self._unfinished.by_id(job_id)
        if live is None or live.job.final or not live.held:
            return
        self._backlog.leave(live)
        listed_as_held = live.job.waiting_for == BATCH
        live.machine.released()
        session = self._owner(live)
        waiting = self._intake.waiting(live.job.call, session, accepted=True)
        try:
            self._intake.check_device(live.job.call)
            if waiting is None:
                raise self._intake.offline(live.job.call)
            check_carried(waiting, session)
            if session is None or not session.has_room:
                self._backlog.check(live)
        except PalyraError as refusal:
            live.machine.refused(refusal.code, refusal.sentence, self._now_ms())
            self._act(live, session)
            return
        live.job.call = waiting
        self._enqueue(live)
        if listed_as_held and _is_queued(live.job):
            self._records.commit(live)  # it waits for its device now

    def withhold(self, job_id: JobId, sentence: str) -> None:
        """A row that was never sent will not be, since too many others have failed."""
        live = self._unfinished.by_id(job_id)
        if live is not None and _is_queued(live.job) and not live.job.attempts:
            live.machine.withheld(sentence, self._now_ms())
            self._act(live, None)

    def queued(self, device_id: DeviceId | None) -> list[JobId]:
        """The jobs that wait to be sent, to one device or (None) to any."""
        known = (
            self._unfinished.all() if device_id is None else self._unfinished.of_device(device_id)
        )
        waiting = (live for live in known if live.accepted and _is_queued(live.job))
        return [live.job.call.job_id for live in waiting]

    # -- commits ----------------------------------------------------------------------------

    def _dispatch(self, live: Live, session: NodeSession) -> None:
        """Make the next attempt; it is sent when it is committed."""
        now_ms = self._now_ms()
        attempt_id = AttemptId(new_ulid(now_ms, self._entropy))
        attempt = Attempt(
            attempt_id=attempt_id,
            number=live.job.attempts + 1,
            gateway_id=self._gateway_id,
            session_epoch=session.epoch,
            memory_id=session.memory_id,
            dispatched_at_ms=now_ms,
            deadline_ms=now_ms + live.job.call.run_timeout_ms,
        )
        live.machine.dispatched(attempt)
        live.asks_left = True
        live.unrecorded = True
        session.in_flight.add(attempt_id)
        self._unfinished.remember(live, attempt_id)

    def _sent(self, _: None, live: Live, session: NodeSession) -> None:
        """The attempt is committed: send it, over the session that owns dispatch by now.

        If there is none, the node has never seen it, says so when it registers, and gets it then.
        """
        live.unrecorded = False
        self._records.store_writes()
        self._watch(live)
        self._changed()
        self._tell(live)
        attempt = live.job.attempt
        if attempt is None or live.job.final:
            return
        owner = self._owner(live)
        if live.job.cancel_requested_at_ms is not None:  # while it was being committed: not sent
            session.in_flight.discard(attempt.attempt_id)
            report = Report(attempt.attempt_id, Outcome.CANCELLED)
            report_to(live.machine, live.job, report, self._now_ms())
            self._act(live, None)
        elif owner is not None:
            session.in_flight.discard(attempt.attempt_id)
            owner.in_flight.add(attempt.attempt_id)
            owner.push(self._message(live.job, owner))

    def _queued(self, _: None, live: Live) -> None:
        self._records.store_writes()
        self._changed()
        self._enqueue(live)

    def _enqueue(self, live: Live) -> None:
        self._backlog.append(live)
        self._watch(live)
        self._pump(live.job.call.device_id)

    def _not_accepted(
        self,
        failure: Failure,
        live: Live,
        key: IdempotencyKey | None,
        session: NodeSession | None = None,
    ) -> Any:
        """Nothing was written: as if the call had never come, unless only the session is stale."""
        self._forget(live)
        if session is not None:
            self._take_back(live, session)
        if failure.check(NotRegistered):
            self._intake.check_device(live.job.call)  # it may have been revoked meanwhile
            if live.job.call.queue_expires_at_ms is None:
                expires_ms = self._now_ms() + LINGER_MS
                live.job.call = attrs.evolve(live.job.call, queue_expires_at_ms=expires_ms)
            return self._accept_queued(live, key)
        return failure

    def _kept(self, failures: list[Failure] | None, live: Live) -> Deferred[Job]:
        """The job, whose change is on record."""
        if failures:
            failures[0].raiseException()
        return self._on_record(live)

    def _on_record(self, live: Live) -> Deferred[Job]:
        """The job as it is, but for an end that is still on its way to the store."""
        if not self._is_ending(live):
            return succeed(live.job)
        # What was read before the end was written may come after everybody was told the end.
        return self._stored(live).addCallback(
            lambda job: job if job.final or self._is_ending(live) else live.job
        )

    def _stored(self, live: Live) -> Deferred[Job]:
        job_id = live.job.call.job_id
        return deferred(self._store.job(job_id)).addCallback(_found, job_id)

    def _is_ending(self, live: Live) -> bool:
        """Whether the job's end is on its way to the store: nobody may hear of it yet."""
        return live.job.final and self._unfinished.by_id(live.job.call.job_id) is live

    def _committed(self, live: Live, final: bool) -> None:
        """What became of a job is on record; if it is its end, then everybody is told."""
        self._changed()
        if final and live.job.call.device_id in self._silenced:
            # A revocation may have ended it before this did: the first end on record stands.
            self._adopt_stored(live)
        elif final:
            self._settle(live)
        else:
            self._watch(live)
            self._tell(live)

    def _adopt_stored(self, live: Live) -> None:
        self._stored(live).addCallbacks(
            self._adopt,
            lambda _: self._records.retry(self._adopt_stored, live),
            callbackArgs=(live,),
        )

    def _adopt(self, job: Job, live: Live) -> None:
        if self._unfinished.by_id(job.call.job_id) is live:
            live.job = job
            self._settle(live)

    def _tell(self, live: Live) -> None:
        """Tell the watchers what is on record, or how far it is."""
        if not live.unrecorded and not self._is_ending(live):
            update = JobUpdate(live.job, live.progress)
            for watcher in self.watchers:
                watcher.changed(update)

    def _settle(self, live: Live) -> None:
        """A final state is committed: acknowledge reports, answer waiters, make room."""
        job = live.job
        self._forget(live)
        owner = self._owner(live)
        if owner is not None:  # an attempt that was given up on keeps no place
            owner.in_flight.difference_update(live.attempt_ids)
        for session, attempt_id in live.acknowledge:
            session.acknowledge(attempt_id)
        live.acknowledge.clear()
        self._waiters.answer(live)
        self._tell(live)
        self._pump(job.call.device_id)
        self._check_idle()

    # -- what sessions tell (House) -----------------------------------------------------------

    def attached(self, session: NodeSession, hello: Hello) -> None:
        """A node is back: compare what it knows with what was dispatched, then send what waits."""
        now_ms = self._now_ms()
        for live in self._unfinished.of_device(session.device_id):
            attempt = live.job.attempt
            if attempt is None or live.job.final or attempt.session_epoch == session.epoch:
                continue
            if live.unrecorded:
                continue  # when it is recorded, it is sent over this session
            standing = hello.standing(attempt.attempt_id, attempt.memory_id)
            if standing is Standing.NOT_LISTED:
                live.since_epoch = session.epoch
            reconcile(live.machine, live.job, standing, now_ms)
            if not live.job.final and live.job.attempt is attempt:
                session.in_flight.add(attempt.attempt_id)
            self._act(live, session)
        for attempt_id, standing in hello.attempts.items():
            known = self._unfinished.by_attempt(AttemptId(attempt_id))
            if standing is Standing.RUNNING and known is None:
                session.cancel(AttemptId(attempt_id), "ended")  # nobody waits for its end
        self._pump(session.device_id)

    def detached(self, session: NodeSession) -> None:
        """The device has no session: deadlines of its jobs now wait for its return."""
        for live in self._unfinished.of_device(session.device_id):
            self._watch(live)

    def reported(self, session: NodeSession, report: Report) -> None:
        """An attempt ended.  Only the device that was asked may say so."""
        live = self._unfinished.by_attempt(report.attempt_id)
        if live is None:
            self._late.take(session, report)
            return
        if live.job.call.device_id != session.device_id:
            self._log.warn(
                "{device} reported an attempt of another device", device=session.device_id
            )
            return
        if _is_forgotten(live, session, report.attempt_id):
            return  # it is sent again, or was ended as never started
        if session.device_id in self._silenced:
            return  # a revocation decides; should it fail, the node reports again
        live.acknowledge.append((session, report.attempt_id))
        if live.job.final:
            return  # being committed already; this one is a repetition
        report_to(live.machine, live.job, checked(report, live.job.call), self._now_ms())
        self._act(live, session)
        self._pump(session.device_id)

    def waiting(self, session: NodeSession, waiting: Waiting) -> None:
        """A person at the device is asked, or said yes."""
        live = self._mine(session, waiting.attempt_id)
        if live is None:
            return
        # Once asked and once answered: a node that repeats itself must not move a deadline.
        if waiting.answered and live.job.state is JobState.AWAITING:
            live.machine.mediation_allowed(self._now_ms() + live.job.call.run_timeout_ms)
        elif not waiting.answered and live.asks_left and live.job.call.needs_mediation:
            if live.job.waiting_for == STOP:
                return  # too late: the node has been told to stop, and will say so
            live.asks_left = False
            remaining_ms = min(waiting.remaining_ms or MEDIATION_MS, MAX_MEDIATION_MS)
            live.machine.mediation_asked(self._now_ms() + remaining_ms)
        else:
            return
        self._act(live, session)

    def progress(self, session: NodeSession, progress: Progress) -> None:
        """An attempt got further; only the last word is kept."""
        live = self._mine(session, progress.attempt_id)
        if live is not None:
            live.progress = progress
            self._tell(live)

    def _mine(self, session: NodeSession, attempt_id: AttemptId) -> Live | None:
        live = self._unfinished.by_attempt(attempt_id)
        if live is None or live.job.final or live.job.call.device_id != session.device_id:
            return None
        if _is_forgotten(live, session, attempt_id):
            return None
        attempt = live.job.attempt
        return live if attempt is not None and attempt.attempt_id == attempt_id else None

    # -- acting on a machine --------------------------------------------------------------------

    def _act(self, live: Live, session: NodeSession | None) -> Deferred[list[Failure] | None]:
        """Commit what the machine decided and do what it wants."""
        job = live.job
        committed = self._records.commit(live)
        for want in job.take_wants():
            if want is Want.DISPATCH:
                self._backlog.append(live, first=True)
                self._pump(job.call.device_id)
            elif live.unrecorded:
                continue  # nothing was sent: it is settled when the dispatch is on record
            elif session is not None and session.live and job.attempt is not None:
                if want is Want.CANCEL_ATTEMPT:
                    session.cancel(job.attempt.attempt_id, job.waiting_for or "cancelled")
                else:
                    live.asks_left = True  # the node begins again, and so does the person there
                    session.push(self._message(job, session))
        return committed

    def _pump(self, device_id: DeviceId) -> None:
        """Send what waits for a device, as far as its session has room."""
        session = self._sessions.owner(device_id)
        if session is None or self._draining:
            return
        for _ in range(self._backlog.size(device_id)):  # what is refused at once comes back
            live = self._backlog.take(device_id) if session.has_room else None
            if live is None:
                return
            if _is_queued(live.job) and self._fits(live, session):
                self._dispatch(live, session)
                committed = deferred(self._store.update(live.job))
                committed.addCallbacks(
                    self._sent,
                    self._not_dispatched,
                    callbackArgs=(live, session),
                    errbackArgs=(live, session),
                )

    def _fits(self, live: Live, session: NodeSession) -> bool:
        """Whether the node takes the input; the job waited before anybody knew which node it is."""
        try:
            check_carried(live.job.call, session)
        except PayloadTooLarge as refusal:
            live.machine.refused(refusal.code, refusal.sentence, self._now_ms())
            self._act(live, session)
            return False
        return True

    def _take_back(self, live: Live, session: NodeSession) -> None:
        """The newest attempt was never recorded: it was never made."""
        live.unrecorded = False
        attempt = live.job.attempt
        if attempt is not None:
            session.in_flight.discard(attempt.attempt_id)
            self._unfinished.unmake(live, attempt.attempt_id)
            live.machine.undispatched()

    def _not_dispatched(self, failure: Failure, live: Live, session: NodeSession) -> None:
        """A dispatch was not committed: the job waits as before."""
        if live.job.final:
            return  # a report of an earlier attempt, or a revocation, was faster
        self._take_back(live, session)
        if live.job.cancel_requested_at_ms is not None:
            live.machine.cancel_requested(self._now_ms())
            self._act(live, None)
            return
        self._backlog.append(live, first=True)
        self._watch(live)
        self._tell(live)
        if failure.check(NotRegistered):
            if self._owner(live) is not session:
                # What has taken over meanwhile was attached while this job seemed to be sent.
                self._pump(live.job.call.device_id)
        elif live.job.call.device_id not in self._refilling:
            # One retry a device, whatever waits for it: each would make one for every job.
            self._log.failure("a dispatch was not committed", failure)
            self._refilling.add(live.job.call.device_id)
            self._records.retry(self._refill, live.job.call.device_id)

    def _refill(self, device_id: DeviceId) -> None:
        self._refilling.discard(device_id)
        self._pump(device_id)

    def silence(self, device_id: DeviceId) -> None:
        """A revocation is being committed: what the device says from now on changes nothing."""
        self._silenced.add(device_id)

    def listen_to(self, device_id: DeviceId) -> None:
        """The revocation was committed, or was not."""
        self._silenced.discard(device_id)

    async def device_ended(self, device_id: DeviceId) -> None:
        """The store ended a device's jobs in its own transaction (revocation): tell who waits."""
        for live in self._unfinished.of_device(device_id):
            job = await self._store.job(live.job.call.job_id)
            if job is not None and job.final:
                live.job = job
                self._settle(live)

    def _message(self, job: Job, session: NodeSession) -> Dispatch:
        attempt = job.attempt
        assert attempt is not None, "only dispatched jobs are sent"
        remaining_ms = max(1, (job.deadline_ms or attempt.deadline_ms) - self._now_ms())
        return Dispatch(
            attempt_id=attempt.attempt_id,
            job_id=job.call.job_id,
            number=attempt.number,
            capability=job.call.capability,
            input_json=job.call.input_json,
            max_payload_bytes=payload_limit(job.call, session),
            remaining_ms=min(remaining_ms, job.call.run_timeout_ms),
            requested_by=self._intake.shown_caller(job.call),
        )

    # -- time -------------------------------------------------------------------------------

    def _watch(self, live: Live) -> None:
        session_live = self._owner(live) is not None
        deadline = next_deadline_ms(live.job, session_live)
        if deadline is None and not session_live and not live.held and _is_queued(live.job):
            deadline = self._intake.end_of_patience()
        if deadline is None:
            self._wheel.discard(live.job.call.job_id)
        else:
            self._wheel.set(live.job.call.job_id, deadline)

    def _due(self, key: Hashable, now_ms: int) -> None:
        live = self._unfinished.by_id(JobId(str(key)))
        if live is None or live.job.final or live.unrecorded:
            return
        job = live.job
        session = self._owner(live)
        endless = _is_queued(job) and next_deadline_ms(job, False) is None
        if endless and session is None and not live.held:
            job.call = attrs.evolve(job.call, queue_expires_at_ms=now_ms)
        time_passed(live.machine, job, now_ms, session is not None)
        self._act(live, session)

    # -- leaving ----------------------------------------------------------------------------

    def _forget(self, live: Live) -> None:
        self._unfinished.forget(live)
        self._backlog.leave(live)
        self._wheel.discard(live.job.call.job_id)

    def _check_idle(self) -> None:
        if self._idle and not any(map(self._works, self._unfinished.all())):
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)

    def _works(self, live: Live) -> bool:
        """Whether a connected device has the job in hand; one that is away cannot be waited for."""
        return self._owner(live) is not None and live.job.attempt is not None

    def _owner(self, live: Live) -> NodeSession | None:
        """The session that owns dispatch to the job's device."""
        return self._sessions.owner(live.job.call.device_id)

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)


def _is_forgotten(live: Live, session: NodeSession, attempt_id: AttemptId) -> bool:
    """Whether the node host has said since that it never started this attempt."""
    newest = live.job.attempt is not None and live.job.attempt.attempt_id == attempt_id
    return newest and session.epoch < live.since_epoch


def _is_queued(job: Job) -> bool:
    return job.state is JobState.QUEUED


def _found(job: Job | None, job_id: JobId) -> Job:
    if job is None:
        raise NotFound("job", job_id)
    return job


def _refuse_final(found: Job | None, job_id: JobId) -> Job:
    """What was asked of a job comes too late, or there is no such job."""
    job = _found(found, job_id)
    if not job.final:  # another gateway on this store has it
        raise JobStillRunning(short_id(job_id), job.state.value)
    when = datetime.fromtimestamp((job.finished_at_ms or 0) / 1000).strftime("%H:%M")
    raise JobFinal(short_id(job_id), job.state.value, when)
