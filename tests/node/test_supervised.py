"""Tests of :mod:`palyra.node.supervised`."""

from __future__ import annotations

import attrs
import pytest
from twisted.internet.task import Clock

from palyra._notify import Notifier
from palyra.config.addresses import HostPort
from palyra.core.transports import Transport
from palyra.errors import GatewayUnreachable
from palyra.node.link import Route
from palyra.node.supervised import AGAIN_S, Supervised
from palyra.node.watcher import Watcher
from tests.node.connecting import WELCOME

ROUTE = Route(Transport.QUIC, HostPort("gw.example", 7444))


class Told(Notifier):
    """Keeps what the manager would be told; deaf for the next ``deaf`` messages."""

    def __init__(self, watchdog_s: float | None = None) -> None:
        super().__init__(b"/run/notify", watchdog_s, monotonic_ns=lambda: 7_000)
        self.lines: list[str] = []
        self.deaf = 0

    def _send(self, *lines: str) -> bool:
        if self.deaf:
            self.deaf -= 1
            return False
        self.lines.append(" ".join(lines))
        return True

    def since(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def supervised(told: Told, clock: Clock) -> Supervised:
    return Supervised(told, clock=clock, grace_s=10.0)


def test_it_serves_before_it_is_connected(supervised: Supervised, told: Told) -> None:
    """A gateway that is away makes no start fail."""
    supervised.serving()
    assert told.since() == ["READY=1 STATUS=starting"]


def test_how_it_is_in_one_line(supervised: Supervised, told: Told) -> None:
    """As the log says it; heard from a watcher."""
    watcher = Watcher()
    watcher.tell(supervised)
    watcher.online(WELCOME, ROUTE)
    watcher.offline(GatewayUnreachable("gw.example:7444", "connection refused"), 4.2)
    watcher.offline(None, 1.0)
    watcher.waiting("01M80NKQCNREQ4EST000000001")
    refused = GatewayUnreachable("gw.example:7444", "connection refused").sentence
    assert told.since() == [
        "STATUS=online as pi, quic gw.example:7444",
        f"STATUS=offline, retry in 4s: {refused}",
        "STATUS=offline, retry in 1s: The gateway closed the session.",
        "STATUS=waiting for an operator to approve REQ4ES",
    ]


def test_a_name_cannot_say_more_than_a_name(supervised: Supervised, told: Told) -> None:
    """Neither lines of the protocol, nor marks that turn the text around; nor be endless."""
    evil = "pi\nMAINPID=1\u202e" + "x" * 1000
    supervised.online(attrs.evolve(WELCOME, device_name=evil), ROUTE)
    (line,) = told.since()
    assert line.startswith("STATUS=online as pi\\u000aMAINPID=1\\u202exxx") and len(line) < 300


def test_signs_of_life_come_from_the_reactor(clock: Clock) -> None:
    """Three in the time after which one is missed; none where nobody waits for one."""
    told = Told(30.0)
    supervised = Supervised(told, clock=clock, grace_s=1.0)
    assert clock.getDelayedCalls() == []
    supervised.serving()
    assert told.since() == ["READY=1 STATUS=starting", "WATCHDOG=1"]
    clock.advance(9.9)
    assert told.since() == []
    clock.pump([0.2, 10.0])
    assert told.since() == ["WATCHDOG=1", "WATCHDOG=1"]
    supervised.stopping(0)
    clock.advance(10.0)
    assert told.since()[1:] == ["WATCHDOG=1"]  # a stop may take long
    supervised.stopped()
    assert clock.getDelayedCalls() == []


def test_a_full_socket_is_tried_again(supervised: Supervised, told: Told, clock: Clock) -> None:
    """A manager that never hears that a service is ready ends it."""
    told.deaf = 2
    supervised.serving()
    assert told.since() == []
    clock.pump([AGAIN_S, AGAIN_S])
    assert told.since() == ["READY=1 STATUS=starting"]
    assert clock.getDelayedCalls() == []
    told.deaf = 1
    supervised.serving()
    supervised.stopped()
    assert clock.getDelayedCalls() == []


def test_without_a_manager_nothing_is_tried(clock: Clock) -> None:
    """Started from a terminal."""
    supervised = Supervised(Notifier(), clock=clock, grace_s=1.0)
    supervised.serving()
    assert supervised.reloaded("kept") == "kept"
    supervised.stopping(1)
    supervised.stopped()
    assert clock.getDelayedCalls() == []


def test_a_reload_is_announced_and_ended(supervised: Supervised, told: Told) -> None:
    """Two at a time are one to the manager; it stays as it was."""
    supervised.online(WELCOME, ROUTE)
    told.since()
    supervised.reloading()
    supervised.reloading()
    assert supervised.reloaded("first") == "first"
    assert told.since() == ["RELOADING=1 MONOTONIC_USEC=7"]
    supervised.reloaded(None)
    assert told.since() == ["READY=1 STATUS=online as pi, quic gw.example:7444"]


def test_the_end_says_how_long_it_may_take(supervised: Supervised, told: Told) -> None:
    """The grace may have been made longer since the service was installed."""
    supervised.serving()
    told.since()
    supervised.stopping(2)
    assert told.since() == ["STOPPING=1 EXTEND_TIMEOUT_USEC=25000000 STATUS=stopping, 2 running"]
    supervised.offline(None, 1.0)
    supervised.reloading()
    supervised.reloaded(None)
    supervised.serving()
    assert told.since() == []
