"""Tests of :mod:`palyra.node.sleeping`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from palyra.node.elapsed import Clocks
from palyra.node.sleeping import LOOK_S, Sleeping


class Machine:
    """A machine that sleeps when the test says so: its timers stand still meanwhile."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slept_s = 1e6
        self.woke = 0
        clocks = Clocks(lambda: self.clock.seconds() + self.slept_s, self.clock.seconds)
        self.sleeping = Sleeping(self.clock, self._woke, clocks=clocks)

    def _woke(self) -> None:
        self.woke += 1


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    made.sleeping.start()
    yield made
    made.sleeping.stop()
    assert not made.clock.getDelayedCalls()


def test_a_sleep_is_seen_once(machine: Machine) -> None:
    """Within five seconds of waking up; what was slept before the start is no news."""
    machine.clock.pump([LOOK_S] * 3)
    assert machine.woke == 0
    machine.slept_s += 3600
    machine.clock.advance(LOOK_S)
    machine.clock.pump([LOOK_S] * 3)
    assert machine.woke == 1
    machine.slept_s += 2
    machine.clock.advance(LOOK_S)
    assert machine.woke == 2


def test_clocks_that_are_not_read_together(machine: Machine) -> None:
    """Differ a little, which is no sleep."""
    for _ in range(20):
        machine.slept_s += 0.2
        machine.clock.advance(LOOK_S)
    assert machine.woke == 0


def test_a_busy_machine_is_not_asleep(machine: Machine) -> None:
    """A look that comes a minute late, with both clocks running, tells nothing."""
    machine.clock.advance(60)
    assert machine.woke == 0


def test_stopped_from_within() -> None:
    """Whoever is told may stop it, and stop it again."""
    clock, slept_s = Clock(), [0.0]
    clocks = Clocks(lambda: clock.seconds() + slept_s[0], clock.seconds)
    sleeping = Sleeping(clock, lambda: sleeping.stop(), clocks=clocks)
    sleeping.stop()
    sleeping.start()
    slept_s[0] = 9.0
    clock.advance(LOOK_S)
    sleeping.stop()
    assert not clock.getDelayedCalls()
