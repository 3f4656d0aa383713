"""Node sessions: one live connection of a node each, whatever carries it (PROTOCOL: Sessions).

The newest successful registration owns dispatch.  A session gathers what must be said into frames
which its carrier takes when it can write: that is flow control, and it makes one message of many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from palyra import __version__
from palyra.core.devices import Registration, clean_text
from palyra.core.frames import (
    HEARTBEAT,
    STARTED,
    Dispatch,
    Drained,
    GatewayFrame,
    Hello,
    NodeEvent,
    Progress,
    Renew,
    Waiting,
    Welcome,
)
from palyra.core.identifiers import AttemptId, DeviceId, Fingerprint
from palyra.core.interfaces import IDeviceDirectory
from palyra.core.jobs import Report
from palyra.core.journal import SESSION_ENDED, Details
from palyra.core.transfers import PIECES_OVER, Incoming
from palyra.core.windows import Windows
from palyra.errors import (
    CertificateSuperseded,
    LimitReached,
    Malformed,
    NotRegistered,
    PalyraError,
)
from palyra.gateway.callstreams import CallStreams
from palyra.gateway.inventory import Inventory
from palyra.gateway.outbox import Outbox
from palyra.gateway.presence import PresenceBoard
from palyra.transport.interfaces import ICarrier, IGatewaySession, Peer

ACKNOWLEDGE_AFTER_S = 0.05
"""Acknowledgements ride on the next dispatch, or go alone after this long at most."""
HANDOVER_S = 30.0
MAX_SESSIONS = 8
"""Sessions that one device may have at once: its own, and those that are about to end."""
EXPIRY_GRACE_S = 300.0
CLONE_SWAPS = 3
CLONE_WINDOW_MS = 60_000
MAX_REGISTRATIONS = 30
MAX_ENDED = 240
"""Characters of why a session ended, in the journal of its device."""


class House(Protocol):
    """What sessions tell; the dispatcher listens."""

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


@implementer(IGatewaySession)
class NodeSession:
    """One session.  ``window`` is how many dispatches may be unanswered at once."""

    _log = Logger()

    def __init__(
        self,
        *,
        peer: Peer,
        epoch: int,
        hello: Hello,
        window: int,
        carrier: ICarrier,
        sessions: Sessions,
    ) -> None:
        self.device_id = peer.device_id
        self.peer = peer
        self.epoch = epoch
        self.extended = extended = hello.extended
        self.memory_id = hello.memory_id
        self.in_flight: set[AttemptId] = set()
        self.live = True
        self._window = window
        self._carrier = carrier
        self._sessions = sessions
        self._incoming = Incoming()
        self._outbox = Outbox(sessions.clock.seconds, sessions.pieces_over if extended else None)
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
        self._sessions.heard(self)
        try:
            reports = self._reports(event)
        except Malformed as error:
            self.close(error)
            self.ended(error.code)
            return
        for waiting in event.waiting:
            self._sessions.house.waiting(self, waiting)
        for progress in event.progress:
            self._sessions.house.progress(self, progress)
        for report in reports:
            self.in_flight.discard(report.attempt_id)
            self._sessions.house.reported(self, report)
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
            self._sessions.ended(self, reason)

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
        self._timers[name] = self._sessions.clock.callLater(delay_s, act)


async def _noted(_: Fingerprint) -> None:
    """Nobody needs to hear that a certificate is in use."""


@attrs.frozen
class _Greeting:
    """A registration that a session may be opened with."""

    epoch: int
    hello: Hello
    peer: Peer


class Sessions:
    """Every live session, and which one owns a device's dispatch."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        directory: IDeviceDirectory,
        inventory: Inventory,
        board: PresenceBoard,
        gateway_id: str,
        store_epoch: str,
        ca_bundle_pem: Callable[[], str],
        max_in_flight: int,
        pieces_over: int = PIECES_OVER,
    ) -> None:
        """Inputs of more than ``pieces_over`` bytes travel in pieces."""
        self.clock = clock
        self.pieces_over = pieces_over
        self.quic_address: Callable[[], str] = lambda: ""
        self.house: House
        self.renew_after_s: Callable[[DeviceId, Fingerprint], int | None] = lambda *_: None
        self.certificate_used: Callable[[Fingerprint], Awaitable[object]] = _noted
        self.noted: Callable[[DeviceId, str, Details], object] = lambda *_: None
        """Keeps an event of a device that no transaction writes."""
        self.clocks: dict[DeviceId, int] = {}
        """How far each device's clock was ahead (ms) when it registered last."""
        self.callers = CallStreams(clock)
        self._directory = directory
        self._inventory = inventory
        self._board = board
        self._gateway_id = gateway_id
        self._store_epoch = store_epoch
        self._ca_bundle_pem = ca_bundle_pem
        self._max_in_flight = max_in_flight
        self._greetings: dict[DeviceId, _Greeting] = {}
        self._owners: dict[DeviceId, NodeSession] = {}
        self._all: dict[DeviceId, set[NodeSession]] = {}
        self._swaps: dict[DeviceId, deque[int]] = {}
        self._registered = Windows(MAX_REGISTRATIONS, CLONE_WINDOW_MS)

    def owner(self, device_id: DeviceId) -> NodeSession | None:
        """The session that owns dispatch to the device."""
        return self._owners.get(device_id)

    def count(self) -> int:
        """How many devices have a session."""
        return len(self._owners)

    async def register(self, peer: Peer, hello: Hello) -> Welcome:
        """RegisterNode: commit the registration; a session may then be opened with it.

        :raises NotBoundToDevice, DeviceRevoked, CertificateRefused: it may not register.
        :raises LimitReached: two hosts fight for one identity.
        """
        self._guard_against_clones(peer.device_id)
        self._guard_against_floods(peer.device_id)
        registration = Registration(
            device_id=peer.device_id,
            fingerprint=peer.fingerprint,
            platform=hello.platform,
            version=hello.version,
            capabilities=hello.capabilities,
            gateway_id=self._gateway_id,
            memory_id=hello.memory_id,
            transport=peer.transport,
            address=peer.address,
            at_ms=self._now_ms(),
        )
        device = await self._directory.register(registration)
        self._inventory.put(device)
        self._inventory.registered_over(peer.fingerprint)
        if hello.unix_ms:
            self.clocks[peer.device_id] = hello.unix_ms - self._now_ms()
        self._greetings[peer.device_id] = _Greeting(device.session_epoch, hello, peer)
        old = self._owners.get(peer.device_id)
        if old is not None:  # nothing can be dispatched to it any more
            old.drain("this device has registered again")
            old.close_after(HANDOVER_S)
        await self._used(peer.fingerprint)
        return Welcome(
            device_id=peer.device_id,
            store_epoch=self._store_epoch,
            session_epoch=device.session_epoch,
            heartbeat_interval_ms=self._board.heartbeat_ms,
            gateway_unix_ms=self._now_ms(),
            ca_bundle_pem=self._ca_bundle_pem(),
            granted=tuple(sorted(device.grants)),
            device_name=device.name,
            version=__version__,
            renew_after_s=self.renew_after_s(peer.device_id, peer.fingerprint),
            quic_address=self.quic_address(),
        )

    async def _used(self, fingerprint: Fingerprint) -> None:
        """Say that a certificate is in use.  The registration is on record already."""
        try:
            await self.certificate_used(fingerprint)
        except PalyraError as error:
            self._log.error("a key that was made here is not erased yet: {e}", e=error.sentence)

    def attach(self, peer: Peer, first: NodeEvent, carrier: ICarrier) -> NodeSession:
        """Open the session of the newest registration.

        :raises NotRegistered: there is none, or it was made by somebody else.
        """
        greeting = self._greetings.get(peer.device_id)
        if greeting is None or greeting.peer.fingerprint != peer.fingerprint:
            raise NotRegistered()
        if greeting.hello.extended and first.session_epoch != greeting.epoch:
            raise NotRegistered()
        self._make_room(peer.device_id)
        if greeting.hello.extended:
            # What the node said of its attempts is true once: another session takes another
            # hello.  A version-1 node says nothing of them, and may open its stream again.
            del self._greetings[peer.device_id]
        session = NodeSession(
            peer=peer,
            epoch=greeting.epoch,
            hello=greeting.hello,
            window=min(greeting.hello.max_in_flight, self._max_in_flight),
            carrier=carrier,
            sessions=self,
        )
        self._take_over(session)
        self._board.registered(peer.device_id, version_one=not session.extended)
        self.house.attached(session, greeting.hello)
        session.close_after((peer.not_after_ms - self._now_ms()) / 1000 + EXPIRY_GRACE_S)
        session.received(first)
        if self.renew_after_s(peer.device_id, peer.fingerprint) == 0:
            # Ordered since the registration, perhaps: its answer could not tell.
            session.renew(Renew("", 0))
        return session

    def _make_room(self, device_id: DeviceId) -> None:
        """End the session that has been about to end for longest, where there are too many."""
        old = self._all.get(device_id, set()) - {self._owners.get(device_id)}
        if len(old) >= MAX_SESSIONS:
            oldest = min(old, key=lambda each: each.epoch)
            oldest.close(None)
            oldest.ended("the device has opened too many others")

    def heard(self, session: NodeSession) -> None:
        """Any message is a sign of life."""
        if self._owners.get(session.device_id) is session:
            self._board.heard(session.device_id)

    def ended(self, session: NodeSession, reason: str) -> None:
        """A session's connection is gone."""
        kept = self._all.get(session.device_id)
        if kept is not None:
            kept.discard(session)
            if not kept:
                del self._all[session.device_id]
        self.noted(session.device_id, SESSION_ENDED, {"reason": clean_text(reason, MAX_ENDED)})
        if self._owners.get(session.device_id) is session:
            del self._owners[session.device_id]
            self._board.closed(session.device_id)
            self.house.detached(session)
            self._log.info(
                "session of {device} ended: {reason}", device=session.device_id, reason=reason
            )

    def silent(self, device_id: DeviceId) -> None:
        """The presence board heard nothing for too long: the link is half-open."""
        session = self._owners.get(device_id)
        if session is not None:
            session.close(None)
            session.ended("silent")

    def reconnect(self, device_id: DeviceId) -> None:
        """End the device's session; it comes back with another one."""
        session = self._owners.get(device_id)
        if session is not None:
            session.close(None)

    def replaced(self, device_id: DeviceId) -> None:
        """The device came back by its identity key: what it has open is of older certificates."""
        self._greetings.pop(device_id, None)
        for session in list(self._all.get(device_id, ())):
            session.close(CertificateSuperseded())
            session.ended(CertificateSuperseded.code)

    def expel(self, device_id: DeviceId, error: PalyraError) -> None:
        """End every session and every call stream of a device at once (revocation)."""
        self._greetings.pop(device_id, None)
        self.clocks.pop(device_id, None)
        self.callers.expel(device_id, error)
        for session in list(self._all.get(device_id, ())):
            session.close(error)
            session.ended(error.code)
        self._board.expelled(device_id)

    def drain_all(self, reason: str, retry_after_ms: int) -> None:
        """Tell every node that the gateway is about to stop."""
        for session in self._owners.values():
            session.drain(reason, retry_after_ms)

    def _take_over(self, session: NodeSession) -> None:
        old = self._owners.get(session.device_id)
        self._all.setdefault(session.device_id, set()).add(session)
        self._owners[session.device_id] = session
        # With another certificate it is a handover: a copy of the device has the same one.
        if old is not None and old.peer.fingerprint == session.peer.fingerprint:
            swaps = self._swaps.setdefault(session.device_id, deque(maxlen=CLONE_SWAPS + 1))
            swaps.append(self._now_ms())

    def _guard_against_clones(self, device_id: DeviceId) -> None:
        swaps = self._swaps.get(device_id)
        if swaps is None or len(swaps) <= CLONE_SWAPS or swaps[-1] - swaps[0] > CLONE_WINDOW_MS:
            return
        left_ms = swaps[-1] + CLONE_WINDOW_MS - self._now_ms()
        if left_ms > 0:
            self._log.warn("two hosts use the identity of {device}", device=device_id)
            what = "session swaps of one device in a minute"
            raise LimitReached(what, CLONE_SWAPS, left_ms / 1000)
        del self._swaps[device_id]

    def _guard_against_floods(self, device_id: DeviceId) -> None:
        """A registration is a commit: a host that only registers must not keep the store busy."""
        wait_ms = self._registered.wait_ms(device_id, self._now_ms())
        if wait_ms:
            what = "registrations of one device in a minute"
            raise LimitReached(what, MAX_REGISTRATIONS, wait_ms / 1000)
        self._registered.add(device_id, self._now_ms())

    def _now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)
