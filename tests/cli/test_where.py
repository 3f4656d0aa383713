"""Tests of :mod:`palyra.cli.where`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from palyra.cli import where
from palyra.console.models import Problem
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import on_terminal

TYPED = "label.site in (a)="
REFUSED = Problem(
    error="where, column 19: expected a value after =.",
    code="expression_invalid",
    hint="palyra nodes list --help",
    category="invalid",
    retryable=False,
    validation_errors=[{"field": "--where", "problem": "expected a value after =", "column": 19}],
)
SHOWN = (
    "error: --where, column 19: expected a value after =.\n"
    "       label.site in (a)=\n"
    "                         ^\n"
    "hint:  palyra nodes list --help\n"
)


def test_a_caret_under_the_column(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """As typed, with what is wrong marked; a usage error; as JSON it is one object."""
    console.on("GET", "nodes", REFUSED, status=400)
    console.on("POST", "jobs", REFUSED, status=400)
    listed = ("nodes", "list", "--where", TYPED)
    assert console.run(capsys, *listed) == (2, "", SHOWN)
    assert console.run(capsys, "nodes", "invoke", "--where", TYPED, "echo") == (2, "", SHOWN)
    status, _, err = console.run(capsys, *listed, "--json")
    assert (status, json.loads(err)["code"]) == (2, "expression_invalid")
    assert on_terminal(console.root, *listed) == (2, SHOWN)


def test_without_a_column(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence alone, where the gateway names no column; other refusals are none of it."""
    console.on("GET", "nodes", Problem("No.", "expression_invalid", "", "invalid", False), 400)
    assert console.run(capsys, "nodes", "list", "--where", "x") == (2, "", "error: No.\n")
    console.on("GET", "nodes", Problem("No.", "policy_denied", "", "forbidden", False), 403)
    assert console.run(capsys, "nodes", "list", "--where", "x")[0] == 1


def test_every_device_has_to_be_said(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty expression is a mistake, not everything."""
    status, _, err = console.run(capsys, "nodes", "invoke", "--where", " ", "echo")
    assert (status, console.asked) == (2, [])
    assert "all means every device" in err


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=120), st.integers(min_value=1, max_value=121), st.integers(20, 100))
def test_the_caret_is_always_seen(text: str, column: int, width: int) -> None:
    """However long the expression is and whatever it holds, both lines fit and steer nothing."""
    line, mark = where.caret(text, min(column, len(text) + 1), width)
    assert cell_len(mark) <= width
    assert mark.strip() == "^"
    assert cell_len(line) <= max(width, 15)
    assert "\n" not in line and "\x1b" not in line


def test_a_long_expression_is_cut_on_both_sides() -> None:
    """What is wrong stays in sight."""
    line, mark = where.caret("a" * 50 + "!" + "b" * 50, 51, 40)
    assert line[mark.index("^")] == "!"
    assert line.strip().startswith("~a") and line.endswith("b~")
