"""A UDP relay between nodes and their gateway: a bad network whose badness is drawn from a seed."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random

import attrs

from tests.integration.processes import HOST
from tests.integration.relay import DOWN, UP

__all__ = ["CLEAR", "DOWN", "UP", "UdpRelay", "Weather"]

_BUFFER = 4 << 20
_MAX_DATAGRAM = 65_535
_IDLE_S = 60.0

Address = tuple[str, int]


@attrs.frozen
class Weather:
    """What happens to the datagrams of one direction; shares from 0 to 1, times in seconds.

    A datagram that is ``late`` waits for ``late_s`` more and is overtaken by those behind it.
    """

    loss: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    late_s: float = 0.02
    delay_s: float = 0.0


CLEAR = Weather()


@attrs.define
class _Direction:
    """One direction: its weather, and what has been drawn of it so far."""

    draw: Random
    weather: Weather = CLEAR
    cut: bool = False
    seen: Counter[str] = attrs.field(factory=Counter)

    def waits(self) -> list[float]:
        """How long each copy of the next datagram waits: none is left of one that is lost."""
        # Three numbers for every datagram, so that what one suffers does not shift the others.
        lost, doubled, late = (self.draw.random() for _ in range(3))
        self.seen["all"] += 1
        if self.cut or lost < self.weather.loss:
            self.seen["lost"] += 1
            return []
        wait = self.weather.delay_s
        if late < self.weather.late:
            self.seen["late"] += 1
            wait += self.weather.late_s
        if doubled < self.weather.doubled:
            self.seen["doubled"] += 1
            return [wait, wait]
        return [wait]


class UdpRelay:
    """Listens on a port of its own and carries datagrams to ``target`` and back.

    Every client has a port of its own towards the target, as behind a NAT.
    """

    def __init__(self, target: str, seed: int = 0, listen: str = f"{HOST}:0") -> None:
        self._target = _split(target)
        self._directions = {way: _Direction(Random(f"{way} {seed}")) for way in (UP, DOWN)}
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._ports: dict[Address, socket.socket] = {}
        self._held: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._over = False
        self._listener = _bound(_split(listen))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._bell, bell = socket.socketpair()
        self._watch(bell, lambda: bell.recv(64))
        self._watch(self._listener, self._from_client)
        self._sockets = [self._listener, self._bell, bell]
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    # -- what the network does ----------------------------------------------------------------

    def turn(self, weather: Weather, *directions: str) -> None:
        """Another weather, in both directions or in those named."""
        with self._lock:
            for way in directions or (UP, DOWN):
                self._directions[way].weather = weather

    def cut(self, *directions: str) -> None:
        """Lose everything, in both directions or in those named."""
        with self._lock:
            for way in directions or (UP, DOWN):
                self._directions[way].cut = True

    def mend(self) -> None:
        """Carry again, in the weather that it was."""
        with self._lock:
            for direction in self._directions.values():
                direction.cut = False

    def rebind(self) -> None:
        """Forget every mapping: what clients send next arrives from another port, and what is
        sent to the old one is lost."""
        with self._lock:
            ports, self._ports = self._ports, {}
            for port in ports.values():
                self._selector.unregister(port)
                port.close()
        self._bell.send(b"!")

    def seen(self, direction: str) -> Counter[str]:
        """How many datagrams of a direction were seen in ``all``, ``lost``, ``doubled``,
        ``late``."""
        with self._lock:
            return Counter(self._directions[direction].seen)

    @property
    def sources(self) -> list[int]:
        """The ports that the target sees now."""
        with self._lock:
            return [port.getsockname()[1] for port in self._ports.values()]

    def close(self) -> None:
        """End it all."""
        self._over = True
        self._bell.send(b"!")
        self._thread.join()
        for each in (*self._ports.values(), *self._sockets):
            each.close()
        self._selector.close()

    # -- the thread -----------------------------------------------------------------------------

    def _carry(self) -> None:
        while not self._over:
            ready = self._selector.select(self._next_s())
            with self._lock:
                for key, _ in ready:
                    call, wire = key.data
                    if wire.fileno() >= 0:  # not rebound meanwhile
                        call()
                self._let_go()

    def _next_s(self) -> float:
        """How long until something that is held may go."""
        with self._lock:
            return max(0.0, self._held[0][0] - time.monotonic()) if self._held else _IDLE_S

    def _let_go(self) -> None:
        """Send what has waited for long enough, in the order in which it may go."""
        while self._held and self._held[0][0] <= time.monotonic():
            _, _, send = heapq.heappop(self._held)
            with contextlib.suppress(OSError):  # a full buffer, or nobody there, loses it too
                send()

    def _from_client(self) -> None:
        for data, client in _received(self._listener):
            self._pass(UP, lambda d=data, c=client: self._port(c).send(d))  # type: ignore[misc]

    def _from_target(self, client: Address, port: socket.socket) -> None:
        for data, _ in _received(port):
            self._pass(DOWN, lambda d=data: self._listener.sendto(d, client))  # type: ignore[misc]

    def _pass(self, direction: str, send: Callable[[], object]) -> None:
        now = time.monotonic()
        for wait in self._directions[direction].waits():
            heapq.heappush(self._held, (now + wait, next(self._order), send))

    def _port(self, client: Address) -> socket.socket:
        """Where the target sees a client now."""
        if client not in self._ports:
            port = self._ports[client] = _bound((HOST, 0))
            port.connect(self._target)
            self._watch(port, lambda: self._from_target(client, port))
        return self._ports[client]

    def _watch(self, wire: socket.socket, call: Callable[[], object]) -> None:
        self._selector.register(wire, selectors.EVENT_READ, (call, wire))


def _split(address: str) -> Address:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _bound(address: Address) -> socket.socket:
    wire = socket.socket(type=socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        wire.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    wire.bind(address)
    wire.setblocking(False)
    return wire


def _received(wire: socket.socket) -> list[tuple[bytes, Address]]:
    """All that waits in a socket."""
    found: list[tuple[bytes, Address]] = []
    with contextlib.suppress(OSError):  # nothing left, or the other end is not there
        while True:
            found.append(wire.recvfrom(_MAX_DATAGRAM))
    return found
