"""Fan-outs: which rows may start, whatever becomes of the others."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from palyra.core.fanouts import Fanout, Rollout, is_failure
from palyra.core.identifiers import FanoutId, JobId
from palyra.core.jobs import FINAL, Job, JobState

from .jobs import a_call

S = JobState
FAILURES = {S.FAILED, S.TIMED_OUT, S.REJECTED, S.EXPIRED, S.OUTCOME_UNKNOWN}


def a_row(number: int, state: JobState = S.QUEUED, attempts: int = 0) -> Job:
    call = attrs.evolve(a_call(), job_id=JobId(f"row {number}"), fanout_id=FanoutId("fan-out"))
    return Job(call, state, attempts=attempts)


def a_rollout(rows: int, batch: int | None = None, max_failures: int | None = None) -> Rollout:
    rollout = Rollout(
        Fanout(
            fanout_id=FanoutId("fan-out"),
            requested_by="anna",
            capability="echo",
            input_json=b"{}",
            expression="all",
            submitted_at_ms=0,
            targets=rows,
            batch=batch,
            max_failures=max_failures,
        )
    )
    for number in range(rows):
        rollout.waits(JobId(f"row {number}"))
    return rollout


@pytest.mark.parametrize("attempts", [0, 1])
@pytest.mark.parametrize("state", S)
def test_what_counts_as_a_failure(state: JobState, attempts: int) -> None:
    """A row counts once it has ended badly and a device was asked to run it."""
    assert is_failure(a_row(0, state, attempts)) is (attempts > 0 and state in FAILURES)


def test_without_bounds_all_start_at_once() -> None:
    """A fan-out without a batch or a limit starts every row and stops for none."""
    rollout = a_rollout(3)
    assert rollout.take_startable() == ["row 0", "row 1", "row 2"]
    for number in range(3):
        rollout.ended(a_row(number, S.FAILED, attempts=1))
    assert not rollout.stopped


def test_a_batch_is_a_window() -> None:
    """As soon as one row has ended the next one starts; no row waits for a whole batch."""
    rollout = a_rollout(4, batch=2)
    assert rollout.take_startable() == ["row 0", "row 1"]
    assert rollout.take_startable() == []
    rollout.ended(a_row(1, S.SUCCEEDED, attempts=1))
    assert rollout.take_startable() == ["row 2"]


def test_too_many_failures_stop_the_rest() -> None:
    """The limit may be reached and not passed; what runs by then is left to end."""
    rollout = a_rollout(5, batch=3, max_failures=1)
    rollout.take_startable()
    rollout.ended(a_row(0, S.FAILED, attempts=1))
    assert not rollout.stopped
    assert rollout.take_refused() == []
    rollout.ended(a_row(1, S.TIMED_OUT, attempts=1))
    assert rollout.stopped
    assert rollout.take_startable() == []
    assert rollout.take_refused() == ["row 3", "row 4"]
    for number in (3, 4):
        rollout.ended(a_row(number, S.CANCELLED))
    rollout.ended(a_row(2, S.SUCCEEDED, attempts=1))
    assert rollout.failures == 2


def test_a_row_that_a_dead_gateway_started_takes_its_place() -> None:
    """Rows that an earlier life started count against the batch, and its failures against all."""
    fanout = a_rollout(0, batch=1, max_failures=0).fanout
    rollout = Rollout(fanout)
    rollout.started(JobId("row 0"))
    rollout.waits(JobId("row 1"))
    assert rollout.take_startable() == []
    rollout.ended(a_row(0, S.SUCCEEDED, attempts=1))
    assert rollout.take_startable() == ["row 1"]
    assert Rollout(fanout, failures=1).stopped


class FanoutLife(RuleBasedStateMachine):
    """A fan-out whose rows start, end and are cancelled, and whose gateway dies now and then.

    A row that was taken is committed as started (or as cancelled) a while later: what a dead
    gateway had taken and not committed waits again.
    """

    @initialize(
        rows=st.integers(0, 8),
        batch=st.none() | st.integers(1, 4),
        max_failures=st.none() | st.integers(0, 3),
    )
    def accept(self, rows: int, batch: int | None, max_failures: int | None) -> None:
        self.rollout = a_rollout(rows, batch, max_failures)
        self.jobs = {job.call.job_id: job for job in map(a_row, range(rows))}
        self.taken: set[JobId] = set()
        self.refused: set[JobId] = set()

    def sent(self) -> list[JobId]:
        return [key for key, job in self.jobs.items() if job.attempts and not job.final]

    def waiting(self) -> list[JobId]:
        gone = self.taken | self.refused
        return [
            key
            for key, job in self.jobs.items()
            if key not in gone and not job.attempts and not job.final
        ]

    def failures(self) -> int:
        return sum(job.attempts > 0 and job.state in FAILURES for job in self.jobs.values())

    def stopped(self) -> bool:
        limit = self.rollout.fanout.max_failures
        return limit is not None and self.failures() > limit

    @rule()
    def start(self) -> None:
        """As many as there is room for start, in their order, and none after too many failures."""
        waiting, batch = self.waiting(), self.rollout.fanout.batch
        room = len(waiting) if batch is None else batch - len(self.sent()) - len(self.taken)
        startable = self.rollout.take_startable()
        assert startable == ([] if self.stopped() else waiting[: max(0, room)])
        self.taken.update(startable)

    @rule()
    def refuse(self) -> None:
        """After too many failures all that wait are given back at once, and only then."""
        refused = self.rollout.take_refused()
        assert refused == (self.waiting() if self.stopped() else [])
        self.refused.update(refused)

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 7))
    def commit_a_start(self, which: int) -> None:
        key = sorted(self.taken)[which % len(self.taken)]
        self.taken.discard(key)
        self.jobs[key].attempts = 1

    @precondition(lambda self: self.sent())
    @rule(which=st.integers(0, 7), state=st.sampled_from(sorted(FINAL, key=str)))
    def end_what_was_sent(self, which: int, state: JobState) -> None:
        sent = self.sent()
        self.end(sent[which % len(sent)], state)

    @precondition(lambda self: self.taken or self.refused or self.waiting())
    @rule(which=st.integers(0, 7), state=st.sampled_from([S.CANCELLED, S.REJECTED, S.EXPIRED]))
    def end_what_was_not_sent(self, which: int, state: JobState) -> None:
        unsent = sorted({*self.taken, *self.refused, *self.waiting()})
        self.end(unsent[which % len(unsent)], state)

    def end(self, key: JobId, state: JobState) -> None:
        self.taken.discard(key)
        self.refused.discard(key)
        self.jobs[key].state = state
        self.rollout.ended(self.jobs[key])

    @rule()
    def restart(self) -> None:
        """What the store holds is enough to go on."""
        self.taken.clear()
        self.refused.clear()
        self.rollout = Rollout(self.rollout.fanout, self.failures())
        for key, job in self.jobs.items():
            if job.attempts and not job.final:
                self.rollout.started(key)
            elif not job.final:
                self.rollout.waits(key)

    @invariant()
    def a_batch_is_never_exceeded(self) -> None:
        batch = self.rollout.fanout.batch
        assert batch is None or len(self.sent()) + len(self.taken) <= batch

    @invariant()
    def it_stops_when_too_many_have_failed(self) -> None:
        assert self.rollout.stopped is self.stopped()
        assert self.rollout.failures == self.failures()

    def teardown(self) -> None:
        """From wherever it stands, starting, refusing and ending leads to the end of every row."""
        for _ in range(len(self.jobs)):
            self.start()
            self.refuse()
            for key in self.taken | self.refused | set(self.sent()):
                self.end(key, S.CANCELLED)
        assert all(job.final for job in self.jobs.values())


FanoutLife.TestCase.settings = settings(max_examples=80, stateful_step_count=30)
TestFanoutLife = FanoutLife.TestCase
