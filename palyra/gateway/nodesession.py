"""A node session: one live connection of a node, whatever carries it (PROTOCOL: Sessions).

It gathers what must be said into frames which its carrier takes when it can write: that is flow
control, and it makes one message of many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from palyra.core.frames import (
    HEARTBEAT,
    STARTED,
    CatalogAnswer,
    Dispatch,
    Drained,
    GatewayFrame,
    Hello,
    NodeEvent,
    Progress,
    Renew,
    Waiting,
)
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Report
from palyra.core.transfers import Incoming
from palyra.core.versions import PIECES
from palyra.errors import Malformed, PalyraError
from palyra.gateway.outbox import Outbox
from palyra.transport.interfaces import ICarrier, IGatewaySession, Peer

ACKNOWLEDGE_AFTER_S = 0.05
"""Acknowledgements ride on the next dispatch, or go alone after this long at most."""


class House(Protocol):
    """Hears what nodes say of their attempts, and which session owns dispatch."""

    def attached(self, session: NodeSession, hello: Hello) -> None:
        """The session owns dispatch from now on."""

    def detached(self, session: NodeSession) -> None:
        """The session that owned dispatch is gone."""

    def reported(self, session: NodeSession, report: Report) -> None:
        """An attempt ended."""

    def waiting(self, session: NodeSession, waiting: Waiting) -> None:
        """A person at the device is asked, or said yes."""

    def progress(self, session: NodeSession, progress: Progress) -> None:
        """An attempt got further."""


class Keeper(Protocol):
    """Who keeps the sessions, and knows which one owns dispatch."""

    def heard(self, session: NodeSession) -> None:
        """Any message is a sign of life."""

    def offered(self, session: NodeSession, event: NodeEvent) -> None:
        """The node says what it offers from now on, or describes it."""

    def ended(self, session: NodeSession, reason: str) -> None:
        """The session's connection is gone.  Once for each session."""


@implementer(IGatewaySession)
class NodeSession:
    """One session.  ``window`` is how many dispatches may be unanswered at once.

    Inputs of more than ``pieces_over`` bytes travel in pieces, where the node takes any.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        peer: Peer,
        epoch: int,
        hello: Hello,
        window: int,
        pieces_over: int,
        clock: IReactorTime,
        carrier: ICarrier,
        house: House,
        keeper: Keeper,
    ) -> None:
        self.device_id = peer.device_id
        self.peer = peer
        self.epoch = epoch
        self.extended = hello.extended
        self.takes_pieces = PIECES in hello.features
        self.memory_id = hello.memory_id
        self.in_flight: set[AttemptId] = set()
        self.live = True
        self._window = window
        self._carrier = carrier
        self._clock = clock
        self._house = house
        self._keeper = keeper
        self._incoming = Incoming()
        self._outbox = Outbox(clock.seconds, pieces_over if self.takes_pieces else None)
        self._timers: dict[str, IDelayedCall] = {}

    # -- what the dispatcher says -------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another attempt may be dispatched now."""
        return len(self.in_flight) < self._window

    def push(self, dispatch: Dispatch) -> None:
        """Send an attempt whose record is committed."""
        self._outbox.push(dispatch)
        self._wake()

    def cancel(self, attempt_id: AttemptId, reason: str) -> None:
        """Ask the node to stop an attempt."""
        self._outbox.cancel(attempt_id, reason)
        self._wake()

    def acknowledge(self, attempt_id: AttemptId) -> None:
        """Tell the node, soon, that an attempt's report is committed."""
        self._outbox.acknowledge(attempt_id)
        timer = self._timers.get("acknowledge")
        if timer is None or not timer.active():
            self._later("acknowledge", ACKNOWLEDGE_AFTER_S, self._acknowledge_alone)

    def renew(self, order: Renew) -> None:
        """Ask the node for a new certificate; a version-1 node is not told, it asks by itself."""
        self._outbox.renew(order)
        self._wake()

    def answer_catalog(self, answer: CatalogAnswer) -> None:
        """Tell the node what became of the catalog that it sent."""
        self._outbox.answer_catalog(answer)
        self._wake()

    def drain(self, reason: str, retry_after_ms: int = 0) -> None:
        """Ask the node to go, and to come back after ``retry_after_ms``."""
        self._outbox.drain(Drained(reason, retry_after_ms))
        self._wake()

    def close(self, error: PalyraError | None) -> None:
        """End the connection now."""
        self._carrier.close(error)

    def close_after(self, delay_s: float, error: PalyraError | None = None) -> None:
        """End the connection then, unless it ends by itself."""
        self._later("close", delay_s, lambda: self.close(error))

    # -- what the carrier says (IGatewaySession) ------------------------------------------------

    def received(self, event: NodeEvent) -> None:
        if not self.live:
            return  # its device was revoked, or took its link for dead
        self._keeper.heard(self)
        try:
            reports = self._reports(event)
        except Malformed as error:
            self.close(error)
            self.ended(error.code)
            return
        for waiting in event.waiting:
            self._house.waiting(self, waiting)
        for progress in event.progress:
            self._house.progress(self, progress)
        for report in reports:
            self.in_flight.discard(report.attempt_id)
            self._house.reported(self, report)
        if event.catalog is not None or event.descriptors:
            self._keeper.offered(self, event)
        if event.name in (HEARTBEAT, STARTED) or not self.extended:
            self._outbox.answer()
            self._wake()

    def _reports(self, event: NodeEvent) -> tuple[Report, ...]:
        """The reports of an event, with the outputs that came in pieces.

        :raises Malformed: a transfer breaks the rules.
        """
        for chunk in event.chunks:
            self._incoming.add(chunk)
        return event.reports + tuple(
            attrs.evolve(report, output_json=self._incoming.claim(transfer_id))
            for report, transfer_id in event.transferred
        )

    def take_frame(self) -> GatewayFrame | None:
        if not self._outbox.waiting:
            return None
        # The timer of acknowledgements runs on: a new one for each frame would cost more than
        # looking once in vain.
        frame = self._outbox.take()
        if self._outbox.waiting:
            self._wake()
        return frame

    def moved(self, address: str) -> None:
        self._log.info("session of {d} moved to {to}", d=self.device_id, to=address)
        self.peer = attrs.evolve(self.peer, address=address)

    def ended(self, reason: str) -> None:
        if self.live:
            self.live = False
            for timer in self._timers.values():
                if timer.active():
                    timer.cancel()
            self._timers.clear()
            self._keeper.ended(self, reason)

    def _acknowledge_alone(self) -> None:
        if self._outbox.has_acknowledgements:
            self._wake()

    def _wake(self) -> None:
        if self.live:
            self._carrier.wake()

    def _later(self, name: str, delay_s: float, act: Callable[[], object]) -> None:
        if not self.live:
            return
        old = self._timers.get(name)
        if old is not None and old.active():
            old.cancel()
        self._timers[name] = self._clock.callLater(delay_s, act)
