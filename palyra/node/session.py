"""The node's end of a session: what must be said gathers here until the carrier can write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import (
    HEARTBEAT,
    STARTED,
    CatalogAnswer,
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
from palyra.core.transfers import PIECES_OVER, Incoming
from palyra.errors import Malformed, TookTooLong
from palyra.node.outbox import Outbox
from palyra.node.running import Speaker
from palyra.transport.interfaces import ICarrier, INodeSession

SILENCE_S = 40.0
_SOONEST_S = 0.001
"""Before the end of patience no beat comes sooner: what rounding leaves of it is not waited for."""


class Attempts(Protocol):
    """Who works on what is dispatched; :class:`palyra.node.running.Runs`."""

    def attach(self, speaker: Speaker) -> None:
        """A session began: everything is said to it from now on."""

    def detach(self, speaker: Speaker) -> None:
        """It is over."""

    def dispatched(self, dispatch: Dispatch) -> None:
        """Work on an attempt."""

    def cancel(self, attempt_id: AttemptId, reason: str) -> None:
        """Stop one."""

    def acknowledged(self, attempt_id: AttemptId) -> None:
        """The gateway has committed a report."""


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
        runs: Attempts,
        drained: Callable[[int], object],
        directed: Callable[[Renew], object],
        heard: Callable[[], object],
        descriptor: Callable[[str], bytes | None] = lambda _: None,
        granted: Callable[[tuple[str, ...]], object] = lambda _: None,
        pieces_over: int = PIECES_OVER,
    ) -> None:
        """``drained`` is told in how many ms to come back, ``directed`` that a certificate is to
        be renewed, ``heard`` that the gateway said anything at all, ``granted`` what this device
        may be asked for since a catalog.  ``descriptor`` gives the one of a digest.  Outputs of
        more than ``pieces_over`` bytes travel in pieces."""
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._jitter = jitter
        self._carrier = carrier
        self._outbox = Outbox(welcome.session_epoch, pieces_over)
        self._incoming = Incoming()
        self._interval_s = max(1.0, welcome.heartbeat_interval_ms / 1000)
        self._runs = runs
        self._drained = drained
        self._directed = directed
        self._heard = heard
        self._descriptor = descriptor
        self._granted = granted
        self._unknown = welcome.unknown_digests
        self._last_word_s = elapsed_s()
        self._beat: IDelayedCall | None = None
        self._doubt: IDelayedCall | None = None
        self._broken = False
        self._holders: set[object] = set()
        self._held: dict[AttemptId, tuple[float, Dispatch]] = {}
        self._held_cancels: list[tuple[AttemptId, str]] = []

    def start(self) -> None:
        """Say hello, resend what was not acknowledged, and begin to beat."""
        self._outbox.say(STARTED)
        self._describe(self._unknown)
        self._runs.attach(self)
        self._carrier.wake()
        self._schedule()

    def stop(self) -> None:
        """The session is over."""
        for call in (self._beat, self._doubt):
            if call is not None and call.active():
                call.cancel()
        self._held.clear()  # it is dispatched again over the next session
        self._held_cancels.clear()
        self._runs.detach(self)

    # -- what the runs say --------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """Send a report; it is kept until the gateway acknowledges it."""
        self._outbox.report(report)
        self._carrier.wake()

    def progress(self, progress: Progress) -> None:
        """Send how far an attempt is; only the last word before the next message goes out."""
        self._outbox.progress(progress)
        self._carrier.wake()

    def waiting(self, waiting: Waiting) -> None:
        """Send that a person is being asked, or said yes."""
        self._outbox.ask(waiting)
        self._carrier.wake()

    def announce(self, catalog: tuple[AnnouncedCapability, ...]) -> None:
        """Send what this node offers from now on."""
        self._outbox.catalog(catalog)
        self._carrier.wake()

    def end(self) -> None:
        """End this session; the node host comes back with another one."""
        self._carrier.close(None)

    def say_stopping(self) -> None:
        """Tell the gateway that this node host stops: the last word of the session."""
        self._outbox.stop()
        self._carrier.wake()

    def probe(self, within_s: float) -> None:
        """Ask for a sign of life, and close where none comes in that time.

        Asked again meanwhile, the first question's time stands.
        """
        self._outbox.say(HEARTBEAT)
        self._carrier.wake()
        if self._doubt is None or not self._doubt.active():
            self._doubt = self._clock.callLater(within_s, self._silent, within_s)

    # -- INodeSession -------------------------------------------------------------------------

    def received(self, frame: GatewayFrame) -> None:
        if self._broken:
            return
        self._last_word_s = self._elapsed_s()
        if self._doubt is not None and self._doubt.active():
            self._doubt.cancel()
        self._heard()
        try:
            dispatches = self._complete(frame)
        except Malformed as error:
            self._broken = True
            self._carrier.close(error)
            return
        for attempt_id in frame.acknowledged:
            self._runs.acknowledged(AttemptId(attempt_id))
        for attempt_id, reason in frame.cancels:
            self._cancel(AttemptId(attempt_id), reason)
        self._take_dispatches(dispatches)
        if frame.drain is not None:
            self._drained(frame.drain.retry_after_ms)
        if frame.renew is not None:
            self._directed(frame.renew)
        if frame.catalog is not None:
            self._answered(frame.catalog)

    def _answered(self, answer: CatalogAnswer) -> None:
        """The gateway has taken a catalog."""
        self._granted(answer.granted)
        self._describe(answer.unknown_digests)
        self._carrier.wake()

    def _describe(self, digests: tuple[str, ...]) -> None:
        """Send descriptors that the gateway asks for, of those that this node has."""
        for digest in digests:
            descriptor = self._descriptor(digest)
            if descriptor is not None:
                self._outbox.describe(digest, descriptor)

    def _complete(self, frame: GatewayFrame) -> list[Dispatch]:
        """The dispatches of a frame, with the inputs that came in pieces.

        :raises Malformed: a transfer breaks the rules.
        """
        for chunk in frame.chunks:
            self._incoming.add(chunk)
        return frame.dispatches + [
            attrs.evolve(dispatch, input_json=self._incoming.claim(transfer_id))
            for dispatch, transfer_id in frame.transferred
        ]

    def _take_dispatches(self, dispatches: list[Dispatch]) -> None:
        if self._holders:
            now_s = self._elapsed_s()
            self._held.update((each.attempt_id, (now_s, each)) for each in dispatches)
            return
        for dispatch in dispatches:
            self._runs.dispatched(dispatch)

    def _cancel(self, attempt_id: AttemptId, reason: str) -> None:
        if attempt_id in self._held:
            self._held_cancels.append((attempt_id, reason))
        else:
            self._runs.cancel(attempt_id, reason)

    # -- while the next session is being registered ---------------------------------------------

    def hold_dispatches(self) -> Callable[[], None]:
        """Start nothing that comes from now on; what this gives ends that, where nobody else holds.

        The registration of the next session lists what this device has.  What comes after that list
        was made is taken for never started, and is sent again over the next session: it must not
        have run by then.  A registration that was given up may end after the next one has begun, so
        each holds for itself.
        """
        holder = object()
        self._holders.add(holder)

        def let_go() -> None:
            if holder in self._holders:
                self._holders.remove(holder)
                if not self._holders:
                    self._start_held()

        return let_go

    def _start_held(self) -> None:
        """There is no next session: start what was held, with what is left of its time."""
        held, self._held = self._held, {}
        for came_s, dispatch in held.values():
            waited_ms = int((self._elapsed_s() - came_s) * 1000)
            remaining_ms = max(1, dispatch.remaining_ms - waited_ms)
            self._runs.dispatched(attrs.evolve(dispatch, remaining_ms=remaining_ms))
        cancels, self._held_cancels = self._held_cancels, []
        for attempt_id, reason in cancels:
            self._runs.cancel(attempt_id, reason)

    # -- what is written ------------------------------------------------------------------------

    def take_event(self) -> NodeEvent | None:
        if not self._outbox.waiting:
            return None
        event = self._outbox.take()
        if self._outbox.waiting:
            self._carrier.wake()
        return event

    def _schedule(self) -> None:
        delay_s = self._interval_s * self._jitter(0.85, 1.0)
        left_s = max(_SOONEST_S, self._last_word_s + SILENCE_S - self._elapsed_s())
        self._beat = self._clock.callLater(min(delay_s, left_s), self._pulse)

    def _pulse(self) -> None:
        if self._elapsed_s() - self._last_word_s >= SILENCE_S:
            self._silent(SILENCE_S)
            return
        self._outbox.say(HEARTBEAT)
        self._carrier.wake()
        self._schedule()

    def _silent(self, limit_s: float) -> None:
        """Half-open: nobody answers heartbeats any more."""
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._carrier.close(TookTooLong("The gateway answered no heartbeat", limit_s))
