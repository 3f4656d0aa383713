"""What operators ask about jobs, on one device or on many, and about labels."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from palyra.console import models
from palyra.console.control import JobFilter
from palyra.core.interfaces import LISTED_OUTPUT
from palyra.core.jobs import Outcome
from palyra.errors import (
    AmbiguousTarget,
    ExpressionInvalid,
    IdempotencyConflict,
    JobFinal,
    JobStillRunning,
    Malformed,
    NameTaken,
    NoTargets,
    NotFound,
)
from tests.callers import ANA, BO
from tests.gateway.enrolling import Gateway
from tests.gateway.house import attempt_of, fired, result_of
from tests.gateway.test_fanouts import finish, fleet, running


def submit(gateway: Gateway, **body: Any) -> models.FanoutAnswer:
    asked = models.SubmitJobs(**{"capability": "echo", **body})
    return result_of(gateway.control.submit(asked, ANA))


def invoke(gateway: Gateway, target: str = "pi", **body: Any) -> Any:
    return gateway.control.invoke(target, models.Invoke(**{"capability": "echo", **body}), ANA)


# -- many devices -------------------------------------------------------------------------------


def test_a_row_for_every_target(gateway: Gateway) -> None:
    """Chosen by an expression; the answer has the counts and a row for each."""
    devices, nodes = fleet(gateway, 3)
    gateway.device("pi-away")
    answer = submit(gateway, where="name ~ pi", batch="50%", max_failures=1, timeout_ms=9_000)
    fanout = answer.fanout
    assert (fanout.targets, fanout.batch, fanout.max_failures) == (4, 2, 1)
    assert sum(fanout.counts.values()) == 4 == len(answer.rows) == answer.page.returned
    assert (fanout.expression, fanout.requested_by) == ("name ~ pi", "ana")
    assert not fanout.finished and not fanout.stopped
    while busy := running(nodes):
        finish(busy[0])
    seen = []
    cursor = None
    while True:
        page = result_of(gateway.control.fanout(fanout.fanout_id[10:16].lower(), 3, cursor))
        seen += [row.device_name for row in page.rows]
        cursor = page.page.next_cursor
        if not page.page.has_more:
            break
    assert sorted(seen) == ["pi-0", "pi-1", "pi-2", "pi-away"]
    assert page.fanout.counts == {"succeeded": 3, "rejected": 1} and page.fanout.finished
    listed = result_of(gateway.control.jobs(JobFilter(fanout=fanout.fanout_id), 10, None))
    assert {row.fanout_id for row in listed.jobs} == {fanout.fanout_id} and len(listed.jobs) == 4
    assert [each.device_id for each in devices]


def test_named_targets(gateway: Gateway) -> None:
    """Devices may be named; a key makes a repetition the same call."""
    fleet(gateway, 2)
    first = submit(gateway, targets=["pi-0", "pi-1"], idempotency_key="k")
    again = submit(gateway, targets=["pi-0", "pi-1"], idempotency_key="k")
    assert again.fanout.fanout_id == first.fanout.fanout_id and len(again.rows) == 2
    with pytest.raises(IdempotencyConflict):
        submit(gateway, targets=["pi-0"], idempotency_key="k")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"where": "name = nobody"}, NoTargets),
        ({"where": "nme = pi"}, ExpressionInvalid),
        ({"where": "all", "targets": ["pi-0"]}, Malformed),
        ({}, Malformed),
        ({"where": "all", "batch": "none"}, Malformed),
        ({"targets": ["nobody"]}, NotFound),
    ],
)
def test_a_call_that_is_refused(
    gateway: Gateway, body: dict[str, Any], error: type[Exception]
) -> None:
    """As a whole, with nothing on record."""
    fleet(gateway, 1)
    with pytest.raises(error):
        submit(gateway, **body)
    assert result_of(gateway.control.jobs(JobFilter(), 10, None)).jobs == []


def test_a_fan_out_is_cancelled(gateway: Gateway) -> None:
    """What waits is cancelled, what runs is asked to stop, and nothing else starts."""
    _, nodes = fleet(gateway, 4)
    answer = submit(gateway, where="all", batch="1")
    (busy,) = running(nodes)
    body = models.CancelJob("too many")
    ended = result_of(gateway.control.cancel_fanout(answer.fanout.fanout_id, body, BO))
    assert {(row.cancelled_by, row.cancel_reason) for row in ended.rows} == {("bo", "too many")}
    assert ended.fanout.counts == {"cancelled": 3, "dispatched": 1}
    assert running(nodes) == [busy]
    finish(busy, Outcome.CANCELLED)
    again = result_of(gateway.control.cancel_fanout(answer.fanout.fanout_id, body, ANA))
    assert again.fanout.counts == {"cancelled": 4} and again.fanout.finished


# -- one job ------------------------------------------------------------------------------------


def test_a_call_with_a_time_to_live(gateway: Gateway) -> None:
    """It waits, is listed with its end, and whoever waits for it is told that it waits."""
    gateway.device()
    answer = result_of(invoke(gateway, ttl_ms=60_000, wait_ms=0, idempotency_key="k"))
    assert answer.state == "queued"
    again = result_of(invoke(gateway, ttl_ms=60_000, wait_ms=0, idempotency_key="k"))
    assert again.job_id == answer.job_id
    (listed,) = result_of(
        gateway.control.jobs(JobFilter(states=("queued", "dispatched"), by="ana"), 10, None)
    ).jobs
    assert listed.queue_expires_unix_ms == gateway.now_ms() + 60_000
    whole = invoke(gateway, ttl_ms=60_000)
    gateway.pass_time(59)
    assert not fired(whole)
    gateway.pass_time(2)
    assert result_of(whole).state == "expired"


def test_a_job_that_outlasts_its_caller(gateway: Gateway) -> None:
    """The caller hears that it goes on."""
    gateway.online()
    answer = invoke(gateway, timeout_ms=60_000)
    gateway.nodes["pi"].take()
    gateway.nodes["pi"].disconnect()
    gateway.pass_time(76)
    with pytest.raises(JobStillRunning):
        result_of(answer)


def test_a_job_is_cancelled(gateway: Gateway) -> None:
    """By its short id; the answer says whether it is, or is only asked to."""
    device, node = gateway.online()
    job = gateway.submit(device)
    node.take()
    body = models.CancelJob()
    asked = result_of(gateway.control.cancel_job(job.call.job_id[10:16], body, ANA))
    assert asked.job.state == "dispatched" and asked.job.cancel_requested_unix_ms is not None
    assert (asked.job.cancelled_by, asked.job.cancel_reason) == ("ana", "")
    node.finish(attempt_of(job), Outcome.CANCELLED)
    with pytest.raises(JobFinal):
        result_of(gateway.control.cancel_job(job.call.job_id, body, ANA))
    with pytest.raises(NotFound):
        result_of(gateway.control.cancel_job("FFFF", body, ANA))


def test_the_next_try_is_told_until_it_begins(gateway: Gateway) -> None:
    """What began is not to come."""
    device, node = gateway.online()
    job = gateway.submit(device, "safe")
    node.take()
    node.finish(attempt_of(job), Outcome.DIED)
    waits = result_of(gateway.control.job(job.call.job_id, 0)).job
    assert (waits.waiting_for, waits.retry_at_unix_ms) == ("retry", job.retry_at_ms)
    gateway.pass_time(1.5)
    again = result_of(gateway.control.job(job.call.job_id, 0)).job
    assert (again.state, again.attempts, again.retry_at_unix_ms) == ("dispatched", 2, None)


def test_who_asked_first_and_why(gateway: Gateway) -> None:
    """It is on record, made safe to show and cut; who asks later changes nothing."""
    device, node = gateway.online()
    job = gateway.submit(device)
    node.take()
    for by, reason in ((BO, "typo\n" + "x" * 300), (ANA, "me too")):
        body = models.CancelJob(reason)
        asked = result_of(gateway.control.cancel_job(job.call.job_id, body, by)).job
        assert asked.cancelled_by == "bo"
        assert asked.cancel_reason.startswith("typo\\u000axxx") and len(asked.cancel_reason) == 240
    node.finish(attempt_of(job), Outcome.CANCELLED)
    (listed,) = result_of(gateway.control.jobs(JobFilter(), 10, None)).jobs
    assert (listed.cancelled_by, listed.cancel_reason) == ("bo", asked.cancel_reason)


def test_what_came_too_late(gateway: Gateway) -> None:
    """A report after the end is shown with the job, its output redacted and cut."""
    device, node = gateway.online()
    job = gateway.submit(device, "slow")
    attempt_id = attempt_of(job)
    node.take()
    gateway.pass_time(7.5)
    late = b'{"token":"abc","text":"' + b"so long " * 500 + b'"}'
    node.finish(attempt_id, output_json=late)
    answer = result_of(gateway.control.job(job.call.job_id, 0))
    assert answer.job.state == "timed_out" and answer.output_json == models.NULL
    (note,) = answer.notes
    assert (note.attempt_id, note.outcome, note.took_ms, note.stopped) == (
        attempt_id,
        "succeeded",
        3,
        True,
    )
    assert len(note.note) == 240 and note.note.startswith('{"token":[redacted],"text":"so long')
    assert (note.error_code, note.error) == ("", "")


def test_a_list_hides_what_the_whole_would_hide(gateway: Gateway) -> None:
    """A secret that is cut in the middle is no less one."""
    device, node = gateway.online()
    for begin, secret in ((b"", b"k" * 40), (b'","password":"', b"kk is my kk, and more")):
        job = gateway.submit(device)
        node.take()
        seen = b'{"a":"' + (b"x" * 100 + b" ") * 20  # the runs take little room once redacted
        seen = seen[: LISTED_OUTPUT - 10 - len(begin)] + begin + secret
        node.finish(attempt_of(job), output_json=seen + b'"}')
    listed = result_of(gateway.control.jobs(JobFilter(), 10, None)).jobs
    for each in listed:
        assert "kk" not in each.note and each.note.endswith("…")
        assert each.note == result_of(gateway.control.job(each.job_id, 0)).job.note
    assert len(listed) == 2


def test_what_waits_is_purged(gateway: Gateway) -> None:
    """For one device, or for all; what runs goes on."""
    device, node = gateway.online()
    runs = gateway.submit(device)
    node.take()
    one, other = gateway.device("one"), gateway.device("other")
    for each in (one, one, other):
        gateway.submit(each, ttl_ms=60_000)
    purge = gateway.control.purge
    assert result_of(purge(models.PurgeJobs("one", "moving"), ANA)).cancelled == 2
    cancelled = result_of(gateway.control.jobs(JobFilter(states=("cancelled",)), 10, None)).jobs
    told = {(each.cancelled_by, each.cancel_reason) for each in cancelled}
    assert told == {("ana", "moving")}
    assert result_of(purge(models.PurgeJobs(), ANA)).cancelled == 1
    assert result_of(purge(models.PurgeJobs(), ANA)).cancelled == 0
    node.finish(attempt_of(runs))
    with pytest.raises(NotFound):
        result_of(purge(models.PurgeJobs("nobody"), ANA))


def test_an_ambiguous_fan_out(gateway: Gateway) -> None:
    """A prefix that fits several fan-outs names them."""
    fleet(gateway, 1)
    gateway.fanouts._entropy = lambda size: b"\x01" * 4 + gateway.entropy(size - 4)
    ids = [submit(gateway, where="all").fanout.fanout_id for _ in range(2)]
    with pytest.raises(AmbiguousTarget) as caught:
        result_of(gateway.control.fanout(ids[0][10:14], 10, None))
    assert caught.value.kind == "fan-out" and len(caught.value.candidates) == 2


# -- labels -------------------------------------------------------------------------------------


def label(gateway: Gateway, target: str = "pi", **body: Any) -> models.NodeItem:
    return result_of(gateway.control.label(target, models.LabelNode(**body), ANA)).node


def test_names_and_labels(gateway: Gateway) -> None:
    """Set, changed, taken away; the inventory and its lists know at once."""
    gateway.device()
    changed = label(gateway, name="lab-pi", labels={"site": "prague", "lab": ""}, unlabel=["room"])
    assert (changed.name, changed.labels) == ("lab-pi", {"site": "prague", "lab": ""})
    changed = label(gateway, "lab-pi", labels={"site": "brno"}, unlabel=["lab", "nothing"])
    assert changed.labels == {"site": "brno"}
    gateway.device("other")
    listed = result_of(gateway.control.nodes(10, None, "label.site = brno"))
    assert [each.name for each in listed.nodes] == ["lab-pi"]
    assert msgspec.json.encode(listed)
    with pytest.raises(ExpressionInvalid):
        result_of(gateway.control.nodes(10, None, "site ="))


def test_names_and_labels_that_cannot_be(gateway: Gateway) -> None:
    """A name of another device, a name or a label of the wrong form: nothing changes."""
    gateway.device()
    gateway.device("other")
    with pytest.raises(NameTaken):
        label(gateway, name="other")
    for wrong in ({"name": "Not A Name"}, {"labels": {"Not A Key": "x"}}, {"labels": {"k": "\n"}}):
        with pytest.raises(Malformed):
            label(gateway, **wrong)
    too_many = {f"key-{number}": "x" for number in range(33)}
    with pytest.raises(Malformed):
        label(gateway, labels=too_many)
    with pytest.raises(NotFound):
        label(gateway, "nobody")
    assert result_of(gateway.control.node("pi")).node.labels == {"room": "lab"}
