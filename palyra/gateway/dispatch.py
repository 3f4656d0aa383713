"""Dispatch: from an accepted call to its final state (DESIGN: record first).

A job is committed before it is sent, and its final state before anybody is told.  Unfinished jobs
live here, each with its machine; the store holds them all.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.config.jobs import JobsSection
from palyra.core.devices import PresenceState
from palyra.core.frames import Dispatch, Hello, Progress, Waiting
from palyra.core.identifiers import AttemptId, DeviceId, Entropy, JobId, new_ulid, short_id
from palyra.core.interfaces import IJobLog
from palyra.core.jobmachine import (
    job_machine,
    next_deadline_ms,
    reconcile,
    report_to,
    time_passed,
)
from palyra.core.jobs import Attempt, Call, Job, JobState, Report, Want
from palyra.errors import (
    DeviceOffline,
    Draining,
    JobStillRunning,
    NotRegistered,
    PayloadTooLarge,
    QueueFull,
)
from palyra.gateway.inventory import Inventory
from palyra.gateway.orders import Order, as_call
from palyra.gateway.presence import LINGER_MS, PresenceBoard
from palyra.gateway.reports import LateReports, checked
from palyra.gateway.sessions import NodeSession, Sessions
from palyra.gateway.unfinished import Live, Unfinished
from palyra.gateway.waits import deferred
from palyra.gateway.wheel import TimerWheel

START_GRACE_MS = 90_000
"""After a start, calls without time to wait still wait for devices that are on their way back."""
MEDIATION_MS = 120_000
MAX_MEDIATION_MS = 3_600_000
RETRY_COMMIT_S = 1.0
VERSION_ONE_PAYLOAD = 1024 * 1024


class Dispatcher:
    """Accepts calls, sends attempts, takes reports, and watches every deadline."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        entropy: Entropy,
        log: IJobLog,
        inventory: Inventory,
        board: PresenceBoard,
        sessions: Sessions,
        gateway_id: str,
        limits: JobsSection,
        changed: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._store = log
        self._inventory = inventory
        self._board = board
        self._sessions = sessions
        self._gateway_id = gateway_id
        self._limits = limits
        self._changed = changed
        self._unfinished = Unfinished()
        self._backlog: dict[DeviceId, deque[Live]] = {}
        self._waits: dict[Deferred[Job], Live] = {}
        self._started_ms = self._now_ms()
        self._draining = False
        self._idle: list[Deferred[None]] = []
        self._entering: Counter[DeviceId] = Counter()
        self._refilling: set[DeviceId] = set()
        self._held: set[DeviceId] = set()
        self._late = LateReports(log, self._now_ms)
        self._retries: set[IDelayedCall] = set()
        self._wheel = TimerWheel(clock, self._now_ms, self._due)
        sessions.house = self

    # -- life -------------------------------------------------------------------------------

    def start(self, unfinished: Iterable[Job]) -> None:
        """Take over the jobs that an earlier life of this gateway left, and watch deadlines."""
        self._started_ms = self._now_ms()
        for job in unfinished:
            live = self._unfinished.keep(Live(job, job_machine(job)))
            if job.state is JobState.QUEUED:
                self._backlog.setdefault(job.call.device_id, deque()).append(live)
            self._watch(live)
        self._wheel.start()

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
        for retry in self._retries:
            retry.cancel()
        self._retries.clear()
        for live in self._unfinished.all():
            waiters, live.waiters = live.waiters, []
            for waiter in waiters:
                waiter.errback(Draining())

    # -- calls ------------------------------------------------------------------------------

    def submit(self, order: Order) -> Deferred[Job]:
        """Accept a call: fires when the job is committed.

        :raises PalyraError: it was refused; only ``device_offline`` leaves a record.
        """
        accepted, live = self._accept(order)
        return accepted.addCallback(lambda _: live.job)

    def run(self, order: Order, wait_ms: int | None = None) -> Deferred[Job]:
        """Accept a call and wait: fires with the final job.

        Fails with :class:`JobStillRunning` when ``wait_ms`` is over first; the job goes on.
        """
        accepted, live = self._accept(order)
        waiter = self._waiter(live, wait_ms)
        accepted.addErrback(self._refuse_waiter, live, waiter)
        return waiter

    def wait(self, job: Job, wait_ms: int) -> Deferred[Job]:
        """Fires with the job once it is final, or as it is after ``wait_ms``."""
        live = self._unfinished.by_id(job.call.job_id)
        if live is None or wait_ms <= 0:
            return succeed(job if live is None else live.job)

        def still_running(failure: Failure) -> Job:
            failure.trap(JobStillRunning)
            return live.job

        return self._waiter(live, wait_ms).addErrback(still_running)

    def running(self, device_id: DeviceId) -> int:
        """How many jobs the device has that are not final."""
        return self._unfinished.count(device_id)

    def progress_of(self, job_id: JobId) -> Progress | None:
        """The last word of a running attempt on how far it is."""
        live = self._unfinished.by_id(job_id)
        return live.progress if live is not None else None

    def live_job(self, job_id: JobId) -> Job | None:
        """The job, if it is not final."""
        live = self._unfinished.by_id(job_id)
        return live.job if live is not None else None

    def _accept(self, order: Order) -> tuple[Deferred[None], Live]:
        if self._draining:
            raise Draining()
        device = self._inventory.paired(order.device_id)
        now_ms = self._now_ms()
        job_id = JobId(new_ulid(now_ms, self._entropy))
        call = as_call(order, device, job_id, now_ms, self._limits)
        job = Job(call)
        live = Live(job, job_machine(job))
        session = self._sessions.owner(device.device_id)
        if session is not None and not session.extended:
            _check_version_one(call)
        if session is not None and session.has_room and not self._backlog.get(device.device_id):
            return self._accept_sent(live, session), live
        allowance_ms = self._allowance(device.device_id, session)
        if allowance_ms is None:
            return self._accept_refused(live), live
        self._check_bounds(device.device_id, device.name)
        if session is None:
            job.call = attrs.evolve(call, queue_expires_at_ms=now_ms + allowance_ms)
        return self._accept_queued(live), live

    def _accept_sent(self, live: Live, session: NodeSession) -> Deferred[None]:
        self._dispatch(live, session)
        self._unfinished.keep(live)
        committed = deferred(self._store.accept(live.job))
        return committed.addCallbacks(
            self._sent,
            self._not_accepted,
            callbackArgs=(live, session),
            errbackArgs=(live, session),
        )

    def _accept_queued(self, live: Live) -> Deferred[None]:
        self._unfinished.keep(live)
        self._entering[live.job.call.device_id] += 1
        committed = deferred(self._store.accept(live.job)).addBoth(self._entered, live)
        return committed.addCallbacks(
            self._queued, self._not_accepted, callbackArgs=(live,), errbackArgs=(live,)
        )

    def _entered(self, result: Any, live: Live) -> Any:
        """A job that will wait was committed, or was not: it no longer counts as on its way in."""
        device_id = live.job.call.device_id
        self._entering[device_id] -= 1
        if not self._entering[device_id]:
            del self._entering[device_id]
        return result

    def _accept_refused(self, live: Live) -> Deferred[None]:
        job = live.job
        heard_ms = self._board.last_heard_ms(job.call.device_id)
        if heard_ms is None:
            device = self._inventory.device(job.call.device_id)
            heard_ms = device.last_heard_ms if device is not None else None
        heard = "" if heard_ms is None else _ago(self._now_ms() - heard_ms)
        refusal = DeviceOffline(job.call.device_name, heard, job.call.job_id)
        live.machine.refused(refusal.code, refusal.sentence, self._now_ms())

        def refuse(_: None) -> None:
            self._changed()
            raise refusal

        return deferred(self._store.accept(job)).addCallback(refuse)

    def _allowance(self, device_id: DeviceId, session: NodeSession | None) -> int | None:
        """How long (ms) a call may wait for the device; None where it must be refused."""
        if session is not None:
            return 0
        if self._board.state(device_id) is not PresenceState.OFFLINE:
            return LINGER_MS
        since_start = self._now_ms() - self._started_ms
        never_back = self._board.last_heard_ms(device_id) is None
        if never_back and since_start < START_GRACE_MS and self._was_here(device_id):
            return LINGER_MS
        return None

    def _was_here(self, device_id: DeviceId) -> bool:
        """Whether the device was in touch shortly before this gateway started."""
        device = self._inventory.device(device_id)
        heard_ms = device.last_heard_ms if device is not None else None
        return heard_ms is not None and self._started_ms - heard_ms < START_GRACE_MS

    def _check_bounds(self, device_id: DeviceId, name: str) -> None:
        limits = self._limits
        waiting = len(self._backlog.get(device_id, ())) + self._entering[device_id]
        if waiting >= limits.max_waiting_per_device:
            raise QueueFull(name, limits.max_waiting_per_device)
        if sum(map(len, self._backlog.values())) + self._entering.total() >= limits.max_waiting:
            raise QueueFull("The gateway", limits.max_waiting)

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
        self._watch(live)
        self._changed()
        attempt = live.job.attempt
        if attempt is None or live.job.final:
            return
        owner = self._sessions.owner(live.job.call.device_id)
        if owner is not None:
            session.in_flight.discard(attempt.attempt_id)
            owner.in_flight.add(attempt.attempt_id)
            owner.push(self._message(live.job))

    def _queued(self, _: None, live: Live) -> None:
        self._backlog.setdefault(live.job.call.device_id, deque()).append(live)
        self._watch(live)
        self._changed()
        self._pump(live.job.call.device_id)

    def _not_accepted(
        self, failure: Failure, live: Live, session: NodeSession | None = None
    ) -> Any:
        """Nothing was written: as if the call had never come, unless only the session is stale."""
        self._forget(live)
        if session is not None:
            self._take_back(live, session)
        if failure.check(NotRegistered):
            self._inventory.paired(live.job.call.device_id)  # it may have been revoked meanwhile
            expires_ms = self._now_ms() + LINGER_MS
            live.job.call = attrs.evolve(live.job.call, queue_expires_at_ms=expires_ms)
            return self._accept_queued(live)
        return failure

    def _commit(self, live: Live) -> None:
        """Keep what became of a job; if it is final, then tell everybody."""
        final = live.job.final  # as committed here: it may become final before this one is done
        deferred(self._store.update(live.job)).addCallbacks(
            self._committed, self._not_committed, callbackArgs=(live, final), errbackArgs=(live,)
        )

    def _committed(self, _: None, live: Live, final: bool) -> None:
        self._changed()
        if final:
            self._settle(live)
        else:
            self._watch(live)

    def _not_committed(self, failure: Failure, live: Live) -> None:
        """The store could not write (disk full): nobody is told anything until it can."""
        if self._unfinished.by_id(live.job.call.job_id) is not live:
            return  # it was refused, or the store ended it
        if failure.check(NotRegistered) and live.job.final:
            # The last attempt was never recorded: an earlier one has decided.
            live.job.attempt = None
            self._commit(live)
            return
        self._log.failure("job {job} waits for the store", failure, job=live.job.call.job_id)
        self._retry(self._commit, live)

    def _retry(self, act: Callable[..., object], *arguments: object) -> None:
        def again() -> None:
            self._retries.discard(call)
            act(*arguments)

        call = self._clock.callLater(RETRY_COMMIT_S, again)
        self._retries.add(call)

    def _settle(self, live: Live) -> None:
        """A final state is committed: acknowledge reports, answer waiters, make room."""
        job = live.job
        self._forget(live)
        owner = self._sessions.owner(job.call.device_id)
        if owner is not None:  # an attempt that was given up on keeps no place
            owner.in_flight.difference_update(live.attempt_ids)
        for session, attempt_id in live.acknowledge:
            session.acknowledge(attempt_id)
        live.acknowledge.clear()
        waiters, live.waiters = live.waiters, []
        for waiter in waiters:
            self._wheel.discard(waiter)
            waiter.callback(job)
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
            reconcile(live.machine, live.job, standing, now_ms)
            if not live.job.final and live.job.attempt is attempt:
                session.in_flight.add(attempt.attempt_id)
            self._act(live, session)
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
        if session.device_id in self._held:
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

    def _mine(self, session: NodeSession, attempt_id: AttemptId) -> Live | None:
        live = self._unfinished.by_attempt(attempt_id)
        if live is None or live.job.final or live.job.call.device_id != session.device_id:
            return None
        attempt = live.job.attempt
        return live if attempt is not None and attempt.attempt_id == attempt_id else None

    # -- acting on a machine --------------------------------------------------------------------

    def _act(self, live: Live, session: NodeSession | None) -> None:
        """Commit what the machine decided and do what it wants."""
        job = live.job
        self._commit(live)
        for want in job.take_wants():
            if want is Want.DISPATCH:
                self._backlog.setdefault(job.call.device_id, deque()).appendleft(live)
            elif session is not None and session.live and job.attempt is not None:
                if want is Want.CANCEL_ATTEMPT:
                    session.cancel(job.attempt.attempt_id, job.waiting_for or "cancelled")
                else:
                    live.asks_left = True  # the node begins again, and so does the person there
                    session.push(self._message(job))

    def _pump(self, device_id: DeviceId) -> None:
        """Send what waits for a device, as far as its session has room."""
        backlog = self._backlog.get(device_id)
        session = self._sessions.owner(device_id)
        if backlog is None or session is None or self._draining:
            return
        for _ in range(len(backlog)):  # what the store refuses at once comes back to its place
            if not backlog or not session.has_room:
                break
            live = backlog.popleft()
            if live.job.state is JobState.QUEUED:
                self._dispatch(live, session)
                committed = deferred(self._store.update(live.job))
                committed.addCallbacks(
                    self._sent,
                    self._not_dispatched,
                    callbackArgs=(live, session),
                    errbackArgs=(live, session),
                )
        if not backlog:
            self._backlog.pop(device_id, None)

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
        self._backlog.setdefault(live.job.call.device_id, deque()).appendleft(live)
        self._watch(live)
        if not failure.check(NotRegistered) and live.job.call.device_id not in self._refilling:
            # One retry a device, whatever waits for it: each would make one for every job.
            self._log.failure("a dispatch was not committed", failure)
            self._refilling.add(live.job.call.device_id)
            self._retry(self._refill, live.job.call.device_id)

    def _refill(self, device_id: DeviceId) -> None:
        self._refilling.discard(device_id)
        self._pump(device_id)

    def hold(self, device_id: DeviceId) -> None:
        """A revocation is being committed: what the device says from now on changes nothing."""
        self._held.add(device_id)

    def release(self, device_id: DeviceId) -> None:
        """The revocation was committed, or was not."""
        self._held.discard(device_id)

    async def device_ended(self, device_id: DeviceId) -> None:
        """The store ended a device's jobs in its own transaction (revocation): tell who waits."""
        self._backlog.pop(device_id, None)
        for live in self._unfinished.of_device(device_id):
            job = await self._store.job(live.job.call.job_id)
            if job is not None and job.final:
                live.job = job
                self._settle(live)

    def _message(self, job: Job) -> Dispatch:
        attempt = job.attempt
        assert attempt is not None, "only dispatched jobs are sent"
        remaining_ms = max(1, (job.deadline_ms or attempt.deadline_ms) - self._now_ms())
        return Dispatch(
            attempt_id=attempt.attempt_id,
            job_id=job.call.job_id,
            number=attempt.number,
            capability=job.call.capability,
            input_json=job.call.input_json,
            max_payload_bytes=job.call.max_payload_bytes,
            remaining_ms=min(remaining_ms, job.call.run_timeout_ms),
            requested_by=job.call.requested_by,
        )

    # -- time -------------------------------------------------------------------------------

    def _watch(self, live: Live) -> None:
        session_live = self._sessions.owner(live.job.call.device_id) is not None
        deadline = next_deadline_ms(live.job, session_live)
        if deadline is None and not session_live and live.job.state is JobState.QUEUED:
            deadline = self._end_of_patience()
        if deadline is None:
            self._wheel.discard(live.job.call.job_id)
        else:
            self._wheel.set(live.job.call.job_id, deadline)

    def _end_of_patience(self) -> int:
        """Until when (ms) a call without time to wait waits for a device that just went away."""
        now_ms = self._now_ms()
        return max(now_ms + LINGER_MS, self._started_ms + START_GRACE_MS)

    def _due(self, key: Hashable, now_ms: int) -> None:
        if isinstance(key, Deferred):
            self._tire(key)
            return
        live = self._unfinished.by_id(JobId(str(key)))
        if live is None or live.job.final or live.unrecorded:
            return
        job = live.job
        session = self._sessions.owner(job.call.device_id)
        waits = job.state is JobState.QUEUED and job.call.queue_expires_at_ms is None
        if waits and session is None:
            job.call = attrs.evolve(job.call, queue_expires_at_ms=now_ms)
        time_passed(live.machine, job, now_ms, session is not None)
        self._act(live, session)

    def _waiter(self, live: Live, wait_ms: int | None) -> Deferred[Job]:
        """A Deferred for one caller; cancelling it only stops that caller's waiting."""
        waiter: Deferred[Job] = Deferred(lambda gone: self._leave(live, gone))
        live.waiters.append(waiter)
        if wait_ms is not None:
            self._wheel.set(waiter, self._now_ms() + wait_ms)
            self._waits[waiter] = live
            waiter.addBoth(self._stop_waiting, waiter)
        return waiter

    def _leave(self, live: Live, waiter: Deferred[Job]) -> None:
        if waiter in live.waiters:
            live.waiters.remove(waiter)

    def _stop_waiting(self, result: Any, waiter: Deferred[Job]) -> Any:
        self._waits.pop(waiter, None)
        self._wheel.discard(waiter)
        return result

    def _tire(self, waiter: Deferred[Job]) -> None:
        live = self._waits.get(waiter)
        if live is not None and waiter in live.waiters:
            live.waiters.remove(waiter)
            waiter.errback(JobStillRunning(short_id(live.job.call.job_id), live.job.state.value))

    def _refuse_waiter(self, failure: Failure, live: Live, waiter: Deferred[Job]) -> None:
        if waiter in live.waiters:
            live.waiters.remove(waiter)
            waiter.errback(failure)

    # -- leaving ----------------------------------------------------------------------------

    def _forget(self, live: Live) -> None:
        self._unfinished.forget(live)
        self._wheel.discard(live.job.call.job_id)
        if live.job.attempt is None:
            self._leave_backlog(live)

    def _leave_backlog(self, live: Live) -> None:
        device_id = live.job.call.device_id
        backlog = self._backlog.get(device_id)
        if backlog is not None and live in backlog:
            backlog.remove(live)
            if not backlog:
                del self._backlog[device_id]

    def _check_idle(self) -> None:
        if self._idle and not any(map(self._works, self._unfinished.all())):
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)

    def _works(self, live: Live) -> bool:
        """Whether a connected device has the job in hand; one that is away cannot be waited for."""
        there = self._sessions.owner(live.job.call.device_id) is not None
        return there and live.job.attempt is not None

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)


def _check_version_one(call: Call) -> None:
    """Version-1 nodes take no payload in parts, so it must fit into one message of theirs."""
    if len(call.input_json) > VERSION_ONE_PAYLOAD:
        raise PayloadTooLarge("input", len(call.input_json), VERSION_ONE_PAYLOAD)


def _ago(milliseconds: int) -> str:
    """How long ago, as people read it."""
    seconds = max(0, milliseconds // 1000)
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"
