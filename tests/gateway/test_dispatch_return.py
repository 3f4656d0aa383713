"""A node comes back: what it knows of each attempt decides what becomes of the job."""

from __future__ import annotations

import pytest

from palyra.core.frames import RESULT, NodeEvent, Waiting
from palyra.core.identifiers import AttemptId
from palyra.core.jobmachine import FIRST_BACKOFF_MS, MAX_ATTEMPTS
from palyra.core.jobs import JobState, Outcome, Report
from tests.gateway.house import House, attempt_of, result_of

S = JobState
BOTH = pytest.mark.parametrize("capability", ["echo", "safe"])


@BOTH
def test_running(house: House, capability: str) -> None:
    """It still runs: the job waits for it, and nothing is sent again."""
    device, node = house.online()
    job = house.submit(device, capability)
    node.take()
    node.disconnect()
    result_of(node.connect())
    node.take()
    assert len(node.started) == 1 and job.state is S.DISPATCHED
    node.finish(attempt_of(job))
    assert house.kept(job).state is S.SUCCEEDED


@BOTH
def test_finished(house: House, capability: str) -> None:
    """It ended meanwhile: its report follows and decides."""
    device, node = house.online()
    job = house.submit(device, capability)
    node.take()
    node.disconnect()
    node.finish(attempt_of(job))
    result_of(node.connect())
    assert house.kept(job).state is S.SUCCEEDED
    house.pass_time(0.2)
    node.take()
    assert node.acknowledged == [attempt_of(job)]


@BOTH
def test_never_arrived(house: House, capability: str) -> None:
    """The node remembers everything and does not know it: the same attempt is sent again."""
    device, node = house.online()
    job = house.submit(device, capability)
    node.disconnect()
    house.pass_time(4)
    result_of(node.connect())
    (dispatch,) = node.take().dispatches
    assert dispatch.attempt_id == attempt_of(job) and job.attempts == 1
    assert dispatch.remaining_ms == 26_000


@BOTH
def test_never_arrived_and_too_late(house: House, capability: str) -> None:
    """Its time is over: it is not sent any more, and certainly had no effect."""
    device, node = house.online()
    job = house.submit(device, capability)
    node.disconnect()
    house.pass_time(31)
    result_of(node.connect())
    assert not node.take().dispatches
    assert (job.state, job.effect_possible) == (S.TIMED_OUT, False)


@pytest.mark.parametrize("lose_memory", [False, True])
def test_died_and_not_idempotent(house: House, lose_memory: bool) -> None:
    """The host died in the middle, or cannot remember: unknown, final, never started twice."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    node.restart(lose_memory=lose_memory)
    result_of(node.connect())
    node.take()
    assert (job.state, job.effect_possible) == (S.OUTCOME_UNKNOWN, True)
    assert len(node.started) == 1


@pytest.mark.parametrize("lose_memory", [False, True])
def test_died_and_idempotent(house: House, lose_memory: bool) -> None:
    """Where it is harmless, a new attempt with a new id is made."""
    device, node = house.online()
    job = house.submit(device, "safe")
    node.take()
    old = attempt_of(job)
    node.restart(lose_memory=lose_memory)
    result_of(node.connect())
    assert not node.take().dispatches and house.kept(job).waiting_for == "retry"
    house.pass_time(FIRST_BACKOFF_MS / 1000 + 0.5)
    node.take()
    assert [each.number for each in node.started] == [1, 2]
    assert attempt_of(job) != old
    node.finish(attempt_of(job))
    assert house.kept(job).state is S.SUCCEEDED


def test_a_device_that_dies_of_a_job_is_spared(house: House) -> None:
    """After so many attempts even an idempotent job is given up on."""
    device, node = house.online()
    job = house.submit(device, "safe")
    for _ in range(MAX_ATTEMPTS):
        node.take()
        node.restart()
        result_of(node.connect())
        if job.retry_at_ms is not None:
            house.pass_time((job.retry_at_ms - house.now_ms()) / 1000 + 0.5)
    node.take()
    assert (job.state, len(node.started)) == (S.OUTCOME_UNKNOWN, MAX_ATTEMPTS)


def test_a_report_of_death_makes_a_new_attempt(house: House) -> None:
    """A node that lives and says that an attempt died gets another on the same session."""
    device, node = house.online()
    job = house.submit(device, "safe")
    node.take()
    node.finish(attempt_of(job), Outcome.DIED)
    house.pass_time(FIRST_BACKOFF_MS / 1000 + 0.5)
    node.take()
    assert [each.number for each in node.started] == [1, 2]


def test_a_late_success_of_an_earlier_attempt_decides(house: House) -> None:
    """The first result of any attempt counts; the running one's result is a note."""
    device, node = house.online()
    job = house.submit(device, "safe")
    node.take()
    first = attempt_of(job)
    node.say(NodeEvent(RESULT, reports=(Report(first, Outcome.DIED),)))
    house.pass_time(FIRST_BACKOFF_MS / 1000 + 0.5)
    node.take()
    second = attempt_of(job)
    node.say(NodeEvent(RESULT, reports=(Report(first, Outcome.SUCCEEDED, b"1"),)))
    assert house.kept(job).output_json == b"1"
    node.say(NodeEvent(RESULT, reports=(Report(second, Outcome.SUCCEEDED, b"2"),)))
    kept = house.kept(job)
    assert kept.output_json == b"1" and [each.output_json for each in kept.notes] == [b"2"]


def test_a_stop_that_was_lost_is_asked_for_again(house: House) -> None:
    """The deadline passed while the node was away: it is told to stop when it is back."""
    device, node = house.online()
    job = house.submit(device, "slow")
    node.take()
    node.disconnect()
    house.pass_time(8)
    result_of(node.connect())
    node.take()
    assert node.cancels == [(attempt_of(job), "stop")]
    node.finish(attempt_of(job), Outcome.CANCELLED)
    assert (job.state, job.effect_possible) == (S.TIMED_OUT, False)


def test_a_question_that_was_lost_is_asked_again(house: House) -> None:
    """A person was being asked when the node lost the attempt: it is sent again, in time."""
    device, node = house.online()
    job = house.submit(device, "ask")
    node.take()
    asked = Waiting(attempt_of(job), False, 60_000)
    node.say(NodeEvent("", waiting=(asked,)))
    assert house.kept(job).state is S.AWAITING
    node.running.clear()
    node.disconnect()
    result_of(node.connect())
    (dispatch,) = node.take().dispatches
    assert dispatch.attempt_id == attempt_of(job) and job.state is S.DISPATCHED
    node.say(NodeEvent("", waiting=(asked,)))
    assert house.kept(job).state is S.AWAITING


def test_a_version_one_node_has_no_memory(house: House) -> None:
    """It lists nothing: what was sent is unknown, what waits is sent when it is back."""
    device, node = house.online(extended=False, max_in_flight=1)
    sent, waits = house.submit(device), house.submit(device)
    node.take()
    node.disconnect()
    result_of(node.connect())
    node.take()
    assert sent.state is S.OUTCOME_UNKNOWN
    assert [each.job_id for each in node.started] == [sent.call.job_id, waits.call.job_id]


def test_attempts_on_a_returned_session_fill_its_window(house: House) -> None:
    """What still runs counts: a returning node is not sent more than it takes."""
    device, node = house.online(max_in_flight=2)
    for _ in range(4):
        house.submit(device)
    node.take()
    node.disconnect()
    result_of(node.connect())
    node.take()
    assert len(node.running) == 2 and len(node.started) == 2


def test_an_unknown_attempt_in_a_hello_is_harmless(house: House) -> None:
    """A node may list attempts that this gateway never made."""
    device = house.device()
    node = house.node(device)
    node.finished[AttemptId("elsewhere")] = Report(AttemptId("elsewhere"), Outcome.SUCCEEDED)
    result_of(node.connect())
    house.pass_time(0.2)
    node.take()
    assert node.acknowledged == ["elsewhere"] and node.finished == {}


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.REJECTED])
def test_a_word_of_an_earlier_life(house: House, outcome: Outcome) -> None:
    """A node host that has forgotten an attempt is sent it again: what it said of it before, and
    what comes late over the old connection, does not end the job while it runs."""
    device, node = house.online()
    job = house.submit(device, "ask")
    node.take()
    old = node.session
    assert old is not None
    node.running.clear()
    node.known.clear()
    result_of(node.connect())
    node.take()
    assert list(node.running) == [attempt_of(job)]
    asked = Waiting(attempt_of(job), answered=False, remaining_ms=5_000)
    report = Report(attempt_of(job), outcome)
    old.received(NodeEvent(RESULT, reports=(report,), waiting=(asked,)))
    assert house.kept(job).state is S.DISPATCHED
    node.finish(attempt_of(job))
    assert house.kept(job).state is S.SUCCEEDED
