"""The job machine by itself: whatever comes, in whatever order, it keeps its promises."""

from __future__ import annotations

from collections import Counter

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from palyra.core.fanouts import BATCH
from palyra.core.jobmachine import (
    MAX_ATTEMPTS,
    job_machine,
    next_deadline_ms,
    reconcile,
    report_to,
    time_passed,
)
from palyra.core.jobs import UNFINISHED, Attempt, Job, JobState, Outcome, Report, Standing, Want

from .jobs import a_call, a_report, attempt_id

S = JobState
WAITS_FOR = {
    S.QUEUED: {"", BATCH, "retry"},
    S.DISPATCHED: {"", "stop"},
    S.AWAITING: {"mediation", "stop"},
}
FAULTS = ["hold", "refuse", "cancel", "lie", "mediate", "clock"]
OUTCOMES = [Outcome.DIED] * 6 + sorted(Outcome, key=str)


@attrs.define
class Node:
    """A truthful node: it runs an attempt once for each memory, and says what it knows."""

    memory: int = 0
    known: dict[int, Standing] = attrs.Factory(dict)
    runs: Counter[int] = attrs.Factory(Counter)
    reports: list[Report] = attrs.Factory(list)

    def receive(self, number: int) -> None:
        if number not in self.known:
            self.known[number] = Standing.RUNNING
            self.runs[number] += 1

    def running(self) -> list[int]:
        return [number for number, standing in self.known.items() if standing is Standing.RUNNING]

    def end(self, number: int, outcome: Outcome, stopped: bool) -> None:
        died = outcome is Outcome.DIED
        self.known[number] = Standing.DIED if died else Standing.FINISHED
        self.reports.append(a_report(outcome, number=number, stopped=stopped))

    def lose_memory(self) -> None:
        self.memory += 1
        self.known.clear()

    def standing(self, attempt: Attempt) -> Standing:
        if attempt.memory_id != str(self.memory):
            return Standing.DIED
        return self.known.get(attempt.number, Standing.NOT_LISTED)


class JobStates(RuleBasedStateMachine):
    """One job, its host, and a node whose reports are lost, late and repeated.

    Some rules let the node lie, or the clock run backwards.  What a lie can break is the truth of
    what is recorded about the device; it never breaks a rule of the gateway's own.
    """

    idempotent = False

    @initialize(
        ttl_ms=st.none() | st.integers(1, 9_000),
        faults=st.sets(st.sampled_from(FAULTS), max_size=2),
    )
    def submit(self, ttl_ms: int | None, faults: set[str]) -> None:
        """What ends most jobs at once is possible in some runs only, so that others get far."""
        self.job = Job(
            a_call(self.idempotent, ttl_ms), waiting_for=BATCH if "hold" in faults else ""
        )
        self.faults = faults
        self.machine = job_machine(self.job)
        self.node = Node()
        self.now_ms = 0
        self.live = True
        self.uncommitted = False
        self.sent: list[int] = []
        self.said_cancelled = False
        self.lied = False
        self.end: Job | None = None

    # -- the host ---------------------------------------------------------------------------

    def act(self) -> None:
        """Do what the job wants, as its host does; nothing may be left over."""
        for want in self.job.take_wants():
            if want is Want.DISPATCH:
                assert (self.job.state, self.job.waiting_for) == (S.QUEUED, "")
            else:
                assert self.job.attempt is not None
                assert self.job.attempt.number == self.sent[-1]
                assert self.job.state in (S.DISPATCHED, S.AWAITING)
            if want is Want.SEND_AGAIN:
                assert self.job.cancel_requested_at_ms is None
                assert self.job.waiting_for != "stop"
                assert self.job.deadline_ms is not None
                assert self.now_ms < self.job.deadline_ms
                self.node.receive(self.sent[-1])

    def can_dispatch(self) -> bool:
        return self.live and self.job.state is S.QUEUED and self.job.waiting_for == ""

    def feed(self, report: Report) -> None:
        self.said_cancelled |= report.outcome is Outcome.CANCELLED and not self.job.final
        attempt, before = self.job.attempt, attrs.evolve(self.job)
        report_to(self.machine, self.job, report, self.now_ms)
        if report.outcome is Outcome.DIED:
            current = attempt is not None and attempt.attempt_id == report.attempt_id
            assert current or self.job == before, "the job has gone on without that attempt"
        self.act()

    @precondition(can_dispatch)
    @rule()
    def dispatch(self) -> None:
        assert self.job.cancel_requested_at_ms is None, "nothing is started after a cancel"
        number, now_ms = self.job.attempts + 1, self.now_ms
        memory, deadline_ms = str(self.node.memory), now_ms + 1_000
        self.machine.dispatched(
            Attempt(attempt_id(number), number, "gateway", 1, memory, now_ms, deadline_ms)
        )
        self.uncommitted = True

    @precondition(lambda self: self.uncommitted)
    @rule(kept=st.sampled_from([True, True, True, False]), arrives=st.booleans())
    def commit(self, kept: bool, arrives: bool) -> None:
        """The attempt is on record and sent, unless the job has ended or is to end."""
        self.uncommitted = False
        if self.job.final:
            return
        stop = self.job.cancel_requested_at_ms is not None
        if not kept:
            self.machine.undispatched()
            if stop:
                self.machine.cancel_requested(self.now_ms)
        elif stop:
            self.feed(a_report(Outcome.CANCELLED, number=self.job.attempts))
        else:
            self.sent.append(self.job.attempts)
            if arrives and self.live:
                self.node.receive(self.job.attempts)
        self.act()

    @precondition(can_dispatch)
    @rule(arrives=st.booleans())
    def run(self, arrives: bool) -> None:
        self.dispatch()
        self.commit(kept=True, arrives=arrives)

    @precondition(lambda self: "cancel" in self.faults and self.can_dispatch())
    @rule(arrives=st.booleans(), dies=st.booleans())
    def run_and_cancel(self, arrives: bool, dies: bool) -> None:
        """The stop that was asked for is lost with the session, and perhaps the attempt too."""
        self.run(arrives)
        self.cancel()
        if arrives and dies:
            self.node.end(self.sent[-1], Outcome.DIED, stopped=True)
        self.come_back(memory_lost=False)

    @precondition(can_dispatch)
    @rule(rounds=st.integers(1, MAX_ATTEMPTS + 1))
    def run_and_die(self, rounds: int) -> None:
        """Far in a few steps: the device dies again and again, just after an attempt has begun."""
        for _ in range(rounds):
            if self.can_dispatch():
                self.run(arrives=True)
                self.node.end(self.sent[-1], Outcome.DIED, stopped=True)
                self.come_back(memory_lost=False)
                if self.job.retry_at_ms is not None and rounds > 1:
                    self.wait(max(0, self.job.retry_at_ms - self.now_ms))

    @precondition(lambda self: "cancel" in self.faults and not self.job.final)
    @rule()
    def cancel(self) -> None:
        asked_before = self.job.cancel_requested_at_ms
        self.machine.cancel_requested(self.now_ms)
        assert self.job.cancel_requested_at_ms == (
            self.now_ms if asked_before is None else asked_before
        )
        if self.uncommitted:
            self.job.take_wants()  # nobody has been sent it; the commit decides
        self.act()

    @precondition(lambda self: self.job.waiting_for == BATCH)
    @rule(too_many_failed=st.booleans())
    def let_go(self, too_many_failed: bool) -> None:
        """The row of a fan-out may start, or never will."""
        if too_many_failed:
            self.machine.withheld("Too many have failed.", self.now_ms)
        else:
            self.machine.released()
        self.act()

    @precondition(lambda self: "refuse" in self.faults and self.job.state is S.QUEUED)
    @rule()
    def refuse(self) -> None:
        self.machine.refused("device_offline", "anna-laptop is offline.", self.now_ms)
        self.act()

    # -- the node ---------------------------------------------------------------------------

    @precondition(lambda self: self.node.running())
    @rule(outcome=st.sampled_from(OUTCOMES), stopped=st.booleans(), which=st.integers(0, 4))
    def end_an_attempt(self, outcome: Outcome, stopped: bool, which: int) -> None:
        running = self.node.running()
        self.node.end(running[which % len(running)], outcome, stopped)

    @precondition(lambda self: self.node.reports)
    @rule(which=st.integers(0, 9))
    def deliver_a_report(self, which: int) -> None:
        """In any order and any number of times."""
        self.feed(self.node.reports[which % len(self.node.reports)])

    @precondition(lambda self: "lie" in self.faults and self.sent)
    @rule(outcome=st.sampled_from(OUTCOMES), which=st.integers(0, 4), stopped=st.booleans())
    def lie_about_an_attempt(self, outcome: Outcome, which: int, stopped: bool) -> None:
        self.lied = True
        self.feed(a_report(outcome, number=self.sent[which % len(self.sent)], stopped=stopped))

    @precondition(lambda self: not self.uncommitted)
    @rule(memory_lost=st.booleans())
    def come_back(self, memory_lost: bool) -> None:
        if memory_lost:
            self.node.lose_memory()
        self.live = True
        attempt = self.job.attempt
        if attempt is not None:
            reconcile(self.machine, self.job, self.node.standing(attempt), self.now_ms)
        self.act()

    @precondition(lambda self: "lie" in self.faults and not self.uncommitted)
    @rule(standing=st.sampled_from(Standing))
    def come_back_lying(self, standing: Standing) -> None:
        self.lied |= self.job.attempt is not None
        self.live = True
        reconcile(self.machine, self.job, standing, self.now_ms)
        self.act()

    @precondition(lambda self: self.live)
    @rule()
    def go_away(self) -> None:
        self.live = False

    @precondition(lambda self: "mediate" in self.faults and not self.uncommitted)
    @precondition(lambda self: self.job.state in (S.DISPATCHED, S.AWAITING))
    @rule(allowed=st.booleans())
    def mediate(self, allowed: bool) -> None:
        if allowed:
            self.machine.mediation_allowed(self.now_ms + 1_000, self.now_ms, None)
        else:
            self.machine.mediation_asked(self.now_ms + 1_000, self.now_ms)
        self.act()

    # -- time -------------------------------------------------------------------------------

    @rule(step_ms=st.integers(0, 2_500))
    def wait(self, step_ms: int) -> None:
        self.now_ms += step_ms
        self.settle()

    @precondition(lambda self: next_deadline_ms(self.job, self.live) is not None)
    @rule(early_ms=st.integers(0, 1))
    def wait_until_the_deadline(self, early_ms: int) -> None:
        """One millisecond early nothing changes."""
        self.wait_for_it(early_ms)

    @precondition(lambda self: self.sent and not self.job.final and not self.uncommitted)
    @rule()
    def stay_away(self) -> None:
        """A job cannot wait for a device for ever; a queued one waits as long as its life."""
        self.live = False
        for _ in range(2):
            if next_deadline_ms(self.job, self.live) is not None:
                self.wait_for_it(0)
        assert self.job.final or self.job.state is S.QUEUED

    def wait_for_it(self, early_ms: int) -> None:
        deadline = next_deadline_ms(self.job, self.live)
        assert deadline is not None
        before = attrs.evolve(self.job)
        self.now_ms = max(self.now_ms, deadline - early_ms)
        self.settle()
        assert self.now_ms >= deadline or self.job == before

    @precondition(lambda self: "clock" in self.faults)
    @rule(step_ms=st.integers(1, 100_000))
    def run_the_clock_backwards(self, step_ms: int) -> None:
        self.now_ms = max(0, self.now_ms - step_ms)
        self.settle()

    def settle(self) -> None:
        """Each call moves a job on or leaves it with a deadline ahead: four always suffice."""
        if self.uncommitted:
            return
        for _ in range(4):
            time_passed(self.machine, self.job, self.now_ms, self.live)
            self.act()
        deadline = next_deadline_ms(self.job, self.live)
        assert deadline is None or deadline > self.now_ms

    # -- what always holds ------------------------------------------------------------------

    @invariant()
    def a_final_state_never_changes(self) -> None:
        """Only notes are added to what has ended."""
        now = attrs.evolve(self.job, notes=[])
        if self.end is not None:
            assert now == self.end
        elif self.job.final:
            self.end = now

    @invariant()
    def an_end_has_a_time(self) -> None:
        assert self.job.final is (self.job.finished_at_ms is not None)
        assert self.job.final is (self.job.state not in UNFINISHED)

    @invariant()
    def it_waits_for_what_its_state_can_wait_for(self) -> None:
        job = self.job
        assert job.waiting_for in WAITS_FOR.get(job.state, {""})
        assert job.retry_at_ms is not None or job.waiting_for != "retry"
        assert job.waiting_for != BATCH or not self.sent

    @invariant()
    def it_has_an_attempt_and_a_deadline_where_it_should(self) -> None:
        job, deadline = self.job, next_deadline_ms(self.job, self.live)
        if job.state is S.QUEUED:
            assert job.attempt is None
            assert job.deadline_ms is None
        elif not job.final:
            assert job.attempt is not None
            assert job.attempt.number == job.attempts
            assert deadline is not None
        if job.final:
            assert deadline is None
        if job.waiting_for == "retry":
            assert deadline is not None

    @invariant()
    def attempts_are_counted_and_bounded(self) -> None:
        assert self.sent == list(range(1, len(self.sent) + 1))
        assert len(self.sent) <= self.job.attempts <= MAX_ATTEMPTS
        assert self.job.attempts - len(self.sent) <= 1

    @invariant()
    def what_may_have_started_is_started_again_only_where_that_is_harmless(self) -> None:
        """No lie makes the gateway send a second attempt; a truthful node runs each one once."""
        if not self.job.call.idempotent:
            assert len(self.sent) <= 1
        if not self.lied:
            assert all(times <= 1 for times in self.node.runs.values())
            assert self.job.call.idempotent or self.node.runs.total() <= 1

    @invariant()
    def cancelled_is_what_a_node_said_or_what_never_ran(self) -> None:
        if self.job.state is S.CANCELLED:
            unsent = not self.sent or self.job.cancel_requested_at_ms is not None
            assert self.said_cancelled or unsent
            if self.job.attempt is None and not self.said_cancelled:
                assert self.job.effect_possible is bool(self.sent)
            assert (
                self.lied
                or self.said_cancelled
                or self.job.effect_possible
                or not (self.node.running())
            )

    @invariant()
    def expired_is_what_was_never_sent(self) -> None:
        if self.job.state is S.EXPIRED:
            assert self.sent == []
            assert self.job.attempts == 0
            assert not self.job.effect_possible

    @invariant()
    def an_end_without_a_report_says_what_it_does_not_know(self) -> None:
        if self.job.state is S.OUTCOME_UNKNOWN:
            assert self.job.effect_possible
        if self.job.state is S.SUCCEEDED:
            assert self.job.output_json is not None
            assert not self.job.effect_possible

    @invariant()
    def every_want_is_taken(self) -> None:
        assert self.job.wants == []


class IdempotentJobStates(JobStates):
    """A job that gets new attempts."""

    idempotent = True


SETTINGS = settings(max_examples=100, stateful_step_count=50)
JobStates.TestCase.settings = IdempotentJobStates.TestCase.settings = SETTINGS
TestJobStates = JobStates.TestCase
TestIdempotentJobStates = IdempotentJobStates.TestCase
