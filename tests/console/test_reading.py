"""What a request says: typed, bounded, and refused with its field named."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
import pytest

from palyra.console import models
from palyra.console.reading import MAX_BODY, MAX_INPUT_BODY, MAX_TEXT, MAX_WHERE
from palyra.console.routes import ROUTES
from tests.console.asking import Console

POSTS = [f"/{route.path.replace('{target}', 'ABCD')}" for route in ROUTES if route.method == "POST"]
KEYED = ["/jobs", "/nodes/pi/invoke"]


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"capability":1}',
        b'{"capability":"echo","unknown":1}',
        b'{"capability":"echo","timeout_ms":"1"}',
        b'{"capability":"\xff"}',
        b'{"capability":"echo","input_json":' + b"[" * 50_000,
    ],
)
def test_a_body_that_does_not_fit(console: Console, body: bytes) -> None:
    """400 with the field named; nothing is asked of the control."""
    status, answer, _ = console.ask("POST", "/nodes/pi/invoke", body)
    assert (status, answer["code"]) == (400, "malformed")
    assert answer["validation_errors"][0]["field"] == "body"
    assert console.control.asked == []


def test_bodies_are_bounded(console: Console) -> None:
    """64 KiB, and what an input of 3 MiB needs for an invocation; more is 413."""
    for path, limit in (("/devices/pi/revoke", MAX_BODY), ("/nodes/pi/invoke", MAX_INPUT_BODY)):
        key = b"reason" if limit == MAX_BODY else b"capability"
        frame = b'{"%s":"%s"}' % (key, b"x" * (limit - len(key) - 7))
        assert len(frame) == limit
        assert console.ask("POST", path, frame)[0] == 200
        status, answer, _ = console.ask("POST", path, frame + b" ")
        assert (status, answer["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("path", ["/nodes?limit=x", "/jobs/x?wait_ms=-1", "/jobs/x?wait_ms=%D9%A1"])
def test_a_number_that_is_none(console: Console, path: str) -> None:
    """400 with the name of the parameter."""
    status, answer, _ = console.ask("GET", path)
    assert (status, answer["code"]) == (400, "malformed")
    assert answer["validation_errors"][0]["field"] in ("limit", "wait_ms")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b"\xff",
        b'{"capability":"echo","unknown":1}',
        b'{"capability":"echo","reason":"\\ud800"}',
        b'{"capability":"echo","labels":{"a":1},"reason":[],"device":1,"method":2,"batch":1}',
        b"[" * 60_000,
    ],
)
def test_no_route_takes_what_it_does_not_know(console: Console, path: str, body: bytes) -> None:
    """Keys that a body does not have, other types and other JSON are refused by every route."""
    status, answer, _ = console.ask("POST", path, body)
    assert (status, answer["code"]) == (400, "malformed")
    assert console.control.asked == []


@pytest.mark.parametrize("path", POSTS)
def test_every_body_is_bounded(console: Console, path: str) -> None:
    """64 KiB, where no input is carried."""
    limit = MAX_INPUT_BODY if path == "/jobs" or path.endswith("/invoke") else MAX_BODY
    assert console.ask("POST", path, b" " * (limit + 1))[0] == 413
    assert console.control.asked == []


# -- idempotency keys ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", KEYED)
@pytest.mark.parametrize(
    ("in_body", "in_header"), [("", "k-1"), ("k-1", ""), ("k-1", "k-1"), ("clé", "clé")]
)
def test_a_key_may_come_in_the_header(
    console: Console, path: str, in_body: str, in_header: str
) -> None:
    """The header says what the body's field says; both may say the same."""
    body = msgspec.json.encode({"capability": "echo", "idempotency_key": in_body})
    headers = {"Idempotency-Key": in_header} if in_header else {}
    assert console.ask("POST", path, body, headers)[0] in (200, 202)
    (asked,) = console.control.asked
    (read,) = [each for each in asked if isinstance(each, (models.Invoke, models.SubmitJobs))]
    assert read.idempotency_key == (in_body or in_header)


@pytest.mark.parametrize("path", KEYED)
@pytest.mark.parametrize(
    ("in_body", "in_header"),
    [("k-1", ["k-2"]), ("", ["k-1", "k-2"]), ("", [""]), ("k-1", [""]), ("", [b"\xff"])],
)
def test_keys_that_differ(
    console: Console, path: str, in_body: str, in_header: list[str | bytes]
) -> None:
    """Two keys, or one that is none, are a 400 that names the field; nothing is asked."""
    body = msgspec.json.encode({"capability": "echo", "idempotency_key": in_body})
    status, answer, _ = console.ask("POST", path, body, {b"Idempotency-Key": in_header})
    assert (status, answer["code"]) == (400, "malformed")
    assert answer["validation_errors"][0]["field"] == "idempotency_key"
    assert console.control.asked == []


# -- queries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/jobs?device=a&device=b", "device"),
        ("/jobs?limit=1&limit=2", "limit"),
        ("/jobs?by=" + "x" * (MAX_TEXT + 1), "by"),
        ("/jobs?state=" + "x" * (MAX_TEXT + 1), "state"),
        ("/jobs?state=failed&state=%FF", "state"),
        ("/jobs?fanout=%C3%28", "fanout"),
        ("/nodes?where=" + "x" * (MAX_WHERE + 1), "where"),
        ("/capabilities?name=" + "x" * 65, "name"),
        ("/capabilities?digest=" + "0" * 65, "digest"),
        ("/nodes?where=a&where=b", "where"),
        ("/fanouts/ABCD?cursor=%ED%A0%80", "cursor"),
        ("/fanouts/ABCD?limit=-1", "limit"),
        ("/fanouts/ABCD?limit=", "limit"),
        ("/jobs?state=failed&state=lost", "state"),
        ("/jobs?state=", "state"),
        ("/nodes?trust=maybe", "trust"),
        ("/approvals?kind=device", "kind"),
        ("/pairing/requests?client_kind=phone", "client_kind"),
    ],
)
def test_a_query_that_does_not_fit(console: Console, path: str, field: str) -> None:
    """It is refused, never cut short or guessed at: another list than was asked for is a lie."""
    status, answer, _ = console.ask("GET", path)
    assert (status, answer["code"]) == (400, "malformed")
    assert answer["validation_errors"][0]["field"] == field
    assert console.control.asked == []


def test_a_long_expression(console: Console) -> None:
    """An expression of the length that is allowed arrives whole, every sign of it quoted."""
    where = "(" * MAX_WHERE
    assert console.ask("GET", "/nodes?where=" + quote(where))[0] == 200
    assert console.control.asked == [("nodes", 50, None, where, "", "")]
