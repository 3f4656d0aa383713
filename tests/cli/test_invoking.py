"""Tests of :mod:`palyra.cli.invoking` and :mod:`palyra.cli.waiting`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.cli import invoking
from palyra.errors import Malformed
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import (
    JOB,
    OUTPUT,
    PI,
    invoke_answer,
    job_answer,
    problem,
    still,
)

INVOKE = "nodes/pi/invoke"
ECHO = ("nodes", "invoke", "pi", "echo")


def test_the_output_and_nothing_else(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compact JSON on stdout, the summary on stderr; the input reaches the gateway as it is."""
    console.on("POST", INVOKE, invoke_answer())
    args = ["--input", '{"text": "hello"}', "--timeout", "5s", "--max-payload-bytes", "1000"]
    assert console.run(capsys, *ECHO, *args) == (
        0,
        bytes(OUTPUT).decode() + "\n",
        "succeeded  job B8Q2ZN  pi  14 ms\n",
    )
    assert console.bodies("POST") == [
        {
            "capability": "echo",
            "input_json": {"text": "hello"},
            "max_payload_bytes": 1000,
            "timeout_ms": 5000,
            "wait_ms": 300,
            "ttl_ms": None,
            "idempotency_key": "",
        }
    ]


def test_on_a_terminal(console: FakeConsole) -> None:
    """As drawn: the output on one line where it fits."""
    console.on("POST", INVOKE, invoke_answer())
    status, seen = on_terminal(console.root, *ECHO)
    assert (status, seen) == (
        0,
        f'{{"echo": {{"text": "hello"}}, "device_id": "{PI}"}}\nsucceeded  job B8Q2ZN  pi  14 ms\n',
    )


def test_as_json(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The envelope on one line; a job without success is exit 1 and no second object."""
    console.on("POST", INVOKE, invoke_answer())
    status, out, err = console.run(capsys, *ECHO, "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out)["output_json"]["device_id"] == PI
    failed = invoke_answer(success=False, state="failed", output_json=None, error="It broke.")
    console.on("POST", INVOKE, failed)
    status, out, err = console.run(capsys, *ECHO, "--json")
    assert (status, err, json.loads(out)["error"]) == (1, "", "It broke.")


def test_it_waits_for_the_end(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that goes on is looked at until it is final."""
    console.on("POST", INVOKE, still("dispatched"))
    going = job_answer(None, state="awaiting_local_mediation", took_ms=None)
    waiting = job_answer(None, state="queued", waiting_for="approval", took_ms=None)
    console.on("GET", f"jobs/{JOB}", [waiting, going, job_answer()])
    status, out, err = console.run(capsys, *ECHO)
    assert (status, out) == (0, bytes(OUTPUT).decode() + "\n")
    assert err == "succeeded  job B8Q2ZN  pi  14 ms\n"
    assert all(query == {"wait_ms": "2000"} for _, _, query, _ in console.asked[1:])


def test_json_of_a_job_that_was_waited_for(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """The envelope is that of an invocation however long it took."""
    console.on("POST", INVOKE, still("dispatched"))
    console.on("GET", f"jobs/{JOB}", job_answer(None, "It broke.", state="failed", error_code="x"))
    status, out, _ = console.run(capsys, *ECHO, "--json")
    found = json.loads(out)
    assert status == 1
    assert set(found) == set(json.loads(msgspec.json.encode(invoke_answer())))
    assert (found["state"], found["error"], found["error_code"]) == ("failed", "It broke.", "x")


def test_failures_have_a_sentence(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway's own, or one that says what is known: an unknown outcome is not a failure."""
    lost = invoke_answer(success=False, state="outcome_unknown", output_json=None)
    console.on("POST", INVOKE, lost)
    assert console.run(capsys, *ECHO) == (
        1,
        "",
        "error: Outcome unknown: pi went away while running it, so it may have taken effect; "
        "check pi before repeating.\nhint:  palyra jobs show B8Q2ZN\n",
    )
    late = invoke_answer(success=False, state="timed_out", output_json=None, effect_possible=True)
    console.on("POST", INVOKE, late)
    assert "ended: timed out; it may still have taken effect" in console.run(capsys, *ECHO)[2]
    console.on("POST", INVOKE, msgspec.structs.replace(late, error="Timed out after 30s."))
    assert console.run(capsys, *ECHO)[2].startswith("error: Timed out after 30s.\n")


def test_offline(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A device that is away is refused at once."""
    console.on("POST", INVOKE, problem(), status=412)
    status, out, err = console.run(capsys, *ECHO, "--json")
    assert (status, out) == (1, "")
    assert json.loads(err)["code"] == "device_offline"


def test_not_waiting(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The id of the job is the result."""
    console.on("POST", INVOKE, still("queued"))
    status, out, _ = console.run(capsys, *ECHO, "--no-wait")
    assert (status, out) == (0, f"job\t{JOB}\nstate\tqueued\n")
    assert console.bodies("POST")[0]["wait_ms"] == 0
    assert console.run(capsys, *ECHO, "--no-wait", "--json")[0] == 0
    assert on_terminal(console.root, *ECHO, "--no-wait") == (
        0,
        "queued  job B8Q2ZN  pi\nhint  palyra jobs wait B8Q2ZN\n",
    )


def test_ctrl_c_leaves_the_job_running(console: FakeConsole) -> None:
    """After the spinner appeared: 130, and how to wait again."""
    console.on("POST", INVOKE, still("dispatched"))
    console.on("GET", f"jobs/{JOB}", job_answer(None, state="dispatched", took_ms=None))
    made = Terminal(console.root, *ECHO)
    made.read_until("waiting for pi")
    made.type("\x03")
    status, seen = made.end()
    assert status == 130
    assert seen.endswith(
        "still running  job B8Q2ZN\nhint  palyra jobs wait B8Q2ZN  or  palyra jobs cancel B8Q2ZN\n"
    )
    assert not [path for _, path, _, _ in console.asked if path.endswith("cancel")]


def test_a_device_that_was_typed_as_an_id(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is called by its short id until its name is known."""
    console.on("POST", f"nodes/{PI}/invoke", invoke_answer())
    assert "  X4K7QM  " in console.run(capsys, "nodes", "invoke", PI, "echo")[2]
    console.on("POST", "nodes/x4k7/invoke", invoke_answer())
    assert "  X4K7QM  " in console.run(capsys, "nodes", "invoke", "x4k7", "echo")[2]


@pytest.mark.parametrize(
    ("text", "problem_"),
    [
        ('{"a":}', "line 1, column 6: Expecting value."),
        ('{\n"a" 1}', "line 2, column 5: Expecting ':' delimiter."),
        ("NaN", "NaN is not JSON"),
        ("", "line 1, column 1: Expecting value."),
        ("@/nowhere/at/all", "No such file or directory"),
    ],
)
def test_bad_input_is_refused_here(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], text: str, problem_: str
) -> None:
    """With its place, as a usage error; nothing is sent."""
    status, _, err = console.run(capsys, *ECHO, "--input", text)
    assert status == 2
    assert problem_ in err
    assert console.asked == []


def test_input_from_a_file_and_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``@FILE`` and ``-``."""
    (tmp_path / "in.json").write_text('{"a": "ž"}', "utf-8")
    assert invoking.given(f"@{tmp_path / 'in.json'}") == '{"a": "ž"}'.encode()
    monkeypatch.setattr(sys, "stdin", io.StringIO("[1]\n"))
    assert invoking.given("-") == b"[1]\n"


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_what_passes_is_json(text: str) -> None:
    """Whatever is typed is refused with its place or is JSON for every reader."""
    try:
        found = invoking.checked(text)
    except Malformed:
        return
    assert json.loads(found) == msgspec.json.decode(found)


def test_too_deep_is_refused() -> None:
    """A thousand brackets are no stack trace."""
    with pytest.raises(Malformed):
        invoking.checked("[" * 100_000)
