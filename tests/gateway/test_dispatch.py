"""Dispatch: a job is recorded before it is sent, and its end before anybody is told."""

from __future__ import annotations

import attrs
import pytest
from automat import NoTransition
from zope.interface.verify import verifyObject

from palyra.config.jobs import JobsSection
from palyra.core.frames import RESULT, NodeEvent, Progress
from palyra.core.identifiers import AttemptId, DeviceId
from palyra.core.interfaces import IStore, JobQuery
from palyra.core.jobmachine import job_machine
from palyra.core.jobs import JobState, Outcome, Report
from palyra.errors import (
    CapabilityUnknown,
    DeviceOffline,
    DeviceRevoked,
    DiskFull,
    Draining,
    NotFound,
    QueueFull,
)
from palyra.gateway.intake import START_GRACE_MS
from tests.gateway.house import House, attempt_of, fired, result_of
from tests.store.samples import ulid

S = JobState


def test_the_troubled_store_is_a_store(house: House) -> None:
    """What these tests run on provides the whole interface of stores."""
    assert verifyObject(IStore, house.store)


# -- accepting ----------------------------------------------------------------------------------


def test_a_job_is_recorded_before_it_is_sent(house: House) -> None:
    """Nothing reaches the node before the record of job and attempt is committed."""
    device, node = house.online()
    house.store.holding = True
    accepted = house.dispatcher.submit(house.order(device))
    assert not fired(accepted) and not node.take().dispatches
    house.store.release()
    job = result_of(accepted)
    (dispatch,) = node.take().dispatches
    assert dispatch.attempt_id == attempt_of(job) and dispatch.job_id == job.call.job_id
    assert (dispatch.number, dispatch.remaining_ms, dispatch.requested_by) == (1, 30_000, "ana")
    assert house.kept(job).state is S.DISPATCHED


def test_a_result_is_recorded_before_it_is_told(house: House) -> None:
    """Neither the caller nor the node hears of an end that is not committed."""
    device, node = house.online()
    answer = house.dispatcher.run(house.order(device))
    node.take()
    house.store.holding = True
    (attempt_id,) = node.running
    node.finish(attempt_id, output_json=b'{"echo":1}')
    house.pass_time(0.5)
    assert not fired(answer) and attempt_id not in node.take().acknowledged
    house.store.release()
    job = result_of(answer)
    assert (job.state, job.output_json) == (S.SUCCEEDED, b'{"echo":1}')
    house.pass_time(0.5)
    node.take()
    assert node.acknowledged == [attempt_id]
    assert house.kept(job).state is S.SUCCEEDED


def test_an_unknown_capability_or_device_leaves_no_record(house: House) -> None:
    """What could never run is refused without a job."""
    device, _ = house.online()
    with pytest.raises(CapabilityUnknown):
        house.dispatcher.submit(house.order(device, "ecoh"))
    with pytest.raises(NotFound):
        order = house.order(device)
        house.dispatcher.submit(attrs.evolve(order, device_id=DeviceId(ulid("nobody"))))
    assert house.store.commits == []


def test_an_offline_device_is_refused_with_a_record(house: House) -> None:
    """The row of a device that could not be asked: rejected, device_offline."""
    device = house.device()
    with pytest.raises(DeviceOffline) as caught:
        result_of(house.dispatcher.submit(house.order(device)))
    (job,) = result_of(house.store.jobs(JobQuery()))
    assert caught.value.job_id == job.call.job_id
    assert (job.state, job.error_code) == (S.REJECTED, "device_offline")
    assert house.dispatcher.running(device.device_id) == 0


def test_an_offline_refusal_says_when_the_device_was_heard(house: House) -> None:
    """Operators read how long ago the device was last in touch."""
    device, node = house.online()
    node.disconnect()
    house.pass_time(7_200)
    with pytest.raises(DeviceOffline) as caught:
        result_of(house.dispatcher.run(house.order(device)))
    assert caught.value.heard == "2h ago"


def test_a_device_that_just_left_is_waited_for(house: House) -> None:
    """Within ten seconds of a session's end a call is queued, and sent when the node is back."""
    device, node = house.online()
    node.disconnect()
    job = house.submit(device)
    assert (job.state, job.call.queue_expires_at_ms) == (S.QUEUED, house.now_ms() + 10_000)
    house.pass_time(3)
    result_of(node.connect())
    assert [each.job_id for each in node.take().dispatches] == [job.call.job_id]


def test_a_queued_call_expires_unsent(house: House) -> None:
    """Its device did not come back in time: it is expired, its caller told, nothing ever sent."""
    device, node = house.online()
    node.disconnect()
    answer = house.dispatcher.run(house.order(device))
    house.pass_time(10.5)
    assert result_of(answer).state is S.EXPIRED
    result_of(node.connect())
    assert not node.take().dispatches


def test_after_a_start_devices_are_waited_for() -> None:
    """A gateway that just started waits for devices that were here shortly before, not others."""
    house = House()
    here, _node = house.online("here")
    gone = house.device("gone")
    result_of(house.store.heard({here.device_id: house.now_ms()}))
    house.restart()
    job = house.submit(here)
    assert job.state is S.QUEUED
    with pytest.raises(DeviceOffline):
        house.submit(gone)
    house.end()


def test_draining_refuses_new_work(house: House) -> None:
    """From drain on, calls are refused and what waits stays for the next life of the gateway."""
    device, node = house.online(max_in_flight=1)
    first, second = house.submit(device), house.submit(device)
    node.take()
    house.dispatcher.drain()
    with pytest.raises(Draining):
        house.dispatcher.submit(house.order(device))
    idle = house.dispatcher.when_idle()
    assert not fired(idle)
    node.finish(attempt_of(first))
    assert fired(idle) and second.state is S.QUEUED
    assert fired(house.dispatcher.when_idle())


def test_stopping_tells_who_waits(house: House) -> None:
    """Callers of jobs that go on are told that the gateway went away."""
    device, _ = house.online()
    forever = house.dispatcher.run(house.order(device))
    limited = house.dispatcher.run(house.order(device), lambda _: 60_000)
    house.dispatcher.stop()
    for each in (forever, limited):
        with pytest.raises(Draining):
            result_of(each)


# -- window and backlog -------------------------------------------------------------------------


def test_the_window_bounds_what_is_in_flight(house: House) -> None:
    """A node gets as many attempts as it said it takes; the rest follow in order, one for one."""
    device, node = house.online(max_in_flight=2)
    jobs = [house.submit(device) for _ in range(5)]
    node.take()
    assert [job.state for job in jobs] == [S.DISPATCHED] * 2 + [S.QUEUED] * 3
    order = []
    while node.running:
        attempt_id = next(iter(node.running))
        order.append(node.running[attempt_id].job_id)
        node.finish(attempt_id)
        assert len(node.running) <= 2
        node.take()
    assert order == [job.call.job_id for job in jobs]
    assert all(job.state is S.SUCCEEDED for job in jobs)


def test_the_gateway_bounds_the_window_too() -> None:
    """A node may not take more at once than the gateway is configured to send."""
    house = House(limits=JobsSection(in_flight_per_device=1))
    device, node = house.online(max_in_flight=1_000)
    house.submit(device)
    assert house.submit(device).state is S.QUEUED
    node.take()
    assert len(node.running) == 1
    house.end()


def test_queues_are_bounded() -> None:
    """One device, and all devices together, hold so many waiting jobs and no more."""
    limits = JobsSection(in_flight_per_device=1, max_waiting_per_device=2, max_waiting=3)
    house = House(limits=limits)
    pi, _ = house.online("pi")
    nas, _ = house.online("nas")
    for _ in range(3):
        house.submit(pi)
    with pytest.raises(QueueFull) as caught:
        house.submit(pi)
    assert caught.value.who == "pi"
    house.submit(nas)
    house.submit(nas)
    with pytest.raises(QueueFull) as caught:
        house.submit(nas)
    assert caught.value.limit == 3
    house.end()


def test_expired_jobs_leave_the_queue() -> None:
    """Jobs that ended while they waited take no place of those that wait now."""
    house = House(limits=JobsSection(max_waiting_per_device=2, max_waiting=2))
    device, node = house.online()
    for _ in range(3):
        node.disconnect()
        for _ in range(2):
            house.submit(device)
        house.pass_time(9.9)
        result_of(node.connect())
        node.disconnect()
        house.pass_time(9)
    result_of(node.connect())
    other, its_node = house.online("other")
    its_node.disconnect()
    assert house.submit(other).state is S.QUEUED
    house.end()


def test_what_waits_behind_a_window_expires_when_the_device_stays_away(house: House) -> None:
    """A job without time to wait does not wait for a month, nor run a month later."""
    device, node = house.online(max_in_flight=1)
    house.submit(device)
    answer = house.dispatcher.run(house.order(device))
    node.take()
    house.pass_time(9)
    node.disconnect()
    house.pass_time(9)
    assert not fired(answer)
    house.pass_time(2)
    assert result_of(answer).state is S.EXPIRED


def test_what_waits_behind_a_window_survives_a_short_break(house: House) -> None:
    """A node that is back in time finds its queue as it was."""
    device, node = house.online(max_in_flight=1)
    first, second = house.submit(device), house.submit(device)
    node.take()
    node.disconnect()
    house.pass_time(5)
    result_of(node.connect())
    house.pass_time(20)
    node.finish(attempt_of(first))
    node.take()
    assert second.state is S.DISPATCHED


def test_an_attempt_that_is_given_up_on_frees_its_place(house: House) -> None:
    """A node that never answers one job still gets the next one."""
    device, node = house.online(max_in_flight=1)
    first, second = house.submit(device, "slow"), house.submit(device)
    node.take()
    house.pass_time(7.5)
    assert first.state is S.TIMED_OUT and second.state is S.DISPATCHED


# -- reports ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.SUCCEEDED, S.SUCCEEDED),
        (Outcome.FAILED, S.FAILED),
        (Outcome.TIMED_OUT, S.TIMED_OUT),
        (Outcome.CANCELLED, S.CANCELLED),
        (Outcome.REJECTED, S.REJECTED),
        (Outcome.DIED, S.OUTCOME_UNKNOWN),
    ],
)
def test_every_outcome_has_its_state(house: House, outcome: Outcome, state: JobState) -> None:
    """What the node reports of a job that may not be repeated decides it."""
    device, node = house.online()
    answer = house.dispatcher.run(house.order(device))
    node.take()
    node.finish(next(iter(node.running)), outcome)
    assert result_of(answer).state is state


def test_a_repeated_report_is_acknowledged_and_changes_nothing(house: House) -> None:
    """A node that missed the acknowledgement is answered again."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    report = node.finish(attempt_of(job))
    kept = house.kept(job)
    for _ in range(2):
        node.say(NodeEvent(RESULT, reports=(report,)))
    house.pass_time(1)
    node.take()
    assert node.acknowledged == [report.attempt_id] * 3
    assert house.kept(job) == kept


def test_a_repetition_while_the_end_is_committed_is_acknowledged_with_it(house: House) -> None:
    """Two reports, one commit, two acknowledgements, and the first report is the one kept."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    house.store.holding = True
    node.finish(attempt_of(job))
    node.say(NodeEvent(RESULT, reports=(Report(attempt_of(job), Outcome.FAILED),)))
    house.store.release()
    house.pass_time(1)
    node.take()
    assert node.acknowledged == [attempt_of(job)] * 2
    assert house.kept(job).state is S.SUCCEEDED


def test_a_late_report_becomes_a_note(house: House) -> None:
    """The first result decides; what comes later is kept beside it, once, and acknowledged."""
    device, node = house.online()
    job = house.submit(device, "slow")
    node.take()
    house.pass_time(7.5)
    assert job.state is S.TIMED_OUT
    report = node.finish(attempt_of(job))
    node.say(NodeEvent(RESULT, reports=(report,)))
    house.pass_time(1)
    node.take()
    assert node.acknowledged == [report.attempt_id] * 2
    assert house.kept(job).state is S.TIMED_OUT
    assert house.kept(job).notes == [report]


def test_a_late_report_waits_for_the_store(house: House) -> None:
    """A note that could not be kept is not acknowledged: the node sends it again."""
    device, node = house.online()
    job = house.submit(device, "slow")
    node.take()
    house.pass_time(7.5)
    house.store.trouble = DiskFull("/var/lib/palyra")
    node.finish(attempt_of(job))
    house.pass_time(1)
    node.take()
    assert node.acknowledged == []


def test_a_report_of_nothing_known_is_acknowledged(house: House) -> None:
    """Nothing here could ever want it: the node may forget it."""
    _, node = house.online()
    node.finish(AttemptId(ulid("from another life")))
    house.pass_time(1)
    node.take()
    assert len(node.acknowledged) == 1 and not house.store.commits


def test_another_device_cannot_report(house: House) -> None:
    """Only the device that was asked may say what became of it, early or late."""
    device, node = house.online()
    _, stranger = house.online("stranger")
    job = house.submit(device)
    node.take()
    stranger.finish(attempt_of(job), output_json=b'"forged"')
    assert job.state is S.DISPATCHED
    node.finish(attempt_of(job))
    stranger.finish(attempt_of(job), Outcome.FAILED)
    assert house.kept(job).notes == [] and house.kept(job).state is S.SUCCEEDED


def test_an_output_above_its_limit_is_a_failure(house: House) -> None:
    """The limit the caller gave holds for the output; the row says so."""
    device, node = house.online()
    job = house.submit(device, max_payload_bytes=10)
    node.take()
    node.finish(attempt_of(job), output_json=b'"' + b"x" * 9 + b'"')
    assert (job.state, job.error_code, job.output_json) == (S.FAILED, "payload_too_large", None)
    other = house.submit(device, max_payload_bytes=10)
    node.take()
    node.finish(attempt_of(other), output_json=b'"' + b"x" * 8 + b'"')
    assert other.state is S.SUCCEEDED


def test_progress_is_taken_and_kept_nowhere(house: House) -> None:
    """Progress of a running attempt commits nothing; of a stranger's it is ignored."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    commits = len(house.store.commits)
    for attempt_id in (attempt_of(job), AttemptId("unknown")):
        node.say(NodeEvent("", progress=(Progress(attempt_id, 0.5, "half"),)))
    assert len(house.store.commits) == commits


# -- taking over --------------------------------------------------------------------------------


def test_a_start_takes_over_unfinished_jobs(house: House) -> None:
    """What an earlier life accepted goes on: queued jobs are sent, dispatched ones reconciled."""
    device, node = house.online(max_in_flight=1)
    sent, waits = house.submit(device), house.submit(device)
    node.take()
    house.restart()
    assert house.dispatcher.running(device.device_id) == 2
    result_of(node.connect())
    node.take()
    node.finish(attempt_of(sent))
    node.take()
    assert house.kept(sent).state is S.SUCCEEDED
    assert [each.job_id for each in node.running.values()] == [waits.call.job_id]


def test_a_queue_that_was_taken_over_does_not_wait_for_ever(house: House) -> None:
    """Jobs of an earlier life whose device does not come back expire after the start's grace."""
    device, node = house.online(max_in_flight=1)
    house.submit(device)
    waits = house.submit(device)
    node.take()
    house.restart()
    house.pass_time(START_GRACE_MS / 1000 - 1)
    assert house.kept(waits).state is S.QUEUED
    house.pass_time(2)
    assert house.kept(waits).state is S.EXPIRED


def test_revocation_ends_jobs(house: House) -> None:
    """The store ends a revoked device's jobs; who waits is told, and nothing more is sent."""
    device, node = house.online(max_in_flight=1)
    running = house.dispatcher.run(house.order(device))
    waits = house.dispatcher.run(house.order(device))
    node.take()
    result_of(house.store.revoke(device.device_id, "ana", "lost", house.now_ms()))
    revoked = result_of(house.store.device(device.device_id))
    assert revoked is not None
    house.inventory.put(revoked)
    ended = house.dispatcher.device_ended(device.device_id)
    with pytest.raises(StopIteration):
        ended.send(None)
    assert result_of(running).state is S.OUTCOME_UNKNOWN
    rejected = result_of(waits)
    assert (rejected.state, rejected.error_code) == (S.REJECTED, "device_revoked")
    with pytest.raises(DeviceRevoked):
        house.dispatcher.submit(house.order(device))
    assert house.dispatcher.running(device.device_id) == 0


def test_a_final_job_takes_no_more_inputs(house: House) -> None:
    """The machine below refuses what the dispatcher never does."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    node.finish(attempt_of(job))
    with pytest.raises(NoTransition):
        job_machine(job).cancel_requested(house.now_ms())
