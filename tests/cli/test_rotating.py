"""Tests of :mod:`palyra.cli.rotating`: orders to renew, and what is told of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from palyra.console.models import Contract, NodeItem, Problem, RotateAnswer
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import on_terminal
from tests.cli.things import NAS, OLD, PI, nas, node, old_laptop, problem

ROTATED = """\
ID      NAME        ORDER
9TQ0HC  nas         when it comes back
M2V8RD  old-laptop  when it comes back
X4K7QM  pi          told
3 devices: 1 told, 2 when it comes back
"""


def answers(console: FakeConsole, *nodes: NodeItem) -> None:
    """These devices are ordered to renew."""
    console.on("POST", "devices/rotate", RotateAnswer(Contract(), list(nodes)))


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal(console: FakeConsole, columns: int) -> None:
    """Those that could not be told come first; only a device that is online was told."""
    answers(console, node(), nas(), old_laptop())
    assert on_terminal(console.root, "nodes", "rotate", "--all", columns=columns) == (0, ROTATED)


def test_a_device_that_takes_no_orders(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """It speaks version 1 and is not counted as told; one that was never heard may be told yet."""
    older = node(device_id=NAS, name="old", version="")
    new = node(device_id=OLD, name="new", version="", presence="offline", last_heard_unix_ms=None)
    answers(console, node(), older, new)
    assert on_terminal(console.root, "nodes", "rotate", "--all")[1] == (
        "ID      NAME  ORDER\n"
        "M2V8RD  new   when it comes back\n"
        "9TQ0HC  old   by itself\n"
        "X4K7QM  pi    told\n"
        "3 devices: 1 told, 1 when it comes back, 1 by itself\n"
    )
    assert f"{NAS}\told\tby itself\n" in console.run(capsys, "nodes", "rotate", "--all")[1]


def test_in_a_script(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole ids, tabs, no counts; nobody is asked."""
    answers(console, node(), old_laptop())
    assert console.run(capsys, "nodes", "rotate", "pi", "old-laptop") == (
        0,
        f"{OLD}\told-laptop\twhen it comes back\n{PI}\tpi\ttold\n",
        "",
    )


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        (["pi"], {"targets": ["pi"]}),
        (["pi", NAS, "pi"], {"targets": ["pi", NAS]}),
        (["--where", "label.site = brno"], {"where": "label.site = brno"}),
        (["--all", "--reason", "backup lost"], {"everything": True, "reason": "backup lost"}),
    ],
)
def test_who_is_ordered(
    console: FakeConsole,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    sent: dict[str, Any],
) -> None:
    """Names, an expression or all; JSON is the gateway's answer."""
    answers(console, node())
    status, out, _ = console.run(capsys, "nodes", "rotate", *args, "--json")
    assert (status, set(json.loads(out))) == (0, {"contract", "nodes"})
    plain: dict[str, Any] = {"targets": [], "where": "", "everything": False, "reason": ""}
    assert console.bodies("POST") == [plain | sent]


@pytest.mark.parametrize(
    "args", [[], ["pi", "--all"], ["pi", "--where", "all"], ["--all", "--where", "all"]]
)
def test_one_way_of_naming_them(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    """None, or two, is a usage error: a slip must not order all of them."""
    status, _, err = console.run(capsys, "nodes", "rotate", *args)
    assert (status, console.asked) == (2, [])
    assert err.startswith("error: give devices, or --where EXPR, or --all: one of them.\n")


def test_an_expression_that_does_not_parse(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with a caret under what is wrong, as everywhere."""
    wrong = Problem(
        "where, column 7: expected a value after =.",
        "expression_invalid",
        "palyra nodes list --help",
        "invalid",
        False,
        [{"column": 7}],
    )
    console.on("POST", "devices/rotate", wrong, status=400)
    status, _, err = console.run(capsys, "nodes", "rotate", "--where", "name =")
    assert status == 2
    assert "error: --where, column 7: expected a value after =.\n       name =\n" in err


def test_a_refusal(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with the gateway's own words."""
    console.on("POST", "devices/rotate", problem("not_found"), status=404)
    status, out, err = console.run(capsys, "nodes", "rotate", "nobody")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")


def test_nobody_matches(console: FakeConsole) -> None:
    """An empty answer is told."""
    answers(console)
    seen = on_terminal(console.root, "nodes", "rotate", "--where", "name = x")
    assert seen == (0, "No device matches.\n")


def test_very_many(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal shows the first 200 and says so; a script gets a row for each."""
    answers(console, *[node(device_id=f"01M80NKQCN{i:016}", name=f"n{i:03}") for i in range(201)])
    _, seen = on_terminal(console.root, "nodes", "rotate", "--all")
    assert seen.endswith("201 devices: 201 told\nonly the first 200; all of them: --json\n")
    assert console.run(capsys, "nodes", "rotate", "--all")[1].count("\n") == 201
