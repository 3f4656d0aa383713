"""A job under any sequence of what gateways, nodes, operators and time can do to it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from palyra.core.jobmachine import (
    MAX_ATTEMPTS,
    job_machine,
    next_deadline_ms,
    reconcile,
    report_to,
    time_passed,
)
from palyra.core.jobs import FINAL, Job, JobState, Outcome, Standing, Want

from .jobs import a_call, a_report, an_attempt

S = JobState


class JobLife(RuleBasedStateMachine):
    """One job, one device that comes and goes, and a gateway that does what the job wants."""

    @initialize(idempotent=st.booleans(), ttl_ms=st.none() | st.integers(1, 3_000))
    def submit(self, idempotent: bool, ttl_ms: int | None) -> None:
        self.job = Job(a_call(idempotent, ttl_ms))
        self.machine = job_machine(self.job)
        self.now_ms = 0
        self.live = True
        self.number = 0
        self.attempts_committed = 0
        self.end: JobState | None = None
        self.cancelled = False
        self.sent_after_cancel = 0

    def act(self) -> None:
        """Do what the job wants, as its host does."""
        for want in self.job.take_wants():
            if want is Want.SEND_AGAIN:
                assert self.job.state is S.DISPATCHED
                self.sent_after_cancel += self.cancelled
            elif want is Want.DISPATCH:
                assert self.job.state is S.QUEUED

    @precondition(lambda self: self.live and self.job.state is S.QUEUED)
    @rule(committed=st.booleans())
    def dispatch(self, committed: bool) -> None:
        self.number += 1
        self.machine.dispatched(an_attempt(self.job.attempts + 1, self.now_ms))
        if committed:
            self.attempts_committed += 1
            self.sent_after_cancel += self.cancelled
        else:
            self.machine.undispatched()

    @precondition(lambda self: self.attempts_committed > 0)
    @rule(
        outcome=st.sampled_from(Outcome),
        back=st.integers(0, MAX_ATTEMPTS),
        stopped=st.booleans(),
    )
    def report(self, outcome: Outcome, back: int, stopped: bool) -> None:
        number = max(1, self.attempts_committed - back)
        report_to(
            self.machine, self.job, a_report(outcome, number=number, stopped=stopped), self.now_ms
        )
        self.act()

    @rule(standing=st.sampled_from(Standing))
    def come_back(self, standing: Standing) -> None:
        self.live = True
        reconcile(self.machine, self.job, standing, self.now_ms)
        self.act()

    @rule()
    def go_away(self) -> None:
        self.live = False

    @precondition(lambda self: self.job.state in (S.DISPATCHED, S.AWAITING))
    @rule(allowed=st.booleans())
    def mediate(self, allowed: bool) -> None:
        if allowed:
            self.machine.mediation_allowed(self.now_ms + 1_000)
        else:
            self.machine.mediation_asked(self.now_ms + 1_000)

    @precondition(lambda self: not self.job.final)
    @rule()
    def cancel(self) -> None:
        self.cancelled = True
        self.machine.cancel_requested(self.now_ms)
        self.act()

    @rule(step_ms=st.integers(0, 2_500))
    def wait(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.settle()

    @precondition(lambda self: next_deadline_ms(self.job, self.live) is not None)
    @rule()
    def wait_until_the_deadline(self) -> None:
        deadline = next_deadline_ms(self.job, self.live)
        assert deadline is not None
        self.now_ms = max(self.now_ms, deadline)
        self.settle()

    def settle(self) -> None:
        """Each call moves a job on or leaves it with a deadline ahead: three always suffice."""
        for _ in range(3):
            time_passed(self.machine, self.job, self.now_ms, self.live)
            self.act()
        deadline = next_deadline_ms(self.job, self.live)
        assert deadline is None or deadline > self.now_ms

    @invariant()
    def a_final_state_never_changes(self) -> None:
        if self.end is not None:
            assert self.job.state is self.end
        elif self.job.final:
            self.end = self.job.state

    @invariant()
    def an_attempt_is_made_twice_only_where_that_is_harmless(self) -> None:
        assert self.attempts_committed == self.job.attempts <= MAX_ATTEMPTS
        if not self.job.call.idempotent:
            assert self.attempts_committed <= 1

    @invariant()
    def nothing_is_sent_after_a_cancel(self) -> None:
        assert self.sent_after_cancel == 0

    @invariant()
    def an_unfinished_job_has_a_deadline(self) -> None:
        deadline = next_deadline_ms(self.job, self.live)
        if self.job.final:
            assert deadline is None
        elif self.job.state is S.QUEUED:
            assert deadline == self.job.call.queue_expires_at_ms
        else:
            assert deadline is not None

    @invariant()
    def a_job_that_ended_says_when_and_honestly(self) -> None:
        if self.job.state in FINAL:
            assert self.job.finished_at_ms is not None
        if self.job.state is S.EXPIRED:
            assert self.attempts_committed == 0
        if self.job.state is S.OUTCOME_UNKNOWN:
            assert self.job.effect_possible


JobLife.TestCase.settings = settings(max_examples=80, stateful_step_count=30)
TestJobLife = JobLife.TestCase
