"""Jobs of one device under any sequence of what networks, disks, hosts and time can do.

The gateway is the real dispatcher with its sessions on a store whose commits wait; the node keeps
the rules of its side and is allowed to die.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from palyra.core.approval import ApprovalState
from palyra.core.frames import RESULT, NodeEvent
from palyra.core.identifiers import JobId
from palyra.core.interfaces import JobQuery
from palyra.core.jobs import Job, JobState, Outcome
from palyra.core.policy import Effect, Rules
from palyra.errors import DiskFull, PalyraError
from tests.gateway.asked import ANA, approvals, asking, deciding
from tests.gateway.asked import rule as ask_rule
from tests.gateway.house import result_of

ASKED = "slow"
RULES = Rules((ask_rule(capability=ASKED), ask_rule(Effect.ALLOW, 2)))
OUTCOMES = [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED, Outcome.DIED]


class JobsOfOneDevice(RuleBasedStateMachine):
    """What happens to jobs between a caller and a device."""

    @initialize(window=st.integers(1, 3), extended=st.booleans())
    def begin(self, window: int, extended: bool) -> None:
        self.house = asking(RULES)
        self.device, self.node = self.house.online(max_in_flight=window, extended=extended)
        self.registered: int | None = None
        self.accepted: dict[JobId, Job] = {}
        self.ends: dict[JobId, JobState] = {}
        self.calls = 0
        self.answers: Counter[int] = Counter()

    def teardown(self) -> None:
        if not hasattr(self, "house"):
            return
        self.heal()
        self.node.hang_up()
        self.house.pass_time(200)
        for _ in range(2):
            self.house.pass_time(90_000)
            self.house.pass_time(5)
        assert len(self.answers) == self.calls, "a caller was never answered"
        unfinished = result_of(self.house.store.unfinished())
        assert unfinished == [], "a job never ended"
        self.house.end()

    def heal(self) -> None:
        """The store works again."""
        store = self.house.store
        store.trouble = None
        while store.waiting:
            store.release()
        store.holding = False

    # -- callers --------------------------------------------------------------------------------

    @rule(
        capability=st.sampled_from(["echo", "safe", "slow"]),
        wait_ms=st.none() | st.integers(1_000, 60_000),
    )
    def call(self, capability: str, wait_ms: int | None) -> None:
        number, self.calls = self.calls, self.calls + 1
        order = self.house.order(self.device, capability, caller=ANA)

        def accepted(job: Job) -> None:
            self.accepted[job.call.job_id] = job

        submitted = self.house.dispatcher.submit(order).addCallback(accepted)
        submitted.addErrback(lambda failure: failure.trap(PalyraError) and None)
        answer: Deferred[Job] = self.house.dispatcher.run(
            order, None if wait_ms is None else lambda _: wait_ms
        )

        def told(result: Job | Failure) -> None:
            self.answers[number] += 1
            if isinstance(result, Failure):
                result.trap(PalyraError)
            else:
                assert result.final
                kept = self.house.kept(result)
                assert kept.state is result.state, "told before it was kept"

        answer.addBoth(told)

    @rule(approved=st.booleans())
    def decide(self, approved: bool) -> None:
        for approval in approvals(self.house, ApprovalState.PENDING):
            decided = deciding(self.house, approval, approved=approved)
            decided.addErrback(lambda failure: failure.trap(PalyraError) and None)

    # -- the node -------------------------------------------------------------------------------

    @precondition(lambda self: self.node.session is None)
    @rule()
    def connect(self) -> None:
        connected = self.node.connect()
        connected.addErrback(lambda failure: failure.trap(PalyraError) and None)

    @precondition(lambda self: not self.house.store.holding)
    @rule()
    def register_only(self) -> None:
        """A new connection that has registered and not attached yet."""

        def registered(epoch: int) -> None:
            self.registered = epoch

        welcome = self.node.register().addCallback(lambda each: registered(each.session_epoch))
        welcome.addErrback(lambda failure: failure.trap(PalyraError) and None)

    @precondition(lambda self: self.registered is not None)
    @rule()
    def attach(self) -> None:
        epoch, self.registered = self.registered, None
        assert epoch is not None
        try:
            self.node.attach(epoch)
        except PalyraError:
            self.node.session = None

    @rule()
    def disconnect(self) -> None:
        self.node.disconnect()

    @rule(lose_memory=st.booleans())
    def restart_node(self, lose_memory: bool) -> None:
        self.registered = None
        self.node.restart(lose_memory=lose_memory)

    @rule()
    def take(self) -> None:
        self.node.take()

    @precondition(lambda self: self.node.running)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        attempt_id = data.draw(st.sampled_from(sorted(self.node.running)))
        self.node.finish(attempt_id, outcome)

    @precondition(lambda self: self.node.session is not None and self.node.finished)
    @rule()
    def repeat_reports(self) -> None:
        self.node.say(NodeEvent(RESULT, reports=tuple(self.node.finished.values())))

    # -- the gateway ----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.5, 6.0, 12.0, 45.0]))
    def wait(self, seconds: float) -> None:
        self.house.pass_time(seconds)

    @rule(holding=st.booleans())
    def slow_store(self, holding: bool) -> None:
        if not holding:
            while self.house.store.waiting:
                self.house.store.release()
        self.house.store.holding = holding

    @precondition(lambda self: self.house.store.waiting)
    @rule()
    def one_commit(self) -> None:
        self.house.store.release(1)

    @rule(full=st.booleans())
    def full_disk(self, full: bool) -> None:
        self.house.store.trouble = DiskFull("/var/lib/palyra") if full else None

    @rule()
    def restart_gateway(self) -> None:
        self.registered = None
        self.heal()
        self.house.restart()

    # -- what always holds ------------------------------------------------------------------------

    @invariant()
    def no_accepted_job_is_lost(self) -> None:
        for job_id in self.accepted:
            assert result_of(self.house.store.job(job_id)) is not None

    @invariant()
    def final_states_never_change(self) -> None:
        for job in result_of(self.house.store.jobs(JobQuery(limit=10_000))):
            if job.final:
                assert self.ends.setdefault(job.call.job_id, job.state) is job.state

    @invariant()
    def what_may_not_be_repeated_is_started_once(self) -> None:
        starts = Counter(each.job_id for each in self.node.started if each.capability != "safe")
        assert not starts or max(starts.values()) == 1

    @invariant()
    def what_was_started_was_recorded(self) -> None:
        for dispatch in self.node.started:
            assert result_of(self.house.store.job_of_attempt(dispatch.attempt_id)) is not None

    @invariant()
    def what_is_asked_is_started_once_and_after_a_yes(self) -> None:
        started = {each.job_id for each in self.node.started if each.capability == ASKED}
        for approval in approvals(self.house):
            for target in approval.targets:
                if target.job_id in started:
                    assert approval.decided_by and target.consumed_at_ms is not None
                    started.discard(target.job_id)
        assert not started, "without an approval"

    @invariant()
    def every_waiter_is_answered_once(self) -> None:
        assert not self.answers or max(self.answers.values()) == 1


JobsOfOneDevice.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestJobsOfOneDevice = JobsOfOneDevice.TestCase
