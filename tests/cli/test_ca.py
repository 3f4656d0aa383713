"""Tests of :mod:`palyra.cli.ca`, by what an operator sees of a rotation."""

from __future__ import annotations

import json

import pytest

from palyra.cli import ca
from palyra.console.models import Problem
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import Terminal, on_terminal
from tests.cli.things import (
    KEY,
    NAS,
    NOW,
    OLD,
    OTHER_KEY,
    D,
    ca_answer,
    node,
    screen,
    shown,
    steady_ca,
    told,
)

STEADY = """\
phase  steady
CA                   ISSUES  SERVES  UNTIL
7d4c 19e2 03ab f58e  yes     yes     19 Nov 2036
"""
OVERLAP = """\
phase      overlap since 20 Nov 03:44: devices move to the new CA
next step  when no device is left or 12 Dec 03:44: the listeners move too
left       2 devices
CA                   ISSUES  SERVES  UNTIL
7d4c 19e2 03ab f58e  yes     -       19 Nov 2036
02be 19e2 03ab f58e  -       yes     18 Sep 2027
ID      NAME        PRESENCE  HEARD    CERT
M2V8RD  old-laptop  offline   31d ago  -
9TQ0HC  nas         stale     2m ago   !! 40m
"""
LATER = "note  back up once the listeners show the new CA: older backups do not fit from then on\n"
SWITCHED = """\
phase      switched since 20 Nov 03:44: the listeners show the new CA
next step  12 Dec 03:44: the old CA is dropped
left       no device
"""


def test_steady() -> None:
    """One CA signs and serves; nothing is about to happen."""
    made = screen(80)
    ca.show_answer(made, steady_ca())
    assert (shown(made), told(made)) == (STEADY, "")


@pytest.mark.parametrize("width", [80, 120])
def test_in_a_rotation(width: int) -> None:
    """Who is left, those that are away first, and when the next step comes, as drawn."""
    made = screen(width)
    ca.show_answer(made, ca_answer())
    assert (shown(made), told(made)) == (OVERLAP, LATER)
    assert max(map(len, shown(made).splitlines())) <= 80


def test_those_that_are_online_can_be_hurried() -> None:
    """The hint is the order to renew; it does nothing for devices that are away."""
    made = screen(80)
    ca.show_answer(made, ca_answer(left=[node()], left_total=1))
    assert "left       1 device\n" in shown(made)
    assert told(made) == "hint  palyra nodes rotate --all\n" + LATER
    older = node(version="")  # takes no orders
    ca.show_answer(made := screen(80), ca_answer(left=[older], left_total=1))
    assert told(made) == LATER


def test_after_the_switch() -> None:
    """The old CA goes at a known time, nobody is left, and backups are void: also in a script."""
    for made in (screen(80), screen(tty=False)):
        ca.show_answer(made, ca_answer(phase="switched", left=[], left_total=0))
        assert shown(made).startswith(SWITCHED if made.tty else "phase\tswitched\n")
        assert told(made) == (
            "note  back up again: palyra state backup FILE; older backups do not fit any more\n"
        )


def test_a_step_without_a_time() -> None:
    """What brings it about is told all the same."""
    made = screen(80)
    ca.show_answer(made, ca_answer(next_step_unix_ms=None, started_unix_ms=None))
    assert shown(made).startswith(
        "phase      overlap: devices move to the new CA\n"
        "next step  when no device is left: the listeners move too\n"
    )
    ca.show_answer(dropping := screen(80), ca_answer(phase="switched", next_step_unix_ms=None))
    assert "next step  the old CA is dropped\n" in shown(dropping)


def test_a_phase_of_another_version() -> None:
    """It is shown as it is, and nothing is guessed about what comes next."""
    made = screen(80)
    ca.show_answer(made, ca_answer(phase="p\x1b"))
    assert shown(made).startswith("phase  p\\u001b since 20 Nov 03:44\nleft   2 devices\n")


def test_not_all_that_are_left() -> None:
    """The gateway lists some of very many; that is said."""
    made = screen(80)
    ca.show_answer(made, ca_answer(left_total=10_000))
    assert "left       10\u2009000 devices\n" in shown(made)
    assert told(made) == "only 2 of 10\u2009000\n" + LATER


def test_for_scripts() -> None:
    """Facts by key, then a line for each CA and each device that is left, whole."""
    made = screen(tty=False)
    ca.show_answer(made, ca_answer())
    assert shown(made) == (
        "phase\toverlap\n"
        "next step\t2026-12-12T03:44:14Z\n"
        "left\t2\n"
        f"ca\t{KEY}\tissues\t-\t2036-11-19T03:44:14Z\n"
        f"ca\t{OTHER_KEY}\t-\tserves\t2027-09-18T03:44:14Z\n"
        f"device\t{OLD}\told-laptop\toffline\t2026-10-22T03:44:14Z\t-\n"
        f"device\t{NAS}\tnas\tstale\t2026-11-22T03:42:14Z\t2026-11-22T04:24:14Z\n"
    )
    assert told(made) == LATER


def test_show(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """What the gateway says; JSON is its answer."""
    console.on("GET", "ca", steady_ca())
    assert console.run(capsys, "ca", "show")[1].startswith("phase\tsteady\nca\t")
    status, out, err = console.run(capsys, "ca", "show", "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out)["phase"] == "steady"


def test_rotate_in_a_script(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """The command is the consent; the reason is sent, the new phase is told."""
    console.on("POST", "ca/rotate", ca_answer())
    status, out, err = console.run(capsys, "ca", "rotate", "--reason", "yearly")
    assert (status, err) == (0, LATER)
    assert out.startswith("phase\toverlap\n")
    assert console.bodies("POST") == [{"reason": "yearly"}]
    assert json.loads(console.run(capsys, "ca", "rotate", "--json")[1])["left_total"] == 2


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 1)])
def test_rotate_asks(console: FakeConsole, answer: str, status: int) -> None:
    """A person is told what it does before it is done."""
    console.on("POST", "ca/rotate", ca_answer(left=[], left_total=0, started_unix_ms=NOW - 900 * D))
    made = Terminal(console.root, "ca", "rotate")
    made.read_until("Devices move to a new CA as they renew; until then both are trusted.")
    made.read_until("Rotate the CA? [y/N] ")
    assert console.bodies("POST") == []
    made.type(answer + "\n")
    ended, seen = made.end()
    assert (ended, len(console.bodies("POST"))) == (status, 1 - status)
    assert ("not rotated\n" if status else "7d4c 19e2 03ab f58e  yes     -  ") in seen


def test_rotate_without_asking(console: FakeConsole) -> None:
    """``--yes`` is a yes."""
    console.on("POST", "ca/rotate", ca_answer(left=[], left_total=0))
    status, seen = on_terminal(console.root, "ca", "rotate", "--yes")
    assert (status, seen.startswith("phase      overlap since ")) == (0, True)


def test_one_rotation_at_a_time(console: FakeConsole, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with the gateway's own words."""
    running = Problem(
        "A CA rotation is under way.", "rotation_running", "palyra ca show", "conflict", False
    )
    console.on("POST", "ca/rotate", running, status=409)
    assert console.run(capsys, "ca", "rotate") == (
        1,
        "",
        "error: A CA rotation is under way.\nhint:  palyra ca show\n",
    )
