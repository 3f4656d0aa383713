"""Tests of :mod:`palyra.cli.jobs`."""

from __future__ import annotations

import json

import msgspec
import pytest

from palyra.cli import records
from palyra.console.models import JobNote
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import JOB, NOW, OUTPUT, PI, M, job, job_answer, job_list, screen, shown

K1 = "01M80NKQCNK1D9WA2ZT9B3FVHD"
F0 = "01M80NKQCNF0S7GE2ZT9B3FVHD"
ASKING = job(
    job_id=K1, capability="desktop.open_url", state="awaiting_local_mediation", took_ms=None
)
LOST = job(
    job_id=F0,
    device_name="nas",
    capability="system.service",
    state="outcome_unknown",
    submitted_at_unix_ms=NOW - 9 * M,
    took_ms=3000,
    requested_by="bo",
    note="device restarted while running",
)
LIST_80 = """\
JOB     DEVICE  CAPABILITY        STATE                     WHEN     TOOK
K1D9WA  pi      desktop.open_url  awaiting_local_mediation  12s ago     -
F0S7GE  nas     system.service    !! outcome_unknown        9m ago     3s
"""
LIST_120 = """\
JOB     DEVICE  CAPABILITY      STATE               WHEN    TOOK  BY  NOTE
F0S7GE  nas     system.service  !! outcome_unknown  9m ago    3s  bo  device restarted while running
"""


def test_list_at_80_and_120_columns() -> None:
    """As drawn."""
    narrow, wide = screen(80), screen(120)
    records.show_list(narrow, [ASKING, LOST], False, chosen=False)
    records.show_list(wide, [LOST], False, chosen=False)
    assert shown(narrow) == LIST_80
    assert shown(wide) == LIST_120


def test_list_for_scripts(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole ids, bare states, UTC times."""
    console.on("GET", "jobs", job_list(LOST))
    status, out, _ = console.run(capsys, "jobs", "list", "--state", "outcome_unknown")
    assert (status, out) == (
        0,
        f"{F0}\tnas\tsystem.service\toutcome_unknown\t2026-11-22T03:35:14Z\t3000ms\tbo\t"
        "device restarted while running\n",
    )
    assert console.asked[0][2] == {"limit": "50", "state": "outcome_unknown"}


def test_list_of_some(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Every filter reaches the gateway; a state may be repeated."""
    console.on("GET", "jobs", job_list(LOST))
    args = ["--state", "queued", "--state", "failed", "--device", "pi", "--by", "bo"]
    args += ["--capability", "echo", "--fanout", "F0S7", "--limit", "7"]
    wanted = {
        "limit": "7",
        "state": "queued,failed",
        "device": "pi",
        "capability": "echo",
        "by": "bo",
        "fanout": "F0S7",
    }
    for extra in ([], ["--json"]):
        assert console.run(capsys, "jobs", "list", *args, *extra)[0] == 0
        assert console.asked[-1][2] == wanted
    assert console.run(capsys, "jobs", "list", "--state", "lost")[0] == 2


def test_list_as_json(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The envelope on one line."""
    console.on("GET", "jobs", job_list(LOST))
    _, out, _ = console.run(capsys, "jobs", "list", "--json", "--limit", "7")
    assert json.loads(out)["jobs"][0]["job_id"] == F0
    assert console.asked[0][2] == {"limit": "7"}


def test_an_empty_list_and_a_cut_one() -> None:
    """Both say so."""
    empty, nothing, cut = screen(), screen(), screen()
    records.show_list(empty, [], False, chosen=False)
    records.show_list(nothing, [], False, chosen=True)
    records.show_list(cut, [LOST], True, chosen=False)
    assert shown(empty) == "No jobs yet.\n"
    assert shown(nothing) == "No such jobs.\n"
    assert "only the newest 1" in cut.err.getvalue()  # type: ignore[attr-defined]


def test_show(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything of one job, with its whole input and output."""
    console.on("GET", "jobs/B8Q2", job_answer())
    status, out, _ = console.run(capsys, "jobs", "show", "B8Q2")
    found = dict(line.split("\t") for line in out.splitlines())
    assert status == 0
    assert found["job"] == JOB
    assert found["device"] == PI
    assert found["submitted"] == "2026-11-22T03:44:02Z"
    assert found["input"] == '{"text":"hello"}'
    assert found["output"] == bytes(OUTPUT).decode()
    assert json.loads(console.run(capsys, "jobs", "show", "B8Q2", "--json")[1])["job"]


def test_show_on_a_terminal(console: FakeConsole) -> None:
    """A possible effect and the reason stand out."""
    failed = job_answer(
        None, "It broke.", state="timed_out", effect_possible=True, waiting_for="device"
    )
    console.on("GET", f"jobs/{JOB}", failed)
    _, seen = on_terminal(console.root, "jobs", "show", JOB)
    assert "state       timed_out  !! effect possible, waiting for device\n" in seen
    assert "submitted   2026-11-22 03:44:02 +00:00\n" in seen
    assert "error       It broke.\n" in seen


def test_show_what_is_to_come(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Until when it waits, when it is tried again, what was asked, and of what it is a row."""
    waits = job_answer(
        None,
        state="queued",
        waiting_for="retry",
        fanout_id=F0,
        queue_expires_unix_ms=NOW + M,
        retry_at_unix_ms=NOW,
        cancel_requested_unix_ms=NOW,
        cancelled_by="local:bo",
        cancel_reason="a typo",
    )
    console.on("GET", "jobs/B8Q2", waits)
    lines = console.run(capsys, "jobs", "show", "B8Q2")[1].splitlines()
    found = dict(line.split("\t") for line in lines)
    assert found["waits until"] == "2026-11-22T03:45:14Z"
    assert found["next try"] == found["cancel asked"] == "2026-11-22T03:44:14Z"
    assert found["fan-out"] == F0
    assert (found["asked by"], found["reason"]) == ("local:bo", "a typo")


def test_show_what_came_too_late(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each note, in the order they came; what may still run stands out."""
    notes = [
        JobNote(K1, "succeeded", "", "", 14_000, True, '{"echo":1}'),
        JobNote(F0, "failed", "broken", "It broke.\x1b", 3, False, ""),
    ]
    late = msgspec.structs.replace(job_answer(None, state="timed_out"), notes=notes)
    console.on("GET", f"jobs/{JOB}", late)
    assert [
        line for line in console.run(capsys, "jobs", "show", JOB)[1].splitlines() if "late" in line
    ] == [
        f'note\tlate succeeded of attempt {K1} after 14000ms: {{"echo":1}}',
        f"note\tlate failed of attempt {F0} after 3ms: It broke.\\u001b  !! may still run",
    ]
    _, seen = on_terminal(console.root, "jobs", "show", JOB)
    assert 'note        late succeeded of attempt K1D9WA after 14s: {"echo":1}\n' in seen


def test_wait_prints_as_invoke_does(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that ended long ago, too."""
    console.on("GET", "jobs/B8Q2", job_answer())
    assert console.run(capsys, "jobs", "wait", "B8Q2") == (
        0,
        bytes(OUTPUT).decode() + "\n",
        "succeeded  job B8Q2ZN  pi  14 ms\n",
    )
    console.on("GET", "jobs/B8Q2", job_answer(None, "It broke.", state="failed"))
    assert console.run(capsys, "jobs", "wait", "B8Q2")[::2] == (
        1,
        "error: It broke.\nhint:  palyra jobs show B8Q2ZN\n",
    )
    status, out, err = console.run(capsys, "jobs", "wait", "B8Q2", "--json")
    assert (status, json.loads(out)["error"], err) == (1, "It broke.", "")


def test_wait_until_its_limit(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The job goes on, and is not called failed."""
    going = job_answer(None, state="dispatched", took_ms=None)
    console.on("GET", "jobs/B8Q2", going)
    console.on("GET", f"jobs/{JOB}", going)
    assert console.run(capsys, "jobs", "wait", "B8Q2", "--timeout", "1ms") == (
        1,
        "",
        "error: Job B8Q2ZN is still dispatched; it goes on.\nhint:  palyra jobs show B8Q2ZN\n",
    )


def test_ctrl_c_leaves_the_job_running(console: FakeConsole) -> None:
    """A person at the device is waited for; Ctrl-C stops only the waiting."""
    asking = job_answer(None, state="awaiting_local_mediation", took_ms=None)
    console.on("GET", f"jobs/{JOB}", asking)
    made = Terminal(console.root, "jobs", "wait", JOB)
    made.read_until("a person at pi must allow this")
    made.type("\x03")
    status, seen = made.end()
    assert status == 130
    assert seen.endswith(
        "still running  job B8Q2ZN\nhint  palyra jobs wait B8Q2ZN  or  palyra jobs cancel B8Q2ZN\n"
    )
