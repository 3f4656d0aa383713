"""Tests of :mod:`palyra.cli.requests`, by what an operator sees."""

from __future__ import annotations

import msgspec

from palyra.cli import requests
from palyra.console.models import FailedTries, SeenBefore
from tests.cli.things import (
    KEY,
    NOW,
    PI,
    REQUEST,
    D,
    M,
    another_key,
    burnt,
    request,
    request_list,
    screen,
    shown,
    told,
)

LIST_80 = """\
REQUEST  STATE             NAME  PLATFORM     FROM          WAITS
T6MW3K   pending_approval  pi    linux arm64  192.168.1.23  8:12
"""
FACTS = """\
name          pi                       identity   7d4c 19e2 03ab f58e
device        X4K7QM  node             seen here  never before
platform      linux arm64              from       192.168.1.23
code          QR by ana, 2 min ago     labels     site=prague
capabilities  echo low  system.health low  system.identity low
              desktop.open_url medium asks-on-device
              desktop.open_path high asks-on-device
"""
CHANGED = """\
name          pi                       identity   7d4c 19e2 03ab f58e
device        X4K7QM  node
seen here     !! paired 6 May with ANOTHER key; approving revokes that one
platform      linux arm64              from       192.168.1.23
code          QR by ana, !! 2 wrong tries from 192.168.1.40
labels        site=prague
"""
REJOIN = """\
name          pi                       identity   7d4c 19e2 03ab f58e
device        X4K7QM  node
seen here     paired 3 May, same key; its certificate ran out 12 Aug
platform      linux arm64              from       192.168.1.23
code          -  by its identity key   labels     site=prague
"""


def test_list_at_80_columns() -> None:
    """The request as drawn, and the one command that comes next."""
    made = screen(80)
    requests.show_list(made, request_list(request()))
    assert shown(made) == LIST_80
    assert told(made) == "hint  palyra pairing approve T6MW3K\n"


def test_those_that_wait_come_first() -> None:
    """A decided request stands below, and does not count down."""
    made = screen(80)
    decided = request(request_id=PI, state="rejected", created_at_unix_ms=NOW)
    requests.show_list(made, request_list(decided, request(), tries=1))
    assert shown(made).splitlines()[1].startswith("T6MW3K")
    assert shown(made).splitlines()[2].split()[-1] == "-"
    assert "!! 1 wrong try from 192.168.1.40" in told(made)


def test_list_for_scripts() -> None:
    """Whole ids and the whole fingerprint."""
    made = screen(tty=False)
    requests.show_list(made, request_list(request()))
    assert shown(made) == (
        f"{REQUEST}\tpending_approval\tpi\tlinux arm64\t192.168.1.23\t2026-11-22T03:52:26Z\t"
        f"{KEY}\tsite=prague\n"
    )
    assert told(made) == ""


def test_what_went_wrong_of_late() -> None:
    """Who guesses, which code is burnt, and that nobody pairs by PIN for a while: below the table,
    before the hint, for people only."""
    active = burnt(state="active", failed=2, issued_by="bo")
    listed = request_list(
        request(), tries=2, codes=[burnt(), active], pins_paused_until_unix_ms=NOW + 7 * M
    )
    made, script = screen(), screen(tty=False)
    requests.show_list(made, listed)
    requests.show_list(script, listed)
    assert shown(made) == LIST_80
    assert told(made) == (
        "!! 2 wrong tries from 192.168.1.40\n"
        "!! PIN by ana burnt by 5 wrong tries\n"
        "!! pairing by PIN is paused until 03:51 after many wrong tries\n"
        "hint  palyra pairing approve T6MW3K\n"
    )
    assert (shown(script).count("\n"), told(script)) == (1, "")


def test_a_pause_that_is_over_is_not_told() -> None:
    """It is about now."""
    made = screen()
    requests.show_list(made, request_list(pins_paused_until_unix_ms=NOW))
    assert told(made) == ""


def test_nobody_waits() -> None:
    """An empty list says so."""
    made = screen()
    requests.show_list(made, request_list())
    assert shown(made) == "Nobody is waiting.\n"


def test_the_facts() -> None:
    """What an operator decides on, as drawn."""
    made = screen(80)
    requests.show_facts(made, request(), [])
    assert shown(made) == FACTS


def test_what_is_alarming_is_marked() -> None:
    """Another key and wrong tries are marked, whole, on lines of their own."""
    made = screen(80)
    tries = [FailedTries("192.168.1.40", 2)]
    requests.show_facts(made, request(seen_before=another_key()), tries)
    assert shown(made).startswith(CHANGED)


def test_other_answers_to_seen_here() -> None:
    """The same key is fine; a revoked device is not, and when it was removed is told."""
    same, revoked = screen(), screen(120)
    requests.show_facts(same, request(seen_before=SeenBefore("same_key", "pi", NOW - D)), [])
    before = SeenBefore("revoked", "pi", NOW - D, KEY, "bo", "laptop stolen")
    requests.show_facts(revoked, request(seen_before=before), [])
    assert "seen here  paired 21 Nov, same key\n" in shown(same)
    assert "!! revoked 21 Nov by bo (laptop stolen)\n" in shown(revoked)
    removed = screen()
    before = msgspec.structs.replace(before, at_unix_ms=NOW - 3 * D, removed_at_unix_ms=NOW - D)
    requests.show_facts(removed, request(seen_before=before), [])
    assert "seen here     !! revoked 19 Nov by bo (laptop stolen), removed 21 Nov\n" in shown(
        removed
    )
    unnamed = screen(120)
    requests.show_facts(unnamed, request(seen_before=SeenBefore("revoked", "pi", NOW)), [])
    assert "!! revoked 22 Nov\n" in shown(unnamed)


def test_a_rejoin() -> None:
    """It came without a code: its identity key is the proof, and what ran out is told."""
    seen = SeenBefore("same_key", "pi", NOW - 203 * D, certificate_ended_unix_ms=NOW - 102 * D)
    rejoin = request(method="rejoin", issued_by="", seen_before=seen)
    made, script = screen(80), screen(tty=False)
    requests.show_facts(made, rejoin, [FailedTries("192.168.1.40", 2)])
    requests.show_facts(script, rejoin, [])
    assert shown(made).startswith(REJOIN)
    assert "code\t-\n" in shown(script)
    assert "seen here\tpaired 3 May, same key; its certificate ran out 12 Aug\n" in shown(script)


def test_what_an_approval_would_grant() -> None:
    """Where it is not the usual, it stands with the facts."""
    made, script = screen(), screen(tty=False)
    requests.show_grants(made, ["echo", "system.health"], "none")
    requests.show_grants(script, [], "medium")
    assert shown(made) == "grants        echo,system.health; later ones not\n"
    assert shown(script) == "grants\tall announced medium\n"


def test_the_facts_for_scripts() -> None:
    """One a line, whole values."""
    made = screen(tty=False)
    requests.show_facts(made, request(issued_at_unix_ms=NOW), [])
    lines = shown(made).splitlines()
    assert lines[0] == f"request\t{REQUEST}"
    assert f"identity\t{KEY}" in lines
    assert f"device\t{PI}" in lines
