"""Every node session, and which one owns a device's dispatch (PROTOCOL: Sessions).

A node registers, then opens a session: the one of the newest successful registration owns dispatch,
and those before it are about to end.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from palyra import __version__
from palyra.core.arrivals import Arrivals
from palyra.core.devices import Registration, clean_text
from palyra.core.frames import Hello, NodeEvent, Renew, Welcome
from palyra.core.identifiers import DeviceId, Fingerprint
from palyra.core.interfaces import IDeviceDirectory
from palyra.core.journal import SESSION_ENDED, Details
from palyra.core.transfers import PIECES_OVER
from palyra.core.versions import DESCRIPTORS
from palyra.core.windows import Windows
from palyra.errors import CertificateSuperseded, LimitReached, NotRegistered, PalyraError
from palyra.gateway.callstreams import CallStreams
from palyra.gateway.descriptors import Descriptors
from palyra.gateway.inventory import Inventory
from palyra.gateway.nodesession import House, NodeSession
from palyra.gateway.offerings import Offerings
from palyra.gateway.presence import PresenceBoard
from palyra.transport.interfaces import ICarrier, Peer

HANDOVER_S = 30.0
MAX_SESSIONS = 8
"""Sessions that one device may have at once: its own, and those that are about to end."""
EXPIRY_GRACE_S = 300.0
CLONE_SWAPS = 3
CLONE_WINDOW_MS = 60_000
MAX_REGISTRATIONS = 30
REGISTRATIONS_PER_S = 300
MAX_ENDED = 240
"""Characters of why a session ended, in the journal of its device."""


async def _noted(_: Fingerprint) -> None:
    """Nobody needs to hear that a certificate is in use."""


@attrs.frozen
class _Greeting:
    """A registration that a session may be opened with."""

    epoch: int
    hello: Hello
    peer: Peer


class Sessions:
    """Every live session, and which one owns a device's dispatch.  They speak to ``house``."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        elapsed_ms: Callable[[], int],
        directory: IDeviceDirectory,
        inventory: Inventory,
        descriptors: Descriptors,
        board: PresenceBoard,
        gateway_id: str,
        store_epoch: str,
        ca_bundle_pem: Callable[[], str],
        max_in_flight: int,
        registrations_per_s: int = REGISTRATIONS_PER_S,
        pieces_over: int = PIECES_OVER,
    ) -> None:
        """``elapsed_ms`` never runs backwards.  Inputs of more than ``pieces_over`` bytes travel in
        pieces."""
        self._clock = clock
        self._elapsed_ms = elapsed_ms
        self._pieces_over = pieces_over
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
        self._offerings = Offerings(
            directory=directory,
            inventory=inventory,
            descriptors=descriptors,
            gateway_id=gateway_id,
            clock=clock,
        )
        self._greetings: dict[DeviceId, _Greeting] = {}
        self._owners: dict[DeviceId, NodeSession] = {}
        self._all: dict[DeviceId, set[NodeSession]] = {}
        self._swaps: dict[DeviceId, deque[int]] = {}
        self._registered = Windows(MAX_REGISTRATIONS, CLONE_WINDOW_MS)
        self._arrivals = Arrivals(registrations_per_s)
        self._opened: Callable[[NodeSession], object] = lambda _: None

    def owner(self, device_id: DeviceId) -> NodeSession | None:
        """The session that owns dispatch to the device."""
        return self._owners.get(device_id)

    def all(self) -> list[NodeSession]:
        """The sessions that own dispatch, one a device."""
        return list(self._owners.values())

    def count(self) -> int:
        """How many devices have a session."""
        return len(self._owners)

    async def register(self, peer: Peer, hello: Hello) -> Welcome:
        """RegisterNode: commit the registration; a session may then be opened with it.

        :raises NotBoundToDevice, DeviceRevoked, CertificateRefused: it may not register.
        :raises LimitReached: two hosts fight for one identity, or too many devices come at once;
            each of those is told a moment of its own to come again.
        """
        self._guard_against_clones(peer.device_id)
        self._guard_against_floods(peer.device_id)
        self._guard_against_herds()
        registration = Registration(
            device_id=peer.device_id,
            fingerprint=peer.fingerprint,
            platform=hello.platform,
            version=hello.version,
            capabilities=self._offerings.believed(hello.capabilities),
            gateway_id=self._gateway_id,
            memory_id=hello.memory_id,
            transport=peer.transport,
            address=peer.address,
            at_ms=self._now_ms(),
        )
        before = self._inventory.device(peer.device_id)
        device = await self._directory.register(registration)
        self._offerings.registered(before, device)
        self._inventory.registered_over(peer.fingerprint)
        if hello.unix_ms:
            self.clocks[peer.device_id] = hello.unix_ms - self._now_ms()
        self._greetings[peer.device_id] = _Greeting(device.session_epoch, hello, peer)
        old = self._owners.get(peer.device_id)
        if old is not None:  # nothing can be dispatched to it any more
            old.drain("this device has registered again")
            old.close_after(HANDOVER_S)
        self.callers.supersede(peer.device_id, self._inventory.superseded, HANDOVER_S)
        await self._used(peer.fingerprint)
        describes = DESCRIPTORS in hello.features
        unknown = self._offerings.unknown(device) if describes else ()
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
            unknown_digests=unknown,
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
            pieces_over=self._pieces_over,
            clock=self._clock,
            carrier=carrier,
            house=self.house,
            keeper=self,
        )
        self._take_over(session)
        self._board.registered(peer.device_id, version_one=not session.extended)
        self.house.attached(session, greeting.hello)
        session.close_after((peer.not_after_ms - self._now_ms()) / 1000 + EXPIRY_GRACE_S)
        session.received(first)
        if self.renew_after_s(peer.device_id, peer.fingerprint) == 0:
            # Ordered since the registration, perhaps: its answer could not tell.
            session.renew(Renew("", 0))
        self._opened(session)
        return session

    def _make_room(self, device_id: DeviceId) -> None:
        """End the session that has been about to end for longest, where there are too many."""
        old = self._all.get(device_id, set()) - {self._owners.get(device_id)}
        if len(old) >= MAX_SESSIONS:
            oldest = min(old, key=lambda each: each.epoch)
            oldest.ended("the device has opened too many others")
            oldest.close(None)

    def heard(self, session: NodeSession) -> None:
        """Any message is a sign of life."""
        if self._owners.get(session.device_id) is session:
            self._board.heard(session.device_id)

    def offered(self, session: NodeSession, event: NodeEvent) -> None:
        """A node says what it offers from now on, or describes it."""
        self._offerings.said(session, event)

    def ended(self, session: NodeSession, reason: str) -> None:
        """A session's connection is gone."""
        self._offerings.ended(session)
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
            session.ended("silent")
            session.close(None)

    def reconnect(self, device_id: DeviceId) -> None:
        """End the device's session; it comes back with another one."""
        session = self._owners.get(device_id)
        if session is not None:
            session.close(None)

    def replaced(self, device_id: DeviceId) -> None:
        """The device came back by its identity key: what it has open is of older certificates."""
        self._greetings.pop(device_id, None)
        self.callers.expel(device_id, CertificateSuperseded())
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
        """Tell every node that the gateway is about to stop, and each of them another moment from
        ``retry_after_ms`` on to come back, as fast as they will be let in.  Who comes yet is told
        the same."""
        told = itertools.count()

        def drain(session: NodeSession) -> None:
            session.drain(reason, retry_after_ms + self._arrivals.after_ms(next(told)))

        self._opened = drain
        for session in self._owners.values():
            drain(session)

    def _take_over(self, session: NodeSession) -> None:
        old = self._owners.get(session.device_id)
        self._all.setdefault(session.device_id, set()).add(session)
        self._owners[session.device_id] = session
        # With another certificate it is a handover: a copy of the device has the same one.
        if old is not None and old.peer.fingerprint == session.peer.fingerprint:
            swaps = self._swaps.setdefault(session.device_id, deque(maxlen=CLONE_SWAPS + 1))
            swaps.append(self._elapsed_ms())

    def _guard_against_clones(self, device_id: DeviceId) -> None:
        swaps = self._swaps.get(device_id)
        if swaps is None or len(swaps) <= CLONE_SWAPS or swaps[-1] - swaps[0] > CLONE_WINDOW_MS:
            return
        left_ms = swaps[-1] + CLONE_WINDOW_MS - self._elapsed_ms()
        if left_ms > 0:
            self._log.warn("two hosts use the identity of {device}", device=device_id)
            what = "session swaps of one device in a minute"
            raise LimitReached(what, CLONE_SWAPS, left_ms / 1000)
        del self._swaps[device_id]

    def _guard_against_herds(self) -> None:
        """After a restart all come at once, and each registration is a commit: who is in already
        must not wait behind thousands that are not."""
        wait_ms = self._arrivals.wait_ms(self._elapsed_ms())
        if wait_ms:
            what = "registrations a second"
            raise LimitReached(what, self._arrivals.rate_per_s, wait_ms / 1000)

    def _guard_against_floods(self, device_id: DeviceId) -> None:
        """A registration is a commit: a host that only registers must not keep the store busy."""
        wait_ms = self._registered.wait_ms(device_id, self._elapsed_ms())
        if wait_ms:
            what = "registrations of one device in a minute"
            raise LimitReached(what, MAX_REGISTRATIONS, wait_ms / 1000)
        self._registered.add(device_id, self._elapsed_ms())

    def _now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)
