"""Tests of :mod:`palyra.cli.approvals`, and of what ``nodes invoke`` says of a call that waits."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from palyra.console.models import (
    ApprovalAnswer,
    ApprovalItem,
    ApprovalList,
    CallItem,
    CallTargetItem,
)
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import (
    CONTRACT,
    JOB,
    KEY,
    NAS,
    NOW,
    PI,
    M,
    S,
    fanout_answer,
    fanout_item,
    job,
    job_answer,
    page,
    request,
    request_answer,
    request_list,
    still,
)

APPROVAL = "01M80NKQCNV3C8DE2ZT9B3FVHD"
DIGEST = "9f3c51d0" * 8
THE_APPROVAL = f"approvals/{APPROVAL}"


def a_call(**changes: Any) -> CallItem:
    item = CallItem(
        capability="desktop.open_url",
        risk="medium",
        input_json=msgspec.Raw(b'{"url":"https://example.org/\xe2\x80\xae"}'),
        requested_by="agent-claude",
        operator_id="01M80NKQCNAGENT12ZT9B3FVHD",
        targets=[CallTargetItem(PI, "pi", JOB, KEY, "d" * 64)],
        max_payload_bytes=65_536,
        timeout_ms=30_000,
        ttl_ms=3_600_000,
        idempotency_key="k-1",
        rule="open-ask",
        approvers=["role:approver"],
        four_eyes=True,
        scopes=["once", "session"],
        may_decide=True,
    )
    return msgspec.structs.replace(item, **changes)


def an_approval(call: CallItem | None = None, **changes: Any) -> ApprovalItem:
    item = ApprovalItem(
        approval_id=APPROVAL,
        kind="call",
        state="pending",
        digest=DIGEST,
        created_at_unix_ms=NOW - M,
        expires_at_unix_ms=NOW + 8 * M + 12 * S,
        decided_by="",
        decided_at_unix_ms=None,
        reason="",
        scope="once",
        standing_until_unix_ms=None,
        call=call or (None if "pairing" in changes else a_call()),
    )
    return msgspec.structs.replace(item, **changes)


def a_pairing() -> ApprovalItem:
    return an_approval(kind="pairing", pairing=request(), approval_id=NAS)


def waits(console: FakeConsole, item: ApprovalItem | None = None) -> None:
    """An approval that is found, and a decision that is taken."""
    answer = ApprovalAnswer(CONTRACT, item or an_approval())
    for wanted in ("V3C8DE", APPROVAL):
        console.on("GET", f"approvals/{wanted}", answer)
    decided = msgspec.structs.replace(answer.approval, state="approved", decided_by="bo")
    console.on("POST", f"{THE_APPROVAL}/decision", ApprovalAnswer(CONTRACT, decided))


def listed(*items: ApprovalItem) -> ApprovalList:
    return ApprovalList(CONTRACT, page(len(items)), list(items), len(items))


def test_list(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Options reach the gateway; scripts get whole ids, JSON is the gateway's answer."""
    console.on("GET", "approvals", listed(an_approval(), a_pairing()))
    args = ["approvals", "list", "--state", "pending", "--kind", "call", "--limit", "5"]
    status, out, _ = console.run(capsys, *args)
    assert console.asked[0][2] == {"state": "pending", "kind": "call", "limit": "5"}
    first, second = (line.split("\t") for line in out.splitlines())
    assert (status, first[0], first[2:5]) == (
        0,
        APPROVAL,
        ["agent-claude", "desktop.open_url", "pi"],
    )
    assert (second[0], second[2:4]) == (NAS, ["pi", "to be paired"])
    _, out, _ = console.run(capsys, "approvals", "list", "--json")
    assert json.loads(out)["pending"] == 2


def test_list_on_a_terminal(console: FakeConsole) -> None:
    """Those that wait first, how long they still do, and the next command."""
    console.on("GET", "approvals", listed(an_approval(state="rejected"), a_pairing()))
    status, seen = on_terminal(console.root, "approvals", "list")
    lines = seen.splitlines()
    assert status == 0 and lines[0].split() == ["APPROVAL", "STATE", "WHO", "ASKS", "ON", "WAITS"]
    assert "pending" in lines[1] and "rejected" in lines[2]
    assert lines[3] == "hint  palyra approvals approve 9TQ0HC"
    console.on("GET", "approvals", listed())
    assert on_terminal(console.root, "approvals", "list")[1] == "Nothing waits for approval.\n"


def test_show(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that is approved, whole, with what could steer a terminal escaped."""
    waits(console)
    status, out, _ = console.run(capsys, "approvals", "show", "V3C8DE")
    assert status == 0
    facts = dict(line.split("\t", 1) for line in out.splitlines())
    assert facts["approval"] == APPROVAL and facts["digest"] == DIGEST and facts["on"] == PI
    assert facts["input"] == '{"url":"https://example.org/\\u202e"}'
    assert facts["limits"] == "30000 65536 3600000 k-1"
    assert facts["rule"] == (
        "open-ask; role:approver decides; another person decides; for once or session"
    )
    _, out, _ = console.run(capsys, "approvals", "show", "V3C8DE", "--json")
    assert json.loads(out)["approval"]["call"]["requested_by"] == "agent-claude"


def test_approve_on_a_terminal(console: FakeConsole) -> None:
    """The facts, a question whose default is no, then the decision with the digest shown."""
    waits(console)
    made = Terminal(console.root, "approvals", "approve", "V3C8DE")
    made.read_until("[y/N]")
    assert console.bodies("POST") == []
    made.type("y\n")
    status, seen = made.end()
    assert status == 0
    for line in (
        "asks        agent-claude\n",
        "capability  desktop.open_url medium\n",
        "on          pi  X4K7QM  key 7d4c 19e2 03ab f58e, descriptor dddddddd\n",
        "limits      30 s, 64 KiB, waits 1 h for a device, key k-1\n",
        "digest      9f3c51d0\n",
        "Approve desktop.open_url on pi? [y/N] y\n",
    ):
        assert line in seen
    assert "left\n" in seen
    assert seen.endswith("approved  desktop.open_url on pi\nhint  palyra jobs wait B8Q2ZN\n")
    (sent,) = console.bodies("POST")
    assert (sent["decision"], sent["digest"], sent["scope"]) == ("approve", DIGEST, "once")


def test_the_default_is_no(console: FakeConsole) -> None:
    """Enter alone approves nothing."""
    waits(console)
    made = Terminal(console.root, "approvals", "approve", "V3C8DE")
    made.read_until("[y/N]")
    made.type("\n")
    status, seen = made.end()
    assert (status, console.bodies("POST")) == (1, [])
    assert seen.endswith("not approved; it still waits\n")


def test_what_is_not_yours(console: FakeConsole) -> None:
    """It is said before anybody decides; whether it holds the gateway decides."""
    waits(console, an_approval(a_call(may_decide=False)))
    _, seen = on_terminal(console.root, "approvals", "show", "V3C8DE")
    assert seen.endswith("!! it is not yours to decide\n")


def test_approve_in_a_script(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The id is the consent; how long the yes holds is sent."""
    waits(console)
    args = ["approvals", "approve", "V3C8DE", "--for", "1h", "--reason", "release"]
    status, out, err = console.run(capsys, *args)
    assert (status, err) == (0, "") and out.endswith("decision\tapproved\n")
    (sent,) = console.bodies("POST")
    assert (sent["scope"], sent["scope_ttl_ms"], sent["reason"]) == (
        "timeboxed",
        3_600_000,
        "release",
    )
    status, out, _ = console.run(capsys, "approvals", "approve", "V3C8DE", "--json")
    assert (status, json.loads(out)["approval"]["state"]) == (0, "approved")


def test_scopes_that_mean_nothing(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A timeboxed yes needs its time, and another one has none."""
    for args in (["--scope", "timeboxed"], ["--scope", "session", "--for", "1h"]):
        assert console.run(capsys, "approvals", "approve", "V3C8DE", *args)[0] == 2
    assert console.asked == []


def test_one_that_is_decided(console: FakeConsole) -> None:
    """Nobody is asked again; the gateway refuses, as it does for anybody."""
    waits(console, an_approval(state="expired"))
    _, seen = on_terminal(console.root, "approvals", "approve", "V3C8DE")
    assert "it is expired already\n" in seen and "[y/N]" not in seen


def test_reject(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The digest goes with a no too."""
    waits(console)
    answer = ApprovalAnswer(CONTRACT, an_approval(state="rejected"))
    console.on("POST", f"{THE_APPROVAL}/decision", answer)
    status, out, _ = console.run(capsys, "approvals", "reject", "V3C8DE", "--reason", "no")
    assert (status, out) == (0, "decision\trejected\n")
    (sent,) = console.bodies("POST")
    assert (sent["decision"], sent["digest"], sent["reason"]) == ("reject", DIGEST, "no")


def test_a_pairing_request_is_approved_as_one(console: FakeConsole) -> None:
    """Its own facts, its own question."""
    waits(console, an_approval(kind="pairing", pairing=request()))
    wanted = request().request_id
    console.on("GET", f"pairing/requests/{wanted}", request_answer())
    console.on("GET", "pairing/requests", request_list(request()))
    console.on("POST", f"pairing/requests/{wanted}/approve", request_answer(state="approved"))
    made = Terminal(console.root, "approvals", "approve", "V3C8DE", "--reason", "new")
    made.read_until("[y/N]")
    made.type("y\n")
    status, seen = made.end()
    assert status == 0 and "Does the device print 7d4c" in seen
    assert console.bodies("POST")[0]["reason"] == "new"


# -- palyra nodes invoke --------------------------------------------------------------------------


def _asked(console: FakeConsole) -> None:
    waits(console)
    answer = still("queued")
    held = {"approval_id": APPROVAL, "waiting_for": "approval"}
    console.on("POST", "nodes/pi/invoke", msgspec.structs.replace(answer, **held), 202)
    waiting = job_answer(job(state="queued", waiting_for="approval", approval_id=APPROVAL))
    console.on("GET", f"jobs/{JOB}", [waiting, job_answer()])


def test_invoke_waits_for_a_yes(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """It says until when and by which command, and goes on waiting."""
    _asked(console)
    status, out, err = console.run(capsys, "nodes", "invoke", "pi", "echo")
    lines = err.splitlines()
    assert status == 0 and out.startswith("{")
    assert lines[0].startswith("..  waiting for approval, ") and lines[0].endswith(" left")
    assert lines[1] == "hint  palyra approvals approve V3C8DE"
    assert lines[2].startswith("succeeded")


def test_invoke_that_does_not_wait(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """Job and approval are printed; a person gets the command."""
    _asked(console)
    status, out, _ = console.run(capsys, "nodes", "invoke", "pi", "echo", "--no-wait")
    assert (status, out) == (0, f"job\t{JOB}\nstate\tqueued\napproval\t{APPROVAL}\n")
    _, seen = on_terminal(console.root, "nodes", "invoke", "pi", "echo", "--no-wait")
    assert seen.endswith("hint  palyra approvals approve V3C8DE\n")


def test_a_fan_out_that_waits(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """How many devices wait, and by which command they are let go."""
    held = job(state="queued", waiting_for="approval", approval_id=APPROVAL)
    answer = fanout_answer(fanout_item(approval_id=APPROVAL), [held])
    console.on("POST", "jobs", answer, 202)
    args = ["nodes", "invoke", "--where", "site=prague", "echo", "--no-wait"]
    _, _, err = console.run(capsys, *args)
    assert err == "..  1 device waits for approval\nhint  palyra approvals approve V3C8DE\n"
