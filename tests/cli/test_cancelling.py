"""Tests of :mod:`palyra.cli.cancelling`: nothing unconfirmed is called done."""

from __future__ import annotations

import json

import pytest

from palyra.console.models import Contract, Problem, PurgeAnswer
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import on_terminal
from tests.cli.things import (
    FANOUT,
    JOB,
    NOW,
    fanout_answer,
    fanout_item,
    job_answer,
    problem,
    running,
)

CANCEL = ("jobs", "cancel")
ASKED = job_answer(None, state="dispatched", cancel_requested_unix_ms=NOW)
CANCELLED = job_answer(None, state="cancelled", cancel_requested_unix_ms=NOW)
MISSING = Problem("No job is called F0S7.", "not_found", "palyra jobs list", "not_found", False)
FINAL = Problem(
    error="Job B8Q2ZN already succeeded at 03:44; there is nothing to cancel.",
    code="job_final",
    hint="palyra jobs show B8Q2ZN",
    category="conflict",
    retryable=False,
)


def test_what_waited_is_cancelled(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """At once, and told so; the reason is sent."""
    console.on("POST", "jobs/B8Q2/cancel", CANCELLED)
    args = (*CANCEL, "B8Q2", "--reason", "typo")
    assert console.run(capsys, *args) == (0, f"cancelled\t{JOB}\n", "")
    assert console.bodies("POST") == [{"reason": "typo"}]
    assert json.loads(console.run(capsys, *args, "--json")[1])["job"]["state"] == "cancelled"
    assert on_terminal(console.root, *args) == (0, "cancelled  job B8Q2ZN\n")


def test_what_runs_is_asked(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The device decides, and nobody else says that it did."""
    console.on("POST", "jobs/B8Q2/cancel", ASKED)
    assert console.run(capsys, *CANCEL, "B8Q2") == (0, f"cancel_asked\t{JOB}\n", "")
    assert on_terminal(console.root, *CANCEL, "B8Q2") == (
        0,
        "cancel asked  job B8Q2ZN; pi decides\n",
    )


def test_what_ended(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to cancel: exit 1, in the gateway's words."""
    console.on("POST", "jobs/B8Q2/cancel", FINAL, status=409)
    assert console.run(capsys, *CANCEL, "B8Q2") == (
        1,
        "",
        "error: Job B8Q2ZN already succeeded at 03:44; there is nothing to cancel.\n"
        "hint:  palyra jobs show B8Q2ZN\n",
    )


def test_a_fanout(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no job is a fan-out, or is said to be one; its rows are counted."""
    console.on("POST", "jobs/F0S7/cancel", MISSING, status=404)
    console.on("POST", "fanouts/F0S7/cancel", fanout_answer(running()))
    assert console.run(capsys, *CANCEL, "F0S7") == (0, f"cancel_asked\t{FANOUT}\n", "")
    assert len(console.asked) == 2
    assert console.run(capsys, *CANCEL, "F0S7", "--fanout", "--json")[0] == 0
    assert len(console.asked) == 3
    assert on_terminal(console.root, *CANCEL, "F0S7") == (
        0,
        "cancel asked  fan-out F0S7GE: 1 succeeded, 1 timed_out, 1 rejected, 1 dispatched\n"
        "hint  palyra jobs follow F0S7GE\n",
    )
    over = fanout_item(counts={"succeeded": 1, "cancelled": 3})
    console.on("POST", "fanouts/F0S7/cancel", fanout_answer(over))
    assert on_terminal(console.root, *CANCEL, "F0S7") == (
        0,
        "cancelled  fan-out F0S7GE: 1 succeeded, 3 cancelled\n",
    )


def test_neither(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence for both; a refusal of another kind is its own."""
    console.on("POST", "jobs/F0S7/cancel", MISSING, status=404)
    console.on("POST", "fanouts/F0S7/cancel", MISSING, status=404)
    assert console.run(capsys, *CANCEL, "F0S7") == (
        1,
        "",
        "error: No job or fan-out is called F0S7.\nhint:  palyra jobs list\n",
    )
    console.on("POST", "fanouts/F0S7/cancel", problem("ambiguous_target"), status=409)
    assert "No job" not in console.run(capsys, *CANCEL, "F0S7")[2]


def test_several(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is refused does not keep the others; the exit status remembers it."""
    console.on("POST", "jobs/AAAA/cancel", FINAL, status=409)
    console.on("POST", "jobs/B8Q2/cancel", CANCELLED)
    status, out, err = console.run(capsys, *CANCEL, "AAAA", "B8Q2")
    assert (status, out) == (1, f"cancelled\t{JOB}\n")
    assert err.startswith("error: Job B8Q2ZN already succeeded")
    console.on("POST", "jobs/AAAA/cancel", b"broken", status=500)
    status, out, err = console.run(capsys, *CANCEL, "AAAA", "B8Q2")
    assert (status, out, err.count("error:")) == (3, "", 1)


def test_what_waits(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """For all devices or for one, with the count."""
    console.on("POST", "jobs/purge", PurgeAnswer(Contract(), 12))
    assert console.run(capsys, *CANCEL, "--queued") == (0, "cancelled\t12\n", "")
    assert console.run(capsys, *CANCEL, "--queued", "--device", "pi", "--json")[0] == 0
    assert console.bodies("POST") == [
        {"device": "", "reason": ""},
        {"device": "pi", "reason": ""},
    ]
    assert console.run(capsys, *CANCEL, "--queued", "--reason", "moving")[0] == 0
    assert console.bodies("POST")[-1] == {"device": "", "reason": "moving"}
    assert on_terminal(console.root, *CANCEL, "--queued")[1] == "cancelled  12 queued jobs\n"
    assert on_terminal(console.root, *CANCEL, "--queued", "--device", "pi") == (
        0,
        "cancelled  12 queued jobs of pi\n",
    )


@pytest.mark.parametrize(
    "args", [(), ("B8Q2", "--queued"), ("--queued", "--fanout"), ("B8Q2", "--device", "pi")]
)
def test_what_says_two_things_or_nothing(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
) -> None:
    """A usage error; nothing is cancelled."""
    assert console.run(capsys, *CANCEL, *args)[:2] == (2, "")
    assert console.asked == []
