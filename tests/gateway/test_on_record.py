"""Nobody hears of an end that is not on record, and the first end on record is the end."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from palyra.core.frames import RESULT, NodeEvent, Progress
from palyra.core.jobs import JobState, Outcome, Report
from palyra.errors import NotFound
from palyra.gateway.wheel import TimerWheel
from tests.gateway.house import House, attempt_of, fired, result_of
from tests.store.samples import ulid

S = JobState


def test_an_end_on_its_way_to_the_store(house: House) -> None:
    """Whoever looks, waits or follows meanwhile sees what is on record."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    following = house.followers.follow(job.call.job_id, lambda: None)
    short = house.dispatcher.wait(job, 1_000)
    house.store.holding = True
    node.say(NodeEvent("", progress=(Progress(attempt_of(job), 0.5, ""),)))
    node.finish(attempt_of(job))
    house.pass_time(1.5)
    assert result_of(short).state is S.DISPATCHED
    assert result_of(house.dispatcher.job(job.call.job_id)).state is S.DISPATCHED
    assert result_of(house.dispatcher.wait(job, 0)).state is S.DISPATCHED
    assert [update.job.state for update in following.take()] == [S.DISPATCHED]
    house.store.release()
    assert result_of(house.dispatcher.job(job.call.job_id)).state is S.SUCCEEDED
    assert [update.job.state for update in following.take()] == [S.SUCCEEDED]
    with pytest.raises(NotFound):
        result_of(house.dispatcher.job(ulid("nothing")))  # type: ignore[arg-type]


def test_a_revocation_that_was_first(house: House) -> None:
    """A job that a revocation ended in the store is told as that, also to who cancelled it."""
    device = house.device()
    job = house.submit(device, ttl_ms=60_000)
    house.store.holding = True
    house.dispatcher.silence(device.device_id)
    revoked = house.store.revoke(device.device_id, "ana", "stolen", house.now_ms())
    waiter = house.dispatcher.wait(job, 10_000)
    house.dispatcher.cancel(job.call.job_id)
    house.store.release()
    house.store.holding = False
    assert fired(revoked)
    result_of(Deferred.fromCoroutine(house.dispatcher.device_ended(device.device_id)))
    house.dispatcher.listen_to(device.device_id)
    assert result_of(waiter).state is S.REJECTED is house.kept(job).state


def test_an_attempt_whose_job_has_ended(house: House) -> None:
    """A node that comes back with it is told to stop: nobody waits for its end."""
    device, node = house.online()
    job = house.submit(device, "slow")
    node.take()
    house.pass_time(8)
    assert house.kept(job).state is S.TIMED_OUT
    node.take()
    node.cancels.clear()
    node.disconnect()
    result_of(node.connect())
    node.take()
    assert node.cancels == [(attempt_of(job), "ended")]
    node.finish(attempt_of(job), Outcome.CANCELLED)
    house.pass_time(1)
    assert [note.outcome for note in house.kept(job).notes] == [Outcome.CANCELLED]


def test_a_key_set_while_the_clock_was_back(house: House) -> None:
    """It is found when the clock has gone forward again."""
    due: list[object] = []
    time_ms = [1_000_000]
    wheel = TimerWheel(house.clock, lambda: time_ms[0], lambda key, _: due.append(key))
    wheel.turn()
    time_ms[0] -= 600_000
    wheel.set("early", time_ms[0] + 1_000)
    time_ms[0] += 600_000
    wheel.turn()
    assert due == ["early"]


def test_a_handler_that_did_not_stop(house: House) -> None:
    """The node gave up waiting for it: the job is cancelled, and may still take effect."""
    device, node = house.online()
    for stopped in (True, False):
        job = house.submit(device)
        node.take()
        result_of(house.dispatcher.cancel(job.call.job_id))
        report = Report(attempt_of(job), Outcome.CANCELLED, stopped=stopped)
        node.say(NodeEvent(RESULT, reports=(report,)))
        kept = house.kept(job)
        assert (kept.state, kept.effect_possible) == (S.CANCELLED, not stopped)
