"""Tests of :mod:`palyra.node.surroundings`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from palyra.node.surroundings import APART_S, Surroundings


class FakeWatch:
    """A watch whose changes the test makes."""

    def __init__(self, _: Any, told: Callable[[], object]) -> None:
        self.told = told
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> Deferred[None]:
        self.running = False
        return succeed(None)


class World:
    """A device, and what goes on around it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slept_s = 0.0
        self.told: list[tuple[str, float]] = []
        self.surroundings = Surroundings(
            self.clock,
            stirred=lambda: self.told.append(("stirred", self.clock.seconds())),
            woke=lambda: self.told.append(("woke", self.clock.seconds())),
            elapsed_s=lambda: self.clock.seconds() + self.slept_s,
            watch=self._watch,  # type: ignore[arg-type]
            sleeping=self._sleeping,  # type: ignore[arg-type]
        )
        self.surroundings.start()

    def _watch(self, *given: Any) -> FakeWatch:
        self.network = FakeWatch(*given)
        return self.network

    def _sleeping(self, *given: Any) -> FakeWatch:
        self.lid = FakeWatch(*given)
        return self.lid


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    assert made.network.running and made.lid.running
    yield made
    assert made.surroundings.stop().called
    assert not (made.network.running or made.lid.running or made.clock.getDelayedCalls())


def test_a_network_that_flaps_is_no_storm(world: World) -> None:
    """It is told at once, then every ten seconds at most, and the last change is told too."""
    for _ in range(25):
        world.network.told()
        world.clock.advance(1)
    world.clock.pump([1] * 60)
    assert world.told == [("stirred", 0), ("stirred", 10), ("stirred", 20), ("stirred", 30)]


def test_changes_that_are_far_apart(world: World) -> None:
    """Are told as they come."""
    world.network.told()
    world.clock.advance(APART_S)
    world.network.told()
    assert world.told == [("stirred", 0), ("stirred", 10)]


def test_a_machine_that_wakes_up(world: World) -> None:
    """That is told each time, and first; the time it slept counts as time apart."""
    world.network.told()
    world.network.told()
    world.slept_s = 3600
    world.lid.told()
    world.lid.told()
    world.clock.pump([1] * 60)
    first = [("stirred", 0), ("woke", 0), ("stirred", 0)]
    assert world.told == [*first, ("woke", 0), ("stirred", 10)]


def test_nothing_is_told_after_the_stop(world: World) -> None:
    """A change that waited for its time is dropped."""
    world.network.told()
    world.network.told()
    world.surroundings.stop()
    world.clock.pump([1] * 60)
    assert world.told == [("stirred", 0)]
