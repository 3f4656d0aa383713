"""What the console says in spans of the requests that it answers."""

from __future__ import annotations

import attrs
import pytest

from palyra.console import models
from palyra.core.operators import Role
from palyra.core.tracing import SpanKind, traceparent
from palyra.errors import NotFound
from palyra.testing.control import CONTRACT
from tests.console.asking import ANA, Console
from tests.core.test_tracing import GOOD
from tests.tracing import FakeTracer

STRANGER = attrs.evolve(ANA, role=None)
VIEWER = attrs.evolve(ANA, role=Role.VIEWER)
INVOKE = b'{"capability":"echo","input_json":{"secret":1}}'


@pytest.fixture
def tracer() -> FakeTracer:
    return FakeTracer()


def test_a_request_is_a_span(tracer: FakeTracer) -> None:
    """Named by its operation, with its route and status; not its path, query, body or caller."""
    console = Console(tracer=tracer)
    assert console.ask("GET", "/nodes?limit=secret")[0] == 400
    assert console.ask("GET", "/nodes/secret")[0] == 200
    assert console.ask("POST", "/devices/secret/revoke", b'{"reason":"secret"}')[0] == 200
    assert [span.facts["http.response.status_code"] for span in tracer.spans] == [400, 200, 200]
    span = tracer.spans[1]
    assert (span.kind, span.ended, span.failed) == (SpanKind.SERVER, True, False)
    assert span.facts["http.route"] == "/console/v1/nodes/{target}"
    told = repr(tracer.spans)
    assert "secret" not in told and ANA.name not in told and ANA.operator_id not in told


def test_what_is_asked_is_part_of_it(tracer: FakeTracer) -> None:
    """Whoever is called knows the request's span, and nothing of it is left afterwards."""
    seen: list[str] = []

    def node(target: str) -> models.Contract:
        seen.append(traceparent())
        return CONTRACT

    console = Console(tracer=tracer)
    console.control.answers["node"] = node
    console.ask("GET", "/nodes/pi")
    assert seen == [tracer.spans[0].traceparent]
    assert traceparent() == ""


@pytest.mark.parametrize(
    ("caller", "header", "parent"),
    [
        (ANA, GOOD, GOOD),
        (VIEWER, GOOD, GOOD),
        (STRANGER, GOOD, ""),
        (ANA, GOOD + "0", ""),
        (ANA, "00-\xff", ""),
        (ANA, "", ""),
    ],
)
def test_whose_trace_goes_on(tracer: FakeTracer, caller: object, header: str, parent: str) -> None:
    """That of a caller who was let in, where it is one; a stranger's and a wrong one begin anew."""
    console = Console(caller, tracer)  # type: ignore[arg-type]
    console.ask("GET", "/nodes", headers={b"traceparent": [header.encode("latin-1")]})
    assert tracer.spans[0].parent == parent


def test_refusals_have_their_status(tracer: FakeTracer) -> None:
    """What may not be, what is not there, and what failed: only the last is the gateway's fault."""
    Console(VIEWER, tracer).ask("POST", "/nodes/pi/invoke", INVOKE)
    console = Console(tracer=tracer)
    console.control.answers["node"] = NotFound("device", "pi")
    console.ask("GET", "/nodes/pi")
    told = [(span.facts["http.response.status_code"], span.failed) for span in tracer.spans]
    assert told == [(403, False), (404, False)]
    assert "secret" not in repr(tracer.spans)
