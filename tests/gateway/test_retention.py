"""Retention: by age and by count, a little at a time."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from palyra.config.jobs import JobsSection
from palyra.core.interfaces import JobQuery
from palyra.gateway.retention import AT_ONCE, PAUSE_S, Retention
from tests.gateway.house import House, attempt_of, fired, result_of

DAY_S = 86_400


def a_retention(house: House, **limits: float) -> Retention:
    return Retention(clock=house.clock, log=house.store, limits=JobsSection(**limits))  # type: ignore[arg-type]


def ended(house: House, count: int) -> None:
    """Jobs that ended now."""
    device, node = house.online(f"pi-{house.now_ms()}")
    for _ in range(count):
        job = house.submit(device)
        node.take()
        node.finish(attempt_of(job))
    node.hang_up()


def kept(house: House) -> int:
    return len(result_of(house.store.jobs(JobQuery(limit=10_000))))


def test_old_jobs_are_forgotten(house: House) -> None:
    """Those that ended before the time; not those that wait."""
    ended(house, 3)
    waiting = house.submit(house.device("away"), ttl_ms=6 * DAY_S * 1000)
    house.pass_time(2 * DAY_S)
    ended(house, 2)
    sweep = Deferred.fromCoroutine(a_retention(house, keep_for_s=DAY_S).sweep())
    assert result_of(sweep) == 3 and kept(house) == 3
    assert house.kept(waiting)


def test_many_jobs_are_forgotten_oldest_first(house: House) -> None:
    """What is beyond the count goes, however young."""
    retention_ = Retention(
        clock=house.clock, log=house.store, limits=JobsSection(keep_at_most=1_000)
    )
    ended(house, 1_003)
    assert result_of(Deferred.fromCoroutine(retention_.sweep())) == 3
    assert kept(house) == 1_000


def test_a_little_at_a_time(house: House) -> None:
    """Others get their turn between the parts, and a gateway that stops ends it."""
    ended(house, 2 * AT_ONCE + 10)
    house.pass_time(2 * DAY_S)
    for stopped, left in ((True, AT_ONCE + 10), (False, 0)):
        sweeper = a_retention(house, keep_for_s=DAY_S)
        sweep = Deferred.fromCoroutine(sweeper.sweep())
        assert not fired(sweep)
        if stopped:
            sweeper.stop()
        for _ in range(3):
            house.clock.advance(PAUSE_S)
        assert fired(sweep) and kept(house) == left
