"""Statements: what nodes say of their attempts, and which of it is believed."""

from __future__ import annotations

from twisted.logger import Logger

from palyra.core.frames import Hello, Progress, Waiting
from palyra.core.identifiers import AttemptId
from palyra.core.interfaces import IJobLog
from palyra.core.jobmachine import STOP, reconcile, report_to
from palyra.core.jobs import JobState, Report, Standing
from palyra.gateway.deadlines import Deadlines
from palyra.gateway.intake import Intake
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.orders import MEDIATION_MS
from palyra.gateway.reports import LateReports, checked
from palyra.gateway.sending import Sender
from palyra.gateway.settlement import Settlement
from palyra.gateway.unfinished import Live, Unfinished

MAX_MEDIATION_MS = 3_600_000


class Statements:
    """Tells each job's machine what its node says.

    It is the :class:`palyra.gateway.nodesession.House` that sessions speak to.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        log: IJobLog,
        intake: Intake,
        unfinished: Unfinished,
        deadlines: Deadlines,
        settlement: Settlement,
        sender: Sender,
    ) -> None:
        self._now_ms = intake.now_ms
        self._unfinished = unfinished
        self._deadlines = deadlines
        self._settlement = settlement
        self._sender = sender
        self._late = LateReports(log, intake.now_ms)

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
            self._sender.act(live, session)
        for attempt_id, standing in hello.attempts.items():
            known = self._unfinished.by_attempt(AttemptId(attempt_id))
            if standing is Standing.RUNNING and known is None:
                session.cancel(AttemptId(attempt_id), "ended")  # nobody waits for its end
        self._sender.pump(session.device_id)

    def detached(self, session: NodeSession) -> None:
        """The device has no session: deadlines of its jobs now wait for its return."""
        for live in self._unfinished.of_device(session.device_id):
            self._deadlines.watch(live)

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
        if self._settlement.is_silenced(session.device_id):
            return  # a revocation decides; should it fail, the node reports again
        live.acknowledge.append((session, report.attempt_id))
        if live.job.final:
            return  # being committed already; this one is a repetition
        report_to(live.machine, live.job, checked(report, live.job.call), self._now_ms())
        self._sender.act(live, session)
        self._sender.pump(session.device_id)

    def waiting(self, session: NodeSession, waiting: Waiting) -> None:
        """A person at the device is asked, or said yes."""
        live = self._mine(session, waiting.attempt_id)
        if live is None:
            return
        # Once asked and once answered: a node that repeats itself must not move a deadline.
        if waiting.answered and live.job.state is JobState.AWAITING:
            now_ms = self._now_ms()
            ends_ms = now_ms + live.job.call.run_timeout_ms
            live.machine.mediation_allowed(ends_ms, now_ms, waiting.mediation)
        elif not waiting.answered and live.asks_left and live.job.call.needs_mediation:
            if live.job.waiting_for == STOP:
                return  # too late: the node has been told to stop, and will say so
            live.asks_left = False
            remaining_ms = min(waiting.remaining_ms or MEDIATION_MS, MAX_MEDIATION_MS)
            live.machine.mediation_asked(self._now_ms() + remaining_ms, self._now_ms())
        else:
            return
        self._sender.act(live, session)

    def progress(self, session: NodeSession, progress: Progress) -> None:
        """An attempt got further; only the last word is kept."""
        live = self._mine(session, progress.attempt_id)
        if live is not None:
            live.progress = progress
            self._settlement.tell(live)

    def _mine(self, session: NodeSession, attempt_id: AttemptId) -> Live | None:
        live = self._unfinished.by_attempt(attempt_id)
        if live is None or live.job.final or live.job.call.device_id != session.device_id:
            return None
        if _is_forgotten(live, session, attempt_id):
            return None
        attempt = live.job.attempt
        return live if attempt is not None and attempt.attempt_id == attempt_id else None


def _is_forgotten(live: Live, session: NodeSession, attempt_id: AttemptId) -> bool:
    """Whether the node host has said since that it never started this attempt."""
    newest = live.job.attempt is not None and live.job.attempt.attempt_id == attempt_id
    return newest and session.epoch < live.since_epoch
