"""The console's resources: what is asked of the control, and how it is answered."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogLevel
from twisted.web.test.requesthelper import DummyRequest
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.control import AuditFilter, IControl, JobFilter
from palyra.console.routes import ROUTES
from palyra.console.routing import JSON
from palyra.core.audit import Acting, acting
from palyra.core.operators import Right, Role
from palyra.errors import DiskFull, SignInRequired
from palyra.testing.control import NO_CRL, FakeControl
from tests.console.asking import ANA, Console, item, logged


@pytest.fixture
def console() -> Console:
    return Console()


INVOKE = b'{"capability":"echo","input_json":{"a":[1]},"wait_ms":5,"timeout_ms":1000}'
INVOKED = models.Invoke("echo", msgspec.Raw(b'{"a":[1]}'), None, 1000, 5)
SUBMIT = (
    b'{"capability":"echo","where":"all","input_json":[1],"batch":"25%","max_failures":0,'
    b'"ttl_ms":1000,"idempotency_key":"k"}'
)
SUBMITTED = models.SubmitJobs(
    "echo",
    where="all",
    input_json=msgspec.Raw(b"[1]"),
    ttl_ms=1000,
    idempotency_key="k",
    batch="25%",
    max_failures=0,
)
CASES: list[tuple[str, str, bytes | None, tuple[Any, ...]]] = [
    ("GET", "/nodes", None, ("nodes", 50, None, "", "", "")),
    ("GET", "/nodes?limit=7&cursor=9", None, ("nodes", 7, "9", "", "", "")),
    ("GET", "/nodes?limit=0", None, ("nodes", 1, None, "", "", "")),
    ("GET", "/nodes?limit=99999", None, ("nodes", 500, None, "", "", "")),
    (
        "GET",
        "/nodes?where=platform%20~%20linux%20and%20label.a%3Db",
        None,
        ("nodes", 50, None, "platform ~ linux and label.a=b", "", ""),
    ),
    ("GET", "/nodes/pending", None, ("pairing_requests", "pending_approval", None, 50, None)),
    ("GET", "/nodes/pi", None, ("node", "pi")),
    ("GET", "/devices/pi/journal?limit=7&cursor=9", None, ("journal", "pi", 7, "9")),
    ("GET", "/devices/pi/pairing?limit=7&cursor=x", None, ("pairing_history", "pi", 7, "x")),
    ("POST", "/nodes/pi/invoke", INVOKE, ("invoke", "pi", INVOKED, ANA)),
    (
        "POST",
        "/devices/pi/revoke",
        b'{"reason":"lost"}',
        ("revoke", "pi", models.Revoke("lost"), ANA),
    ),
    ("POST", "/devices/pi/revoke", None, ("revoke", "pi", models.Revoke(), ANA)),
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
            ANA,
        ),
    ),
    ("POST", "/pairing/codes/ABCD/withdraw", None, ("withdraw_code", "ABCD", ANA)),
    ("GET", "/capabilities", None, ("capabilities", 50, None, "", "")),
    (
        "GET",
        "/capabilities?name=echo&limit=2&digest=ab",
        None,
        ("capabilities", 2, None, "echo", "ab"),
    ),
    ("GET", "/pairing/requests/ABCD", None, ("pairing_request", "ABCD")),
    (
        "POST",
        "/pairing/requests/ABCD/approve",
        b'{"grants":["echo"],"accept_new_identity":true,"grant_risk":"high"}',
        ("decide", "ABCD", True, models.Decision("", ["echo"], "high", True), ANA),
    ),
    (
        "POST",
        "/pairing/requests/ABCD/reject",
        b'{"reason":"no"}',
        ("decide", "ABCD", False, models.Decision("no"), ANA),
    ),
    (
        "POST",
        "/devices/pi/labels",
        b'{"name":"shed","labels":{"site":"brno","kiosk":""},"unlabel":["old"]}',
        (
            "label",
            "pi",
            models.LabelNode("shed", {"site": "brno", "kiosk": ""}, ["old"]),
            ANA,
        ),
    ),
    (
        "POST",
        "/devices/pi/grants",
        b'{"grant":["echo"],"withhold":["a.b"],"grant_risk":"none"}',
        ("grant", "pi", models.GrantNode(["echo"], ["a.b"], "none"), ANA),
    ),
    ("POST", "/devices/pi/grants", None, ("grant", "pi", models.GrantNode(), ANA)),
    (
        "POST",
        "/devices/rotate",
        b'{"where":"all","reason":"new disk"}',
        ("rotate", models.Rotate(where="all", reason="new disk"), ANA),
    ),
    (
        "POST",
        "/devices/rotate",
        b'{"targets":["pi","nas"]}',
        ("rotate", models.Rotate(["pi", "nas"]), ANA),
    ),
    (
        "POST",
        "/devices/rotate",
        b'{"everything":true}',
        ("rotate", models.Rotate(everything=True), ANA),
    ),
    (
        "POST",
        "/devices/pi/rotate",
        b'{"reason":"lost a backup"}',
        ("rotate", models.Rotate(["pi"], reason="lost a backup"), ANA),
    ),
    ("POST", "/devices/pi/rotate", None, ("rotate", models.Rotate(["pi"]), ANA)),
    (
        "POST",
        "/devices/pi/remove",
        b'{"reason":"sold"}',
        ("remove", "pi", models.Remove("sold"), ANA),
    ),
    ("POST", "/devices/clear", None, ("clear", models.Remove(), ANA)),
    ("GET", "/ca", None, ("ca",)),
    (
        "POST",
        "/ca/rotate",
        b'{"reason":"yearly"}',
        ("rotate_ca", models.RotateCa("yearly"), ANA),
    ),
    ("GET", "/state", None, ("state",)),
    ("POST", "/state/confirm", None, ("confirm_state", ANA)),
    ("POST", "/state/confirm", b"{}", ("confirm_state", ANA)),
    ("GET", "/jobs", None, ("jobs", JobFilter(), 50, None)),
    (
        "GET",
        "/jobs?state=failed&device=pi&limit=2&state=expired&state=failed&capability=echo&by=local:ana"
        "&fanout=FAN1&cursor=c",
        None,
        ("jobs", JobFilter(("failed", "expired"), "pi", "echo", "local:ana", "FAN1"), 2, "c"),
    ),
    ("GET", "/jobs?device=&fanout=", None, ("jobs", JobFilter(), 50, None)),
    ("POST", "/jobs", SUBMIT, ("submit", SUBMITTED, ANA)),
    ("POST", "/jobs/purge", b'{"device":"pi"}', ("purge", models.PurgeJobs("pi"), ANA)),
    (
        "POST",
        "/jobs/purge",
        b'{"reason":"moving"}',
        ("purge", models.PurgeJobs(reason="moving"), ANA),
    ),
    ("POST", "/jobs/purge", None, ("purge", models.PurgeJobs(), ANA)),
    (
        "POST",
        "/jobs/ABCD/cancel",
        b'{"reason":"no"}',
        ("cancel_job", "ABCD", models.CancelJob("no"), ANA),
    ),
    ("GET", "/fanouts/ABCD", None, ("fanout", "ABCD", 50, None)),
    ("GET", "/fanouts/ABCD?limit=500&cursor=c", None, ("fanout", "ABCD", 500, "c")),
    (
        "POST",
        "/fanouts/ABCD/cancel",
        None,
        ("cancel_fanout", "ABCD", models.CancelJob(), ANA),
    ),
    ("GET", "/jobs/ABCD", None, ("job", "ABCD", 0)),
    ("GET", "/jobs/ABCD?wait_ms=250", None, ("job", "ABCD", 250)),
    ("GET", "/jobs/ABCD?wait_ms=999999", None, ("job", "ABCD", 60_000)),
    ("GET", "/doctor", None, ("health",)),
    ("GET", "/inventory?where=all", None, ("nodes", 50, None, "all", "", "")),
    ("GET", "/devices", None, ("nodes", 50, None, "", "", "")),
    ("GET", "/inventory/pi", None, ("node", "pi")),
    ("GET", "/devices/pi", None, ("node", "pi")),
    (
        "GET",
        "/approvals?state=pending&kind=call&limit=2&cursor=c",
        None,
        ("approvals", "pending", "call", 2, "c", ANA),
    ),
    ("GET", "/approvals/ABCD", None, ("approval", "ABCD", ANA)),
    (
        "POST",
        "/approvals/ABCD/decision",
        b'{"decision":"approve","digest":"d","scope":"timeboxed","scope_ttl_ms":5}',
        ("decide", "ABCD", models.ApprovalDecision("approve", "d", "", "timeboxed", 5), ANA),
    ),
    ("POST", "/auth/link", None, ("link", ANA)),
    (
        "POST",
        "/auth/login/preview",
        b'{"token":"t"}',
        ("preview", models.SignInToken("t"), ANA),
    ),
    ("GET", "/auth/self", None, ("self", ANA)),
    ("GET", "/operators?limit=3", None, ("operators", 3, None)),
    (
        "POST",
        "/operators/invite",
        b'{"name":"bo","role":"approver"}',
        ("invite", models.InviteOperator("bo", "approver"), ANA),
    ),
    (
        "POST",
        "/operators/enrol",
        b'{"token":"t","csr":"c","signature":"s"}',
        ("enrol", models.EnrolOperator("t", "c", "s"), ANA),
    ),
    (
        "POST",
        "/operators/self/renew",
        b'{"csr":"c"}',
        ("renew", models.RenewOperator("c"), ANA),
    ),
    (
        "POST",
        "/operators/ABCD/role",
        b'{"role":"viewer"}',
        ("change_role", "ABCD", models.ChangeRole("viewer"), ANA),
    ),
    (
        "POST",
        "/operators/ABCD/revoke",
        b'{"reason":"left"}',
        ("revoke", "ABCD", models.RevokeOperator("left"), ANA),
    ),
    (
        "GET",
        "/audit?who=ana&action=job.&subject=job:1&chain=C&after_seq=0&limit=9",
        None,
        ("rows", AuditFilter("ana", "job.", "job:1", "C", 0), 9, None),
    ),
    ("GET", "/audit", None, ("rows", AuditFilter(), 50, None)),
    ("GET", "/audit/heads", None, ("heads", 50, None)),
    ("GET", "/audit/verify", None, ("verify",)),
]
SIGN_IN = {"sign_in", "sign_out"}
"""Routes that are asked with the request itself, whose cookie they set or read."""


def test_the_fake_is_a_control() -> None:
    """What these tests run on provides the whole interface."""
    assert verifyObject(IControl, FakeControl())


@pytest.mark.parametrize(("method", "path", "body", "asked"), CASES)
def test_every_route(
    console: Console, method: str, path: str, body: bytes | None, asked: tuple[Any, ...]
) -> None:
    """Each route asks the control exactly what the request says."""
    status, answer, headers = console.ask(method, path, body)
    assert status == (202 if asked[0] == "submit" else 200), answer
    assert [_plain(each) for each in console.control.asked] == [_plain(asked)]
    assert answer == {"contract": {"contract_version": "control-plane.v1"}}
    assert headers.getRawHeaders("content-type") == ["application/json"]
    assert headers.getRawHeaders("cache-control") == ["no-store"]


def test_every_route_has_a_case() -> None:
    """No route is left out above; what does not answer with JSON has tests of its own."""
    tried = {(method, path.partition("?")[0]) for method, path, _, _ in CASES}
    for route in ROUTES:
        device = route.path.startswith(("nodes", "devices", "inventory"))
        example = route.path.replace("{target}", "pi" if device else "ABCD")
        plain = route.follow is None and route.media_type == JSON
        assert (route.method, f"/{example}") in tried or not plain or route.name in SIGN_IN


@pytest.mark.parametrize("path", ["/nothing", "/nodes/a/b/c", "/nodes/a%2Fb/x", "/"])
def test_no_such_resource(console: Console, path: str) -> None:
    """404 is a problem like any other, in JSON."""
    status, answer, headers = console.ask("GET", path)
    assert (status, answer["code"]) == (404, "not_found")
    assert headers.getRawHeaders("content-type") == ["application/json"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/nodes", "GET, HEAD"),
        ("GET", "/nodes/pi/invoke", "POST"),
        ("DELETE", "/jobs/x", "GET, HEAD"),
        ("PUT", "/jobs", "GET, HEAD, POST"),
        ("GET", "/jobs/x/cancel", "POST"),
        ("GET", "/devices/pi/labels", "POST"),
        ("PUT", "/devices/rotate", "GET, HEAD, POST"),
        ("POST", "/ca", "GET, HEAD"),
        ("POST", "/crl.pem", "GET, HEAD"),
        ("DELETE", "/state", "GET, HEAD"),
    ],
)
def test_no_such_method(console: Console, method: str, path: str, allowed: str) -> None:
    """405 in JSON, with the methods there are; nothing is asked of the control."""
    status, answer, headers = console.ask(method, path)
    assert (status, answer["code"]) == (405, "method_not_allowed")
    assert headers.getRawHeaders("allow") == [allowed]
    assert console.control.asked == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/devices/pi/rotate", b'{"targets":["nas"]}'),
        ("/devices/pi/rotate", b'{"where":"all"}'),
        ("/devices/pi/rotate", b'{"everything":true}'),
        ("/devices/pi/remove", b'{"force":true}'),
        ("/devices/clear", b'{"targets":["pi"]}'),
        ("/devices/pi/grants", b'{"grant":"echo"}'),
        ("/ca/rotate", b'{"phase":"steady"}'),
        ("/state/confirm", b'{"serving":true}'),
        ("/state/confirm", b"[" * 70_000),
    ],
)
def test_a_body_that_says_something_else(console: Console, path: str, body: bytes) -> None:
    """Unknown keys, other types, two choices of devices and long bodies change nothing."""
    status, answer, _ = console.ask("POST", path, body)
    assert (status, answer["code"]) in ((400, "malformed"), (413, "payload_too_large"))
    assert console.control.asked == []


def test_the_crl_is_pem(console: Console) -> None:
    """The lists come as they were signed; a refusal is JSON like any other."""
    status, content, headers = console.fetch("/crl.pem")
    assert (status, content, console.control.asked) == (200, NO_CRL, [("crl",)])
    assert headers.getRawHeaders("content-type") == ["application/x-pem-file"]
    assert headers.getRawHeaders("cache-control") == ["no-store"]
    console.control.answers["crl"] = DiskFull("/var/lib/palyra")
    status, answer, headers = console.ask("GET", "/crl.pem")
    assert (status, answer["code"]) == (503, "disk_full")
    assert headers.getRawHeaders("content-type") == ["application/json"]


def test_a_fault_is_hidden_and_logged(console: Console) -> None:
    """What is no refusal of ours is a 500 without its words, which the log has."""
    console.control.answers["node"] = _broken
    events = logged(lambda: console.ask("GET", "/nodes/pi"))
    status, answer, _ = console.ask("GET", "/nodes/pi")
    assert (status, answer["code"]) == (500, "internal")
    assert "secret" not in str(answer)
    assert any("console request failed" in str(each.get("log_format")) for each in events)


def test_ten_thousand_rows_in_one_answer(console: Console) -> None:
    """A row for every target, also for those that could not be asked."""
    rows = [item(f"JOB{number:05}") for number in range(10_000)]
    counts = {"dispatched": 10_000}
    fanout = models.FanoutItem("F", "echo", "all", "ana", 1, 10_000, 5, 0, counts, False, False)
    page = models.Page(10_000, 10_000, False)
    given = models.FanoutAnswer(models.Contract(), page, fanout, rows)
    console.control.answers["submit"] = given
    status, answer, _ = console.ask("POST", "/jobs", SUBMIT)
    assert status == 202
    assert msgspec.convert(answer, models.FanoutAnswer) == given


def test_many_targets_by_name(console: Console) -> None:
    """Ten thousand ids fit into one body."""
    targets = [f"01J{number:023}" for number in range(10_000)]
    body = msgspec.json.encode(models.SubmitJobs("echo", targets))
    assert console.ask("POST", "/jobs", body)[0] == 202
    assert console.control.asked[0][1].targets == targets


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
        (show,) = [route for route in ROUTES if route.name == "show_job"]
        given = console.app._answer(show, request, "ABCD")
        given.addErrback(lambda failure: failure.trap(CancelledError) and None)
        given.cancel()
        assert not answer.called
        answer.callback({"contract": 1})

    events = logged(leave)
    assert [each for each in events if each["log_level"] >= LogLevel.error] == []


@pytest.mark.parametrize(
    ("method", "path", "told"), [("GET", "/nodes", 401), ("POST", "/auth/logout", 200)]
)
def test_what_is_not_told_any_more(console: Console, method: str, path: str, told: int) -> None:
    """Somebody was revoked while they waited; who ended it themselves hears that it was done."""

    def revoked(*_: object) -> dict[str, int]:
        console.admission.refusal = SignInRequired()
        return {"contract": 1}

    console.control.answers["nodes"] = console.control.answers["sign_out"] = revoked
    status, _, _ = console.ask(method, path, b"{}" if method == "POST" else None)
    assert status == told


def _broken(target: str) -> None:
    raise RuntimeError("secret")


def _plain(asked: tuple[Any, ...]) -> list[Any]:
    return [msgspec.json.decode(msgspec.json.encode(each)) for each in asked]


@pytest.mark.parametrize("role", [None, *Role])
def test_every_route_asks_for_its_right(role: Role | None) -> None:
    """A role without the right gets 403 before anything of the body is read or asked."""
    caller = attrs.evolve(ANA, role=role)
    console = Console(caller)
    for route in ROUTES:
        console.control.asked.clear()
        path = f"/{route.path.replace('{target}', 'ABCD')}"
        if route.right is None or caller.may(route.right):
            continue
        status, answer, _ = console.ask(route.method, path, b"{" if route.body else None)
        assert (status, answer["code"]) == (403, "role_denied"), route.name
        assert console.control.asked == []


def test_roles_are_as_documented() -> None:
    """A viewer reads; an operator also submits; an approver also decides; an admin does all."""
    may = {role: {right.value for right in Right if role.may(right)} for role in Role}
    assert may == {
        Role.VIEWER: {"read"},
        Role.OPERATOR: {"read", "submit"},
        Role.APPROVER: {"read", "decide"},
        Role.ADMIN: {"read", "submit", "decide", "administer"},
    }


def test_a_misspelt_filter_is_refused(console: Console) -> None:
    """It would show everything, and look as if nothing had been filtered."""
    status, answer, _ = console.ask("GET", "/nodes?were=all")
    assert (status, answer["validation_errors"][0]["field"]) == (400, "were")
    assert console.control.asked == []


def test_who_asks_is_known_to_what_is_asked(console: Console) -> None:
    """Also after a wait, and no longer than the request: audit rows say on whose behalf."""
    waited: Deferred[None] = Deferred()
    seen: list[Acting | None] = []

    async def answer() -> dict[str, str]:
        seen.append(acting())
        await waited
        seen.append(acting())
        return {}

    console.control.answers["ca"] = lambda: Deferred.fromCoroutine(answer())
    (show,) = [route for route in ROUTES if route.name == "show_ca"]
    request: Any = DummyRequest([b"ca"])
    request.args = {}
    console.app._answer(show, request, "")
    assert acting() is None
    waited.callback(None)
    assert seen == [Acting("local:1000", "ana", "console.sock")] * 2
