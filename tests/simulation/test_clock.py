"""Tests of :mod:`palyra.testing.simulation.clock`."""

from __future__ import annotations

import pytest
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface.verify import verifyObject

from palyra.testing.simulation.clock import EPOCH_S, MOST_AT_ONCE, HostClock, Timeline
from palyra.testing.simulation.trace import Violation


def test_what_is_planned_happens_in_its_order() -> None:
    """By time, and at one time in the order it was planned."""
    timeline, seen = Timeline(), list[str]()
    for delay_s, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "never")):
        timeline.later(delay_s, seen.append, name)
    timeline.advance(5.0)
    assert seen == ["a", "b", "c"]
    assert (timeline.now, timeline.events) == (5.0, 3)


def test_wall_time_jumps_and_elapsed_time_does_not() -> None:
    """A jump moves no delayed call."""
    timeline, offset = Timeline(), [0.0]
    clock = HostClock(timeline, lambda: offset[0])
    assert verifyObject(IReactorTime, clock)
    turns: list[float] = []
    call = LoopingCall(lambda: turns.append(clock.elapsed_s()))
    call.clock = clock
    call.start(1.0, now=False)
    timeline.advance(2.5)
    offset[0] = -7_200.0
    timeline.advance(2.0)
    assert len(turns) == 4
    assert clock.seconds() == EPOCH_S + 4.5 - 7_200
    call.stop()


def test_a_busy_host_is_late_and_never_early() -> None:
    """By less than the grain."""
    timeline, seen = Timeline(), list[float]()
    clock = HostClock(timeline, lambda: 0.0, grain_s=0.5)
    for delay_s in (0.1, 0.5, 0.6):
        clock.callLater(delay_s, lambda: seen.append(timeline.now))
    timeline.advance(2.0)
    assert seen == [0.5, 0.5, 1.0]


def test_a_dead_host_does_nothing_more() -> None:
    """Whatever it had planned, and whatever comes to it."""
    timeline, seen = Timeline(), list[str]()
    clock = HostClock(timeline, lambda: 0.0)
    clock.callLater(1.0, seen.append, "planned")
    clock.soon(1.0, seen.append, "message")
    clock.kill()
    clock.callLater(1.0, seen.append, "afterwards")
    timeline.advance(5.0)
    assert seen == []


def test_delayed_calls_keep_the_contract_of_twisted() -> None:
    """They are cancelled, moved and refused as a reactor's are."""
    timeline, seen = Timeline(), list[str]()
    clock = HostClock(timeline, lambda: 0.0)
    call = clock.callLater(1.0, seen.append, "x")
    assert verifyObject(IDelayedCall, call)
    call.cancel()
    assert not call.active()
    with pytest.raises(AlreadyCancelled):
        call.cancel()
    done = clock.callLater(1.0, seen.append, "done")
    timeline.advance(1.0)
    with pytest.raises(AlreadyCalled):
        done.cancel()
    assert seen == ["done"]


def test_time_that_stands_still_is_a_violation() -> None:
    """Two rooms that call each other without end do not hang the simulation."""
    timeline = Timeline()

    def again() -> None:
        timeline.later(0.0, again)

    timeline.later(1.0, again)
    with pytest.raises(Violation, match=f"{MOST_AT_ONCE} things happen"):
        timeline.advance(2.0)
