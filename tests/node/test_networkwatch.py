"""Tests of :mod:`palyra.node.networkwatch`."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from palyra.node.networkwatch import POLL_S, SETTLE_S, Seen, Watch, open_netlink, seen_now
from tests.node.test_rtnetlink import DONE, MULTI, THERE, UP, address, link, message

HERE: Seen = {"eth0": (True, frozenset({(2, "10.0.0.7")}))}
MOVED: Seen = {"eth0": (True, frozenset({(2, "10.0.1.7")}))}


class Reactor(Clock):
    """A clock, and who reads what."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        assert verifyObject(IReadDescriptor, reader)
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


class Wire:
    """The kernel's end of a socket, played by the test."""

    def __init__(self) -> None:
        self.said: list[bytes | OSError] = []
        self.asked: list[bytes] = []
        self.refuses = False
        self.open = True

    def fileno(self) -> int:
        return 7 if self.open else -1

    def recv(self, size: int) -> bytes:
        if not self.said:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        said = self.said.pop(0)
        if isinstance(said, OSError):
            raise said
        return said

    def send(self, question: bytes) -> int:
        if self.refuses:
            raise OSError(errno.EBUSY, "busy")
        self.asked.append(question)
        return len(question)

    def close(self) -> None:
        self.open = False


class World:
    """A watch on a network that the test changes."""

    def __init__(self, *, netlink: bool = True) -> None:
        self.reactor = Reactor()
        self.wire = Wire()
        self.changes = 0
        self.seen: Seen | OSError = HERE
        self.looks: list[Deferred[Seen]] = []
        self.slow = False
        self.watch = Watch(
            self.reactor,
            self._changed,
            netlink=(lambda: self.wire) if netlink else self._refused,  # type: ignore[arg-type,return-value]
            look=self._look,
            in_thread=self._in_thread,
        )
        self.watch.start()

    def _changed(self) -> None:
        self.changes += 1

    def _refused(self) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    def _look(self) -> Seen:
        if isinstance(self.seen, OSError):
            raise self.seen
        return self.seen

    def _in_thread(self, look: Callable[[], Seen]) -> Deferred[Seen]:
        if self.slow:
            self.looks.append(Deferred())
            return self.looks[-1]
        try:
            return succeed(look())
        except OSError:
            failed: Deferred[Seen] = Deferred()
            failed.errback(Failure())
            return failed

    def hear(self, *messages: bytes | OSError) -> None:
        """The kernel says that, one datagram each."""
        self.wire.said += messages
        self.reactor.readers[0].doRead()

    def poll(self, seen: Seen | OSError) -> None:
        """The next look sees that."""
        self.seen = seen
        self.reactor.advance(POLL_S)


def closed(world: World) -> None:
    """Nothing of it is left."""
    stopped = world.watch.stop()
    assert stopped.called
    assert not world.reactor.getDelayedCalls() and not world.reactor.readers


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    closed(made)
    assert not made.wire.open


@pytest.fixture
def deaf() -> Iterator[World]:
    """One whose kernel tells nothing."""
    made = World(netlink=False)
    yield made
    closed(made)


# -- the kernel tells -----------------------------------------------------------------------------


def test_a_change_is_told_when_it_has_settled(world: World) -> None:
    """Once for all that comes within a second."""
    world.hear(link(), address())
    world.hear(address(THERE))
    assert world.changes == 0
    world.reactor.advance(SETTLE_S)
    assert world.changes == 1
    world.hear(link(), address(lifetime=1))
    world.reactor.advance(60)
    assert world.changes == 1
    world.hear(link(flags=UP))
    world.reactor.advance(SETTLE_S)
    assert world.changes == 2


def test_what_is_there_is_asked_for_first(world: World) -> None:
    """Links, then addresses; none of it is a change."""
    done = message(DONE, b"\0" * 4, MULTI)
    assert len(world.wire.asked) == 1
    world.hear(link(is_=MULTI), done)
    assert len(world.wire.asked) == 2
    world.hear(address(is_=MULTI), done, link(), address())
    world.reactor.advance(SETTLE_S)
    assert world.changes == 0 and len(world.wire.asked) == 2


def test_a_kernel_that_answers_nothing(world: World) -> None:
    """What it says later counts once."""
    world.wire.refuses = True
    world.hear(message(DONE, b"\0" * 4, MULTI), address(), address())
    world.reactor.advance(SETTLE_S)
    assert world.changes == 1


def test_what_was_lost_is_a_change(world: World) -> None:
    """The kernel says that it could not keep all of it, and goes on; that a link came back is news
    although nobody heard that it went."""
    world.hear(link(), address())
    world.reactor.advance(SETTLE_S)
    for again in ([], [link()], [address()]):
        changes = world.changes
        world.hear(OSError(errno.ENOBUFS, "No buffer space available"))
        world.reactor.advance(SETTLE_S)
        assert world.changes == changes + 1 and world.reactor.readers
        world.hear(*again)
        world.reactor.advance(SETTLE_S)
        assert world.changes == changes + 1 + bool(again)


def test_a_flood_leaves_the_reactor_time(world: World) -> None:
    """It is read in parts."""
    world.hear(*[link()] * 1000)
    assert len(world.wire.said) > 900
    world.wire.said.clear()
    world.reactor.advance(SETTLE_S)


def test_a_socket_that_breaks(world: World) -> None:
    """From then on it is looked."""
    world.hear(OSError(errno.ECONNRESET, "reset"))
    assert not world.wire.open and not world.reactor.readers
    world.poll(MOVED)
    world.reactor.advance(SETTLE_S)
    assert world.changes == 1


def test_the_reactor_gives_up_on_it() -> None:
    """It is closed, and stopping it again is nothing."""
    world = World()
    assert world.reactor.readers[0].logPrefix() == "network"
    assert world.reactor.readers[0].fileno() == 7
    world.reactor.readers[0].connectionLost(Failure(OSError()))
    assert not world.wire.open
    closed(world)


def test_a_change_that_has_not_settled_is_dropped_at_the_end() -> None:
    """Nobody is told after the stop."""
    world = World()
    world.hear(link())
    closed(world)
    assert world.changes == 0


# -- the kernel does not tell ---------------------------------------------------------------------


def test_it_is_looked_every_five_seconds(deaf: World) -> None:
    """Another address is a change, and so is none."""
    deaf.poll(HERE)
    deaf.poll(HERE)
    assert deaf.changes == 0
    deaf.poll(MOVED)
    deaf.reactor.advance(SETTLE_S)
    assert deaf.changes == 1
    deaf.poll({})
    deaf.reactor.advance(SETTLE_S)
    assert deaf.changes == 2


def test_a_look_that_fails_is_taken_again(deaf: World) -> None:
    """What was seen before is what is compared."""
    deaf.poll(OSError(errno.EMFILE, "too many files"))
    deaf.poll(HERE)
    assert deaf.changes == 0
    deaf.poll(MOVED)
    deaf.reactor.advance(SETTLE_S)
    assert deaf.changes == 1


def test_the_stop_waits_for_a_look() -> None:
    """No thread is left behind, and what it saw is told nobody."""
    world = World(netlink=False)
    world.slow = True
    world.reactor.advance(POLL_S)
    stopped = world.watch.stop()
    assert not stopped.called
    world.looks[0].callback(MOVED)
    assert stopped.called and not world.reactor.getDelayedCalls()


# -- this machine ---------------------------------------------------------------------------------


def test_what_is_seen_here() -> None:
    """The addresses of this machine, and not the loopback's."""
    seen = seen_now()
    assert all(address != "127.0.0.1" for _, kept in seen.values() for _, address in kept)
    assert set(seen) <= set(psutil.net_if_addrs())


def test_a_kernel_without_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and so does one that forbids it; nothing is left open."""
    monkeypatch.delattr(socket, "AF_NETLINK", raising=False)
    with pytest.raises(OSError, match="netlink"):
        open_netlink()
    wire = SimpleNamespace(setblocking=lambda _: None, closed=False)

    def bind(_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    wire.bind, wire.close = bind, lambda: setattr(wire, "closed", True)
    monkeypatch.setattr(socket, "AF_NETLINK", 16, raising=False)
    monkeypatch.setattr(socket, "socket", lambda *_: wire)
    with pytest.raises(PermissionError):
        open_netlink()
    assert wire.closed
