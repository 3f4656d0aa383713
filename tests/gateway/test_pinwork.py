"""SPAKE2 beside the reactor: few at once, so many a second, and nothing lost."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from palyra.core.pake import DevicePake, GatewayPake
from palyra.errors import LimitReached, PairingPaused, VerificationFailed
from palyra.gateway.pinwork import MAX_A_SECOND, MAX_WAITING, PinWork
from tests.gateway.applicants import Beside
from tests.gateway.enrolling import at_once
from tests.gateway.house import fired, result_of

ENTROPY = random.Random(5).randbytes


class Time:
    """Milliseconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


def begun(work: PinWork, pin: str = "123456") -> Deferred[GatewayPake]:
    return Deferred.fromCoroutine(work.begin(pin))


def test_both_ends_find_one_key() -> None:
    """With the same PIN; with another one they do not, and nobody can tell."""
    work = PinWork(in_thread=at_once, entropy=ENTROPY, elapsed_ms=Time())
    for typed, same in (("123456", True), ("123457", False)):
        run = result_of(begun(work))
        device = DevicePake(typed, ENTROPY)
        key = result_of(Deferred.fromCoroutine(work.finish(run, device.share)))
        assert (device.finish(run.share) == key) is same


@pytest.mark.parametrize("share", [b"", b"A" * 32, b"A" + bytes(32), b"B" * 33])
def test_a_share_that_is_none(share: bytes) -> None:
    """It is refused, and the next run is not disturbed."""
    work = PinWork(in_thread=at_once, entropy=ENTROPY, elapsed_ms=Time())
    run = result_of(begun(work))
    with pytest.raises(VerificationFailed):
        result_of(Deferred.fromCoroutine(work.finish(run, share)))
    assert work._waiting == 0
    result_of(begun(work))


def test_few_wait() -> None:
    """One runs and four wait; the next is refused at once, until one of them is done."""
    beside = Beside()
    work = PinWork(in_thread=beside, entropy=ENTROPY, elapsed_ms=Time())
    waiting = [begun(work) for _ in range(MAX_WAITING + 1)]
    with pytest.raises(LimitReached) as caught:
        result_of(begun(work))
    assert caught.value.retry_after_s == 1.0 and len(beside.waiting) == MAX_WAITING + 1
    beside.work(1)
    assert fired(waiting[0]) and not fired(waiting[1])
    waiting.append(begun(work))
    beside.work()
    assert all(fired(each) for each in waiting)


def test_who_has_begun_may_finish() -> None:
    """However many wait: its device has spent its PIN on this one run."""
    beside = Beside()
    work = PinWork(in_thread=beside, entropy=ENTROPY, elapsed_ms=Time())
    first = begun(work)
    beside.work()
    run = result_of(first)
    waiting: list[Deferred[Any]] = [begun(work) for _ in range(MAX_WAITING + 1)]
    finished = Deferred.fromCoroutine(work.finish(run, DevicePake("1", ENTROPY).share))
    beside.work()
    assert len(result_of(finished)) == 32 and all(fired(each) for each in waiting)


def test_so_many_a_second() -> None:
    """The next is told how long to wait; a finish costs nothing of it."""
    time = Time()
    work = PinWork(in_thread=at_once, entropy=ENTROPY, elapsed_ms=time)
    runs = []
    for _ in range(MAX_A_SECOND):
        runs.append(result_of(begun(work)))
        time.now_ms += 10
    with pytest.raises(LimitReached) as caught:
        result_of(begun(work))
    assert caught.value.retry_after_s == pytest.approx(0.8)
    result_of(Deferred.fromCoroutine(work.finish(runs[0], DevicePake("1", ENTROPY).share)))
    time.now_ms += 800
    result_of(begun(work))
    with pytest.raises(LimitReached):
        result_of(begun(work))


def test_one_finishes_after_the_other() -> None:
    """The thread is given the next run only when it is done with the one before, even with one
    that failed: those that wait can still be refused."""
    work = PinWork(in_thread=at_once, entropy=ENTROPY, elapsed_ms=Time())
    runs = [result_of(begun(work)) for _ in range(3)]
    beside = Beside()
    work._in_thread = beside
    shares = [DevicePake("1", ENTROPY).share, b"none", DevicePake("1", ENTROPY).share]
    finished = [
        Deferred.fromCoroutine(work.finish(run, share))
        for run, share in zip(runs, shares, strict=True)
    ]
    for number, each in enumerate(finished):
        assert len(beside.waiting) == 1 and not fired(each)
        beside.work(1)
        assert [fired(one) for one in finished].count(True) == number + 1
        each.addErrback(lambda failure: failure.trap(VerificationFailed))
    assert beside.waiting == []


def test_refused_when_its_turn_comes() -> None:
    """Not when it began to wait: then the thread never sees it, and the next one has its turn."""
    work = PinWork(in_thread=at_once, entropy=ENTROPY, elapsed_ms=Time())
    runs = [result_of(begun(work)) for _ in range(3)]
    beside = Beside()
    work._in_thread = beside
    paused: list[bool] = []

    def check() -> None:
        if paused:
            raise PairingPaused(1.0)

    share = DevicePake("1", ENTROPY).share
    checks = (check, check, lambda: None)
    finished = [
        Deferred.fromCoroutine(work.finish(run, share, each))
        for run, each in zip(runs, checks, strict=True)
    ]
    paused.append(True)
    beside.work(1)
    assert len(result_of(finished[0])) == 32
    with pytest.raises(PairingPaused):
        result_of(finished[1])
    assert len(beside.waiting) == 1
    beside.work()
    assert len(result_of(finished[2])) == 32
