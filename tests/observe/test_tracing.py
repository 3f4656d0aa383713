"""Tests of :mod:`palyra.observe.tracing`."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from palyra.config.root import parse
from palyra.config.tracing import TracingSection
from palyra.core.tracing import SpanKind, checked_traceparent
from palyra.errors import ConfigInvalid, TracingMissing
from palyra.observe.tracing import Exporting, Tracing, open_tracing
from tests.console.asking import logged
from tests.core.test_tracing import GOOD

export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
NOT_SAMPLED = GOOD[:-2] + "00"

OFF = """
import sys
import palyra.gateway.composition, palyra.node.service
from palyra.config.tracing import TracingSection
from palyra.observe.tracing import open_tracing
assert open_tracing(TracingSection(), "palyra", "1") is None
sys.exit(any(name.partition(".")[0] == "opentelemetry" for name in sys.modules))
"""
MISSING = """
import sys
sys.modules["opentelemetry"] = None
from palyra.config.tracing import TracingSection
from palyra.errors import TracingMissing
from palyra.observe.tracing import open_tracing
try:
    open_tracing(TracingSection(endpoint="http://127.0.0.1:1/v1/traces"), "palyra", "1")
except TracingMissing as error:
    sys.exit("palyra[tracing]" not in error.hint)
sys.exit("it was not refused")
"""


class Kept:
    """Tracing whose spans stay in memory."""

    def __init__(self, ratio: float = 1.0) -> None:
        self.spans: Any = memory.InMemorySpanExporter()
        processor = export.SimpleSpanProcessor(self.spans)
        self.tracing = Tracing(processor, service="palyra", instance="gw", ratio=ratio)

    def span(self, parent: str, name: str = "invoke") -> str:
        """Begin and end one; its ``traceparent``."""
        span = self.tracing.begin(name, SpanKind.SERVER, parent, {"palyra.job_id": "j"})
        span.end({"palyra.attempt": 2})
        return span.traceparent

    def told(self) -> list[Any]:
        """What was collected."""
        return list(self.spans.get_finished_spans())


def test_a_span_tells_what_it_was_given() -> None:
    """Its name, kind and facts, whose it is, and nothing else."""
    kept = Kept()
    kept.span("")
    (span,) = kept.told()
    assert (span.name, span.kind.name, span.parent) == ("invoke", "SERVER", None)
    assert dict(span.attributes) == {"palyra.job_id": "j", "palyra.attempt": 2}
    about = span.resource.attributes
    assert (about["service.name"], about["service.instance.id"]) == ("palyra", "gw")
    assert set(about) == {"service.name", "service.instance.id", "service.version"}


def test_spans_are_chained_by_their_traceparent() -> None:
    """What one says of itself is what the next names as its parent."""
    kept = Kept()
    first = kept.span("")
    second = kept.span(first)
    assert checked_traceparent(first) == first
    assert first[3:35] == second[3:35] and first != second
    assert f"{kept.told()[1].parent.span_id:016x}" == first[36:52]


def test_a_failure_is_marked() -> None:
    """Without a word of why."""
    kept = Kept()
    kept.tracing.begin("run", SpanKind.INTERNAL, "", {}).end({}, failed=True)
    (span,) = kept.told()
    assert (span.status.status_code.name, span.status.description) == ("ERROR", None)


@pytest.mark.parametrize(
    ("ratio", "parent", "told"),
    [(0, "", 0), (1, "", 1), (0, GOOD, 1), (1, NOT_SAMPLED, 0)],
)
def test_what_is_sampled(ratio: float, parent: str, told: int) -> None:
    """The ratio decides of traces that begin here; one that was begun goes on as it was."""
    kept = Kept(ratio)
    traceparent = kept.span(parent)
    assert len(kept.told()) == told
    assert int(traceparent[-2:], 16) & 1 == told


def test_it_follows_its_own_context_only() -> None:
    """A span that a library of this process has made current is no parent of ours."""
    from opentelemetry import trace

    kept = Kept()
    foreign = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    with trace.use_span(foreign):
        kept.span("")
    assert kept.told()[0].parent is None


# -- sending -----------------------------------------------------------------------------------


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A collector on loopback: its URL, and the bodies that it was sent."""
    taken: list[bytes] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Taking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", taken
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_are_sent_by_the_end(collector: tuple[str, list[bytes]]) -> None:
    """A stop sends what waits."""
    url, taken = collector
    tracing = open_tracing(TracingSection(endpoint=url), "palyra", "gw")
    assert tracing is not None
    tracing.begin("invoke", SpanKind.SERVER, "", {}).end({})
    tracing.close()
    assert len(taken) == 1 and b"invoke" in taken[0]


def test_a_dead_collector_costs_a_line_in_the_log() -> None:
    """Whatever is traced: one line, and a stop that does not wait for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tracing = Exporting(
        TracingSection(endpoint=f"http://127.0.0.1:{port}/v1/traces"), service="p", instance="g"
    )

    def trace() -> None:
        for _ in range(2_000):
            tracing.begin("invoke", SpanKind.SERVER, "", {}).end({})
        tracing.close()

    lines = [event for event in logged(trace) if event["log_namespace"].startswith("palyra")]
    assert len(lines) <= 1
    assert all(f"127.0.0.1:{port}" in event["endpoint"] for event in lines)
    handlers = logging.getLogger("opentelemetry").handlers
    assert not any(type(each).__module__ == Exporting.__module__ for each in handlers)


def test_a_ca_file_that_is_not_there(tmp_path: Path) -> None:
    """It is found at the start, not when the first spans are lost."""
    section = TracingSection(endpoint="https://a.example/v1/traces", ca_file=str(tmp_path / "ca"))
    with pytest.raises(ConfigInvalid, match=r"tracing\.ca_file"):
        open_tracing(section, "palyra", "gw")


@pytest.mark.parametrize("endpoint", ["a.example:4318", "https://me:word@a.example/", "https://"])
def test_what_is_no_endpoint(endpoint: str) -> None:
    """A URL, without a password in it."""
    with pytest.raises(ConfigInvalid, match="OTLP"):
        parse(f'[tracing]\nendpoint = "{endpoint}"\n', "palyra.toml")


def test_off_costs_no_import() -> None:
    """Without an endpoint nothing of OpenTelemetry is loaded, by a gateway or by a node."""
    done = subprocess.run([sys.executable, "-c", OFF], check=False, timeout=120)
    assert done.returncode == 0


def test_without_the_extra_the_start_is_refused() -> None:
    """With an endpoint: it says what to install."""
    done = subprocess.run([sys.executable, "-c", MISSING], check=False, timeout=120)
    assert done.returncode == 0
    assert "palyra[tracing]" in TracingMissing("no module").hint
