"""Tests of :mod:`palyra.cli.granting`: what an operator grants and withholds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from palyra.errors import CapabilityNotGranted
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import on_terminal
from tests.cli.things import FIVE, PI, capability, node, node_answer

GRANTS = "devices/pi/grants"


def answers(console: FakeConsole, **changes: Any) -> None:
    """The device as it is after the change."""
    console.on("POST", GRANTS, node_answer(node(**changes)))


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        (["echo", "a.b", "echo"], {"grant": ["echo", "a.b"]}),
        (["echo", "--withhold"], {"withhold": ["echo"]}),
        (["--up-to", "high"], {"grant_risk": "high"}),
        (["echo", "--up-to", "none"], {"grant": ["echo"], "grant_risk": "none"}),
    ],
)
def test_what_is_asked(
    console: FakeConsole,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    sent: dict[str, Any],
) -> None:
    """Names to grant or to withhold, and the risk up to which later ones are granted."""
    answers(console)
    status, out, _ = console.run(capsys, "nodes", "grant", "pi", *args, "--json")
    assert (status, json.loads(out)["node"]["device_id"]) == (0, PI)
    plain: dict[str, Any] = {"grant": [], "withhold": [], "grant_risk": None, "contracts": {}}
    assert console.bodies("POST") == [plain | sent]


@pytest.mark.parametrize(
    "args", [[], ["--withhold"], ["--withhold", "--up-to", "low"], ["echo", "--up-to", "all"]]
)
def test_nothing_to_change(
    console: FakeConsole, capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    """A usage error, and nothing is sent."""
    assert console.run(capsys, "nodes", "grant", "pi", *args)[0] == 2
    assert console.asked == []


def test_in_a_script(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is granted from now on."""
    answers(console, capabilities=[*FIVE[:2], capability("a.b", granted=False)])
    assert console.run(capsys, "nodes", "grant", "pi", "echo") == (
        0,
        f"device\t{PI}\nname\tpi\ngranted\techo,system.health\nup_to\tlow\n",
        "",
    )
    answers(console, capabilities=[])
    assert "granted\t-\n" in console.run(capsys, "nodes", "grant", "pi", "--up-to", "none")[1]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["desktop.open_url", "a.b"], "granted  pi  X4K7QM  desktop.open_url medium, a.b\n"),
        (["a.b", "--withhold"], "withheld  pi  X4K7QM  a.b\n"),
        (["a.b", "--up-to", "medium"], "granted  pi  X4K7QM  a.b; later ones up to medium\n"),
    ],
)
def test_on_a_terminal(console: FakeConsole, args: list[str], line: str) -> None:
    """What was changed, on one line."""
    answers(console, grant_risk="medium")
    assert on_terminal(console.root, "nodes", "grant", "pi", *args) == (0, line)


def test_later_ones_not(console: FakeConsole) -> None:
    """``none`` grants nothing that comes later."""
    answers(console, grant_risk="none")
    seen = on_terminal(console.root, "nodes", "grant", "pi", "--up-to", "none")
    assert seen == (0, "granted  pi  X4K7QM  later ones not\n")


def test_the_hint_of_a_refused_job_grants_it(
    console: FakeConsole, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied as it stands it is the command that was missing."""
    answers(console)
    name, *args = CapabilityNotGranted("pi", "printer.print").hint.split()
    assert (name, console.run(capsys, *args)[0]) == ("palyra", 0)
    assert console.bodies("POST")[0]["grant"] == ["printer.print"]
