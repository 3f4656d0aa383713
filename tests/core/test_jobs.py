"""Jobs: every pair of state and input, and what reports, returns and time mean."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from palyra.core.jobmachine import (
    AWAIT_RETURN_MS,
    CONFIRM_STOP_MS,
    FIRST_BACKOFF_MS,
    MAX_ATTEMPTS,
    JobInputs,
    job_machine,
    next_deadline_ms,
    reconcile,
    report_to,
    time_passed,
)
from palyra.core.jobs import (
    FINAL,
    MAX_REASON,
    UNFINISHED,
    Job,
    JobState,
    Mediation,
    MediationAnswer,
    Outcome,
    Standing,
    Want,
)

from .jobs import a_call, a_job, a_report, an_attempt
from .machines import check_pair, every_pair, input_names

S = JobState
REPORT = a_report(Outcome.SUCCEEDED)
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "dispatched": (an_attempt(),),
    "undispatched": (),
    "mediation_asked": (9, 5),
    "mediation_allowed": (9, 5, None),
    "succeeded": (REPORT, 5),
    "failed": (REPORT, 5),
    "timed_out": (REPORT, 5),
    "cancelled": (REPORT, 5),
    "rejected": (REPORT, 5),
    "refused": ("device_offline", "a is offline.", 5),
    "never_started": (),
    "retried": (99,),
    "backoff_over": (),
    "released": (),
    "withheld": ("Too many have failed.", 5),
    "lost": (5,),
    "cancel_requested": (5,),
    "queue_expired": (5,),
    "deadline_reached": (),
    "stop_unconfirmed": (5,),
    "mediation_expired": (5, True),
}
REPORTS = {
    "succeeded": S.SUCCEEDED,
    "failed": S.FAILED,
    "timed_out": S.TIMED_OUT,
    "cancelled": S.CANCELLED,
    "rejected": S.REJECTED,
}
LEGAL: dict[tuple[Any, str], Any] = {
    (S.QUEUED, "dispatched"): S.DISPATCHED,
    (S.QUEUED, "cancel_requested"): S.CANCELLED,
    (S.QUEUED, "queue_expired"): S.EXPIRED,
    (S.QUEUED, "refused"): S.REJECTED,
    (S.QUEUED, "backoff_over"): S.QUEUED,
    (S.QUEUED, "released"): S.QUEUED,
    (S.QUEUED, "withheld"): S.CANCELLED,
    (S.QUEUED, "lost"): S.OUTCOME_UNKNOWN,
    (S.DISPATCHED, "undispatched"): S.QUEUED,
    (S.DISPATCHED, "retried"): S.QUEUED,
    (S.DISPATCHED, "never_started"): S.DISPATCHED,
    (S.DISPATCHED, "mediation_asked"): S.AWAITING,
    (S.DISPATCHED, "mediation_allowed"): S.DISPATCHED,
    (S.DISPATCHED, "cancel_requested"): S.DISPATCHED,
    (S.DISPATCHED, "deadline_reached"): S.DISPATCHED,
    (S.DISPATCHED, "stop_unconfirmed"): S.TIMED_OUT,
    (S.DISPATCHED, "lost"): S.OUTCOME_UNKNOWN,
    (S.AWAITING, "retried"): S.QUEUED,
    (S.AWAITING, "never_started"): S.DISPATCHED,
    (S.AWAITING, "mediation_asked"): S.AWAITING,
    (S.AWAITING, "mediation_allowed"): S.DISPATCHED,
    (S.AWAITING, "cancel_requested"): S.AWAITING,
    (S.AWAITING, "deadline_reached"): S.AWAITING,
    (S.AWAITING, "mediation_expired"): S.REJECTED,
    (S.AWAITING, "lost"): S.OUTCOME_UNKNOWN,
    **{(state, name): to for state in UNFINISHED for name, to in REPORTS.items()},
    **{(state, name): state for state in FINAL for name in REPORTS},
}


def test_the_table_is_complete() -> None:
    """Every input of a job is in the table."""
    assert set(ARGUMENTS) == input_names(JobInputs)


@pytest.mark.parametrize(("state", "name"), every_pair(JobState, JobInputs))
def test_every_pair(state: JobState, name: str) -> None:
    """Each input takes a job where the table says, or is illegal in that state."""
    job = a_job(state)
    check_pair(job, job_machine, name, ARGUMENTS[name], LEGAL)
    assert job.final == (job.state in FINAL)
    if state in FINAL:
        assert job.notes == ([REPORT] if name in REPORTS else [])
    elif job.final:
        assert job.finished_at_ms == 5


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.DIED])
def test_a_report_decides(outcome: Outcome) -> None:
    """The first report of an attempt is the job's end; a later one is a note."""
    job = a_job(S.DISPATCHED)
    machine = job_machine(job)
    report_to(machine, job, a_report(outcome), 5)
    assert job.state.value == outcome.value
    report_to(machine, job, a_report(Outcome.SUCCEEDED), 6)
    assert job.state.value == outcome.value
    assert len(job.notes) == 1


def test_what_a_report_says_is_kept() -> None:
    """Output, error and duration are kept with the job."""
    done, failed, refused = (a_job(S.DISPATCHED) for _ in range(3))
    report_to(job_machine(done), done, a_report(Outcome.SUCCEEDED), 5)
    report_to(job_machine(failed), failed, a_report(Outcome.FAILED, "busy", "Busy."), 5)
    report_to(job_machine(refused), refused, a_report(Outcome.REJECTED), 5)
    assert (done.output_json, done.took_ms) == (b"{}", 3)
    assert (failed.error_code, failed.error) == ("busy", "Busy.")
    assert refused.error_code == "rejected"


@pytest.mark.parametrize("stopped", [True, False])
def test_a_timeout_says_whether_anything_may_have_happened(stopped: bool) -> None:
    """Only an attempt that confirmed its stop is free of effects."""
    job = a_job(S.DISPATCHED)
    report_to(job_machine(job), job, a_report(Outcome.TIMED_OUT, stopped=stopped), 5)
    assert job.effect_possible is not stopped
    assert ("confirmed that it stopped" in job.error) is stopped


def test_a_cancel_that_the_deadline_asked_for_is_a_timeout() -> None:
    """An attempt that stopped because its time was over timed out; nobody cancelled it."""
    job = a_job(S.DISPATCHED)
    machine = job_machine(job)
    time_passed(machine, job, 1_000, session_live=True)
    report_to(machine, job, a_report(Outcome.CANCELLED), 1_001)
    assert job.state is S.TIMED_OUT
    assert not job.effect_possible


def test_a_question_that_nobody_answered_is_rejected() -> None:
    """A job whose question ran out is rejected, whether or not the node confirms in time."""
    for confirmed in (True, False):
        job = a_job(S.DISPATCHED)
        machine = job_machine(job)
        machine.mediation_asked(500, 5)
        time_passed(machine, job, 500, session_live=True)
        assert job.take_wants() == [Want.CANCEL_ATTEMPT]
        if confirmed:
            report_to(machine, job, a_report(Outcome.CANCELLED), 501)
        else:
            time_passed(machine, job, 500 + CONFIRM_STOP_MS, session_live=True)
        assert (job.state, job.error_code) == (S.REJECTED, "mediation_timeout")


def test_a_yes_starts_the_run_time() -> None:
    """The run time of a mediated job counts from the yes."""
    job = a_job(S.DISPATCHED)
    machine = job_machine(job)
    machine.mediation_asked(500, 5)
    assert (job.waiting_for, next_deadline_ms(job, True)) == ("mediation", 500)
    machine.mediation_allowed(1_400, 400, None)
    assert (job.waiting_for, next_deadline_ms(job, True)) == ("", 1_400)


def test_who_decided_at_the_device_is_kept() -> None:
    """When it was asked, when it was answered, by whom and how; a report that repeats it changes
    nothing."""
    job = a_job(S.DISPATCHED)
    machine = job_machine(job)
    machine.mediation_asked(500, 100)
    machine.mediation_asked(600, 150)  # told again: it was asked when it was
    assert job.mediation == Mediation(asked_at_ms=100)
    machine.mediation_allowed(1_400, 200, MediationAnswer("ana in a dialog", "session"))
    said = Mediation(100, 200, "ana in a dialog", "session")
    assert job.mediation == said
    report = attrs.evolve(a_report(Outcome.SUCCEEDED), mediation=MediationAnswer("bo", "once"))
    report_to(machine, job, report, 300)
    assert (job.state, job.mediation) == (S.SUCCEEDED, said)


def test_a_rule_of_the_owner_decides_without_a_question() -> None:
    """Its report says which; nobody was asked."""
    job = a_job(S.DISPATCHED)
    no = MediationAnswer("rule desktop", "no")
    report = attrs.evolve(a_report(Outcome.REJECTED), mediation=no)
    report_to(job_machine(job), job, report, 300)
    assert (job.state, job.mediation) == (S.REJECTED, Mediation(None, 300, "rule desktop", "no"))


def test_deadlines_with_a_live_session() -> None:
    """The node is told to stop at the deadline and has two seconds to confirm it."""
    job = a_job(S.DISPATCHED)
    machine = job_machine(job)
    time_passed(machine, job, 999, session_live=True)
    assert job.take_wants() == []
    time_passed(machine, job, 1_000, session_live=True)
    assert job.take_wants() == [Want.CANCEL_ATTEMPT]
    time_passed(machine, job, 1_000 + CONFIRM_STOP_MS, session_live=True)
    assert job.state is S.TIMED_OUT
    assert job.effect_possible
    assert next_deadline_ms(job, True) is None


def test_deadlines_without_a_session() -> None:
    """Without a session the job waits a day for the device and is then of unknown outcome."""
    job = a_job(S.DISPATCHED)
    machine = job_machine(job)
    time_passed(machine, job, 1_000, session_live=False)
    time_passed(machine, job, 1_000 + AWAIT_RETURN_MS - 1, session_live=False)
    assert job.state is S.DISPATCHED
    time_passed(machine, job, 1_000 + AWAIT_RETURN_MS, session_live=False)
    assert (job.state, job.effect_possible) == (S.OUTCOME_UNKNOWN, True)
    time_passed(machine, job, 2_000 + AWAIT_RETURN_MS, session_live=False)


def test_a_queue_ends() -> None:
    """A job that was never sent expires.  One that was sent waits for its next attempt, and then
    for its device as long as any attempt does."""
    fresh, retried = (Job(a_call(idempotent=True, queue_expires_at_ms=50)) for _ in range(2))
    job_machine(retried).dispatched(an_attempt())
    reconcile(job_machine(retried), retried, Standing.DIED, 10)
    for job in (fresh, retried):
        time_passed(job_machine(job), job, 49, session_live=False)
        assert job.state is S.QUEUED
        time_passed(job_machine(job), job, 50, session_live=False)
    assert (fresh.state, fresh.effect_possible) == (S.EXPIRED, False)
    machine, begins_ms = job_machine(retried), 10 + FIRST_BACKOFF_MS
    time_passed(machine, retried, begins_ms, session_live=False)
    assert (retried.state, retried.take_wants()) == (S.QUEUED, [Want.DISPATCH])
    time_passed(machine, retried, begins_ms + AWAIT_RETURN_MS - 1, session_live=False)
    assert retried.state is S.QUEUED
    time_passed(machine, retried, begins_ms + AWAIT_RETURN_MS, session_live=False)
    assert (retried.state, retried.effect_possible) == (S.OUTCOME_UNKNOWN, True)


def test_a_lost_attempt_backs_off() -> None:
    """Each new attempt waits twice as long as the one before, and the last one is the last."""
    job = Job(a_call(idempotent=True))
    machine = job_machine(job)
    waits = []
    for number in range(1, MAX_ATTEMPTS):
        machine.dispatched(an_attempt(number=number))
        reconcile(machine, job, Standing.DIED, 10)
        assert (job.state, job.waiting_for, job.wants) == (S.QUEUED, "retry", [])
        assert job.retry_at_ms == next_deadline_ms(job, session_live=True)
        assert job.retry_at_ms is not None
        waits.append(job.retry_at_ms - 10)
        time_passed(machine, job, job.retry_at_ms - 1, session_live=True)
        assert job.wants == []
        time_passed(machine, job, job.retry_at_ms, session_live=True)
        assert job.waiting_for == ""
        assert job.take_wants() == [Want.DISPATCH]
    assert waits == [FIRST_BACKOFF_MS << step for step in range(MAX_ATTEMPTS - 1)]
    machine.dispatched(an_attempt(number=MAX_ATTEMPTS))
    reconcile(machine, job, Standing.DIED, 10)
    assert job.state is S.OUTCOME_UNKNOWN


@pytest.mark.parametrize("sent", [False, True])
def test_a_queued_job_ends_at_once(sent: bool) -> None:
    """A queued job is cancelled or refused at once; an earlier attempt may have had an effect."""
    for name, arguments in (("cancel_requested", (5,)), ("refused", ("gone", "Gone.", 5))):
        job = Job(a_call(idempotent=True))
        machine = job_machine(job)
        if sent:
            machine.dispatched(an_attempt())
            machine.retried(99)
        getattr(machine, name)(*arguments)
        assert job.final
        assert job.effect_possible is sent


def test_a_dispatch_taken_back_was_none() -> None:
    """A dispatch that was not committed leaves no attempt behind."""
    job = Job(a_call())
    machine = job_machine(job)
    machine.dispatched(an_attempt())
    machine.undispatched()
    assert (job.attempts, job.attempt, job.deadline_ms) == (0, None, None)


@pytest.mark.parametrize("state", [S.DISPATCHED, S.AWAITING])
@pytest.mark.parametrize(
    ("standing", "idempotent", "now_ms", "after", "wants"),
    [
        (Standing.RUNNING, False, 10, None, []),
        (Standing.FINISHED, False, 10, None, []),
        (Standing.NOT_LISTED, False, 10, S.DISPATCHED, [Want.SEND_AGAIN]),
        (Standing.NOT_LISTED, False, 1_000, S.TIMED_OUT, []),
        (Standing.DIED, False, 10, S.OUTCOME_UNKNOWN, []),
        (Standing.DIED, True, 10, S.QUEUED, []),
    ],
)
def test_a_return_is_reconciled(
    state: JobState,
    standing: Standing,
    idempotent: bool,
    now_ms: int,
    after: JobState | None,
    wants: list[Want],
) -> None:
    """What a returning node knows of an attempt decides between waiting, sending and giving up."""
    job = a_job(state, idempotent=idempotent)
    reconcile(job_machine(job), job, standing, now_ms)
    assert job.state is (after or state)
    assert job.take_wants() == wants


@pytest.mark.parametrize(
    ("standing", "after", "wants"),
    [
        (Standing.RUNNING, S.DISPATCHED, [Want.CANCEL_ATTEMPT]),
        (Standing.FINISHED, S.DISPATCHED, [Want.CANCEL_ATTEMPT]),
        (Standing.NOT_LISTED, S.CANCELLED, []),
        (Standing.DIED, S.OUTCOME_UNKNOWN, []),
    ],
)
def test_a_cancel_survives_a_break(standing: Standing, after: JobState, wants: list[Want]) -> None:
    """A stop asked for before the break is asked for again, and nothing is started once more."""
    job = a_job(S.DISPATCHED, idempotent=True)
    machine = job_machine(job)
    machine.cancel_requested(3)
    machine.cancel_requested(4)
    assert job.cancel_requested_at_ms == 3
    job.take_wants()
    reconcile(machine, job, standing, 10)
    assert job.state is after
    assert job.take_wants() == wants


def test_a_deadline_that_passed_in_a_break_is_told_again() -> None:
    """A node that returns with an attempt past its deadline is told to stop it."""
    job = a_job(S.DISPATCHED)
    machine = job_machine(job)
    time_passed(machine, job, 1_000, session_live=False)
    job.take_wants()
    reconcile(machine, job, Standing.RUNNING, 1_500)
    assert job.take_wants() == [Want.CANCEL_ATTEMPT]


def test_attempts_are_bounded() -> None:
    """An idempotent job that dies each time is given up after the last attempt."""
    job = Job(a_call(idempotent=True))
    machine = job_machine(job)
    for number in range(1, MAX_ATTEMPTS + 1):
        assert job.state is S.QUEUED
        machine.dispatched(an_attempt(number))
        reconcile(machine, job, Standing.DIED, 10)
    assert job.state is S.OUTCOME_UNKNOWN


def test_a_death_is_reported_once() -> None:
    """A repeated or late report of a dead attempt does not disturb what came after it."""
    job = Job(a_call(idempotent=True))
    machine = job_machine(job)
    machine.dispatched(an_attempt(1))
    death = a_report(Outcome.DIED, number=1)
    report_to(machine, job, death, 5)
    assert (job.waiting_for, job.take_wants()) == ("retry", [])
    report_to(machine, job, death, 6)
    assert job.take_wants() == []
    machine.dispatched(an_attempt(2))
    report_to(machine, job, death, 7)
    assert job.attempt == an_attempt(2)
    assert job.take_wants() == []
    report_to(machine, job, a_report(Outcome.SUCCEEDED, number=2), 8)
    report_to(machine, job, a_report(Outcome.DIED, number=2), 9)
    assert job.state is S.SUCCEEDED


@pytest.mark.parametrize("state", [S.QUEUED, S.SUCCEEDED])
def test_nothing_to_reconcile(state: JobState) -> None:
    """A job that is not dispatched is not touched by a node's return."""
    job = a_job(state)
    for standing in Standing:
        reconcile(job_machine(job), job, standing, 10)
    assert job.state is state
    assert job.wants == []


def test_what_was_told_to_stop_does_not_begin_again() -> None:
    """Its time was over: neither another attempt, nor the same one after a clock ran back."""
    for standing, state in ((Standing.DIED, S.OUTCOME_UNKNOWN), (Standing.NOT_LISTED, S.TIMED_OUT)):
        job = a_job(S.DISPATCHED, idempotent=True)
        machine = job_machine(job)
        machine.deadline_reached()
        job.take_wants()
        reconcile(machine, job, standing, 10)
        assert (job.state, job.wants) == (state, [])


def test_a_yes_that_comes_after_its_time() -> None:
    """The node was told to stop, and that stands: the job is timed out, not cancelled."""
    job = a_job(S.AWAITING)
    machine = job_machine(job)
    deadline_ms = job.deadline_ms
    machine.deadline_reached()
    machine.mediation_allowed(99_999, 9, None)
    assert (job.state, job.waiting_for, job.deadline_ms) == (S.DISPATCHED, "stop", deadline_ms)
    report_to(machine, job, a_report(Outcome.CANCELLED), 5)
    assert job.state is S.TIMED_OUT


def test_nobody_answered() -> None:
    """Without the node's word a yes may be on its way."""
    for confirmed in (False, True):
        job = a_job(S.AWAITING)
        machine = job_machine(job)
        machine.deadline_reached()
        if confirmed:
            report_to(machine, job, a_report(Outcome.CANCELLED), 5)
        else:
            time_passed(machine, job, 1_000 + CONFIRM_STOP_MS, session_live=True)
        assert (job.state, job.effect_possible) == (S.REJECTED, not confirmed)


@pytest.mark.parametrize("state", [S.QUEUED, S.DISPATCHED, S.AWAITING])
def test_who_asked_first_for_a_cancel_and_why_is_kept(state: JobState) -> None:
    """Made safe to show and cut; who asks again changes nothing."""
    job = a_job(state)
    machine = job_machine(job)
    machine.cancel_requested(3, "ana", "a\ttypo " + "x" * MAX_REASON)
    if state is not S.QUEUED:
        machine.cancel_requested(4, "bo", "me too")
    assert (job.cancel_requested_at_ms, job.cancel_requested_by) == (3, "ana")
    assert job.cancel_reason.startswith("a\\u0009typo x") and len(job.cancel_reason) == MAX_REASON


def test_a_cancel_that_met_a_dispatch_keeps_who_asked() -> None:
    """The dispatch was not committed: the job is cancelled as it was asked for."""
    job = a_job(S.DISPATCHED)
    machine = job_machine(job)
    machine.cancel_requested(3, "ana", "typo")
    machine.undispatched()
    machine.cancel_requested(9)
    assert (job.state, job.finished_at_ms) == (S.CANCELLED, 9)
    asked = (job.cancel_requested_at_ms, job.cancel_requested_by, job.cancel_reason)
    assert asked == (3, "ana", "typo")
