"""While the record of a dispatch is on its way to the store: nothing is sent, and nothing is lost.

Whatever happens meanwhile, a job that nobody has been sent had no effect and must not look as if.
"""

from __future__ import annotations

import pytest

from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Job, JobState
from palyra.errors import DiskFull
from palyra.testing.carrier import ScriptedNode
from tests.gateway.house import House, attempt_of, fired, result_of

S = JobState
FULL = DiskFull("/srv")


def being_dispatched(house: House, capability: str = "echo") -> tuple[Job, ScriptedNode]:
    """A job that waited for its device; the record of its dispatch is on its way."""
    device = house.device()
    job = house.submit(device, capability, ttl_ms=10_000)
    node = house.node(device)
    house.store.holding = True
    connected = node.connect()
    house.store.release(1)
    result_of(connected)
    assert house.store.waiting == 1 and job.state is S.DISPATCHED
    return job, node


def release_all(house: House) -> None:
    """The writer has caught up."""
    while house.store.waiting:
        house.store.release()
    house.store.holding = False


@pytest.mark.parametrize("back_after_s", [None, 5])
def test_a_cancelled_dispatch_that_is_not_recorded(house: House, back_after_s: int | None) -> None:
    """The job is cancelled then, also when its device is gone; it neither waits nor expires."""
    job, node = being_dispatched(house)
    cancelled = house.dispatcher.cancel(job.call.job_id)
    cancelled.addErrback(lambda failure: failure.trap(DiskFull))
    node.disconnect()
    house.store.trouble = FULL
    release_all(house)
    house.store.trouble = None
    house.pass_time(back_after_s or 30)
    kept = house.kept(job)
    assert (kept.state, kept.attempts, kept.effect_possible) == (S.CANCELLED, 0, False)
    assert fired(cancelled) and house.dispatcher.queued(None) == []
    result_of(node.connect())
    node.take()
    assert node.started == []


def test_a_host_that_starts_anew_meanwhile(house: House) -> None:
    """It cannot know an attempt that it was never sent: the job is not lost, and runs there."""
    device, node = house.online()
    node.memory_id = "memory 2"
    welcome = result_of(node.register())
    house.store.holding = True
    accepted = house.dispatcher.submit(house.order(device))
    node.attach(welcome.session_epoch)
    assert house.store.waiting == 1, "nothing else was decided"
    release_all(house)
    job = result_of(accepted)
    assert house.kept(job).state is S.DISPATCHED
    node.take()
    assert [each.attempt_id for each in node.started] == [attempt_of(job)]
    node.finish(attempt_of(job))
    assert house.kept(job).state is S.SUCCEEDED and house.kept(job).attempts == 1


def test_a_deadline_that_passes_meanwhile(house: House) -> None:
    """Nothing was sent that could be stopped; once it is, the node is told to stop at once."""
    job, node = being_dispatched(house, "slow")
    house.pass_time(15)
    assert house.store.waiting == 1, "nothing else was decided"
    release_all(house)
    node.take()
    assert [each.attempt_id for each in node.started] == [attempt_of(job)]
    house.pass_time(0.5)
    node.take()
    assert node.cancels == [(attempt_of(job), "stop")]
    assert house.kept(job).state is S.TIMED_OUT


def test_a_session_that_ends_meanwhile(house: House) -> None:
    """It changes nothing: the job is sent over the next one, once."""
    job, node = being_dispatched(house)
    node.disconnect()
    house.pass_time(3)
    release_all(house)
    result_of(node.connect())
    node.take()
    node.disconnect()
    result_of(node.connect())
    node.take()
    assert [each.attempt_id for each in node.started] == [attempt_of(job)]


def test_nobody_is_sent_out_of_turn(house: House) -> None:
    """A call that comes while an earlier one waits for the store is sent after that."""
    device = house.device()
    jobs = [house.submit(device, ttl_ms=60_000)]
    node = house.node(device)
    house.store.trouble = FULL
    result_of(node.connect())
    house.store.trouble = None
    assert house.dispatcher.queued(device.device_id) == [jobs[0].call.job_id]
    jobs.append(house.submit(device))
    house.pass_time(3)
    node.take()
    assert [each.job_id for each in node.started] == [job.call.job_id for job in jobs]


def test_a_full_window_is_full_for_what_is_being_committed(house: House) -> None:
    """Attempts on their way to the store have their place: no more follow than the node takes."""
    device, node = house.online(max_in_flight=1)
    house.store.holding = True
    accepted = [house.dispatcher.submit(house.order(device)) for _ in range(3)]
    release_all(house)
    jobs = [result_of(each) for each in accepted]
    for job in jobs:
        node.take()
        assert [each.job_id for each in node.running.values()] == [job.call.job_id]
        node.finish(AttemptId(next(iter(node.running))))
