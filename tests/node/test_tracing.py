"""What a node says in spans of the attempts that it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from palyra.capability.outcome import Outcome, OutcomeKind, succeeded
from palyra.core.tracing import SpanKind
from tests.core.test_tracing import GOOD
from tests.node.fakes import dispatch
from tests.node.test_running import Host
from tests.tracing import FakeTracer


@pytest.fixture
def tracer() -> FakeTracer:
    return FakeTracer()


@pytest.fixture
def host(tmp_path: Path, tracer: FakeTracer) -> Iterator[Host]:
    made = Host(tmp_path / "attempts.sqlite3", tracer=tracer)
    yield made
    made.memory.stop()


def traced(*arguments: Any) -> Any:
    return attrs.evolve(dispatch(*arguments), traceparent=GOOD, input_json=b'{"secret":"in"}')


def test_a_run_is_part_of_its_dispatch(host: Host, tracer: FakeTracer) -> None:
    """From the start of the handler to its end; neither input nor output is told."""
    host.runs.dispatched(traced(1, "test.look"))
    span = tracer.named("run test.look")
    assert (span.kind, span.parent, span.ended) == (SpanKind.SERVER, GOOD, False)
    host.runner.runs[0].on_done(succeeded(b'{"secret":"out"}'))
    assert span.ended and not span.failed
    assert span.facts["palyra.outcome"] == "succeeded"
    assert "secret" not in repr(span)


def test_a_failure_is_seen(host: Host, tracer: FakeTracer) -> None:
    """The span says that it failed, and not in which words."""
    host.runs.dispatched(traced(1, "test.look"))
    outcome = Outcome(OutcomeKind.FAILED, b"", "secret", "the secret words", True)
    host.runner.runs[0].on_done(outcome)
    span = tracer.named("run test.look")
    assert span.failed and "secret" not in repr(span)


def test_what_never_ran_has_no_span(host: Host, tracer: FakeTracer) -> None:
    """A refused dispatch, and one that was cancelled before it began."""
    host.runs.dispatched(traced(1, "test.absent"))
    host.runs.dispatched(traced(2))
    host.runs.cancel(traced(2).attempt_id, "no")
    host.turns.turn()
    assert tracer.spans == []
