"""What a gateway says in spans of its jobs, and one story from the console to a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palyra.capability.outcome import succeeded
from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import RESULT, GatewayFrame, NodeEvent
from palyra.core.jobs import JobState, Outcome, Report
from palyra.core.tracing import SpanKind, under
from palyra.errors import DeviceOffline, DiskFull
from palyra.gateway.orders import FanoutOrder
from palyra.gateway.tracing import JobTraces
from palyra.observe.tracing import Tracing
from palyra.wire.session import read_frame, write_frame
from tests.console.asking import Console
from tests.core.test_tracing import GOOD
from tests.gateway.enrolling import Gateway
from tests.gateway.house import House, attempt_of, result_of
from tests.node.test_running import Host
from tests.tracing import FakeTracer


@pytest.fixture
def tracer(house: House) -> FakeTracer:
    made = FakeTracer()
    house.dispatcher.trace(JobTraces(made))
    return made


def test_a_job_and_its_attempt(house: House, tracer: FakeTracer) -> None:
    """One span to the end of the job, one to the end of its attempt, which the node is told of."""
    device, node = house.online()
    with under(GOOD):
        job = house.submit(device, input_json=b'{"secret":"in"}')
    node.take()
    of_job, of_attempt = tracer.named("job echo"), tracer.named("dispatch echo")
    assert (of_job.kind, of_job.parent) == (SpanKind.INTERNAL, GOOD)
    assert (of_attempt.kind, of_attempt.parent) == (SpanKind.CLIENT, of_job.traceparent)
    assert node.started[0].traceparent == of_attempt.traceparent
    assert not of_job.ended and not of_attempt.ended
    node.finish(attempt_of(job), Outcome.SUCCEEDED)
    assert of_job.ended and of_attempt.ended and not of_job.failed
    assert of_job.facts == {
        "palyra.job_id": job.call.job_id,
        "palyra.device_id": device.device_id,
        "palyra.capability": "echo",
        "palyra.state": "succeeded",
    }
    assert "secret" not in repr(tracer.spans)


@pytest.mark.parametrize(("code", "told"), [("no_disk", "no_disk"), ("the secret", None)])
def test_a_failed_job(house: House, tracer: FakeTracer, code: str, told: str | None) -> None:
    """Its error's code is told, never its words, nor a code that is words."""
    device, node = house.online()
    job = house.submit(device)
    node.take()
    report = Report(attempt_of(job), Outcome.FAILED, error_code=code, error="the secret")
    node.say(NodeEvent(RESULT, reports=(report,)))
    span = tracer.named("job echo")
    assert span.ended and span.failed
    assert span.facts.get("palyra.error_code") == told
    assert "secret" not in repr(tracer.spans)


def test_a_second_attempt(house: House, tracer: FakeTracer) -> None:
    """A job that a node lost in the middle is sent again: below the same span, as the next one."""
    device, node = house.online()
    job = house.submit(device, "safe")
    node.take()
    node.restart()
    node.connect()
    house.pass_time(30)
    node.take()
    first, second = (span for span in tracer.spans if span.name == "dispatch safe")
    assert first.ended and not second.ended
    assert first.parent == second.parent == tracer.named("job safe").traceparent
    assert (first.facts["palyra.attempt"], second.facts["palyra.attempt"]) == (1, 2)
    node.finish(next(iter(node.running)), Outcome.SUCCEEDED)
    assert house.kept(job).state is JobState.SUCCEEDED and second.ended


def test_sent_again_is_the_same_attempt(house: House, tracer: FakeTracer) -> None:
    """A session that was cut before the node had read: one attempt, one span."""
    device, node = house.online()
    house.submit(device)
    node.hang_up()
    node.connect()
    node.take()
    assert len(node.started) == 1
    assert node.started[0].traceparent == tracer.named("dispatch echo").traceparent


def test_what_was_never_accepted_has_no_end(house: House, tracer: FakeTracer) -> None:
    """A refused call, and one that could not be written: nothing ends, so nothing is told."""
    with pytest.raises(DeviceOffline):
        house.submit(house.device())
    device, node = house.online("pi2")
    house.store.trouble = DiskFull("/var")
    with pytest.raises(DiskFull):
        house.submit(device)
    assert [span.ended for span in tracer.spans] == [False]
    assert node.take().dispatches == []


def test_a_fanout_is_part_of_what_asked_for_it(house: House, tracer: FakeTracer) -> None:
    """Each of its rows is a job below the same span."""
    devices = tuple(house.online(name)[0] for name in ("pi", "pi2"))
    order = FanoutOrder(capability="echo", input_json=b"{}", requested_by="ana", devices=devices)
    with under(GOOD):
        submitted = house.fanouts.submit(order)
    house.pass_time(1)
    result_of(submitted)
    assert [span.parent for span in tracer.spans if span.name == "job echo"] == [GOOD, GOOD]
    assert len([span for span in tracer.spans if span.name == "dispatch echo"]) == 2


def test_a_job_that_was_there_before(house: House) -> None:
    """It is sent without a trace, and ends."""
    device = house.device()
    job = house.submit(device, ttl_ms=600_000)
    tracer = FakeTracer()
    house.dispatcher.trace(JobTraces(tracer))
    node = house.node(device)
    node.connect()
    node.take()
    assert node.started[0].traceparent == ""
    node.finish(next(iter(node.running)), Outcome.SUCCEEDED)
    assert house.kept(job).state is JobState.SUCCEEDED
    assert tracer.spans == []


def test_one_trace_from_the_console_to_the_node_and_back(gateway: Gateway, tmp_path: Path) -> None:
    """Request, job, dispatch and run are one trace, each below the one that caused it; none tells
    what was asked or answered."""
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    spans = memory.InMemorySpanExporter()
    tracing = {
        name: Tracing(export.SimpleSpanProcessor(spans), service=name, instance="1")
        for name in ("palyra", "palyra-node")
    }
    gateway.dispatcher.trace(JobTraces(tracing["palyra"]))
    look = AnnouncedCapability("test.look")
    device = gateway.device(capabilities=(look,))
    node = gateway.node(device)
    result_of(node.connect())
    host = Host(tmp_path / "attempts.sqlite3", tracer=tracing["palyra-node"])
    console = Console(tracer=tracing["palyra"], gateway=gateway.control)

    def carry() -> None:
        node.take()
        for dispatch in node.started:
            frame = write_frame(GatewayFrame(dispatches=[dispatch]), "e", 0)
            (sent,) = read_frame(frame).dispatches
            host.runs.dispatched(sent)
            host.runner.runs[-1].on_done(succeeded(b'{"secret":"out"}'))
            node.finish(sent.attempt_id, output_json=b'{"secret":"out"}')

    body = {"capability": "test.look", "input_json": {"secret": "in"}, "wait_ms": 0}
    headers = {b"traceparent": [GOOD.encode()], b"content-type": [b"application/json"]}
    status, answer, _ = console.ask("POST", "/nodes/pi/invoke", json.dumps(body).encode(), headers)
    assert status in (200, 202), answer
    carry()
    host.memory.stop()
    told = {span.name: span for span in spans.get_finished_spans()}
    chain = ["invoke", "job test.look", "dispatch test.look", "run test.look"]
    assert sorted(told) == sorted(chain)
    parent = int(GOOD[36:52], 16)
    for name in chain:
        span = told[name]
        assert f"{span.context.trace_id:032x}" == GOOD[3:35]
        assert span.parent.span_id == parent
        parent = span.context.span_id
    assert told["run test.look"].resource.attributes["service.name"] == "palyra-node"
    assert "secret" not in "".join(span.to_json() for span in told.values())
