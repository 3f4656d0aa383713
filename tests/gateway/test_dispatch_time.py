"""Dispatch and time: deadlines, the people who are asked, and callers who do not wait for ever."""

from __future__ import annotations

import pytest

from palyra.core.frames import NodeEvent, Waiting
from palyra.core.identifiers import AttemptId
from palyra.core.interfaces import JobQuery
from palyra.core.jobmachine import FIRST_BACKOFF_MS
from palyra.core.jobs import JobState, Outcome
from palyra.errors import JobStillRunning
from tests.gateway.house import House, attempt_of, fired, result_of

S = JobState


# -- deadlines ----------------------------------------------------------------------------------


def test_a_live_node_is_told_to_stop_and_confirms(house: House) -> None:
    """At the deadline the node is asked to stop; its confirmation makes an honest time-out."""
    device, node = house.online()
    job = house.submit(device, "slow")
    node.take()
    house.pass_time(5.3)
    node.take()
    assert node.cancels == [(attempt_of(job), "stop")]
    node.finish(attempt_of(job), Outcome.CANCELLED)
    assert (job.state, job.effect_possible) == (S.TIMED_OUT, False)


def test_a_live_node_that_does_not_confirm(house: House) -> None:
    """Two seconds after the deadline the job is timed out, and may have taken effect."""
    device, node = house.online()
    job = house.submit(device, "slow")
    node.take()
    house.pass_time(6.5)
    assert job.state is S.DISPATCHED
    house.pass_time(1)
    assert (job.state, job.effect_possible) == (S.TIMED_OUT, True)


def test_without_a_session_the_end_is_waited_for(house: House) -> None:
    """No session at the deadline: the job waits for the node, and the result counts."""
    device, node = house.online()
    job = house.submit(device, "slow")
    node.take()
    node.disconnect()
    house.pass_time(3_600)
    assert job.state is S.DISPATCHED
    node.finish(attempt_of(job))
    result_of(node.connect())
    assert house.kept(job).state is S.SUCCEEDED


def test_a_node_that_never_returns_leaves_the_outcome_unknown(house: House) -> None:
    """After a day nobody can say what happened."""
    device, node = house.online()
    job = house.submit(device, "slow")
    node.take()
    node.disconnect()
    house.pass_time(5.5)
    house.pass_time(86_400)
    house.pass_time(1)
    assert (job.state, job.effect_possible) == (S.OUTCOME_UNKNOWN, True)


def test_the_run_time_begins_at_the_yes(house: House) -> None:
    """While a person is asked the run time stands still; from the yes it is whole again."""
    device, node = house.online()
    job = house.submit(device, "ask")
    node.take()
    waiting = Waiting(attempt_of(job), answered=False, remaining_ms=60_000)
    node.say(NodeEvent("", waiting=(waiting,)))
    assert (job.state, job.waiting_for) == (S.AWAITING, "mediation")
    assert house.kept(job).state is S.AWAITING
    house.pass_time(50)
    allowed = Waiting(attempt_of(job), answered=True, remaining_ms=0)
    node.say(NodeEvent("", waiting=(allowed,)))
    assert (job.state, job.deadline_ms) == (S.DISPATCHED, house.now_ms() + 5_000)


def test_nobody_at_the_device_answers(house: House) -> None:
    """Mediation without an answer is a no: rejected, at the device's time or after 120 s."""
    device, node = house.online()
    job = house.submit(device, "ask")
    node.take()
    node.say(NodeEvent("", waiting=(Waiting(attempt_of(job), False, 0),)))
    house.pass_time(119)
    assert job.state is S.AWAITING
    house.pass_time(3.5)
    assert (job.state, job.error_code) == (S.REJECTED, "mediation_timeout")


def test_a_person_is_asked_once(house: House) -> None:
    """A node that repeats its question, or the yes, or asks where nobody need be asked, moves no
    deadline."""
    device, node = house.online()
    job = house.submit(device, "ask")
    plain = house.submit(device, "slow")
    node.take()
    asked, allowed = (Waiting(attempt_of(job), yes, 60_000) for yes in (False, True))
    node.say(NodeEvent("", waiting=(asked,)))
    deadline = job.deadline_ms
    house.pass_time(1)
    node.say(NodeEvent("", waiting=(asked,)))
    assert job.deadline_ms == deadline
    node.say(NodeEvent("", waiting=(allowed,)))
    deadline = job.deadline_ms
    house.pass_time(1)
    node.say(NodeEvent("", waiting=(allowed, asked)))
    assert (job.state, job.deadline_ms) == (S.DISPATCHED, deadline)
    node.say(NodeEvent("", waiting=(Waiting(attempt_of(plain), False, 60_000),)))
    assert plain.state is S.DISPATCHED


def test_a_question_that_comes_after_the_stop(house: House) -> None:
    """The node has been told to stop: what it asked before it heard that moves nothing, and its
    confirmation makes a time-out, not a cancel that nobody asked for."""
    device, node = house.online()
    job = house.submit(device, "ask")
    node.take()
    house.pass_time(5.3)
    node.take()
    assert node.cancels == [(attempt_of(job), "stop")]
    node.say(NodeEvent("", waiting=(Waiting(attempt_of(job), False, 60_000),)))
    assert job.state is S.DISPATCHED
    node.finish(attempt_of(job), Outcome.CANCELLED)
    assert (job.state, job.effect_possible) == (S.TIMED_OUT, False)


def test_mediation_of_an_old_attempt_is_ignored(house: House) -> None:
    """Once a job has gone on to another attempt, a person's answer to the old one is nothing."""
    device, node = house.online()
    job = house.submit(device, "safe")
    node.take()
    old = attempt_of(job)
    node.finish(old, Outcome.DIED)
    house.pass_time(FIRST_BACKOFF_MS / 1000 + 0.5)
    node.take()
    assert attempt_of(job) != old
    for answered in (False, True):
        node.say(NodeEvent("", waiting=(Waiting(old, answered, 5_000),)))
        node.say(NodeEvent("", waiting=(Waiting(AttemptId("none"), answered, 5_000),)))
    assert (job.state, job.waiting_for) == (S.DISPATCHED, "")


# -- callers ------------------------------------------------------------------------------------


def test_a_caller_has_a_limit_and_the_job_goes_on(house: House) -> None:
    """At the caller's own limit it is told that the job runs; the job ends as it would."""
    device, node = house.online()
    impatient = house.dispatcher.run(house.order(device), lambda _: 1_000)
    node.take()
    house.pass_time(1.5)
    with pytest.raises(JobStillRunning) as caught:
        result_of(impatient)
    assert caught.value.state == "dispatched"
    (attempt_id,) = node.running
    node.finish(attempt_id)
    (job,) = result_of(house.store.jobs(JobQuery()))
    assert job.state is S.SUCCEEDED


def test_waiting_gives_the_job_as_it_is(house: House) -> None:
    """``wait`` fires at the end, or with the unfinished job when its time is over."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    assert result_of(house.dispatcher.wait(job, 0)).state is S.DISPATCHED
    short = house.dispatcher.wait(job, 1_000)
    long = house.dispatcher.wait(job, 20_000)
    house.pass_time(1.5)
    assert result_of(short).state is S.DISPATCHED and not fired(long)
    assert result_of(house.dispatcher.job(job.call.job_id)) is job
    node.finish(attempt_of(job))
    assert result_of(long).state is S.SUCCEEDED
    assert result_of(house.dispatcher.wait(job, 20_000)) is job
    assert result_of(house.dispatcher.job(job.call.job_id)) == job


def test_a_caller_that_leaves_cancels_only_its_waiting(house: House) -> None:
    """Cancelling the answer's Deferred leaves the job running and other callers waiting."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    gone, stays = house.dispatcher.wait(job, 20_000), house.dispatcher.wait(job, 20_000)
    gone.addErrback(lambda failure: None)
    gone.cancel()
    node.finish(attempt_of(job))
    assert result_of(stays).state is S.SUCCEEDED
