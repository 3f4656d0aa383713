"""Deadlines of unfinished jobs: what time alone decides."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import attrs
from twisted.internet.interfaces import IReactorTime

from palyra.core.identifiers import JobId
from palyra.core.jobmachine import next_deadline_ms, time_passed
from palyra.gateway.intake import Intake
from palyra.gateway.nodesession import NodeSession
from palyra.gateway.sessions import Sessions
from palyra.gateway.unfinished import Live, Unfinished
from palyra.gateway.wheel import TimerWheel


class Deadlines:
    """Watches the next deadline of each job.

    ``passed(live, session)`` acts on what a job's machine has made of one that is over; the
    session is the one that owns dispatch to its device.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        intake: Intake,
        sessions: Sessions,
        unfinished: Unfinished,
        passed: Callable[[Live, NodeSession | None], object],
    ) -> None:
        self._intake = intake
        self._sessions = sessions
        self._unfinished = unfinished
        self._passed = passed
        self._wheel = TimerWheel(clock, intake.now_ms, self._due)

    def start(self) -> None:
        """Begin to watch."""
        self._wheel.start()

    def stop(self) -> None:
        """Watch no more."""
        self._wheel.stop()

    def watch(self, live: Live) -> None:
        """The job has changed, or its device has come or gone: its next deadline is another."""
        session_live = self._sessions.owner(live.job.call.device_id) is not None
        deadline = next_deadline_ms(live.job, session_live)
        if deadline is None and not session_live and not live.held and live.queued:
            deadline = self._intake.end_of_patience()
        if deadline is None:
            self._wheel.discard(live.job.call.job_id)
        else:
            self._wheel.set(live.job.call.job_id, deadline)

    def forget(self, live: Live) -> None:
        """Nothing is decided about the job any more."""
        self._wheel.discard(live.job.call.job_id)

    def _due(self, key: Hashable, now_ms: int) -> None:
        live = self._unfinished.by_id(JobId(str(key)))
        if live is None or live.job.final or live.unrecorded:
            return
        job = live.job
        session = self._sessions.owner(job.call.device_id)
        endless = live.queued and next_deadline_ms(job, False) is None
        if endless and session is None and not live.held:
            job.call = attrs.evolve(job.call, queue_expires_at_ms=now_ms)
        time_passed(live.machine, job, now_ms, session is not None)
        self._passed(live, session)
