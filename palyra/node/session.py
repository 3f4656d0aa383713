"""The node's end of a session: what must be said gathers here until the carrier can write it."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from palyra.core.frames import (
    HEARTBEAT,
    STARTED,
    STOPPING,
    GatewayFrame,
    NodeEvent,
    Progress,
    Waiting,
    Welcome,
)
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Report
from palyra.node.running import Runs
from palyra.transport.interfaces import ICarrier, INodeSession

SILENCE_S = 40.0


@implementer(INodeSession)
class NodeSession:
    """One session with the gateway."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        elapsed_s: Callable[[], float],
        carrier: ICarrier,
        welcome: Welcome,
        runs: Runs,
        drained: Callable[[int], object],
        heard: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._carrier = carrier
        self._epoch = welcome.session_epoch
        self._interval_s = max(1.0, welcome.heartbeat_interval_ms / 1000)
        self._runs = runs
        self._drained = drained
        self._heard = heard
        self._names: list[str] = []
        self._reports: list[Report] = []
        self._progress: dict[AttemptId, Progress] = {}
        self._waiting: list[Waiting] = []
        self._last_word_s = elapsed_s()
        self._beat: IDelayedCall | None = None

    def start(self) -> None:
        """Say hello, resend what was not acknowledged, and begin to beat."""
        self._names.append(STARTED)
        self._runs.attach(self)
        self._carrier.wake()
        self._schedule()

    def stop(self) -> None:
        """The session is over."""
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._runs.detach(self)

    # -- what the runs say --------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """Send a report; it is kept until the gateway acknowledges it."""
        self._reports.append(report)
        self._progress.pop(report.attempt_id, None)
        self._carrier.wake()

    def progress(self, progress: Progress) -> None:
        """Send how far an attempt is; only the last word before the next message goes out."""
        self._progress[progress.attempt_id] = progress
        self._carrier.wake()

    def waiting(self, waiting: Waiting) -> None:
        """Send that a person is being asked, or said yes."""
        self._waiting.append(waiting)
        self._carrier.wake()

    def say_stopping(self) -> None:
        """Tell the gateway that this node host is about to stop."""
        self._names.append(STOPPING)
        self._carrier.wake()

    # -- INodeSession -------------------------------------------------------------------------

    def received(self, frame: GatewayFrame) -> None:
        self._last_word_s = self._elapsed_s()
        self._heard()
        for attempt_id in frame.acknowledged:
            self._runs.acknowledged(AttemptId(attempt_id))
        for attempt_id, reason in frame.cancels:
            self._runs.cancel(AttemptId(attempt_id), reason)
        for dispatch in frame.dispatches:
            self._runs.dispatched(dispatch)
        if frame.drain is not None:
            self._drained(frame.drain.retry_after_ms)

    def take_event(self) -> NodeEvent | None:
        if not (self._names or self._reports or self._progress or self._waiting):
            return None
        name = self._names.pop(0) if self._names else ""
        event = NodeEvent(
            name=name,
            session_epoch=self._epoch,
            reports=tuple(self._reports),
            progress=tuple(self._progress.values()),
            waiting=tuple(self._waiting),
        )
        self._reports.clear()
        self._progress.clear()
        self._waiting.clear()
        if self._names:
            self._carrier.wake()
        return event

    def _schedule(self) -> None:
        delay_s = self._interval_s * random.uniform(0.85, 1.0)
        self._beat = self._clock.callLater(delay_s, self._pulse)

    def _pulse(self) -> None:
        if self._elapsed_s() - self._last_word_s > SILENCE_S:
            self._carrier.close(None)  # half-open: nobody answers heartbeats any more
            return
        self._names.append(HEARTBEAT)
        self._carrier.wake()
        self._schedule()
