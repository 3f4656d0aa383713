"""Tests of :mod:`palyra.cli.present`."""

from __future__ import annotations

import io
import json
import sys

import msgspec
import pytest

from palyra.cli.present import Screen
from palyra.cli.tables import Column, cell
from tests.cli.things import problem, screen, shown, told


def test_errors_are_two_lines() -> None:
    """A sentence and a hint, on stderr."""
    made = screen()
    made.problem(problem())
    assert shown(made) == ""
    assert told(made) == (
        "error: pi is offline, last heard 3h ago; nothing was queued.\n"
        "hint:  palyra nodes show pi\n"
    )


def test_errors_of_several_fields() -> None:
    """A line for each of them; what comes from a device stays on its line."""
    made = screen()
    fields = [{"field": "input.a", "problem": "is required"}, {"field": "b\nhint:", "problem": "x"}]
    made.problem(msgspec.structs.replace(problem("input_invalid"), validation_errors=fields))
    assert told(made) == (
        "error: input.a: is required.\n       b\\u000ahint:: x.\nhint:  palyra nodes show pi\n"
    )


def test_errors_as_json() -> None:
    """One object on stderr."""
    made = screen(as_json=True)
    made.problem(problem())
    found = json.loads(told(made))
    assert found["code"] == "device_offline"
    assert set(found) == {"error", "code", "category", "retryable", "validation_errors", "hint"}


def test_json_is_one_line_and_escaped() -> None:
    """Whatever a device puts into a string, the line stays a line and steers nothing."""
    made = screen(tty=False)
    made.json('{ "a":\n "\u202e\x9b" }'.encode())
    assert shown(made) == '{"a":"\\u202e\\u009b"}\n'


def test_documents() -> None:
    """Short ones on one line, long ones indented, compact for scripts."""
    short, long, script = screen(), screen(20), screen(tty=False)
    for made in (short, long, script):
        made.document(b'{"a":1,"b":[1,2,3,4,5]}')
    assert shown(short) == '{"a": 1, "b": [1, 2, 3, 4, 5]}\n'
    assert shown(long).startswith('{\n  "a": 1,\n')
    assert shown(script) == '{"a":1,"b":[1,2,3,4,5]}\n'


def test_colour_is_only_repeated() -> None:
    """With colour on a terminal the same text has a style; without a terminal it has none."""
    red, script = screen(colour=True), screen(tty=False, colour=True)
    for made in (red, script):
        made.line("failed", "red")
        made.table((Column("STATE"),), [[cell("failed", style="red")]])
    assert "\x1b[31mfailed\x1b[0m" in shown(red)
    assert shown(script) == "failed\nfailed\n"


def test_long_lines_are_not_broken() -> None:
    """A pairing line stays one line however narrow the terminal is."""
    made = screen(10, colour=True)
    made.line("x" * 100)
    assert shown(made) == "x" * 100 + "\n"


def test_hints_and_notes_are_silent_with_json() -> None:
    """With --json nothing but an error goes to stderr."""
    made = screen(as_json=True)
    made.hint("palyra doctor")
    made.aside("note")
    assert told(made) == ""


def test_lines_of_devices_are_escaped_at_the_last_moment() -> None:
    """Even text that nobody thought of escaping steers nothing."""
    made = screen()
    made.line("a\x1b[2J")
    assert shown(made) == "a\\u001b[2J\n"


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y", True), ("YES", True), ("", False), ("n", False)]
)
def test_only_yes_is_a_yes(monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool) -> None:
    """The default is no, and so is the end of the input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    made = screen()
    assert made.agreed("Approve pi?") is agreed
    assert told(made) == "Approve pi? [y/N] "


def test_no_spinner_without_a_terminal() -> None:
    """Progress is for people."""
    made = screen(tty=False)
    with made.working("waiting") as tell:
        tell("still")
    assert told(made) == ""


def test_a_quick_answer_has_no_spinner() -> None:
    """Nothing is drawn in the first 300 ms."""
    made = screen(colour=True)
    with made.working("waiting") as tell:
        tell("still")
    assert "waiting" not in told(made)


def test_the_screen_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal: nobody is asked, nothing is padded; NO_COLOR and TERM=dumb have no colour."""
    monkeypatch.setenv("NO_COLOR", "1")
    made = Screen.current(as_json=False)
    assert not (made.tty or made.interactive or made.colour)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen.current(as_json=False).colour
