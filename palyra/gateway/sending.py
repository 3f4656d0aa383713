"""Sending: what a job's machine wants is committed, and then said to its node.

An attempt is on record before it is sent, and never made if it could not be recorded.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.core.frames import Dispatch
from palyra.core.identifiers import AttemptId, DeviceId, Entropy, new_ulid
from palyra.core.interfaces import IJobLog
from palyra.core.jobmachine import report_to
from palyra.core.jobs import Attempt, Job, Outcome, Report, Want
from palyra.errors import ApprovalVoid, NotRegistered, PalyraError
from palyra.gateway.backlog import Backlog
from palyra.gateway.deadlines import Deadlines
from palyra.gateway.intake import Intake, check_carried, payload_limit
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.sessions import Sessions
from palyra.gateway.settlement import Settlement
from palyra.gateway.unfinished import Live, Unfinished
from palyra.gateway.waits import deferred


class Sender:
    """Makes attempts, sends them when they are on record, and sends what waits as room comes.

    ``recheck`` raises where a job that has waited may not be sent any more.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        entropy: Entropy,
        log: IJobLog,
        gateway_id: str,
        intake: Intake,
        sessions: Sessions,
        unfinished: Unfinished,
        backlog: Backlog,
        deadlines: Deadlines,
        settlement: Settlement,
        recheck: Callable[[Job], object],
    ) -> None:
        self._recheck = recheck
        self._entropy = entropy
        self._store = log
        self._gateway_id = gateway_id
        self._intake = intake
        self._now_ms = intake.now_ms
        self._sessions = sessions
        self._unfinished = unfinished
        self._backlog = backlog
        self._deadlines = deadlines
        self._settlement = settlement
        self._records = settlement.records
        self._refilling: set[DeviceId] = set()
        self.draining = False
        """Whether nothing that waits is sent any more."""
        self.traceparent: Callable[[Live], str] = _untraced
        """What the span of a run names as its parent; told of each message that is sent."""

    # -- acting on a machine --------------------------------------------------------------------

    def act(self, live: Live, session: NodeSession | None) -> Deferred[list[Failure] | None]:
        """Commit what the machine decided and do what it wants, over a session if there is one.

        Fires as :meth:`palyra.gateway.records.Records.commit`.
        """
        job = live.job
        committed = self._records.commit(live)
        for want in job.take_wants():
            if want is Want.DISPATCH:
                self._backlog.append(live, first=True)
                self.pump(job.call.device_id)
            elif live.unrecorded:
                continue  # nothing was sent: it is settled when the dispatch is on record
            elif session is not None and session.live and job.attempt is not None:
                if want is Want.CANCEL_ATTEMPT:
                    session.cancel(job.attempt.attempt_id, job.waiting_for or "cancelled")
                else:
                    live.asks_left = True  # the node begins again, and so does the person there
                    session.push(self._message(live, session))
        return committed

    def enqueue(self, live: Live) -> None:
        """The job waits for its device from now on, or is sent at once."""
        self._backlog.append(live)
        self._deadlines.watch(live)
        self.pump(live.job.call.device_id)

    def pump(self, device_id: DeviceId) -> None:
        """Send what waits for a device, as far as its session has room."""
        session = self._sessions.owner(device_id)
        if session is None or self.draining:
            return
        for _ in range(self._backlog.size(device_id)):  # what is refused at once comes back
            live = self._backlog.take(device_id) if session.has_room else None
            if live is None:
                return
            if live.queued and self._fits(live, session):
                self.dispatch(live, session)
                committed = deferred(self._store.update(live.job))
                committed.addCallbacks(
                    self.sent,
                    self._not_dispatched,
                    callbackArgs=(live, session),
                    errbackArgs=(live, session),
                )

    def _fits(self, live: Live, session: NodeSession) -> bool:
        """Whether it may still be sent, and to this node; much can have changed while it waited."""
        try:
            check_carried(live.job.call, session)
            self._recheck(live.job)
        except PalyraError as refusal:
            live.machine.refused(refusal.code, refusal.sentence, self._now_ms())
            self.act(live, session)
            return False
        return True

    # -- one attempt ----------------------------------------------------------------------------

    def dispatch(self, live: Live, session: NodeSession) -> None:
        """Make the next attempt.  Whoever asks commits it, and says :meth:`sent` when it is on
        record, or :meth:`take_back` when it is not."""
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

    def sent(self, _: None, live: Live, session: NodeSession) -> None:
        """The attempt is committed: send it, over the session that owns dispatch by now.

        If there is none, the node has never seen it, says so when it registers, and gets it then.
        """
        live.unrecorded = False
        self._records.store_writes()
        self._settlement.recorded(live)
        attempt = live.job.attempt
        if attempt is None or live.job.final:
            return
        owner = self._sessions.owner(live.job.call.device_id)
        if live.job.cancel_requested_at_ms is not None:  # while it was being committed: not sent
            session.in_flight.discard(attempt.attempt_id)
            report = Report(attempt.attempt_id, Outcome.CANCELLED)
            report_to(live.machine, live.job, report, self._now_ms())
            self.act(live, None)
        elif owner is not None:
            session.in_flight.discard(attempt.attempt_id)
            owner.in_flight.add(attempt.attempt_id)
            owner.push(self._message(live, owner))

    def take_back(self, live: Live, session: NodeSession) -> None:
        """The newest attempt was never recorded: it was never made."""
        live.unrecorded = False
        attempt = live.job.attempt
        if attempt is not None:
            session.in_flight.discard(attempt.attempt_id)
            self._unfinished.unmake(live, attempt.attempt_id)
            live.machine.undispatched()

    def _message(self, live: Live, session: NodeSession) -> Dispatch:
        job, attempt = live.job, live.job.attempt
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
            traceparent=self.traceparent(live),
        )

    # -- what could not be recorded ---------------------------------------------------------------

    def _not_dispatched(self, failure: Failure, live: Live, session: NodeSession) -> None:
        """A dispatch was not committed: the job waits as before."""
        if live.job.final:
            return  # a report of an earlier attempt, or a revocation, was faster
        self.take_back(live, session)
        void = failure.value
        if isinstance(void, ApprovalVoid):
            live.machine.refused(void.code, void.sentence, self._now_ms())
            self.act(live, None)
            return
        if live.job.cancel_requested_at_ms is not None:
            live.machine.cancel_requested(self._now_ms())
            self.act(live, None)
            return
        device_id = live.job.call.device_id
        self._backlog.append(live, first=True)
        self._deadlines.watch(live)
        self._settlement.tell(live)
        if failure.check(NotRegistered):
            if self._sessions.owner(device_id) is not session:
                # What has taken over meanwhile was attached while this job seemed to be sent.
                self.pump(device_id)
        elif device_id not in self._refilling:
            # One retry a device, whatever waits for it: each would make one for every job.
            self._log.failure("a dispatch was not committed", failure)
            self._refilling.add(device_id)
            self._records.retry(self._refill, device_id)

    def _refill(self, device_id: DeviceId) -> None:
        self._refilling.discard(device_id)
        self.pump(device_id)


def _untraced(_: Live) -> str:
    return ""
