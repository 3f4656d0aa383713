"""The job machine: what may happen to a job, and what it becomes (PROTOCOL: Jobs).

The machine decides; its host acts.  Inputs are facts (a dispatch was committed, a report arrived,
time passed), the :class:`~palyra.core.jobs.Job` it works on is what the store keeps, and what the
host must do next is appended to ``job.wants``.  A final state is final: whatever comes later
becomes a note.
"""

from __future__ import annotations

import functools
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from palyra.core.callapprovals import APPROVAL
from palyra.core.devices import clean_text
from palyra.core.jobs import (
    FINAL,
    MAX_REASON,
    ONCE,
    Attempt,
    Job,
    JobState,
    Mediation,
    MediationAnswer,
    Outcome,
    Report,
    Standing,
    Want,
)

CONFIRM_STOP_MS = 2_000
"""How long a live session may take to confirm that an attempt past its deadline has stopped."""
AWAIT_RETURN_MS = 24 * 3_600_000
"""How long a job past its deadline waits for a device without a session."""
MAX_ATTEMPTS = 5
STOP = "stop"
"""What a job waits for whose node has been told to stop its attempt."""
RETRY = "retry"
"""What a job waits for between two attempts."""
FIRST_BACKOFF_MS = 1_000
"""How long the second attempt of a job waits; each further one waits twice as long."""


class JobInputs(Protocol):
    """What happens to a job."""

    def dispatched(self, attempt: Attempt) -> None:
        """An attempt is about to be committed and sent."""

    def undispatched(self) -> None:
        """The session was gone before the dispatch was committed; nothing was sent."""

    def mediation_asked(self, deadline_ms: int, now_ms: int) -> None:
        """A person at the device is being asked until ``deadline_ms``."""

    def mediation_allowed(
        self, deadline_ms: int, now_ms: int, answer: MediationAnswer | None
    ) -> None:
        """That person said yes; the run time starts now.  ``answer``: None where the node does not
        say who it was."""

    def succeeded(self, report: Report, now_ms: int) -> None:
        """The node reports an output."""

    def failed(self, report: Report, now_ms: int) -> None:
        """The node reports an error."""

    def timed_out(self, report: Report, now_ms: int) -> None:
        """The node reports that the deadline passed there."""

    def cancelled(self, report: Report, now_ms: int) -> None:
        """The node reports that it stopped the attempt on request."""

    def rejected(self, report: Report, now_ms: int) -> None:
        """The node, its owner or a person there said no; or no person answered."""

    def refused(self, code: str, sentence: str, now_ms: int) -> None:
        """The gateway will not send it: offline, identity changed, policy."""

    def never_started(self) -> None:
        """The node is back with its memory and does not know the attempt: send it again."""

    def retried(self, retry_at_ms: int) -> None:
        """The attempt is lost and the capability is idempotent: a new one may begin then."""

    def backoff_over(self) -> None:
        """The next attempt may begin."""

    def released(self) -> None:
        """The row of a fan-out may start."""

    def withheld(self, sentence: str, now_ms: int) -> None:
        """The row of a fan-out will never start, since too many others have failed."""

    def lost(self, now_ms: int) -> None:
        """Nobody can say whether the attempt took effect."""

    def cancel_requested(self, now_ms: int, by: str = "", reason: str = "") -> None:
        """Somebody who may asked for it to stop; who asked first, and why, is kept."""

    def queue_expired(self, now_ms: int) -> None:
        """It was not sent in time and never will be."""

    def deadline_reached(self) -> None:
        """The run time is over; the node is told to stop."""

    def stop_unconfirmed(self, now_ms: int) -> None:
        """A live session did not confirm the stop in time."""

    def mediation_expired(self, now_ms: int, stopped: bool) -> None:
        """Nobody at the device answered in time; ``stopped``: the node says so."""


_builder = TypeMachineBuilder(JobInputs, Job)
_queued = _builder.state("queued")
_dispatched = _builder.state("dispatched")
_awaiting = _builder.state("awaiting_local_mediation")
_succeeded = _builder.state("succeeded")
_failed = _builder.state("failed")
_timed_out = _builder.state("timed_out")
_rejected = _builder.state("rejected")
_cancelled = _builder.state("cancelled")
_expired = _builder.state("expired")
_unknown = _builder.state("outcome_unknown")
_STATES = {
    JobState.QUEUED: _queued,
    JobState.DISPATCHED: _dispatched,
    JobState.AWAITING: _awaiting,
    JobState.SUCCEEDED: _succeeded,
    JobState.FAILED: _failed,
    JobState.TIMED_OUT: _timed_out,
    JobState.REJECTED: _rejected,
    JobState.CANCELLED: _cancelled,
    JobState.EXPIRED: _expired,
    JobState.OUTCOME_UNKNOWN: _unknown,
}
_FINAL_STATES = [_STATES[state] for state in JobState if state in FINAL]


# -- queued -------------------------------------------------------------------------------------


@_queued.upon(JobInputs.dispatched).to(_dispatched)
def _dispatch(_: JobInputs, job: Job, attempt: Attempt) -> None:
    job.state = JobState.DISPATCHED
    job.attempt = attempt
    job.attempts = attempt.number
    job.deadline_ms = attempt.deadline_ms
    job.waiting_for = ""


@_queued.upon(JobInputs.backoff_over).loop()
def _go_on(_: JobInputs, job: Job) -> None:
    job.waiting_for = ""
    job.wants.append(Want.DISPATCH)


@_queued.upon(JobInputs.released).loop()
def _release(_: JobInputs, job: Job) -> None:
    job.waiting_for = ""


@_queued.upon(JobInputs.withheld).to(_cancelled)
def _withhold(_: JobInputs, job: Job, sentence: str, now_ms: int) -> None:
    _finish(job, JobState.CANCELLED, now_ms, "max_failures", sentence)


@_queued.upon(JobInputs.cancel_requested).to(_cancelled)
def _cancel_unsent(_: JobInputs, job: Job, now_ms: int, by: str = "", reason: str = "") -> None:
    _keep_request(job, now_ms, by, reason)
    job.effect_possible = job.attempts > 0
    _finish(job, JobState.CANCELLED, now_ms)


@_queued.upon(JobInputs.queue_expired).to(_expired)
def _expire(_: JobInputs, job: Job, now_ms: int) -> None:
    sentence = f"{job.call.device_name} did not come back in time; it was never sent."
    if job.waiting_for == APPROVAL:
        sentence = "Nobody approved it before its time to wait was over; it was never sent."
    _finish(job, JobState.EXPIRED, now_ms, "expired", sentence)


@_queued.upon(JobInputs.refused).to(_rejected)
def _refuse(_: JobInputs, job: Job, code: str, sentence: str, now_ms: int) -> None:
    job.effect_possible = job.attempts > 0
    _finish(job, JobState.REJECTED, now_ms, code, sentence)


# -- dispatched, awaiting mediation ---------------------------------------------------------------


@_dispatched.upon(JobInputs.undispatched).to(_queued)
def _take_back(_: JobInputs, job: Job) -> None:
    _requeue(job)
    job.attempts -= 1


@_dispatched.upon(JobInputs.retried).to(_queued)
@_awaiting.upon(JobInputs.retried).to(_queued)
def _retry(_: JobInputs, job: Job, retry_at_ms: int) -> None:
    _requeue(job)
    job.waiting_for = RETRY
    job.retry_at_ms = retry_at_ms


@_dispatched.upon(JobInputs.never_started).loop()
def _send_again(_: JobInputs, job: Job) -> None:
    job.wants.append(Want.SEND_AGAIN)


@_awaiting.upon(JobInputs.never_started).to(_dispatched)
def _ask_again(_: JobInputs, job: Job) -> None:
    job.state = JobState.DISPATCHED
    job.waiting_for = ""
    job.wants.append(Want.SEND_AGAIN)


@_dispatched.upon(JobInputs.mediation_asked).to(_awaiting)
@_awaiting.upon(JobInputs.mediation_asked).to(_awaiting)
def _ask(_: JobInputs, job: Job, deadline_ms: int, now_ms: int) -> None:
    if job.state is not JobState.AWAITING:  # else a gateway that was away is told again
        job.mediation = Mediation(asked_at_ms=now_ms)
    job.state = JobState.AWAITING
    job.waiting_for = "mediation"
    job.deadline_ms = deadline_ms


@_awaiting.upon(JobInputs.mediation_allowed).to(_dispatched)
@_dispatched.upon(JobInputs.mediation_allowed).to(_dispatched)
def _allow(
    _: JobInputs, job: Job, deadline_ms: int, now_ms: int, answer: MediationAnswer | None
) -> None:
    job.state = JobState.DISPATCHED
    _keep_answer(job, now_ms, answer or MediationAnswer("", ONCE))
    if job.waiting_for == STOP:
        return  # the yes came after its time: the node has been told to stop, and will say so
    job.waiting_for = ""
    job.deadline_ms = deadline_ms


@_dispatched.upon(JobInputs.cancel_requested).loop()
@_awaiting.upon(JobInputs.cancel_requested).loop()
def _ask_to_stop(_: JobInputs, job: Job, now_ms: int, by: str = "", reason: str = "") -> None:
    _keep_request(job, now_ms, by, reason)
    job.wants.append(Want.CANCEL_ATTEMPT)


@_dispatched.upon(JobInputs.deadline_reached).loop()
@_awaiting.upon(JobInputs.deadline_reached).loop()
def _tell_to_stop(_: JobInputs, job: Job) -> None:
    job.waiting_for = STOP
    job.wants.append(Want.CANCEL_ATTEMPT)


@_dispatched.upon(JobInputs.stop_unconfirmed).to(_timed_out)
def _give_up(_: JobInputs, job: Job, now_ms: int) -> None:
    job.effect_possible = True
    sentence = (
        f"Timed out after {job.call.run_timeout_ms / 1000:g}s; it may still have taken effect: "
        f"check {job.call.device_name} before repeating."
    )
    _finish(job, JobState.TIMED_OUT, now_ms, "timed_out", sentence)


@_awaiting.upon(JobInputs.mediation_expired).to(_rejected)
def _nobody_answered(_: JobInputs, job: Job, now_ms: int, stopped: bool) -> None:
    job.effect_possible = not stopped  # a yes may be on its way
    sentence = f"Nobody at {job.call.device_name} answered."
    _finish(job, JobState.REJECTED, now_ms, "mediation_timeout", sentence)


@_queued.upon(JobInputs.lost).to(_unknown)
@_dispatched.upon(JobInputs.lost).to(_unknown)
@_awaiting.upon(JobInputs.lost).to(_unknown)
def _lose(_: JobInputs, job: Job, now_ms: int) -> None:
    job.effect_possible = True
    sentence = (
        f"Outcome unknown: {job.call.device_name} went away while running it, so it may have "
        f"taken effect; check {job.call.device_name} before repeating."
    )
    _finish(job, JobState.OUTCOME_UNKNOWN, now_ms, "outcome_unknown", sentence)


# -- a node's report ------------------------------------------------------------------------------


@_dispatched.upon(JobInputs.succeeded).to(_succeeded)
@_awaiting.upon(JobInputs.succeeded).to(_succeeded)
@_queued.upon(JobInputs.succeeded).to(_succeeded)
def _succeed(_: JobInputs, job: Job, report: Report, now_ms: int) -> None:
    job.output_json = report.output_json
    job.took_ms = report.took_ms
    _finish(job, JobState.SUCCEEDED, now_ms)


@_dispatched.upon(JobInputs.failed).to(_failed)
@_awaiting.upon(JobInputs.failed).to(_failed)
@_queued.upon(JobInputs.failed).to(_failed)
def _fail(_: JobInputs, job: Job, report: Report, now_ms: int) -> None:
    job.took_ms = report.took_ms
    _finish(job, JobState.FAILED, now_ms, report.error_code or "failed", report.error)


@_dispatched.upon(JobInputs.timed_out).to(_timed_out)
@_awaiting.upon(JobInputs.timed_out).to(_timed_out)
@_queued.upon(JobInputs.timed_out).to(_timed_out)
def _run_out(_: JobInputs, job: Job, report: Report, now_ms: int) -> None:
    job.took_ms = report.took_ms
    job.effect_possible = not report.stopped
    ending = (
        f"{job.call.device_name} confirmed that it stopped."
        if report.stopped
        else f"it may still have taken effect: check {job.call.device_name} before repeating."
    )
    sentence = f"Timed out after {job.call.run_timeout_ms / 1000:g}s; {ending}"
    _finish(job, JobState.TIMED_OUT, now_ms, "timed_out", sentence)


@_dispatched.upon(JobInputs.cancelled).to(_cancelled)
@_awaiting.upon(JobInputs.cancelled).to(_cancelled)
@_queued.upon(JobInputs.cancelled).to(_cancelled)
def _stop(_: JobInputs, job: Job, report: Report, now_ms: int) -> None:
    job.took_ms = report.took_ms
    job.effect_possible = not report.stopped
    _finish(job, JobState.CANCELLED, now_ms)


@_dispatched.upon(JobInputs.rejected).to(_rejected)
@_awaiting.upon(JobInputs.rejected).to(_rejected)
@_queued.upon(JobInputs.rejected).to(_rejected)
def _say_no(_: JobInputs, job: Job, report: Report, now_ms: int) -> None:
    _finish(job, JobState.REJECTED, now_ms, report.error_code or "rejected", report.error)


# -- final: reports become notes, everything else is illegal ---------------------------------------


def _note(_: JobInputs, job: Job, report: Report, now_ms: int) -> None:
    job.notes.append(report)


for _state in _FINAL_STATES:
    for _input in (
        JobInputs.succeeded,
        JobInputs.failed,
        JobInputs.timed_out,
        JobInputs.cancelled,
        JobInputs.rejected,
    ):
        _state.upon(_input).loop()(_note)

_machine = _builder.build()
# Automat looks a transition up by going through all of them: for a job that costs more than its
# transitions do.  They never change once built, so each is looked up once.
_automaton = _machine.__automat_automaton__
_automaton.outputForInput = functools.cache(_automaton.outputForInput)  # type: ignore[method-assign]


def job_machine(job: Job) -> JobInputs:
    """The machine of a job, in the state the job is in; an illegal input raises NoTransition."""
    return _machine(job, _STATES[job.state])


def report_to(machine: JobInputs, job: Job, report: Report, now_ms: int) -> None:
    """Feed a node's report to the machine as the input it means.

    A deadline that passed on the gateway first makes a cancelled attempt a timed-out one, or one
    that nobody answered: that is why it was cancelled.  An attempt that died takes the road of
    :func:`reconcile`, unless the job has gone on without it.
    """
    outcome = report.outcome
    if not job.final and report.mediation is not None:
        _keep_answer(job, now_ms, report.mediation)
    if outcome is Outcome.DIED:
        if job.attempt is not None and job.attempt.attempt_id == report.attempt_id:
            reconcile(machine, job, Standing.DIED, now_ms)
    elif outcome is Outcome.CANCELLED and job.waiting_for == STOP:
        if job.state is JobState.AWAITING:
            machine.mediation_expired(now_ms, stopped=report.stopped)
        else:
            machine.timed_out(report, now_ms)
    else:
        getattr(machine, outcome.value)(report, now_ms)


def reconcile(machine: JobInputs, job: Job, standing: Standing, now_ms: int) -> None:
    """What a returning node's knowledge of the job's attempt means for the job.

    A stop that was asked for may have been lost with the session: it is asked for again, and
    nothing that was to stop is started once more.  Nothing where the job is not dispatched.
    """
    if job.final or job.attempt is None:
        return
    if standing is Standing.NOT_LISTED:
        _reconcile_unstarted(machine, job, job.attempt, now_ms)
    elif standing is Standing.DIED:
        wanted = job.cancel_requested_at_ms is None and job.waiting_for != STOP
        if wanted and job.call.idempotent and job.attempts < MAX_ATTEMPTS:
            machine.retried(now_ms + (FIRST_BACKOFF_MS << (job.attempts - 1)))
        else:
            machine.lost(now_ms)
    elif job.cancel_requested_at_ms is not None or job.waiting_for == STOP:
        job.wants.append(Want.CANCEL_ATTEMPT)


def _reconcile_unstarted(machine: JobInputs, job: Job, attempt: Attempt, now_ms: int) -> None:
    """The attempt never ran, and the node remembers all it ran."""
    if job.cancel_requested_at_ms is not None:
        machine.cancelled(Report(attempt.attempt_id, Outcome.CANCELLED), now_ms)
    elif job.waiting_for != STOP and job.deadline_ms is not None and now_ms < job.deadline_ms:
        machine.never_started()
    else:
        machine.timed_out(Report(attempt.attempt_id, Outcome.TIMED_OUT), now_ms)


def next_deadline_ms(job: Job, session_live: bool) -> int | None:
    """When :func:`time_passed` must be called next (Unix ms); None where time changes nothing."""
    if job.final:
        return None
    if job.state is JobState.QUEUED:
        return _end_of_queue(job)
    assert job.deadline_ms is not None, "a dispatched job has a deadline"
    if job.waiting_for != STOP:
        return job.deadline_ms
    return job.deadline_ms + (CONFIRM_STOP_MS if session_live else AWAIT_RETURN_MS)


def time_passed(machine: JobInputs, job: Job, now_ms: int, session_live: bool) -> None:
    """Tell the machine what the passing of time means; nothing where no deadline has passed."""
    deadline = next_deadline_ms(job, session_live)
    if deadline is None or now_ms < deadline:
        return
    if job.state is JobState.QUEUED:
        _queue_time_passed(machine, job, now_ms)
    elif job.waiting_for != STOP:
        machine.deadline_reached()
    elif not session_live:
        machine.lost(now_ms)
    elif job.state is JobState.AWAITING:
        machine.mediation_expired(now_ms, stopped=False)
    else:
        machine.stop_unconfirmed(now_ms)


def _end_of_queue(job: Job) -> int | None:
    """Until when a queued job waits.  Its time to live is over with its first dispatch: after a
    lost attempt it waits for the next one, and then as long as any attempt for its device."""
    if job.retry_at_ms is None:
        return job.call.queue_expires_at_ms
    return job.retry_at_ms + (0 if job.waiting_for == RETRY else AWAIT_RETURN_MS)


def _queue_time_passed(machine: JobInputs, job: Job, now_ms: int) -> None:
    """Out of time, or the next attempt may begin.  Only a job never sent may be called expired."""
    if job.waiting_for == RETRY:
        machine.backoff_over()
    elif job.attempts:
        machine.lost(now_ms)
    else:
        machine.queue_expired(now_ms)


def _keep_request(job: Job, now_ms: int, by: str, reason: str) -> None:
    """The first request stands."""
    if job.cancel_requested_at_ms is None:
        job.cancel_requested_at_ms = now_ms
        job.cancel_requested_by = by
        job.cancel_reason = clean_text(reason, MAX_REASON)


def _keep_answer(job: Job, now_ms: int, answer: MediationAnswer) -> None:
    """What was said at the device stands; its report repeats it, and comes later."""
    mediation = job.mediation or Mediation()
    if mediation.decided_at_ms is None:
        job.mediation = attrs.evolve(
            mediation,
            decided_at_ms=now_ms,
            decided_by=answer.decided_by,
            choice=answer.choice,
        )


def _requeue(job: Job) -> None:
    job.state = JobState.QUEUED
    job.attempt = None
    job.deadline_ms = None
    job.waiting_for = ""


def _finish(job: Job, state: JobState, now_ms: int, code: str = "", sentence: str = "") -> None:
    job.state = state
    job.finished_at_ms = now_ms
    job.waiting_for = ""
    job.retry_at_ms = None
    job.error_code = code
    job.error = sentence
