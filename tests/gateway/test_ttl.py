"""Time to live: jobs that wait for a device that is away, within bounds."""

from __future__ import annotations

import pytest

from palyra.config.jobs import JobsSection
from palyra.core.jobs import JobState
from palyra.errors import DeviceOffline, QueueFull
from tests.gateway.house import House, attempt_of, result_of

S = JobState


def test_an_offline_device_without_a_time_to_live(house: House) -> None:
    """It is refused at once, and the refusal is on record."""
    with pytest.raises(DeviceOffline) as caught:
        house.submit(house.device())
    kept = result_of(house.store.job(caught.value.job_id))
    assert (kept.state, kept.error_code) == (S.REJECTED, "device_offline")


def test_a_job_waits_for_its_device(house: House) -> None:
    """It is seen waiting, until when, survives a restart, and is sent when the device comes."""
    device = house.device()
    job = house.submit(device, ttl_ms=3_600_000)
    assert (job.state, job.call.queue_expires_at_ms) == (S.QUEUED, house.now_ms() + 3_600_000)
    house.pass_time(1_800)
    house.restart()
    node = house.node(device)
    result_of(node.connect())
    node.take()
    assert [each.job_id for each in node.started] == [job.call.job_id]
    node.finish(node.started[0].attempt_id)
    assert house.kept(job).state is S.SUCCEEDED


def test_a_job_that_waited_too_long(house: House) -> None:
    """It expires, was never sent, and is not sent to a device that comes later."""
    device = house.device()
    job = house.submit(device, ttl_ms=60_000)
    house.pass_time(61)
    assert house.kept(job).state is S.EXPIRED
    node = house.node(device)
    result_of(node.connect())
    node.take()
    assert node.started == []


def test_the_time_passes_while_the_gateway_is_away(house: House) -> None:
    """A time to live is absolute: no restart makes it longer."""
    device = house.device()
    job = house.submit(device, ttl_ms=60_000)
    house.end()
    house.clock.advance(61)
    house.begin()
    house.pass_time(1)
    assert house.kept(job).state is S.EXPIRED


def test_a_device_that_is_busy(house: House) -> None:
    """A time to live also bounds the wait for a session that has no room."""
    device, node = house.online(max_in_flight=1)
    first = house.submit(device)
    second = house.submit(device, ttl_ms=10_000)
    node.take()
    house.pass_time(11)
    assert (first.state, house.kept(second).state) == (S.DISPATCHED, S.EXPIRED)
    node.finish(attempt_of(first))
    node.take()
    assert len(node.started) == 1


def test_how_many_may_wait() -> None:
    """For one device, and in all; the refusal says when to try again and leaves nothing."""
    house = House(limits=JobsSection(max_waiting=3, max_waiting_per_device=2))
    one, other = house.device("one"), house.device("other")
    for _ in range(2):
        house.submit(one, ttl_ms=60_000)
    with pytest.raises(QueueFull, match="one has 2") as caught:
        house.submit(one, ttl_ms=60_000)
    assert caught.value.retry_after_s > 0
    waiting = house.submit(other, ttl_ms=60_000)
    with pytest.raises(QueueFull, match="The gateway has 3"):
        house.submit(other, ttl_ms=60_000)
    result_of(house.dispatcher.cancel(waiting.call.job_id))
    house.submit(other, ttl_ms=60_000)
    assert len(house.dispatcher.queued(None)) == 3
    assert len(house.dispatcher.queued(one.device_id)) == 2
    house.end()
