"""The runner: exactly one outcome for every run, whatever the handler does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from palyra.capability import Capability, CapabilityContext, DeviceFacts
from palyra.capability.outcome import Outcome, OutcomeKind
from palyra.capability.runner import Run, ThreadRunner

DEVICE = DeviceFacts("d", "f", "u", 0, 0, "pi")
WAIT_S = 20.0

Handler = Callable[[Any, CapabilityContext], Awaitable[Any]]


class Host:
    """A runner, and the outcomes of what it runs."""

    def __init__(self, **changes: Any) -> None:
        self.runner = ThreadRunner(**({"grace_s": 0.05} | changes))
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()

    def start(
        self, handler: Handler, raw: bytes = b"null", *, in_s: float = WAIT_S, **changes: Any
    ) -> Run:
        limit = changes.pop("max_output_bytes", 1000)
        facts: dict[str, Any] = {"name": "test.it", "description": "Test.", "handler": handler}
        capability = Capability(**(facts | changes))
        context = CapabilityContext("j", DEVICE, deadline_s=time.monotonic() + in_s)
        return self.runner.start(capability, raw, context, limit, self.outcomes.put)

    def outcome(self) -> Outcome:
        return self.outcomes.get(timeout=WAIT_S)


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.runner.close(0.2)


async def same(value: Any, context: CapabilityContext) -> Any:
    return value


async def forever(value: Any, context: CapabilityContext) -> None:
    await asyncio.Event().wait()


class Gate:
    """A handler that blocks its thread until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()
        self.contexts: list[CapabilityContext] = []

    async def __call__(self, value: Any, context: CapabilityContext) -> str:
        self.contexts.append(context)
        self.entered.release()
        self.go.wait(WAIT_S)
        return "late"


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.go.set()


def test_success(host: Host) -> None:
    """The answer comes back as JSON."""
    host.start(same, b'{"a":[1]}')
    assert host.outcome() == Outcome(OutcomeKind.SUCCEEDED, b'{"a":[1]}')


def test_outcome_never_from_the_callers_thread(host: Host) -> None:
    """on_done is called from a thread of the runner."""
    seen: SimpleQueue[int] = SimpleQueue()
    context = CapabilityContext("j", DEVICE, deadline_s=time.monotonic() + WAIT_S)
    capability = Capability(name="test.it", description="Test.", handler=same)
    host.runner.start(
        capability, b"1", context, 10, lambda outcome: seen.put(threading.get_ident())
    )
    assert seen.get(timeout=WAIT_S) != threading.get_ident()


def test_threads_are_reused(host: Host) -> None:
    """Run after run uses the threads that are there."""

    async def which(value: Any, context: CapabilityContext) -> int:
        return threading.get_ident()

    outputs = set()
    for _ in range(30):
        host.start(which)
        outputs.add(host.outcome().output)
    assert len(outputs) <= 2


@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        (ValueError("bad\nthing"), "ValueError: bad"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "CancelledError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_exceptions_are_failures(host: Host, raised: BaseException, sentence: str) -> None:
    """Whatever a handler raises is a failure with one line, and the thread lives on."""

    async def broken(value: Any, context: CapabilityContext) -> None:
        raise raised

    host.start(broken)
    outcome = host.outcome()
    assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "handler_failed")
    assert outcome.error_sentence == sentence
    host.start(same)
    assert host.outcome().kind is OutcomeKind.SUCCEEDED


def test_stopping_the_loop_is_a_failure(host: Host) -> None:
    """A handler that stops its event loop fails, and hurts no other run."""

    async def rude(value: Any, context: CapabilityContext) -> None:
        asyncio.get_running_loop().stop()
        await asyncio.Event().wait()

    host.start(rude)
    assert host.outcome().kind is OutcomeKind.FAILED
    host.start(same)
    assert host.outcome().kind is OutcomeKind.SUCCEEDED


def test_wrong_input_keeps_its_code(host: Host) -> None:
    """Input that does not decode fails with the code of the refusal; no handler is called."""
    host.start(forever, b"{", input_type=int)
    outcome = host.outcome()
    assert (outcome.kind, outcome.error_code) == (OutcomeKind.FAILED, "input_invalid")


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"max_output_bytes": 3}, "payload_too_large"), ({"output_type": int}, "output_invalid")],
)
def test_bad_output(host: Host, changes: dict[str, Any], code: str) -> None:
    """An output that is too large or of another type is a failure and is not sent."""
    host.start(same, b'"long"', **changes)
    outcome = host.outcome()
    assert (outcome.kind, outcome.error_code, outcome.output) == (OutcomeKind.FAILED, code, b"")


def test_deadline(host: Host) -> None:
    """A handler that awaits too long is stopped at its deadline."""
    host.start(forever, in_s=0.05)
    outcome = host.outcome()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.TIMED_OUT, True)
    assert outcome.error_sentence == "test.it ran out of time."


def test_deadline_already_over(host: Host) -> None:
    """A run whose deadline has passed never begins."""
    host.start(same, in_s=-1)
    outcome = host.outcome()
    assert outcome.kind is OutcomeKind.TIMED_OUT
    assert "before it began" in outcome.error_sentence


def test_the_deadline_goes_on_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait does not: once the machine is awake the run is soon found to be over."""
    monkeypatch.setattr("palyra.capability.runner._LONGEST_WAIT_S", 0.01)
    slept_s = [0.0]
    host = Host(clock=lambda: time.monotonic() + slept_s[0])
    host.start(forever, in_s=3600)
    slept_s[0] = 7200
    assert host.outcome().kind is OutcomeKind.TIMED_OUT
    host.runner.close(0.2)


def test_swallowed_deadline_is_timed_out(host: Host) -> None:
    """A handler that answers after its deadline has still run out of time."""

    async def stubborn(value: Any, context: CapabilityContext) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "cancelled" if context.cancelled else "?"
        return ""

    host.start(stubborn, in_s=0.05)
    assert host.outcome().kind is OutcomeKind.TIMED_OUT


def test_cancel(host: Host) -> None:
    """cancel() ends a running handler, and cancelling again does nothing."""
    entered = threading.Event()

    async def enter(value: Any, context: CapabilityContext) -> None:
        entered.set()
        await asyncio.Event().wait()

    run = host.start(enter)
    assert entered.wait(WAIT_S)
    run.cancel()
    outcome = host.outcome()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.CANCELLED, True)
    run.cancel()
    assert host.outcomes.empty()


def test_blocking_handler_is_given_up(host: Host, gate: Gate) -> None:
    """A handler that blocks its thread is reported as not stopped; its late answer is dropped."""
    host.start(gate, in_s=0.05)
    outcome = host.outcome()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.TIMED_OUT, False)
    assert gate.contexts[0].cancelled
    gate.go.set()
    host.start(same)
    assert host.outcome().kind is OutcomeKind.SUCCEEDED
    assert host.outcomes.empty()


def test_given_up_threads_are_replaced(gate: Gate) -> None:
    """With its only thread given up, a runner goes on with a new one."""
    host = Host(max_running=1)
    host.start(gate, in_s=0.05)
    assert not host.outcome().stopped
    host.start(same, name="test.other")
    assert host.outcome().kind is OutcomeKind.SUCCEEDED
    host.runner.close(0.1)


def test_cancel_of_a_blocking_handler(host: Host, gate: Gate) -> None:
    """Cancelling what blocks its thread says honestly that it was not stopped."""
    run = host.start(gate)
    assert gate.entered.acquire(timeout=WAIT_S)
    run.cancel()
    outcome = host.outcome()
    assert (outcome.kind, outcome.stopped) == (OutcomeKind.CANCELLED, False)


def test_max_concurrency_waits_in_order(host: Host, gate: Gate) -> None:
    """No more runs of a capability at once than it allows; the rest follow in order."""
    order: list[Any] = []

    async def step(value: Any, context: CapabilityContext) -> None:
        order.append(value)
        if value == 0:
            await gate(value, context)

    for number in range(5):
        host.start(step, str(number).encode(), max_concurrency=1)
    assert gate.entered.acquire(timeout=WAIT_S)
    host.start(same, name="test.other")
    assert host.outcome().output == b"null"
    assert order == [0]
    gate.go.set()
    assert [host.outcome().kind for _ in range(5)] == [OutcomeKind.SUCCEEDED] * 5
    assert order == [0, 1, 2, 3, 4]


def test_waiting_runs_can_be_cancelled_and_time_out(host: Host, gate: Gate) -> None:
    """A run that waits for its place can be cancelled, and its deadline ticks."""
    host.start(gate, max_concurrency=1)
    assert gate.entered.acquire(timeout=WAIT_S)
    host.start(gate, max_concurrency=1).cancel()
    assert host.outcome().error_sentence == "test.it was cancelled before it began."
    host.start(gate, in_s=0.02, max_concurrency=1)
    assert host.outcome().error_sentence == "test.it ran out of time before it began."
    gate.go.set()
    assert host.outcome().kind is OutcomeKind.SUCCEEDED
    assert len(gate.contexts) == 1


def test_stuck_capability_keeps_its_place(host: Host, gate: Gate) -> None:
    """A given-up handler still counts: a stuck capability cannot eat thread after thread."""
    host.start(gate, in_s=0.02, max_concurrency=1)
    assert not host.outcome().stopped
    host.start(gate, in_s=0.02, max_concurrency=1)
    assert "before it began" in host.outcome().error_sentence
    gate.go.set()
    host.start(same, max_concurrency=1)
    assert host.outcome().kind is OutcomeKind.SUCCEEDED


def test_max_running(gate: Gate) -> None:
    """No more handlers run at once than the runner allows; the others follow."""
    host = Host(max_running=2)
    for _ in range(4):
        host.start(gate)
    assert gate.entered.acquire(timeout=WAIT_S)
    assert gate.entered.acquire(timeout=WAIT_S)
    assert len(gate.contexts) == 2
    gate.go.set()
    assert [host.outcome().kind for _ in range(4)] == [OutcomeKind.SUCCEEDED] * 4
    host.runner.close()


def test_grows_beyond_the_warm_threads(host: Host, gate: Gate) -> None:
    """More runs than warm threads get more threads, up to max_running."""
    for _ in range(5):
        host.start(gate, max_concurrency=9)
    for _ in range(5):
        assert gate.entered.acquire(timeout=WAIT_S)
    gate.go.set()
    assert [host.outcome().kind for _ in range(5)] == [OutcomeKind.SUCCEEDED] * 5


def test_leftover_tasks_end_with_the_run(host: Host) -> None:
    """A task a handler leaves behind is cancelled before the run is reported."""
    ended = threading.Event()

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def keeps(value: Any, context: CapabilityContext) -> None:
        kept.append(asyncio.ensure_future(linger()))
        await asyncio.sleep(0)

    kept: list[Any] = []
    host.start(keeps)
    assert host.outcome().kind is OutcomeKind.SUCCEEDED
    assert ended.is_set()


def test_close_cancels_everything(gate: Gate) -> None:
    """close() ends running, waiting and blocking runs, one outcome each, and takes no more."""
    host = Host()
    host.start(gate, max_concurrency=1)
    assert gate.entered.acquire(timeout=WAIT_S)
    host.start(gate, max_concurrency=1)
    host.start(forever, name="test.other")
    host.runner.close(0.1)
    outcomes = [host.outcome() for _ in range(3)]
    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.CANCELLED}
    assert sorted(outcome.stopped for outcome in outcomes) == [False, True, True]
    with pytest.raises(RuntimeError, match="closed"):
        host.start(same)
    host.runner.close()


def test_close_without_use() -> None:
    """A runner that never ran anything closes at once."""
    ThreadRunner().close()


def test_a_broken_listener_hurts_nobody(host: Host) -> None:
    """An on_done that raises is logged; the thread goes on."""
    context = CapabilityContext("j", DEVICE, deadline_s=time.monotonic() + WAIT_S)
    capability = Capability(name="test.it", description="Test.", handler=same)

    def broken(outcome: Outcome) -> None:
        host.outcomes.put(outcome)
        raise ValueError

    host.runner.start(capability, b"1", context, 10, broken)
    host.outcome()
    host.start(same)
    assert host.outcome().kind is OutcomeKind.SUCCEEDED


def test_no_reactor() -> None:
    """Running capabilities imports no reactor."""
    code = (
        "import sys, palyra.capability.runner, palyra.capability.registry, "
        "palyra_capabilities.echo, palyra_capabilities.system, palyra_capabilities.desktop;"
        "sys.exit('twisted.internet.reactor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
