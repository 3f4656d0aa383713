"""Tests of :mod:`palyra.cli.following`: one job, while it goes on."""

from __future__ import annotations

import json
import threading
import time

import pytest

from palyra.cli import client, following
from palyra.cli.client import Console
from palyra.console.models import Problem
from tests.cli.conftest import FakeConsole, Stream
from tests.cli.terminal import Terminal
from tests.cli.things import (
    END,
    JOB,
    NOW,
    OUTPUT,
    S,
    event_of_job,
    job,
    job_answer,
    running,
    screen,
    still,
    told,
)

FOLLOW = ("nodes", "invoke", "pi", "files.fetch", "--follow")
EVENTS = f"jobs/{JOB}/events"
RUNS = job(capability="files.fetch", state="dispatched", took_ms=None)
GOING = job_answer(None, capability="files.fetch", state="dispatched", took_ms=None)
ENDS = (event_of_job(job(capability="files.fetch")), END)


@pytest.fixture
def runs(console: FakeConsole) -> FakeConsole:
    """A gateway on which a job is running, and ends when it is looked at again."""
    console.on("POST", "nodes/pi/invoke", still("dispatched"))
    console.on("GET", f"jobs/{JOB}", [GOING, job_answer()])
    console.on("GET", EVENTS, Stream.of(event_of_job(RUNS, 0.48, "3.1 MiB"), *ENDS))
    return console


def test_the_bar_and_then_the_output(runs: FakeConsole) -> None:
    """On a terminal the bar moves, and is gone at the end."""
    go_on = threading.Event()
    begin = Stream.of(event_of_job(RUNS, 0.48, "3.1 MiB")).pieces
    runs.on("GET", EVENTS, Stream([*begin, go_on.wait, *Stream.of(*ENDS).pieces]))
    made = Terminal(runs.root, *FOLLOW)
    made.read_until("3.1 MiB")
    go_on.set()
    status, seen = made.end()
    assert status == 0
    assert "B8Q2ZN  files.fetch  [#####.....]  48%  3.1 MiB  " in seen
    assert seen.endswith("}\nsucceeded  job B8Q2ZN  pi  14 ms\n")


def test_in_a_log(runs: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for another state and another tenth, none for less and none for the end."""
    shares = (0.01, 0.02, 0.11, 0.12, 0.95)
    runs.on("GET", EVENTS, Stream.of(*(event_of_job(RUNS, share) for share in shares), *ENDS))
    status, out, err = runs.run(capsys, *FOLLOW)
    assert (status, out) == (0, bytes(OUTPUT).decode() + "\n")
    *lines, summary = err.splitlines()
    assert [line.split()[2] for line in lines] == ["1%", "11%", "95%"]
    assert summary == "succeeded  job B8Q2ZN  pi  14 ms"


def test_a_slow_job_in_a_log(runs: FakeConsole) -> None:
    """After ten seconds a little progress is news, too."""
    times = iter([NOW, NOW + 9 * S, NOW + 10 * S])
    made = screen(tty=False, now=lambda: next(times))
    events = [event_of_job(RUNS, share) for share in (0.01, 0.02, 0.03)]
    runs.on("GET", EVENTS, Stream.of(*events, *ENDS))
    following.job(made, Console(runs.root), following.JobWatch(RUNS))
    assert [line.split()[2] for line in told(made).splitlines()] == ["1%", "3%"]


def test_as_json(runs: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """One event a line; the exit status is that of the job's end."""
    status, out, err = runs.run(capsys, *FOLLOW, "--json")
    assert (status, err) == (0, "")
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["job", "job", "end"]
    assert runs.bodies("POST")[0]["wait_ms"] == 0
    failed = event_of_job(job(state="failed"))
    runs.on("GET", EVENTS, Stream.of(failed, END))
    status, out, err = runs.run(capsys, "jobs", "follow", JOB, "--json")
    assert (status, err, out.count("\n")) == (1, "", 2)


def test_a_job_that_ended_long_ago(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to follow; its end is told."""
    console.on("GET", "jobs/B8Q2", job_answer())
    console.on("GET", f"jobs/{JOB}", job_answer())
    status, out, err = console.run(capsys, "jobs", "follow", "B8Q2")
    assert (status, out) == (0, bytes(OUTPUT).decode() + "\n")
    assert err == "succeeded  job B8Q2ZN  pi  14 ms\n"


def test_one_that_fails(runs: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """With the sentence that waiting would give."""
    runs.on("GET", f"jobs/{JOB}", [GOING, job_answer(None, "It broke.", state="failed")])
    status, out, err = runs.run(capsys, *FOLLOW)
    assert (status, out) == (1, "")
    assert err.endswith("error: It broke.\nhint:  palyra jobs show B8Q2ZN\n")


def test_too_many_follow_already(runs: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Then it is waited for; a program that asked for events is told."""
    full = Problem("The gateway has 256 followers.", "limit_reached", "", "exhausted", True)
    runs.on("GET", EVENTS, full, status=429)
    assert runs.run(capsys, *FOLLOW)[:2] == (0, bytes(OUTPUT).decode() + "\n")
    status, out, err = runs.run(capsys, *FOLLOW, "--json")
    assert (status, out, json.loads(err)["code"]) == (1, "", "limit_reached")


def test_ctrl_c_leaves_the_job_running(runs: FakeConsole) -> None:
    """Only the following stops."""
    let_go = threading.Event()
    begin = Stream.of(event_of_job(RUNS, 0.48, "3.1 MiB")).pieces
    runs.on("GET", EVENTS, Stream([*begin, let_go.wait]))
    made = Terminal(runs.root, *FOLLOW)
    made.read_until("48%")
    made.type("\x03")
    status, seen = made.end()
    let_go.set()
    assert status == 130
    assert seen.endswith(
        "still running  job B8Q2ZN\nhint  palyra jobs wait B8Q2ZN  or  palyra jobs cancel B8Q2ZN\n"
    )


def test_ctrl_c_leaves_a_queued_job_queued(console: FakeConsole) -> None:
    """A device that is away is waited for as long as the job may wait."""
    console.on("POST", "nodes/pi/invoke", still("queued"))
    away = job_answer(None, state="queued", took_ms=None, queue_expires_unix_ms=NOW)
    console.on("GET", f"jobs/{JOB}", away)
    made = Terminal(console.root, "nodes", "invoke", "pi", "echo", "--ttl", "1h")
    made.read_until("queued, pi is away; waits until ")
    made.type("\x03")
    status, seen = made.end()
    assert status == 130
    assert seen.endswith(
        "still queued  job B8Q2ZN\nhint  palyra jobs wait B8Q2ZN  or  palyra jobs cancel B8Q2ZN\n"
    )
    assert console.bodies("POST")[0]["ttl_ms"] == 3_600_000


def test_a_gateway_that_restarts(
    runs: FakeConsole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is opened again; nobody notices but by what it says."""
    monkeypatch.setattr(client, "_AGAIN_S", (0.0, 0.0))
    broken = Stream.of(event_of_job(RUNS, 0.1), cut=True)
    whole = Stream.of(event_of_job(RUNS, 0.48), *ENDS)
    runs.on("GET", EVENTS, [broken, broken, whole])
    status, _, err = runs.run(capsys, *FOLLOW)
    assert status == 0
    assert [line.split()[2] for line in err.splitlines()[:-1]] == ["10%", "48%"]


def test_a_gateway_that_is_away(runs: FakeConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was is not shown as what is."""
    monkeypatch.setattr(client, "_AGAIN_S", (0.0,))
    console, watch = Console(runs.root), following.JobWatch(RUNS)
    fanout = following.FanoutWatch(running())
    seen = []
    monkeypatch.setattr(time, "sleep", lambda _: seen.append(watch.line(NOW)))
    broken = Stream.of(event_of_job(RUNS, 0.1), cut=True)
    runs.on("GET", EVENTS, [broken, Stream.of(*ENDS)])
    following.job(screen(), console, watch)
    assert seen == [[("B8Q2ZN  the gateway is away; trying again", "")]]
    assert "away" not in watch.line(NOW)[0][0]
    fanout.lost()
    assert fanout.line(NOW) == [("F0S7GE  the gateway is away; trying again", "")]
