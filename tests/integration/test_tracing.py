"""Real processes that send their spans to a collector."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.integration.house import QUICK_NODE, House
from tests.integration.processes import eventually

pytest.importorskip("opentelemetry.sdk.trace")


class Collector:
    """Takes OTLP over HTTP on loopback."""

    def __init__(self) -> None:
        self.spans: dict[str, Any] = {}
        """By name; the newest of each."""
        collector = self

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.take(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans.update({span.name: span for span in scope.spans})

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def test_a_trace_goes_to_the_node_and_back(house: House, collector: Collector) -> None:
    """The gateway and the node host each send their part of it, over the session's transport."""
    tracing = f'[tracing]\nendpoint = "{collector.url}"\n'
    gateway = house.gateway(config=tracing).start()
    node = house.node()
    house.write_config(node.root, QUICK_NODE + tracing)
    node.pair(gateway)
    gateway.online(node.device_id)
    gateway.ended(gateway.submit(node.device_id, "echo", b'{"secret":1}'))
    node.process.terminate()
    gateway.process.terminate()
    chain = ["invoke", "job echo", "dispatch echo", "run echo"]
    eventually(lambda: set(chain) <= set(collector.spans), "every span is there")
    spans = [collector.spans[name] for name in chain]
    assert len({span.trace_id for span in spans}) == 1
    for above, below in itertools.pairwise(spans):
        assert below.parent_span_id == above.span_id
    assert "secret" not in str(spans)
