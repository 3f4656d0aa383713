"""Tests of :mod:`palyra.cli.fanout`: one call to many devices, as a person and a script see it."""

from __future__ import annotations

import json
import threading

import msgspec
import pytest

from palyra.cli import fanout, following
from palyra.cli.bars import UNFINISHED
from palyra.cli.client import Console
from palyra.cli.jobs import STATES
from palyra.console.models import Problem
from tests.cli.conftest import FakeConsole, Stream
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import (
    END,
    FANOUT,
    FOUR,
    JOB,
    event_of_fanout,
    event_of_job,
    fanout_answer,
    fanout_item,
    job,
    problem,
    running,
    screen,
    shown,
    told,
)

INVOKE = ("nodes", "invoke", "--where", "label.site = prague", "system.health")
EVENTS = f"fanouts/{FANOUT}/events"
TABLE_80 = """\
DEVICE  STATE      TOOK  OUTPUT
old     rejected      -  offline, last heard 31d ago
nas     timed_out   30s  may have taken effect
pi      succeeded   9ms  {"cpu":7,"memory":41,"disk":63,"load":1}
pi-2    succeeded  11ms  {"cpu":3,"memory":22,"disk":12,"load":0}
4 targets: 2 succeeded, 1 timed_out, 1 rejected
"""
TABLE_120 = """\
DEVICE  STATE      TOOK  OUTPUT                                    JOB     ATTEMPT
old     rejected      -  offline, last heard 31d ago               7ZC1XH        0
nas     timed_out   30s  may have taken effect                     4M0Q7T        1
pi      succeeded   9ms  {"cpu":7,"memory":41,"disk":63,"load":1}  B8Q2ZN        1
pi-2    succeeded  11ms  {"cpu":3,"memory":22,"disk":12,"load":0}  K1D9WA        1
4 targets: 2 succeeded, 1 timed_out, 1 rejected
"""
TOTALS = "4 targets: 2 succeeded, 1 timed_out, 1 rejected\n"


@pytest.fixture
def accepted(console: FakeConsole) -> FakeConsole:
    """A gateway that accepts a fan-out, which ends while it is followed."""
    console.on("POST", "jobs", fanout_answer(running()))
    ending = Stream.of(event_of_fanout(running()), event_of_fanout(fanout_item()), END)
    console.on("GET", EVENTS, ending)
    pages = [fanout_answer(rows=FOUR[:2], cursor="next"), fanout_answer(rows=FOUR[2:])]
    console.on("GET", f"fanouts/{FANOUT}", pages)
    return console


def test_the_table_at_80_and_120_columns() -> None:
    """As drawn: what did not succeed first, the counts last, exit 1."""
    for width, table in ((80, TABLE_80), (120, TABLE_120)):
        made = screen(width)
        assert fanout.show(made, fanout_answer()) == 1
        assert (shown(made), told(made)) == (table, "")


def test_every_state_has_its_place() -> None:
    """The worst first; success last."""
    made = screen()
    rows = [job(state=state, device_name=state) for state in STATES]
    counts = dict.fromkeys(STATES, 1)
    fanout.show(made, fanout_answer(fanout_item(counts=counts, targets=len(rows)), rows))
    states = [line.split()[0] for line in shown(made).splitlines()[1:-1]]
    assert (states[0], states[-1]) == ("outcome_unknown", "succeeded")
    assert set(states) == set(STATES) and set(UNFINISHED) < set(STATES)


def test_all_succeeded() -> None:
    """Exit 0 only then."""
    item = fanout_item(counts={"succeeded": 2}, targets=2)
    assert fanout.show(screen(), fanout_answer(item, FOUR[:2])) == 0


def test_why_it_stopped() -> None:
    """Rows that never started are explained."""
    made = screen()
    item = fanout_item(stopped=True, max_failures=1, counts={"failed": 2, "cancelled": 2})
    fanout.show(made, fanout_answer(item))
    assert told(made) == "stopped after more than 1 failure; the rest was not started\n"


def test_very_many_rows() -> None:
    """A terminal gets the worst 200 and the way to the others; a script gets all."""
    ids = [f"01M80NKQCN{i:04}2ZT9B3FVHDXX" for i in range(201)]
    rows = [job(job_id=each, device_name=each[10:14]) for each in ids]
    answer = fanout_answer(fanout_item(targets=201, counts={"succeeded": 201}), rows)
    made, script = screen(), screen(tty=False)
    assert fanout.show(made, answer) == fanout.show(script, answer) == 0
    assert told(made) == "200 of 201 rows\nhint  palyra jobs list --fanout F0S7GE --limit 201\n"
    assert shown(made).splitlines()[-1] == "201 targets: 201 succeeded"
    assert len(shown(script).splitlines()) == 201
    assert told(script) == "201 targets: 201 succeeded\n"


def test_from_the_call_to_the_rows(
    accepted: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a script: rows separated by tabs from every page, and the counts beside them."""
    args = ["--batch", "50%", "--max-failures", "0", "--ttl", "1h", "--idempotency-key", "k1"]
    status, out, err = accepted.run(capsys, *INVOKE, *args)
    assert (status, err) == (1, TOTALS)
    assert out.splitlines()[2:] == [
        f"pi\tsucceeded\t9ms\t{FOUR[0].note}\t{JOB}\t1",
        f"pi-2\tsucceeded\t11ms\t{FOUR[1].note}\t{FOUR[1].job_id}\t1",
    ]
    assert accepted.bodies("POST") == [
        {
            "capability": "system.health",
            "targets": [],
            "where": "label.site = prague",
            "input_json": {},
            "max_payload_bytes": None,
            "timeout_ms": None,
            "ttl_ms": 3_600_000,
            "idempotency_key": "k1",
            "batch": "50%",
            "max_failures": 0,
        }
    ]
    assert [query.get("cursor") for _, _, query, _ in accepted.asked[2:]] == [None, "next"]


def test_as_json(accepted: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """One object on one line, with every row of every page and its true page."""
    status, out, err = accepted.run(capsys, *INVOKE, "--json")
    found = json.loads(out)
    assert (status, err, out.count("\n")) == (1, "", 1)
    assert [row["device_name"] for row in found["rows"]] == ["pi", "pi-2", "nas", "old"]
    assert found["page"] == {"limit": 4, "returned": 4, "has_more": False, "next_cursor": None}


def test_followed_as_json(accepted: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """One event a line and nothing else, also of a fan-out that has ended at once."""
    status, out, err = accepted.run(capsys, *INVOKE, "--json", "--follow")
    assert (status, err) == (1, "")
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["fanout", "fanout", "end"]
    accepted.on("POST", "jobs", fanout_answer())
    assert accepted.run(capsys, *INVOKE, "--json", "--follow")[1].count("\n") == 3


def test_followed_in_a_log(accepted: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for every tenth, without a bar; only with --follow."""
    err = accepted.run(capsys, *INVOKE, "--follow")[2]
    line = "F0S7GE  3 of 4  1 succeeded  1 timed_out  1 rejected  1 running\n"
    assert err == line + TOTALS


def test_on_a_terminal(accepted: FakeConsole) -> None:
    """The line moves while it goes on, and the table takes its place."""
    shown_once, go_on = event_of_fanout(running()), threading.Event()
    begin, end = Stream.of(shown_once), Stream.of(event_of_fanout(fanout_item()), END)
    accepted.on("GET", EVENTS, Stream([*begin.pieces, go_on.wait, *end.pieces]))
    made = Terminal(accepted.root, *INVOKE)
    made.read_until("running")
    go_on.set()
    status, seen = made.end()
    assert status == 1
    assert "[#######...]  3 of 4  1 succeeded  1 timed_out  1 rejected  1 running" in seen
    assert seen.endswith(TABLE_80)


def test_ctrl_c_leaves_the_jobs_running(accepted: FakeConsole) -> None:
    """What had ended is told, and how to go on; nothing is cancelled."""
    let_go = threading.Event()
    accepted.on("GET", EVENTS, Stream([*Stream.of(event_of_fanout(running())).pieces, let_go.wait]))
    made = Terminal(accepted.root, *INVOKE)
    made.read_until("3 of 4")
    made.type("\x03")
    status, seen = made.end()
    let_go.set()
    assert status == 130
    assert seen.endswith(
        "still running  fan-out F0S7GE, 3 of 4 ended\n"
        "hint  palyra jobs follow F0S7GE  or  palyra jobs cancel F0S7GE\n"
    )
    assert len(accepted.bodies("POST")) == 1


def test_ctrl_c_before_the_gateway_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], console: FakeConsole
) -> None:
    """Nobody knows then, and that is said."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Console, "post", interrupted)
    status, out, err = console.run(capsys, *INVOKE)
    assert (status, out) == (130, "")
    assert err.startswith("stopped before the gateway had answered; the jobs may be running\n")


def test_not_waiting(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The id of the fan-out is the result."""
    console.on("POST", "jobs", fanout_answer(running()))
    status, out, err = console.run(capsys, *INVOKE, "--no-wait")
    assert (status, out, err) == (0, f"fanout\t{FANOUT}\ntargets\t4\n", "")
    out = console.run(capsys, *INVOKE, "--no-wait", "--json")[1]
    assert json.loads(out)["fanout"]["fanout_id"] == FANOUT
    assert on_terminal(console.root, *INVOKE, "--no-wait") == (
        0,
        "accepted  fan-out F0S7GE  4 targets\nhint  palyra jobs follow F0S7GE\n",
    )


def test_a_gateway_that_is_lost(accepted: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The error, and that the jobs go on."""
    accepted.on("GET", EVENTS, problem("internal"), status=500)
    retry = msgspec.structs.replace(problem("internal"), retryable=False)
    accepted.on("GET", EVENTS, retry, status=500)
    status, out, err = accepted.run(capsys, *INVOKE)
    assert (status, out) == (1, "")
    assert err.startswith("still running  fan-out F0S7GE, 3 of 4 ended\nhint  palyra jobs follow")


def test_too_many_follow_already(
    accepted: FakeConsole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is looked at again and again instead."""
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.0)
    full = Problem("The gateway has 256 followers.", "limit_reached", "", "exhausted", True)
    accepted.on("GET", EVENTS, full, status=429)
    looks = [fanout_answer(running()), fanout_answer(), fanout_answer()]
    accepted.on("GET", f"fanouts/{FANOUT}", looks)
    status, out, err = accepted.run(capsys, *INVOKE)
    assert (status, err, out.count("\n")) == (1, TOTALS, 4)
    status, out, err = accepted.run(capsys, *INVOKE, "--follow", "--json")
    assert (status, out, json.loads(err)["code"]) == (1, "", "limit_reached")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("pi", "echo", "--where", "all"), "the only argument is the capability"),
        (("--where", "all"), "Missing argument 'CAPABILITY'"),
        (("pi",), "Missing argument 'CAPABILITY'"),
        ((), "Missing argument 'TARGET'"),
        (("pi", "echo", "--batch", "3"), "go with --where"),
        (("pi", "echo", "--max-failures", "0"), "go with --where"),
        (("pi", "echo", "--follow", "--no-wait"), "exclude each other"),
        (("--where", "all", "echo", "--batch", "0"), "such as 25, or 10%"),
    ],
)
def test_what_does_not_go_together(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], said: str
) -> None:
    """A usage error; nothing is sent."""
    status, out, err = console.run(capsys, "nodes", "invoke", *args)
    assert (status, out, console.asked) == (2, "", [])
    assert said in err


def test_follow_and_wait_by_id(
    accepted: FakeConsole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no job is a fan-out; what ended long ago is shown at once."""
    accepted.on("GET", "jobs/F0S7", problem("not_found"), status=404)
    accepted.on("GET", "fanouts/F0S7", fanout_answer(running(), FOUR[:1]))
    status, out, err = accepted.run(capsys, "jobs", "follow", "F0S7")
    assert (status, out.count("\n"), err.splitlines()[-1] + "\n") == (1, 4, TOTALS)
    accepted.on("GET", "fanouts/F0S7", fanout_answer())
    accepted.on("GET", f"fanouts/{FANOUT}", fanout_answer())
    for verb in ("wait", "follow"):
        status, out, err = accepted.run(capsys, "jobs", verb, "F0S7")
        assert (status, out.count("\n"), err) == (1, 4, TOTALS)
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.0)
    accepted.on("GET", "fanouts/F0S7", fanout_answer(running()))
    accepted.on("GET", f"fanouts/{FANOUT}", fanout_answer(running()))
    status, out, err = accepted.run(capsys, "jobs", "wait", "F0S7", "--timeout", "1ms")
    assert (status, out) == (1, "")
    assert err.startswith("still running  fan-out F0S7GE, 3 of 4 ended\n")


def test_events_of_rows_do_not_disturb(
    accepted: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the counts are shown."""
    rows = [event_of_job(row) for row in FOUR]
    accepted.on("GET", EVENTS, Stream.of(*rows, event_of_fanout(fanout_item()), END))
    assert accepted.run(capsys, *INVOKE)[2] == TOTALS
