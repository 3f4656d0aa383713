"""Tests of :mod:`palyra.cli.inventory`, by what a person sees."""

from __future__ import annotations

from typing import Any

import pytest

from palyra.cli import inventory
from palyra.errors import CapabilityChanged
from tests.cli.things import (
    FIVE,
    KEY,
    NAS,
    NOW,
    PI,
    H,
    M,
    S,
    capability,
    nas,
    node,
    old_laptop,
    screen,
    shown,
    told,
)

LIST_80 = """\
ID      NAME        PRESENCE  TRUST    PLATFORM     CAPS  JOBS  HEARD
X4K7QM  pi          online    trusted  linux arm64     5     1  4s ago
9TQ0HC  nas         stale     trusted  linux amd64   3/4     0  2m ago
M2V8RD  old-laptop  offline   trusted  macos arm64     5     0  31d ago
3 devices: 1 online, 1 stale, 1 offline; 1 waiting for approval
"""
LIST_120 = """\
ID      NAME  PRESENCE  TRUST    PLATFORM     CAPS  JOBS  HEARD   VIA   CERT    VERSION   LABELS
9TQ0HC  nas   stale     trusted  linux amd64   3/4     0  2m ago  grpc  !! 40m  !! 0.0.9  site=brno
X4K7QM  pi    online    trusted  linux arm64     5     1  4s ago  quic  23h     0.1.0     site=brno
2 devices: 1 online, 1 stale
"""
SHOW_80 = f"""\
pi  {PI}
presence     online, heard 4s ago, quic from 192.168.1.23
trust        trusted, approved by ana 03:43:14
identity     7d4c 19e2 03ab f58e 0123 4567 89ab cdef
             0123 4567 89ab cdef 0123 4567 89ab cdef
certificate  until 23 Nov 02:44 (23h)
platform     linux arm64, node 0.1.0
labels       rack=2 site=prague
CAPABILITY        VERSION  RISK    STATE
desktop.open_url  0.1.0    medium  granted, asks on device
printer.print     -        -       !! failed: No module named 'cups'
"""
SHOW_120 = f"""\
pi  {PI}
presence  online, heard 4s ago, quic from 192.168.1.23  certificate  until 23 Nov 02:44 (23h)
trust     trusted, approved by ana 03:43:14             platform     linux arm64, node 0.1.0
identity  7d4c 19e2 03ab f58e 0123 4567 89ab cdef       labels       rack=2 site=prague
          0123 4567 89ab cdef 0123 4567 89ab cdef
CAPABILITY        VERSION  RISK    STATE
desktop.open_url  0.1.0    medium  granted, asks on device
printer.print     -        -       !! failed: No module named 'cups'
"""
TWO = [FIVE[3], capability("printer.print", fault="No module named 'cups'")]


def test_list_at_80_columns() -> None:
    """The inventory as drawn."""
    made = screen(80)
    inventory.show_list(made, [old_laptop(), nas(), node()], 1, False)
    assert shown(made) == LIST_80


def test_list_at_120_columns() -> None:
    """More columns; what needs a person comes first."""
    made = screen(120)
    inventory.show_list(made, [node(labels={"site": "brno"}), nas()], 0, False)
    assert shown(made) == LIST_120


def test_list_for_scripts() -> None:
    """Tabs, no header, whole ids, RFC 3339 times, no marks, no counts."""
    made = screen(tty=False)
    inventory.show_list(made, [nas()], 1, False)
    assert shown(made) == (
        f"{NAS}\tnas\tstale\ttrusted\tlinux amd64\t3/4\t0\t2026-11-22T03:42:14Z\tgrpc\t"
        "2026-11-22T04:24:14Z\t0.0.9\tsite=brno\n"
    )


def test_an_empty_inventory() -> None:
    """An empty list says so to people, and nothing to scripts."""
    made, script = screen(), screen(tty=False)
    inventory.show_list(made, [], 2, False)
    inventory.show_list(script, [], 2, False)
    assert shown(made) == "No devices yet. 2 waiting for approval.\n"
    assert shown(script) == ""


def test_a_list_that_was_cut_says_so() -> None:
    """What is not shown is not hidden."""
    made = screen()
    inventory.show_list(made, [node()], 0, True)
    assert told(made) == "only the first 1; --limit N or --where EXPR\n"


def test_a_long_name_is_cut_to_fit() -> None:
    """A line never gets wider than the terminal while something can be cut."""
    made = screen(80)
    inventory.show_list(made, [node(name="build-agent-with-a-long-name-number-07")], 0, False)
    assert "build-agent-with~-07" in shown(made)
    assert max(map(len, shown(made).splitlines())) <= 80


def test_a_certificate_that_is_over() -> None:
    """It needs a person."""
    made = screen(120)
    inventory.show_list(made, [node(certificate_expires_unix_ms=NOW - 1)], 0, False)
    assert "!! over" in shown(made)


def test_a_version_that_the_gateway_does_not_call_another_one() -> None:
    """The gateway judges, not this command: it may be of another version itself."""
    made = screen(120)
    inventory.show_list(made, [node(version="dev")], 0, False)
    assert "!!" not in shown(made)


def test_show_says_how_far_a_version_is() -> None:
    """In words, beside the version."""
    made = screen(80)
    inventory.show_one(made, node(version="0.0.9", version_skew="too_old"))
    assert "node 0.0.9 (more than one minor version older than the gateway)" in shown(made)


def test_show_at_80_columns() -> None:
    """One device as drawn, its whole fingerprint on two lines."""
    made = screen(80)
    inventory.show_one(made, node(capabilities=TWO))
    assert shown(made) == SHOW_80


RENEWING = """\
certificate  until 23 Nov 02:44 (23h), renews in 16h
rotation     asked by ana 2m ago, not done yet
clock        4m behind
platform     linux arm64, node 0.1.0
labels       rack=2 site=prague
grants       later ones up to medium
"""


def test_what_is_not_as_usual() -> None:
    """When it renews, an order that is open, a clock that is far off, and a wider grant."""
    renewing = node(
        certificate_renews_unix_ms=NOW + 16 * H + 5 * M,
        rotate_asked_unix_ms=NOW - 2 * M,
        rotate_asked_by="ana",
        clock_ahead_ms=-4 * M - 2,
        grant_risk="medium",
    )
    made, script = screen(80), screen(tty=False)
    inventory.show_one(made, renewing)
    inventory.show_one(script, renewing)
    assert RENEWING in shown(made)
    assert "rotation\tasked ana 2026-11-22T03:42:14Z\nclock\t-241s\n" in shown(script)
    assert "certificate\t2026-11-23T02:44:14Z\n" in shown(script)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"certificate_renews_unix_ms": NOW}, "until 23 Nov 02:44 (23h), renewal is due\n"),
        (
            {"certificate_renews_unix_ms": NOW - H, "certificate_expires_unix_ms": NOW - 1},
            "!! until 03:44:13 (over)\n",
        ),
        ({"clock_ahead_ms": 61 * S}, "clock        1m ahead\n"),
        ({"rotate_asked_unix_ms": NOW}, "rotation     asked 0s ago, not done yet\n"),
        ({"grant_risk": "none"}, "grants       later ones not\n"),
    ],
)
def test_each_of_them(changes: dict[str, Any], line: str) -> None:
    """A certificate that is over does not renew: its device has to rejoin."""
    made = screen(80)
    inventory.show_one(made, node(**changes))
    assert line in shown(made)


def test_a_minute_of_the_clock_is_nothing() -> None:
    """Clocks that differ little are not told."""
    made = screen(80)
    inventory.show_one(made, node(clock_ahead_ms=60 * S))
    assert "clock" not in shown(made)


def test_show_in_two_columns() -> None:
    """From 100 columns the facts stand beside each other."""
    made = screen(120)
    inventory.show_one(made, node(capabilities=TWO))
    assert shown(made) == SHOW_120


def test_show_for_scripts() -> None:
    """One fact a line, whole values."""
    made = screen(tty=False)
    inventory.show_one(made, node(capabilities=TWO))
    lines = shown(made).splitlines()
    assert lines[:3] == [
        "name\tpi",
        f"device\t{PI}",
        "presence\tonline 2026-11-22T03:44:10Z quic 192.168.1.23",
    ]
    assert f"identity\t{KEY}" in lines
    assert lines[-1] == "capability\tprinter.print\t0.1.0\tlow\tfailed: No module named 'cups'"


def test_states_of_capabilities() -> None:
    """The first thing in the way is named."""
    state = inventory.capability_state
    assert state(capability("a", available=False)) == "switched off on the device"
    assert state(capability("a", granted=False)) == "not granted"
    assert state(capability("a", granted=False, changed=True)) == "changed since it was granted"
    assert state(capability("a")) == "granted"


def test_what_has_changed_needs_a_person() -> None:
    """It is marked, and the hint is what grants it again; scripts get the state alone."""
    changed = node(capabilities=[capability("acme.lamp", granted=False, changed=True)])
    made = screen(80)
    inventory.show_one(made, changed)
    assert "!! changed since it was granted" in shown(made)
    assert "palyra nodes grant pi acme.lamp" in told(made)
    named = node(capabilities=[capability("a;reboot", granted=False, changed=True)])
    made = screen(80)
    inventory.show_one(made, named)
    assert "palyra nodes grant pi 'a;reboot'" in told(made)
    assert CapabilityChanged("pi", "a;reboot").hint == "palyra nodes grant pi 'a;reboot'"
    made = screen(tty=False)
    inventory.show_one(made, changed)
    assert shown(made).splitlines()[-1].endswith("\tchanged since it was granted")
    assert told(made) == ""


def test_a_hostile_name_steers_nothing() -> None:
    """Text of a device is escaped wherever it is shown."""
    made = screen(120)
    hostile = node(name="p\x1b[31mi", platform="\u202e", labels={"a": "\n"}, address="\x07")
    inventory.show_list(made, [hostile], 0, False)
    inventory.show_one(made, hostile)
    assert not {"\x1b", "\u202e", "\x07"} & set(shown(made))
