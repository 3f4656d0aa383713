"""The console's resources: what is asked of the control, and how it is answered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from treq.testing import StubTreq
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.web.test.requesthelper import DummyRequest
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.app import MAX_BODY, MAX_INPUT_BODY, PREFIX, ROUTES, ConsoleApp, problem_of
from palyra.console.control import IControl
from palyra.errors import (
    ApprovalFinal,
    CapabilityDisabled,
    Category,
    DeviceOffline,
    DiskFull,
    Draining,
    JobStillRunning,
    LimitReached,
    Malformed,
    NotFound,
    NotRegistered,
    PalyraError,
    PayloadTooLarge,
    PolicyDenied,
    QueueFull,
)
from palyra.testing.control import FakeControl


class Console:
    """An app over a fake control, asked without a network."""

    def __init__(self) -> None:
        self.control = FakeControl()
        self.app = ConsoleApp(self.control, lambda request: "local:ana")
        self.stub: Any = StubTreq(self.app.resource())

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, Any]:
        """Status, body and headers of one request."""
        answer: list[Any] = []
        response = self.stub.request(method, f"http://console{PREFIX}{path}", data=body)
        response.addBoth(answer.append)
        self.stub.flush()
        (given,) = answer
        content: list[bytes] = []
        self.stub.content(given).addCallback(content.append)
        self.stub.flush()
        decoded = msgspec.json.decode(content[0]) if content[0] else None
        return given.code, decoded, given.headers


@pytest.fixture
def console() -> Console:
    return Console()


INVOKE = b'{"capability":"echo","input_json":{"a":[1]},"wait_ms":5,"timeout_ms":1000}'
INVOKED = models.Invoke("echo", msgspec.Raw(b'{"a":[1]}'), None, 1000, 5)
CASES: list[tuple[str, str, bytes | None, tuple[Any, ...]]] = [
    ("GET", "/nodes", None, ("nodes", 50, None)),
    ("GET", "/nodes?limit=7&cursor=9", None, ("nodes", 7, "9")),
    ("GET", "/nodes?limit=0", None, ("nodes", 1, None)),
    ("GET", "/nodes?limit=99999", None, ("nodes", 500, None)),
    ("GET", "/nodes/pending", None, ("pairing_requests", "pending_approval", None, 50, None)),
    ("GET", "/nodes/pi", None, ("node", "pi")),
    ("POST", "/nodes/pi/invoke", INVOKE, ("invoke", "pi", INVOKED, "local:ana")),
    (
        "POST",
        "/devices/pi/revoke",
        b'{"reason":"lost"}',
        ("revoke", "pi", models.Revoke("lost"), "local:ana"),
    ),
    ("POST", "/devices/pi/revoke", None, ("revoke", "pi", models.Revoke(), "local:ana")),
    (
        "GET",
        "/pairing/requests?state=approved&client_kind=cli&limit=3&cursor=x",
        None,
        ("pairing_requests", "approved", "cli", 3, "x"),
    ),
    (
        "POST",
        "/pairing/requests/code",
        b'{"method":"qr","ttl_ms":60000,"labels":{"a":"b"},"source":"192.0.2.0/24"}',
        (
            "mint",
            models.MintCode("qr", "", 60_000, {"a": "b"}, "192.0.2.0/24"),
            "local:ana",
        ),
    ),
    ("GET", "/pairing/requests/ABCD", None, ("pairing_request", "ABCD")),
    (
        "POST",
        "/pairing/requests/ABCD/approve",
        b'{"grants":["echo"],"accept_new_identity":true}',
        ("decide", "ABCD", True, models.Decision("", ["echo"], True), "local:ana"),
    ),
    (
        "POST",
        "/pairing/requests/ABCD/reject",
        b'{"reason":"no"}',
        ("decide", "ABCD", False, models.Decision("no"), "local:ana"),
    ),
    ("GET", "/jobs?state=failed&device=pi&limit=2", None, ("jobs", "failed", "pi", 2, None)),
    ("GET", "/jobs/ABCD", None, ("job", "ABCD", 0)),
    ("GET", "/jobs/ABCD?wait_ms=250", None, ("job", "ABCD", 250)),
    ("GET", "/jobs/ABCD?wait_ms=999999", None, ("job", "ABCD", 60_000)),
    ("GET", "/doctor", None, ("health",)),
]


def test_the_fake_is_a_control() -> None:
    """What these tests run on provides the whole interface."""
    assert verifyObject(IControl, FakeControl())


@pytest.mark.parametrize(("method", "path", "body", "asked"), CASES)
def test_every_route(
    console: Console, method: str, path: str, body: bytes | None, asked: tuple[Any, ...]
) -> None:
    """Each route asks the control exactly what the request says."""
    status, answer, headers = console.ask(method, path, body)
    assert status == 200
    assert [_plain(each) for each in console.control.asked] == [_plain(asked)]
    assert answer == {"contract": {"contract_version": "control-plane.v1"}}
    assert headers.getRawHeaders("content-type") == ["application/json"]
    assert headers.getRawHeaders("cache-control") == ["no-store"]


def test_every_route_has_a_case() -> None:
    """No route is left out above."""
    tried = {(method, path.partition("?")[0]) for method, path, _, _ in CASES}
    for method, path, _ in ROUTES:
        example = path.replace("<target>", "ABCD" if "requests" in path or "jobs" in path else "pi")
        assert (method, example) in tried


@pytest.mark.parametrize("path", ["/nothing", "/nodes/a/b/c", "/nodes/a%2Fb/x", "/"])
def test_no_such_resource(console: Console, path: str) -> None:
    """404 is a problem like any other, in JSON."""
    status, answer, headers = console.ask("GET", path)
    assert (status, answer["code"]) == (404, "not_found")
    assert headers.getRawHeaders("content-type") == ["application/json"]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/nodes"), ("GET", "/nodes/pi/invoke"), ("DELETE", "/jobs/x")]
)
def test_no_such_method(console: Console, method: str, path: str) -> None:
    """405 in JSON; nothing is asked of the control."""
    status, answer, _ = console.ask(method, path)
    assert (status, answer["code"]) == (405, "method_not_allowed")
    assert console.control.asked == []


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


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Malformed("ttl_ms", "is wrong"), 400),
        (PolicyDenied("ana", "do that", "no"), 403),
        (NotFound("device", "pi"), 404),
        (ApprovalFinal("ABCD", "approved"), 409),
        (DeviceOffline("pi"), 412),
        (NotRegistered(), 412),
        (CapabilityDisabled("pi", "echo"), 412),
        (PayloadTooLarge("input", 2, 1), 413),
        (QueueFull("pi", 10), 429),
        (Draining(), 503),
        (JobStillRunning("ABCD", "dispatched"), 504),
        (PalyraError(), 500),
    ],
)
def test_refusals(console: Console, error: PalyraError, status: int) -> None:
    """Each error has its status, and the body says what the error says."""
    console.control.answers["node"] = error
    given, answer, headers = console.ask("GET", "/nodes/pi")
    assert given == status
    assert answer == msgspec.to_builtins(problem_of(error))
    assert (answer["error"], answer["hint"]) == (error.sentence, error.hint)
    assert (answer["category"], answer["retryable"]) == (error.category.value, error.retryable)
    assert headers.getRawHeaders("content-type") == ["application/json"]


def test_every_category_has_a_status(console: Console) -> None:
    """An error of any category is answered, never dropped."""
    for category in Category:

        class Odd(PalyraError):
            pass

        Odd.category = category
        console.control.answers["node"] = Odd()
        assert console.ask("GET", "/nodes/pi")[0] >= 400


def test_when_to_try_again(console: Console) -> None:
    """An error that knows says it in whole seconds, at least one."""
    for after_s, header in ((60.4, "60"), (0.2, "1")):
        console.control.answers["node"] = LimitReached("sessions", 3, after_s)
        _, _, headers = console.ask("GET", "/nodes/pi")
        assert headers.getRawHeaders("retry-after") == [header]


def test_a_fault_is_hidden_and_logged(console: Console) -> None:
    """What is no refusal of ours is a 500 without its words, which the log has."""
    console.control.answers["node"] = _broken
    events = _events(lambda: console.ask("GET", "/nodes/pi"))
    status, answer, _ = console.ask("GET", "/nodes/pi")
    assert (status, answer["code"]) == (500, "internal")
    assert "secret" not in str(answer)
    assert any("console request failed" in str(each.get("log_format")) for each in events)


def test_disk_full_is_told(console: Console) -> None:
    """The operator reads which disk, in one sentence."""
    console.control.answers["invoke"] = DiskFull("/var/lib/palyra")
    _, answer, _ = console.ask("POST", "/nodes/pi/invoke", INVOKE)
    assert "/var/lib/palyra" in answer["error"]


def test_a_caller_that_went_away(console: Console) -> None:
    """What it asked runs to its end, and that nobody hears of it is no fault of the gateway."""
    answer: Deferred[Any] = Deferred()
    console.control.answers["job"] = answer
    request: Any = DummyRequest([b"jobs"])
    request.args = {}

    def leave() -> None:
        given = console.app.job(request, "ABCD")
        given.addErrback(lambda failure: failure.trap(CancelledError) and None)
        given.cancel()
        assert not answer.called
        answer.callback({"contract": 1})

    events = _events(leave)
    assert [each for each in events if each["log_level"] >= LogLevel.error] == []


def _broken(target: str) -> None:
    raise RuntimeError("secret")


def _events(act: Any) -> list[LogEvent]:
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    try:
        act()
    finally:
        globalLogPublisher.removeObserver(observer)
    return events


def _plain(asked: tuple[Any, ...]) -> list[Any]:
    return [msgspec.json.decode(msgspec.json.encode(each)) for each in asked]
