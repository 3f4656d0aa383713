"""Waiters by themselves: who waits for the end of a job, how long, and what remains of it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from palyra.core.jobs import Job
from palyra.errors import DiskFull, Draining, JobStillRunning
from palyra.gateway.waiters import Waiters
from tests.gateway.house import fired, result_of
from tests.gateway.lives import a_live, kept, live_of
from tests.store.samples import a_job, dispatch


class Room:
    """Waiters, and the time that passes for them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.elapsed_ms = 1_000_000
        self.waiters = Waiters(self.clock, lambda: self.elapsed_ms)
        self.waiters.start()

    def pass_time(self, milliseconds: int) -> None:
        self.elapsed_ms += milliseconds
        self.clock.advance(milliseconds / 1000)


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.waiters.stop()
    assert not made.clock.getDelayedCalls()


def test_everybody_hears_the_end(room: Room) -> None:
    """With a limit or without one, each caller gets the job, once."""
    live = a_live()
    waiters = [room.waiters.add(live, wait_ms) for wait_ms in (None, 5_000, None)]
    assert not any(map(fired, waiters))
    room.waiters.answer(live)
    room.waiters.answer(live)
    assert [result_of(waiter) for waiter in waiters] == [live.job] * 3
    room.pass_time(10_000)


def test_a_limit_ends_one_waiting(room: Room) -> None:
    """That caller hears that the job goes on, and in which state; the others wait on."""
    live = live_of(dispatch(a_job("job", a_live().job.call.device_id)))
    short, longer, endless = (room.waiters.add(live, each) for each in (2_000, 9_000, None))
    room.pass_time(1_900)
    assert not fired(short)
    room.pass_time(300)
    with pytest.raises(JobStillRunning) as caught:
        result_of(short)
    assert live.job.call.job_id[10:16] in str(caught.value) and "dispatched" in str(caught.value)
    assert not fired(longer) and not fired(endless)
    room.waiters.answer(live)
    assert result_of(longer) is result_of(endless) is live.job


def test_no_limit(room: Room) -> None:
    """A caller without one waits for ever."""
    waiter = room.waiters.add(a_live(), None)
    for _ in range(3):
        room.pass_time(86_400_000)
    assert not fired(waiter)


def test_limits_follow_elapsed_time(room: Room) -> None:
    """However often the timer turns, a limit is over when its time has passed, not before."""
    waiter = room.waiters.add(a_live(), 2_000)
    for _ in range(50):
        room.clock.advance(1)
    assert not fired(waiter)
    room.elapsed_ms += 2_200
    room.clock.advance(1)
    with pytest.raises(JobStillRunning):
        result_of(waiter)


def test_a_caller_that_goes_away(room: Room) -> None:
    """Only its own waiting ends; it is told nothing more."""
    live = a_live()
    for wait_ms in (None, 2_000):
        gone, stays = room.waiters.add(live, wait_ms), room.waiters.add(live, wait_ms)
        gone.cancel()
        with pytest.raises(CancelledError):
            result_of(gone)
        assert live.waiters == [stays]
        room.waiters.answer(live)
        assert result_of(stays) is live.job
    room.pass_time(3_000)


def test_a_call_that_is_refused(room: Room) -> None:
    """Its own caller hears why, and no other; one that waits no more hears nothing."""
    live = a_live()
    mine, other, tired = (room.waiters.add(live, each) for each in (None, None, 100))
    room.pass_time(400)
    with pytest.raises(JobStillRunning):
        result_of(tired)
    error = Failure(DiskFull("/srv"))
    for waiter in (mine, tired, mine):
        room.waiters.refuse(error, live, waiter)
    with pytest.raises(DiskFull):
        result_of(mine)
    assert not fired(other) and live.waiters == [other]


def test_a_gateway_that_stops(room: Room) -> None:
    """Everybody is told so, once."""
    live = a_live()
    waiters = [room.waiters.add(live, wait_ms) for wait_ms in (None, 5_000)]
    room.waiters.dismiss(live, Draining())
    room.waiters.dismiss(live, Draining())
    for waiter in waiters:
        with pytest.raises(Draining):
            result_of(waiter)
    assert live.waiters == []


def test_who_waits_again_when_told(room: Room) -> None:
    """A caller that asks anew in its answer waits for the next one."""
    live = a_live()
    again: list[Deferred[Job]] = []
    waiter = room.waiters.add(live, None)
    waiter.addCallback(lambda job: again.append(room.waiters.add(live, None)))
    room.waiters.answer(live)
    assert not fired(again[0]) and live.waiters == again
    room.waiters.answer(live)
    assert result_of(again[0]) is live.job


@pytest.mark.parametrize("ending", ["answer", "tire", "cancel", "refuse", "dismiss"])
def test_nothing_remains_of_a_waiting(room: Room, ending: str) -> None:
    """However it ended, long before its limit or at it: neither caller nor job is kept."""
    live = a_live()
    waiter = room.waiters.add(live, 3_600_000)
    waiter.addErrback(lambda _: None)
    watched = weakref.ref(live), weakref.ref(waiter)
    assert kept(*watched) == 2
    if ending == "answer":
        room.waiters.answer(live)
    elif ending == "tire":
        room.pass_time(3_600_200)
    elif ending == "cancel":
        waiter.cancel()
    elif ending == "refuse":
        room.waiters.refuse(Failure(DiskFull("/srv")), live, waiter)
    else:
        room.waiters.dismiss(live, Draining())
    assert fired(waiter)
    del live, waiter
    assert kept(*watched) == 0


def test_after_the_stop(room: Room) -> None:
    """No limit is watched any more."""
    waiter = room.waiters.add(a_live(), 1_000)
    room.waiters.stop()
    room.pass_time(5_000)
    assert not fired(waiter)
