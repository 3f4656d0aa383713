"""Tests of :mod:`palyra.node.watchdog`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from palyra.node.watchdog import LOOK_S, Watchdog


class World:
    """A process whose time the test lets pass with and without its work."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lost_s = 0.0
        self.running: list[str] = []
        self.hung: list[tuple[list[str], float]] = []
        self.logged: list[str] = []
        self.watchdog = Watchdog(
            clock=self.clock,
            elapsed_s=lambda: self.clock.seconds() + self.lost_s,
            runners=self,
            hung=self._hung,
        )

    def running_here(self) -> list[str]:
        return self.running

    def _hung(self, names: Iterable[str], late_s: float) -> None:
        self.hung.append((list(names), late_s))

    def look(self, late_s: float = 0.0) -> None:
        """The next look, which comes late."""
        self.lost_s += late_s
        self.clock.advance(LOOK_S)

    def log(self, event: LogEvent) -> None:
        if event["log_namespace"].endswith(".Watchdog"):
            self.logged.append(formatEvent(event))


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    globalLogPublisher.addObserver(made.log)
    yield made
    globalLogPublisher.removeObserver(made.log)
    made.watchdog.stop()
    assert not made.clock.getDelayedCalls()


def test_an_idle_process_is_not_woken(world: World) -> None:
    """It looks while something runs, and once more."""
    assert not world.clock.getDelayedCalls()
    world.watchdog.began("a.b")
    world.watchdog.began("a.b")
    assert len(world.clock.getDelayedCalls()) == 1
    world.running = ["a.b"]
    world.look()
    assert world.clock.getDelayedCalls()
    world.running = []
    world.look()
    assert not world.clock.getDelayedCalls()
    assert world.logged == []


def test_a_short_block_is_logged(world: World) -> None:
    """With everything that ran meanwhile, also what has ended since."""
    world.watchdog.began("a.c")
    world.watchdog.began("a.b")
    world.look(0.3)
    assert world.logged == ["nothing else ran for 300 ms while these did: a.b, a.c"]
    assert world.hung == []


def test_a_long_block_withdraws(world: World) -> None:
    """Two seconds are too many."""
    world.watchdog.began("a.b")
    world.running = ["a.b"]
    world.look()
    world.watchdog.began("a.c")
    world.look(2.0)
    ((names, late_s),) = world.hung
    assert names == ["a.b", "a.c"]
    assert late_s == pytest.approx(2.0)


def test_a_busy_machine_is_not_blamed(world: World) -> None:
    """A look that comes a little late is none."""
    world.watchdog.began("a.b")
    world.look(0.2)
    assert world.logged == []


def test_after_the_end_nothing_is_watched(world: World) -> None:
    """No delayed call is left."""
    world.watchdog.began("a.b")
    world.watchdog.stop()
    world.watchdog.stop()
    world.watchdog.began("a.b")
    assert not world.clock.getDelayedCalls()
