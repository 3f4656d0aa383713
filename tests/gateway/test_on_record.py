"""Nobody hears of an end that is not on record, and the first end on record is the end."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from palyra.config.jobs import JobsSection
from palyra.core.frames import RESULT, NodeEvent, Progress
from palyra.core.identifiers import JobId
from palyra.core.jobs import Job, JobState, Outcome, Report
from palyra.errors import DiskFull, NotFound
from palyra.gateway.records import MAX_PAUSE_S
from palyra.gateway.wheel import TimerWheel
from tests.gateway.house import House, attempt_of, fired, result_of
from tests.gateway.test_fanouts import finish, fleet, rows, submit
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


def test_a_read_that_comes_after_the_end(house: House) -> None:
    """What was read before the end was written is not told after everybody was told the end."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    reads: list[Deferred[Job | None]] = []
    real = house.store.store.job

    def slow(job_id: JobId) -> Deferred[Job | None]:
        read: Deferred[Job | None] = Deferred()
        found = result_of(real(job_id))
        reads.append(read)
        return read.addCallback(lambda _: found)

    house.store.holding = True
    node.finish(attempt_of(job))
    house.store.job = slow
    looked = house.dispatcher.job(job.call.job_id)
    house.store.release()
    for read in reads:
        read.callback(None)
    assert result_of(looked).state is S.SUCCEEDED


def test_a_dispatch_that_is_not_on_record_is_not_told(house: House) -> None:
    """Followers see a row dispatched when it is, and not while that is being committed."""
    device = house.device()
    job = house.submit(device, ttl_ms=60_000)
    following = house.followers.follow(job.call.job_id, lambda: None)
    node = house.node(device)
    house.store.holding = True
    connected = node.connect()
    house.store.release(1)
    result_of(connected)
    assert job.state is S.DISPATCHED and following.take() == []
    house.store.trouble = DiskFull("/srv")
    house.store.release()
    house.store.trouble, house.store.holding = None, False
    assert [update.job.state for update in following.take()] == [S.QUEUED]
    house.pass_time(2)
    assert [update.job.state for update in following.take()] == [S.DISPATCHED]


def test_a_dispatch_that_comes_to_nothing_after_too_many_failures() -> None:
    """Its row was neither waiting nor sent when the others failed: it is not sent any more."""
    house = House(limits=JobsSection(in_flight_per_device=1))
    devices, (failing, busy) = fleet(house, 2)
    other = house.submit(devices[1])
    busy.take()
    fanout = submit(house, devices, batch=2, max_failures=0)
    failing.take()
    house.store.holding = True
    finish(failing, Outcome.FAILED)
    busy.finish(attempt_of(other))  # makes room: the second row's dispatch is on its way
    house.store.release(2)
    house.store.trouble = DiskFull("/srv")
    while house.store.waiting:
        house.store.release()
    house.store.trouble, house.store.holding = None, False
    house.pass_time(MAX_PAUSE_S + 1)
    busy.take()
    assert not busy.running
    row = rows(house, fanout)["pi-1"]
    assert (row.state, row.error_code, row.attempts) == (S.CANCELLED, "max_failures", 0)
    house.end()
