"""The node's end of a session: what must be said gathers here until the carrier can write it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from palyra.core.frames import (
    HEARTBEAT,
    STARTED,
    STOPPING,
    Dispatch,
    GatewayFrame,
    NodeEvent,
    Progress,
    Renew,
    Waiting,
    Welcome,
)
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Report
from palyra.errors import TookTooLong
from palyra.node.running import Runs
from palyra.transport.interfaces import ICarrier, INodeSession

SILENCE_S = 40.0
_SOONEST_S = 0.001
"""Before the end of patience no beat comes sooner: what rounding leaves of it is not waited for."""
MAX_REPORTS = 256
MAX_REPORT_BYTES = 512 * 1024
"""Where a message is full; the last report may be as large as a payload, and 4 MiB is the limit."""


@implementer(INodeSession)
class NodeSession:
    """One session with the gateway."""

    def __init__(
        self,
        *,
        clock: IReactorTime,
        elapsed_s: Callable[[], float],
        jitter: Callable[[float, float], float],
        carrier: ICarrier,
        welcome: Welcome,
        runs: Runs,
        drained: Callable[[int], object],
        directed: Callable[[Renew], object],
        heard: Callable[[], object],
    ) -> None:
        """``drained`` is told in how many ms to come back, ``directed`` that a certificate is to
        be renewed, ``heard`` that the gateway said anything at all."""
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._jitter = jitter
        self._carrier = carrier
        self._epoch = welcome.session_epoch
        self._interval_s = max(1.0, welcome.heartbeat_interval_ms / 1000)
        self._runs = runs
        self._drained = drained
        self._directed = directed
        self._heard = heard
        self._names: list[str] = []
        self._reports: list[Report] = []
        self._progress: dict[AttemptId, Progress] = {}
        self._waiting: list[Waiting] = []
        self._last_word_s = elapsed_s()
        self._beat: IDelayedCall | None = None
        self._stopping = False
        self._held: list[tuple[float, Dispatch]] | None = None

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
        """Tell the gateway that this node host stops: the last word of the session."""
        self._stopping = True
        self._carrier.wake()

    # -- INodeSession -------------------------------------------------------------------------

    def received(self, frame: GatewayFrame) -> None:
        self._last_word_s = self._elapsed_s()
        self._heard()
        for attempt_id in frame.acknowledged:
            self._runs.acknowledged(AttemptId(attempt_id))
        for attempt_id, reason in frame.cancels:
            self._runs.cancel(AttemptId(attempt_id), reason)
        self._take_dispatches(frame.dispatches)
        if frame.drain is not None:
            self._drained(frame.drain.retry_after_ms)
        if frame.renew is not None:
            self._directed(frame.renew)

    def _take_dispatches(self, dispatches: list[Dispatch]) -> None:
        if self._held is not None:
            now_s = self._elapsed_s()
            self._held.extend((now_s, dispatch) for dispatch in dispatches)
            return
        for dispatch in dispatches:
            self._runs.dispatched(dispatch)

    # -- while the next session is being registered ---------------------------------------------

    def hold_dispatches(self) -> None:
        """Start nothing that comes from now on.

        The registration of the next session lists what this device has.  What comes after that list
        was made is taken for never started, and is sent again over the next session: it must not
        have run by then.
        """
        if self._held is None:
            self._held = []

    def release_dispatches(self) -> None:
        """There is no next session: start what was held, with what is left of its time."""
        held, self._held = self._held, None
        for came_s, dispatch in held or ():
            waited_ms = int((self._elapsed_s() - came_s) * 1000)
            remaining_ms = max(1, dispatch.remaining_ms - waited_ms)
            self._runs.dispatched(attrs.evolve(dispatch, remaining_ms=remaining_ms))

    def take_event(self) -> NodeEvent | None:
        if not (self._names or self._reports or self._progress or self._waiting):
            return self._last_word()
        event = NodeEvent(
            name=self._names.pop(0) if self._names else "",
            session_epoch=self._epoch,
            reports=self._take_reports(),
            progress=tuple(self._progress.values()),
            waiting=tuple(self._waiting),
        )
        self._progress.clear()
        self._waiting.clear()
        if self._names or self._reports or self._stopping:
            self._carrier.wake()
        return event

    def _take_reports(self) -> tuple[Report, ...]:
        """As many as fit into one message, at least one where there are any."""
        size = count = 0
        most = min(len(self._reports), MAX_REPORTS)
        while count < most and size < MAX_REPORT_BYTES:
            size += len(self._reports[count].output_json)
            count += 1
        taken, self._reports = self._reports[:count], self._reports[count:]
        return tuple(taken)

    def _last_word(self) -> NodeEvent | None:
        if not self._stopping:
            return None
        self._stopping = False
        return NodeEvent(name=STOPPING, session_epoch=self._epoch)

    def _schedule(self) -> None:
        delay_s = self._interval_s * self._jitter(0.85, 1.0)
        left_s = max(_SOONEST_S, self._last_word_s + SILENCE_S - self._elapsed_s())
        self._beat = self._clock.callLater(min(delay_s, left_s), self._pulse)

    def _pulse(self) -> None:
        if self._elapsed_s() - self._last_word_s >= SILENCE_S:
            # Half-open: nobody answers heartbeats any more.
            self._carrier.close(TookTooLong("The gateway answered no heartbeat", SILENCE_S))
            return
        self._names.append(HEARTBEAT)
        self._carrier.wake()
        self._schedule()
