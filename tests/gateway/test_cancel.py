"""Cancel: at once where nothing was sent, else the node's report decides (PROTOCOL: Jobs)."""

from __future__ import annotations

import pytest

from palyra.core.identifiers import JobId
from palyra.core.jobs import JobState, Outcome
from palyra.errors import DiskFull, JobFinal, NotFound
from tests.gateway.house import House, attempt_of, fired, result_of
from tests.store.samples import ulid

S = JobState


def test_a_job_that_waits(house: House) -> None:
    """It is cancelled at once, on record, and never sent."""
    device = house.device()
    job = house.submit(device, ttl_ms=60_000)
    assert result_of(house.dispatcher.cancel(job.call.job_id)).state is S.CANCELLED
    assert house.kept(job).state is S.CANCELLED
    node = house.node(device)
    result_of(node.connect())
    node.take()
    assert node.started == []


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.CANCELLED, S.CANCELLED),
        (Outcome.SUCCEEDED, S.SUCCEEDED),
        (Outcome.FAILED, S.FAILED),
    ],
)
def test_a_job_that_runs(house: House, outcome: Outcome, state: JobState) -> None:
    """The node is asked once for each request, and what it reports is what happened."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    for _ in range(2):
        asked = result_of(house.dispatcher.cancel(job.call.job_id))
        assert asked.state is S.DISPATCHED
        house.pass_time(1)
    kept = house.kept(job)
    assert kept.cancel_requested_at_ms == job.cancel_requested_at_ms is not None
    node.take()
    assert set(node.cancels) == {(attempt_of(job), "cancelled")}
    node.finish(attempt_of(job), outcome)
    assert house.kept(job).state is state


def test_a_job_that_ended(house: House) -> None:
    """It cannot be cancelled, and the refusal says what it became; nor one that never was."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    node.finish(attempt_of(job))
    with pytest.raises(JobFinal, match="already succeeded"):
        result_of(house.dispatcher.cancel(job.call.job_id))
    with pytest.raises(NotFound):
        result_of(house.dispatcher.cancel(JobId(ulid("nothing"))))


def test_while_its_end_is_committed(house: House) -> None:
    """The first commit wins: a cancel that comes meanwhile is told the end."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    house.store.holding = True
    node.finish(attempt_of(job))
    cancelled = house.dispatcher.cancel(job.call.job_id)
    assert not fired(cancelled)
    house.store.release()
    with pytest.raises(JobFinal):
        result_of(cancelled)


def test_while_its_dispatch_is_committed(house: House) -> None:
    """Nothing was sent yet, and nothing is: the job ends when the dispatch is on record."""
    device, node = house.online()
    first = house.submit(device)
    node.take()
    house.store.holding = True
    submitted = house.dispatcher.submit(house.order(device))
    job = next(
        live.job
        for live in house.dispatcher._unfinished.all()
        if live.job.call.job_id != first.call.job_id
    )
    cancelled = house.dispatcher.cancel(job.call.job_id)
    while house.store.waiting:
        house.store.release()
    assert fired(submitted) and fired(cancelled)
    assert house.kept(job).state is S.CANCELLED
    node.take()
    assert len(node.started) == 1 and node.cancels == []


def test_a_dispatch_that_is_not_recorded(house: House) -> None:
    """A job that was to be cancelled meanwhile is cancelled, and does not wait again."""
    device = house.device()
    job = house.submit(device, ttl_ms=60_000)
    node = house.node(device)
    house.store.holding = True
    connected = node.connect()
    house.store.release(1)
    result_of(connected)
    cancelled = house.dispatcher.cancel(job.call.job_id)
    house.store.trouble = DiskFull("/srv")
    house.store.release()
    house.store.trouble = None
    while house.store.waiting:
        house.store.release()
    house.pass_time(2)
    while house.store.waiting:
        house.store.release()
    with pytest.raises(DiskFull):
        result_of(cancelled)
    assert house.kept(job).state is S.CANCELLED
    node.take()
    assert node.started == []


def test_a_cancel_that_is_not_recorded(house: House) -> None:
    """Whoever asked hears why; the node is asked to stop all the same, and the record follows."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    house.store.trouble = DiskFull("/srv")
    with pytest.raises(DiskFull):
        result_of(house.dispatcher.cancel(job.call.job_id))
    node.take()
    assert node.cancels == [(attempt_of(job), "cancelled")]
    house.store.trouble = None
    house.pass_time(2)
    assert house.kept(job).cancel_requested_at_ms is not None


def test_a_request_that_the_session_lost(house: House) -> None:
    """The node is asked again when it is back, and by the next life of the gateway."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    node.disconnect()
    result_of(house.dispatcher.cancel(job.call.job_id))
    house.restart()
    result_of(node.connect())
    node.take()
    assert node.cancels == [(attempt_of(job), "cancelled")]
