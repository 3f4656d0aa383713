"""Control: what operators ask, through the bodies they are answered with."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.control import IControl, JobFilter
from palyra.core.identifiers import short_id
from palyra.core.jobs import Outcome
from palyra.core.pairing_uri import PairingUri
from palyra.errors import AmbiguousTarget, DeviceOffline, IdentityChanged, Malformed, NotFound
from tests.callers import ANA
from tests.gateway.enrolling import AUTHORITY, Applicant, Gateway
from tests.gateway.house import fired, result_of
from tests.store.samples import ulid


def encoded(body: Any) -> Any:
    """An answer as a program reads it."""
    return msgspec.json.decode(msgspec.json.encode(body))


def test_the_control_is_one(gateway: Gateway) -> None:
    """It provides what the console asks."""
    assert verifyObject(IControl, gateway.control)


# -- nodes --------------------------------------------------------------------------------------


def test_the_inventory_is_ordered(gateway: Gateway) -> None:
    """Online first, then offline, each by name; pages follow one another."""
    gateway.device("b-off")
    gateway.device("a-off")
    gateway.online("z-on")
    gateway.online("c-on")
    Applicant().apply(gateway)
    answer = result_of(gateway.control.nodes(50, None, ""))
    assert [each.name for each in answer.nodes] == ["c-on", "z-on", "a-off", "b-off"]
    assert answer.waiting_for_approval == 1 and not answer.page.has_more
    first = result_of(gateway.control.nodes(3, None, ""))
    assert (first.page.returned, first.page.has_more) == (3, True)
    rest = result_of(gateway.control.nodes(3, first.page.next_cursor, ""))
    assert [each.name for each in rest.nodes] == ["b-off"]
    assert (rest.page.has_more, rest.page.next_cursor) == (False, None)
    assert result_of(gateway.control.nodes(3, "2" + 26 * "7" + "z", "")).nodes == []


@pytest.mark.parametrize("cursor", ["", "-1", "x", "9" * 10, "١"])
def test_a_cursor_that_no_list_gave(gateway: Gateway, cursor: str) -> None:
    """It is refused by name."""
    with pytest.raises(Malformed):
        result_of(gateway.control.nodes(3, cursor, ""))


def test_a_node_in_full(gateway: Gateway) -> None:
    """One device, by name, id or prefix, with what it has and may."""
    device, _node = gateway.online()
    gateway.submit(device)
    for target in ("pi", device.device_id, short_id(device.device_id)):
        item = result_of(gateway.control.node(target)).node
    assert (item.presence, item.trust, item.jobs_running) == ("online", "trusted", 1)
    assert (item.transport, item.address, item.approved_by) == ("grpc", "192.0.2.7", "operator:ana")
    assert item.certificate_expires_unix_ms is not None
    broken = next(each for each in item.capabilities if each.name == "broken")
    assert (broken.available, broken.granted) == (False, True)
    with pytest.raises(NotFound):
        result_of(gateway.control.node("nobody"))


def test_a_device_that_was_never_here(gateway: Gateway) -> None:
    """It is offline, and nothing is invented about it."""
    gateway.device()
    item = result_of(gateway.control.node("pi")).node
    assert (item.presence, item.last_heard_unix_ms, item.jobs_running) == ("offline", None, 0)


# -- invoking -----------------------------------------------------------------------------------


def invoked(gateway: Gateway, target: str = "pi", **changes: Any) -> Any:
    body = models.Invoke(**{"capability": "echo", **changes})
    return gateway.control.invoke(target, body, ANA)


def test_invoking_waits_for_the_output(gateway: Gateway) -> None:
    """The answer is the output itself, as JSON."""
    _, node = gateway.online()
    answer = invoked(gateway, input_json=msgspec.Raw(b'{"text":"hi"}'))
    (dispatch,) = node.take().dispatches
    assert dispatch.input_json == b'{"text":"hi"}'
    node.finish(dispatch.attempt_id, output_json=b'{"echo":"hi"}')
    body = encoded(result_of(answer))
    assert (body["success"], body["state"], body["output_json"]) == (
        True,
        "succeeded",
        {"echo": "hi"},
    )
    assert (body["error"], body["error_code"]) == (None, None)
    assert body["contract"] == {"contract_version": "control-plane.v1"}


def test_invoking_without_waiting(gateway: Gateway) -> None:
    """``wait_ms`` 0 answers with the job as it was accepted; otherwise it is waited so long."""
    _, node = gateway.online()
    body = encoded(result_of(invoked(gateway, wait_ms=0)))
    assert (body["success"], body["state"], body["output_json"]) == (False, "dispatched", None)
    answer = invoked(gateway, wait_ms=2_000)
    gateway.pass_time(2.5)
    assert result_of(answer).state == "dispatched"
    default = invoked(gateway, timeout_ms=10_000)
    gateway.pass_time(9)
    assert not fired(default)
    gateway.pass_time(4)
    assert result_of(default).state == "timed_out"
    node.take()


def test_a_failure_is_told(gateway: Gateway) -> None:
    """The error's words and code, and no output."""
    _, node = gateway.online()
    answer = invoked(gateway)
    node.take()
    node.finish(next(iter(node.running)), Outcome.FAILED)
    body = encoded(result_of(answer))
    assert (body["success"], body["error_code"], body["output_json"]) == (False, "failed", None)


def test_refusals_are_failures_of_the_answer(gateway: Gateway) -> None:
    """Nothing is raised at the caller itself."""
    gateway.device("off")
    for target, error in (("nobody", NotFound), ("off", DeviceOffline)):
        answer = invoked(gateway, target)
        with pytest.raises(error):
            result_of(answer)


def test_revoking(gateway: Gateway) -> None:
    """The answer names the device and how many certificates ended; the list shows it revoked."""
    gateway.online()
    answer = result_of(gateway.control.revoke("pi", models.Revoke("lost"), ANA))
    assert (answer.name, answer.certificates) == ("pi", 1)
    item = result_of(gateway.control.node("pi")).node
    assert (item.trust, item.presence) == ("revoked", "offline")


# -- pairing ------------------------------------------------------------------------------------


def test_minting_a_line(gateway: Gateway) -> None:
    """The pairing line names the gateway, the CA and the token; lists never show it again."""
    body = models.MintCode(method="qr", labels={"site": "a"})
    answer = result_of(gateway.control.mint(body, ANA))
    uri = PairingUri.parse(answer.uri)
    assert (uri.host, uri.port, uri.ca.hex()) == ("gateway.test", 7443, AUTHORITY.ca_hash)
    assert (answer.address, answer.loopback_only) == ("gateway.test:7443", False)
    assert (answer.code.issued_by, answer.code.labels) == ("ana", {"site": "a"})
    listed = result_of(gateway.control.pairing_requests(None, None, 50, None))
    assert [each.code_id for each in listed.codes] == [answer.code.code_id]
    assert str(uri).rpartition("t=")[2] not in str(encoded(listed)) and answer.pin == ""


def test_minting_a_pin(gateway: Gateway) -> None:
    """That is what is minted unless somebody asks for a line; it is shown once, beside its
    public nameplate, and there is no third way."""
    first, second = (result_of(gateway.control.mint(models.MintCode(), ANA)) for _ in range(2))
    assert (len(first.pin), second.pin[:2], len(second.pin)) == (6, "2-", 8)
    assert (first.uri, first.address, first.code.method) == ("", "gateway.test:7443", "pin")
    listed = result_of(gateway.control.pairing_requests(None, None, 50, None))
    assert {each.nameplate for each in listed.codes} == {1, 2}
    for secret in (first.pin, second.pin[2:]):
        assert secret not in str(encoded(listed)) + repr(first) + repr(second)
    for method in ("rejoin", "sms", ""):
        with pytest.raises(Malformed):
            result_of(gateway.control.mint(models.MintCode(method=method), ANA))


def test_requests_are_found_and_decided(gateway: Gateway) -> None:
    """By full id, by prefix, or by the name of the device that waits."""
    request_id = Applicant(1).apply(gateway).request_id
    control = gateway.control
    for target in (request_id, request_id.lower(), short_id(request_id), "pi"):
        assert result_of(control.pairing_request(target)).request.request_id == request_id
    for target in (ulid("none"), "nobody", "ZZZZ"):
        with pytest.raises(NotFound):
            result_of(control.pairing_request(target))
    with pytest.raises(Malformed):
        result_of(control.decide("pi", True, models.Decision(decision_scope="session"), ANA))
    body = models.Decision(grants=["echo"])
    item = result_of(control.decide("pi", True, body, ANA)).request
    assert (item.state, item.decided_by) == ("approved", "ana")
    assert [each.name for each in item.capabilities if each.granted] == ["echo"]
    with pytest.raises(NotFound):
        result_of(control.pairing_request("pi"))
    Applicant(2, name="nas").apply(gateway)
    no = result_of(control.decide("nas", False, models.Decision(reason="no"), ANA)).request
    assert (no.state, no.reason) == ("rejected", "no")


def test_requests_are_listed(gateway: Gateway) -> None:
    """Newest first, by state and kind, in pages; wrong tries are shown beside them."""
    ids = []
    for seed in range(1, 5):
        ids.append(Applicant(seed).apply(gateway).request_id)
        gateway.pass_time(1)
    gateway.reject(ids[0])
    control = gateway.control
    pending = result_of(control.pairing_requests("pending_approval", None, 2, None))
    assert [each.request_id for each in pending.requests] == [ids[3], ids[2]]
    assert pending.page.has_more
    rest = result_of(
        control.pairing_requests("pending_approval", None, 2, pending.page.next_cursor)
    )
    assert [each.request_id for each in rest.requests] == [ids[1]] and not rest.page.has_more
    assert result_of(control.pairing_requests(None, "cli", 50, None)).requests == []
    with pytest.raises(Malformed):
        result_of(control.pairing_requests("pending", None, 50, None))
    with pytest.raises(Exception, match="wrong"):
        gateway.open("A" * 22)
    listed = result_of(control.pairing_requests(None, None, 50, None))
    assert [(each.source, each.count) for each in listed.failed_tries] == [("192.0.2.7", 1)]


def test_what_was_seen_before(gateway: Gateway) -> None:
    """An operator reads whether the device id is new, known, known with another key or revoked."""
    control = gateway.control

    def seen(request_id: str) -> models.SeenBefore:
        return result_of(control.pairing_request(request_id)).request.seen_before

    first = Applicant(1)
    assert seen(first.apply(gateway).request_id).kind == "never"
    first = Applicant(2)
    first.pair(gateway)
    assert seen(Applicant(2).apply(gateway).request_id).kind == "same_key"
    other = Applicant(3, device_id=first.device_id).apply(gateway).request_id
    assert seen(other).kind == "another_key"
    with pytest.raises(IdentityChanged):
        result_of(control.decide(other, True, models.Decision(), ANA))
    result_of(control.revoke(first.device_id, models.Revoke("lost"), ANA))
    before = seen(other)
    assert (before.kind, before.by, before.reason) == ("revoked", "ana", "lost")


# -- jobs and health ------------------------------------------------------------------------------


def test_jobs_are_listed(gateway: Gateway) -> None:
    """Newest first, by state and device, in pages, with a summary that is redacted and cut."""
    device, node = gateway.online()
    jobs = []
    for number in range(3):
        job = gateway.submit(device)
        jobs.append(job.call.job_id)
        gateway.pass_time(1)
        node.take()
        output = msgspec.json.encode({"text": "x" * 500, "number": number})
        node.finish(next(iter(node.running)), output_json=output)
    control = gateway.control
    first = result_of(control.jobs(JobFilter(states=("succeeded",), device="pi"), 2, None))
    assert [each.job_id for each in first.jobs] == [jobs[2], jobs[1]] and first.page.has_more
    rest = result_of(control.jobs(JobFilter(), 2, first.page.next_cursor))
    assert [each.job_id for each in rest.jobs] == [jobs[0]]
    assert 0 < len(rest.jobs[0].note) <= 240
    for wrong in (
        JobFilter(states=("done",)),
        JobFilter(device="nobody"),
        JobFilter(fanout="FFFF"),
    ):
        with pytest.raises((Malformed, NotFound)):
            result_of(control.jobs(wrong, 2, None))


def test_one_job(gateway: Gateway) -> None:
    """By id or prefix, live or final, at once or when it ends."""
    device, node = gateway.online()
    job = gateway.submit(device, input_json=b'{"a":1}')
    control = gateway.control
    live = encoded(result_of(control.job(job.call.job_id, 0)))
    assert (live["job"]["state"], live["output_json"]) == ("dispatched", None)
    waits = control.job(short_id(job.call.job_id, 8), 20_000)
    node.take()
    node.finish(next(iter(node.running)), output_json=b"[1]")
    body = encoded(result_of(waits))
    assert (body["job"]["state"], body["input_json"], body["output_json"]) == (
        "succeeded",
        {"a": 1},
        [1],
    )
    assert result_of(control.job(job.call.job_id.lower(), 20_000)).job.state == "succeeded"
    for target in (ulid("none"), "abc", "ZZZZ"):
        with pytest.raises(NotFound):
            result_of(control.job(target, 0))


def test_an_ambiguous_job(gateway: Gateway) -> None:
    """A prefix that fits several jobs names them."""
    device, _ = gateway.online()
    gateway.intake._entropy = lambda size: b"\x01" * 4 + gateway.entropy(size - 4)
    ids = [gateway.submit(device).call.job_id for _ in range(2)]
    with pytest.raises(AmbiguousTarget) as caught:
        result_of(gateway.control.job(short_id(ids[0], 4), 0))
    assert len(caught.value.candidates) == 2


def test_health(gateway: Gateway) -> None:
    """The report of the gateway's own checks."""
    report = result_of(gateway.control.health())
    assert {each.name for each in report.checks} >= {"CA", "certificate", "disk", "devices"}
