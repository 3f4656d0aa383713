"""A gateway's front door as a crowd finds it: handshakes cost time, and so do registrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from palyra.core.arrivals import Arrivals
from palyra.core.frames import HEARTBEAT, STARTED, Drained, GatewayFrame, Hello, Welcome
from palyra.core.identifiers import DeviceId
from palyra.errors import GatewayUnreachable, LimitReached, PalyraError
from palyra.testing.simulation.clock import HostClock, Timeline
from palyra.testing.simulation.network import CUT, as_remote, away
from palyra.transport.interfaces import ICarrier
from palyra.wire.pairing import RenewalAsked, Renewed

WAY_S = 0.005
CALL_TIMEOUT_S = 15.0
HEARTBEAT_MS = 15_000


@attrs.frozen
class Costs:
    """Seconds of work: a TLS handshake (on one of ``processors``), a registration that is
    committed, and one that is refused (both on the one reactor)."""

    handshake_s: float = 0.003
    register_s: float = 0.002
    refuse_s: float = 0.0003
    processors: int = 2


@attrs.define
class Seen:
    """What happened at the door, by the second."""

    handshakes: Counter[int] = attrs.Factory(Counter)
    registered: Counter[int] = attrs.Factory(Counter)
    refused: Counter[int] = attrs.Factory(Counter)
    timed_out: int = 0
    longest_wait_s: float = 0.0


class FrontDoor:
    """A gateway that registers whoever comes, at its rate, as fast as its costs allow."""

    def __init__(self, timeline: Timeline, costs: Costs, rate_per_s: int) -> None:
        self.timeline = timeline
        self.seen = Seen()
        self.up = False
        self._costs = costs
        self._rate = rate_per_s
        self._sessions: dict[DeviceId, _Stream] = {}
        self.start()

    def start(self) -> None:
        """A life begins: nobody is connected, and nothing waits."""
        self.up = True
        self._arrivals = Arrivals(self._rate)
        self._free_s = [self.timeline.now] * self._costs.processors
        self._reactor_free_s = self.timeline.now

    @property
    def online(self) -> int:
        """How many devices have a session."""
        return len(self._sessions)

    def drain(self, retry_after_ms: int) -> None:
        """Tell every node when to come back, as :class:`palyra.gateway.sessions.Sessions` does."""
        for number, stream in enumerate(self._sessions.values()):
            after_ms = retry_after_ms + self._arrivals.after_ms(number)
            stream.told(GatewayFrame(drain=Drained("stopping", after_ms)))

    def stop(self, notice: Callable[[], float]) -> None:
        """It is gone; each node notices after ``notice()`` seconds."""
        self.up = False
        sessions, self._sessions = self._sessions, {}
        for stream in sessions.values():
            stream.torn(notice())

    # -- what channels ask ------------------------------------------------------------------------

    def handshake_done_s(self) -> float:
        """When a handshake that begins now is over; the processor works on it in any case."""
        now = self.timeline.now
        self.seen.handshakes[int(now)] += 1
        processor = min(range(len(self._free_s)), key=self._free_s.__getitem__)
        done_s = max(now, self._free_s[processor]) + self._costs.handshake_s
        self._free_s[processor] = done_s
        self.seen.longest_wait_s = max(self.seen.longest_wait_s, done_s - now)
        return done_s

    def registration(self) -> tuple[float, int]:
        """When a registration that arrives now is answered, and in how many ms it is to come
        again; 0: it was taken."""
        now = self.timeline.now
        wait_ms = self._arrivals.wait_ms(int(now * 1000))
        kept = self.seen.refused if wait_ms else self.seen.registered
        kept[int(now)] += 1
        cost_s = self._costs.refuse_s if wait_ms else self._costs.register_s
        self._reactor_free_s = max(now, self._reactor_free_s) + cost_s
        return self._reactor_free_s, wait_ms

    def opened(self, device_id: DeviceId, stream: _Stream) -> None:
        """A session."""
        self._sessions[device_id] = stream

    def left(self, device_id: DeviceId, stream: _Stream) -> None:
        """It is over."""
        if self._sessions.get(device_id) is stream:
            del self._sessions[device_id]


class DoorChannel:
    """What :class:`palyra.transport.grpcclient.GatewayChannel` is to a node, at that door."""

    def __init__(self, door: FrontDoor, clock: HostClock) -> None:
        self._door = door
        self._clock = clock
        self._stream: _Stream | None = None

    def connect(self) -> Deferred[None]:
        """Nobody moves a session here, renews a certificate, or leaves."""
        return fail(away("nothing but sessions here"))

    def renew(self, asked: RenewalAsked) -> Deferred[Renewed]:
        """As :meth:`connect`."""
        return fail(away("nothing but sessions here"))

    def revoke(self, device_id: DeviceId, reason: str) -> Deferred[None]:
        """As :meth:`connect`."""
        return self.connect()

    def register(self, hello: Hello) -> Deferred[Welcome]:
        """A handshake, and RegisterNode."""
        answered: Deferred[Welcome] = Deferred(lambda _: patience.cancel())

        def give_up() -> None:
            self._door.seen.timed_out += 1
            answered.errback(away("no answer"))

        def end(result: Welcome | PalyraError) -> None:
            if answered.called:
                return
            patience.cancel()
            if isinstance(result, Welcome):
                answered.callback(result)
            else:
                answered.errback(result)

        patience = self._clock.soon(CALL_TIMEOUT_S, give_up)
        self._clock.soon(WAY_S, self._arrived, hello, end)
        return answered

    def _arrived(self, hello: Hello, end: Callable[[Welcome | PalyraError], None]) -> None:
        door = self._door
        if not door.up:
            self._clock.soon(WAY_S, end, away("connection refused"))
            return
        door.timeline.at(door.handshake_done_s() + 2 * WAY_S, self._asked, hello, end)

    def _asked(self, hello: Hello, end: Callable[[Welcome | PalyraError], None]) -> None:
        door = self._door
        if not door.up:
            self._clock.soon(WAY_S, end, away(CUT))
            return
        at_s, wait_ms = door.registration()
        answer: Welcome | PalyraError
        if wait_ms:
            answer = as_remote(LimitReached("registrations a second", 0, wait_ms / 1000))
        else:
            answer = _welcome(hello.device_id, int(self._clock.seconds() * 1000))
        door.timeline.at(at_s + WAY_S, end, answer)

    def stream(self, make_session: Callable[[ICarrier], Any], device_id: str) -> Deferred[None]:
        """A session that lasts until the gateway is gone."""
        self._stream = _Stream(self._door, self._clock, DeviceId(device_id))
        return self._stream.begin(make_session)

    def close(self) -> Deferred[None]:
        """The session ends with it."""
        if self._stream is not None:
            self._stream.close(None)
        return succeed(None)


@implementer(ICarrier)
class _Stream:
    """A session of which only heartbeats are answered."""

    def __init__(self, door: FrontDoor, clock: HostClock, device_id: DeviceId) -> None:
        self._door = door
        self._clock = clock
        self._device_id = device_id
        self._session: Any = None
        self._ended: Deferred[None] = Deferred(lambda _: self._left())

    def begin(self, make_session: Callable[[ICarrier], Any]) -> Deferred[None]:
        """Open it; fires when it has ended."""
        if self._door.up:
            self._door.opened(self._device_id, self)
        else:
            self.torn(WAY_S)
        self._session = make_session(self)
        return self._ended

    def wake(self) -> None:
        self._clock.soon(WAY_S, self._take)

    def close(self, error: PalyraError | None) -> None:
        self._left()
        self._clock.soon(0.0, self._end, error)

    def told(self, frame: GatewayFrame) -> None:
        """The gateway says something."""
        self._clock.soon(WAY_S, self._hears, frame)

    def torn(self, notice_s: float) -> None:
        """The other end is gone."""
        self._clock.soon(notice_s, self._end, away(CUT))

    def _take(self) -> None:
        event = None if self._ended.called else self._session.take_event()
        if event is not None and event.name in (HEARTBEAT, STARTED) and self._door.up:
            self.told(GatewayFrame(answers=1))

    def _hears(self, frame: GatewayFrame) -> None:
        if not self._ended.called:
            self._session.received(frame)

    def _left(self) -> None:
        self._door.left(self._device_id, self)

    def _end(self, error: GatewayUnreachable | None) -> None:
        if self._ended.called:
            return
        if error is None:
            self._ended.callback(None)
        else:
            self._ended.errback(error)


def _welcome(device_id: DeviceId, now_ms: int) -> Welcome:
    return Welcome(device_id, "", 1, HEARTBEAT_MS, now_ms, "", (), "", "")
