"""Rows of fan-outs, and other jobs that are held: they start when they may."""

from __future__ import annotations

from collections.abc import Iterable

from palyra.core.fanouts import BATCH
from palyra.core.identifiers import FanoutId, JobId
from palyra.core.jobmachine import job_machine
from palyra.core.jobs import Call, Job
from palyra.errors import Draining, PalyraError
from palyra.gateway.backlog import HELD, Backlog
from palyra.gateway.deadlines import Deadlines
from palyra.gateway.intake import Intake, check_carried
from palyra.gateway.sending import Sender
from palyra.gateway.sessions import Sessions
from palyra.gateway.settlement import Settlement
from palyra.gateway.unfinished import Live, Unfinished


class Rows:
    """What fan-outs and approvals may do with jobs; else these are jobs as any other."""

    def __init__(
        self,
        *,
        intake: Intake,
        sessions: Sessions,
        unfinished: Unfinished,
        backlog: Backlog,
        deadlines: Deadlines,
        settlement: Settlement,
        sender: Sender,
    ) -> None:
        self._intake = intake
        self._sessions = sessions
        self._unfinished = unfinished
        self._backlog = backlog
        self._deadlines = deadlines
        self._settlement = settlement
        self._sender = sender

    def reserve(self, rows: int) -> None:
        """Keep room for ``rows`` that will be entered; :meth:`free` gives it back.

        :raises QueueFull: more would wait than may; :class:`Draining`: nothing is accepted.
        """
        if self._sender.draining:
            raise Draining()
        self._backlog.reserve(rows)

    def free(self, rows: int) -> None:
        """Give back room that :meth:`reserve` kept."""
        self._backlog.free(rows)

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
                self._deadlines.watch(live)

    def drop(self, job_id: JobId) -> None:
        """The row's fan-out was not accepted."""
        live = self._unfinished.by_id(job_id)
        if live is not None:
            self._settlement.forget(live)

    def may_wait(self, call: Call) -> bool:
        """Whether a call to this device would be sent, or may wait for it."""
        session = self._sessions.owner(call.device_id)
        return self._intake.waiting(call, session) is not None

    def fanout_of(self, job_id: JobId) -> FanoutId | None:
        """The fan-out whose row the job is."""
        live = self._unfinished.by_id(job_id)
        return live.job.call.fanout_id if live is not None else None

    def waits_for_turn(self, job_id: JobId) -> None:
        """A row was approved, and waits for others to end from now on."""
        live = self._unfinished.by_id(job_id)
        if live is not None and live.held and live.queued:
            live.machine.released()
            live.job.waiting_for = BATCH
            self._settlement.records.commit(live)

    def refuse(self, job_id: JobId, error: PalyraError) -> None:
        """A job that was never sent will not be."""
        live = self._unfinished.by_id(job_id)
        if live is not None and live.queued and not live.job.attempts:
            live.machine.refused(error.code, error.sentence, self._intake.now_ms())
            self._sender.act(live, None)

    def release(self, job_id: JobId) -> None:
        """A row may start: it is sent, waits for its device, or is refused for itself alone."""
        live = self._unfinished.by_id(job_id)
        if live is None or live.job.final or not live.held:
            return
        self._backlog.leave(live)
        listed_as_held = live.job.waiting_for in HELD
        live.machine.released()
        session = self._sessions.owner(live.job.call.device_id)
        waiting = self._intake.waiting(live.job.call, session, accepted=True)
        try:
            self._intake.check_device(live.job.call)
            if waiting is None:
                raise self._intake.offline(live.job.call)
            check_carried(waiting, session)
            if session is None or not session.has_room:
                self._backlog.check(live)
        except PalyraError as refusal:
            live.machine.refused(refusal.code, refusal.sentence, self._intake.now_ms())
            self._sender.act(live, session)
            return
        live.job.call = waiting
        self._sender.enqueue(live)
        if listed_as_held and live.queued:
            self._settlement.records.commit(live)  # it waits for its device now

    def withhold(self, job_id: JobId, sentence: str) -> None:
        """A row that was never sent will not be, since too many others have failed."""
        live = self._unfinished.by_id(job_id)
        if live is not None and live.queued and not live.job.attempts:
            live.machine.withheld(sentence, self._intake.now_ms())
            self._sender.act(live, None)
