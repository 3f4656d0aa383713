"""Dispatch while the store is slow, stale or full: nothing is lost, doubled or told too early."""

from __future__ import annotations

import pytest

from palyra.core.interfaces import JobQuery
from palyra.core.jobmachine import FIRST_BACKOFF_MS
from palyra.core.jobs import JobState, Outcome
from palyra.errors import DeviceRevoked, DiskFull, StoreUnavailable
from palyra.gateway.records import MAX_PAUSE_S
from tests.gateway.house import House, attempt_of, fired, result_of

S = JobState
FULL = DiskFull("/var/lib/palyra")


# -- a full disk --------------------------------------------------------------------------------


def test_a_call_that_cannot_be_recorded_is_refused(house: House) -> None:
    """Disk full on acceptance: the caller is told, nothing is sent, no place is taken."""
    device, node = house.online(max_in_flight=1)
    house.store.trouble = FULL
    for call in (house.dispatcher.submit, house.dispatcher.run):
        with pytest.raises(DiskFull):
            result_of(call(house.order(device)))
    assert not node.take().dispatches and house.dispatcher.running(device.device_id) == 0
    house.store.trouble = None
    assert house.submit(device).state is S.DISPATCHED


def test_a_queued_call_that_cannot_be_recorded_is_refused(house: House) -> None:
    """The same for a call that would have waited, and for the record of a refusal."""
    device, node = house.online(max_in_flight=1)
    house.submit(device)
    house.store.trouble = FULL
    with pytest.raises(DiskFull):
        house.submit(device)
    node.disconnect()
    house.pass_time(11)
    with pytest.raises(DiskFull):
        house.submit(device)


def test_an_end_that_cannot_be_recorded_is_told_later(house: House) -> None:
    """Disk full on an end: nobody hears of it until it is committed, a second later or more."""
    device, node = house.online()
    answer = house.dispatcher.run(house.order(device))
    node.take()
    (attempt_id,) = node.running
    house.store.trouble = FULL
    node.finish(attempt_id)
    house.pass_time(3)
    assert not fired(answer) and node.take().acknowledged == []
    house.store.trouble = None
    house.pass_time(MAX_PAUSE_S + 0.5)
    assert result_of(answer).state is S.SUCCEEDED
    node.take()
    assert node.acknowledged == [attempt_id]


def test_a_dispatch_that_cannot_be_recorded_is_made_later(house: House) -> None:
    """Disk full on a dispatch: the job keeps its place, and no place in the window is lost."""
    device, node = house.online(max_in_flight=1)
    jobs = [house.submit(device) for _ in range(3)]
    node.take()
    house.store.trouble = StoreUnavailable("palyra.sqlite3", "disk I/O error")
    node.finish(attempt_of(jobs[0]))
    house.pass_time(5)
    house.store.trouble = None
    house.pass_time(MAX_PAUSE_S + 0.5)
    for job in jobs[1:]:
        node.take()
        assert [each.job_id for each in node.running.values()] == [job.call.job_id]
        node.finish(attempt_of(job))
    assert all(house.kept(job).attempts == 1 for job in jobs)


def test_many_failed_dispatches_leave_the_window_whole(house: House) -> None:
    """However often the store refused, afterwards as many attempts fly as before."""
    device, node = house.online(max_in_flight=4)
    first = [house.submit(device) for _ in range(4)]
    for _ in range(8):
        house.submit(device)
    node.take()
    house.store.holding = True
    for job in first:
        node.finish(attempt_of(job))
    house.store.release(4)
    house.store.trouble = FULL
    house.store.release()
    house.store.holding = False
    house.store.trouble = None
    house.pass_time(2.5)
    node.take()
    assert len(node.running) == 4


def test_a_full_disk_is_not_stormed(house: House) -> None:
    """However long it lasts, each second tries what waits once, and not once for each failure."""
    device, node = house.online(max_in_flight=4)
    running = [house.submit(device) for _ in range(4)]
    for _ in range(5):
        house.submit(device)
    node.take()
    house.store.holding = True
    for job in running:
        node.finish(attempt_of(job))
    house.store.release(4)
    house.store.holding = False
    house.store.trouble = FULL
    house.store.release()
    tries = house.store.tries
    house.pass_time(10)
    assert 0 < house.store.tries - tries <= 10 * 5
    house.store.trouble = None
    house.pass_time(MAX_PAUSE_S + 0.5)
    node.take()
    assert len(node.running) == 4


def test_retries_end_with_the_gateway(house: House) -> None:
    """A commit that still fails at the stop leaves no delayed call behind (see the fixture)."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    house.store.trouble = FULL
    node.finish(attempt_of(job))
    house.dispatcher.stop()
    house.store.trouble = None
    house.pass_time(2)
    assert house.kept(job).state is S.DISPATCHED


# -- a session that is stale ----------------------------------------------------------------------


def test_a_stale_epoch_is_not_dispatched_to(house: House) -> None:
    """The node has registered anew and not attached: the call waits and goes to the new session."""
    device, node = house.online()
    welcome = result_of(node.register())
    job = house.submit(device)
    assert (job.state, job.attempts) == (S.QUEUED, 0)
    assert not node.take().dispatches
    node.attach(welcome.session_epoch)
    node.take()
    assert [each.job_id for each in node.started] == [job.call.job_id]
    assert (job.attempts, house.kept(job).attempts) == (1, 1)


def test_a_stale_epoch_costs_no_place_in_the_window(house: House) -> None:
    """Dispatches refused as stale leave the old session's window as it was."""
    device, node = house.online(max_in_flight=2)
    result_of(node.register())
    for _ in range(4):
        house.submit(device)
    owner = house.sessions.owner(device.device_id)
    assert owner is not None and owner.in_flight == set()


def test_a_new_session_while_an_acceptance_is_committed_as_stale(house: House) -> None:
    """The node takes over while the record of a dispatch is on its way and will be refused: the
    job runs once."""
    device, node = house.online()
    welcome = result_of(node.register())
    house.store.holding = True
    accepted = house.dispatcher.submit(house.order(device))
    node.attach(welcome.session_epoch)
    node.take()
    assert node.started == []
    house.store.holding = False
    house.store.release()
    job = result_of(accepted)
    node.take()
    assert [each.attempt_id for each in node.started] == [attempt_of(job)]
    node.finish(attempt_of(job))
    assert house.kept(job).state is S.SUCCEEDED


def test_a_new_session_while_waiting_jobs_are_dispatched_as_stale(house: House) -> None:
    """The node takes over while the records of dispatches are on their way that will be refused:
    what waited is sent over the new session at once, also where nobody calls any more."""
    device, node = house.online()
    welcome = result_of(node.register())
    jobs = [house.submit(device)]
    house.store.holding = True
    accepted = house.dispatcher.submit(house.order(device))
    house.store.release(1)
    jobs.append(result_of(accepted))
    assert house.store.waiting == 2, "both are being dispatched to the old session"
    node.attach(welcome.session_epoch)
    house.store.holding = False
    house.store.release()
    node.take()
    assert [each.job_id for each in node.started] == [job.call.job_id for job in jobs]
    for job in jobs:
        node.finish(attempt_of(job))
        assert (house.kept(job).state, house.kept(job).attempts) == (S.SUCCEEDED, 1)


def test_a_new_session_while_an_acceptance_is_committed(house: House) -> None:
    """The record of a dispatch was faster than the registration: it goes to the new session."""
    device, node = house.online()
    house.store.holding = True
    accepted = house.dispatcher.submit(house.order(device))
    registered = node.register()
    house.store.release(1)
    job = result_of(accepted)
    house.store.release()
    house.store.holding = False
    node.attach(result_of(registered).session_epoch)
    node.take()
    assert [each.attempt_id for each in node.started] == [attempt_of(job)]


def test_an_acceptance_that_outlives_its_session(house: House) -> None:
    """The session ends before the record is committed: the node gets the job when it is back."""
    device, node = house.online()
    house.store.holding = True
    accepted = house.dispatcher.submit(house.order(device))
    node.disconnect()
    house.pass_time(3)
    house.store.release()
    house.store.holding = False
    job = result_of(accepted)
    assert house.kept(job).state is S.DISPATCHED
    result_of(node.connect())
    node.take()
    assert [each.attempt_id for each in node.started] == [attempt_of(job)]


def test_a_device_revoked_while_a_call_is_accepted(house: House) -> None:
    """The revocation was committed first: the caller is refused as if it had asked after it."""
    device, _node = house.online()
    house.store.holding = True
    revoked = house.store.revoke(device.device_id, "ana", "lost", house.now_ms())
    answer = house.dispatcher.run(house.order(device))
    house.store.release(1)
    house.inventory.revoke(result_of(revoked))
    kept = result_of(house.store.device(device.device_id))
    assert kept is not None
    house.inventory.put(kept)
    house.store.release()
    house.store.holding = False
    with pytest.raises(DeviceRevoked):
        result_of(answer)
    assert result_of(house.store.jobs(JobQuery())) == []


# -- commits that overtake each other -------------------------------------------------------------


def test_an_end_while_an_earlier_change_is_committed(house: House) -> None:
    """Two commits of one job in flight: it is final, and told, with the second and not before."""
    device, node = house.online()
    answer = house.dispatcher.run(house.order(device, "slow"))
    node.take()
    (attempt_id,) = node.running
    house.store.holding = True
    house.clock.advance(5.3)
    node.finish(attempt_id)
    house.store.release(1)
    assert not fired(answer) and node.take().acknowledged == []
    house.store.release()
    assert result_of(answer).state is S.SUCCEEDED


def test_an_earlier_change_that_fails_does_not_undo_the_end(house: House) -> None:
    """The first commit fails, the second does not: the retry changes and repeats nothing."""
    device, node = house.online()
    answers: list[object] = []
    waiter = house.dispatcher.run(house.order(device, "slow"))
    waiter.addCallback(answers.append)
    node.take()
    (attempt_id,) = node.running
    house.store.holding = True
    house.clock.advance(5.3)
    node.finish(attempt_id, Outcome.SUCCEEDED)
    house.store.trouble = FULL
    house.store.release(1)
    house.store.trouble = None
    house.store.release()
    house.store.holding = False
    assert len(answers) == 1
    house.pass_time(3)
    node.take()
    assert len(answers) == 1 and node.acknowledged == [attempt_id]
    (job,) = result_of(house.store.jobs(JobQuery()))
    assert job.state is S.SUCCEEDED


def test_a_result_of_an_old_attempt_while_a_new_one_is_committed(house: House) -> None:
    """The old attempt's success decides; the new attempt is never sent, and keeps no place."""
    device, node = house.online(max_in_flight=1)
    job = house.submit(device, "safe")
    node.take()
    old = attempt_of(job)
    node.finish(old, Outcome.DIED)
    house.store.holding = True
    house.pass_time(FIRST_BACKOFF_MS / 1000 + 0.5)
    assert attempt_of(job) != old
    node.finish(old, Outcome.SUCCEEDED)
    house.store.release()
    house.store.holding = False
    node.take()
    assert (job.state, len(node.started)) == (S.SUCCEEDED, 1)
    assert house.submit(device).state is S.DISPATCHED
