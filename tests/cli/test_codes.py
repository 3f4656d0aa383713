"""Tests of :mod:`palyra.cli.codes`, by what an operator sees."""

from __future__ import annotations

import msgspec
import pytest

from palyra.cli import codes
from palyra.console.models import MintedCode
from palyra.core.pairing import MAX_FAILED_ATTEMPTS
from tests.cli.conftest import FakeConsole
from tests.cli.terminal import on_terminal
from tests.cli.things import minted, minted_pin, screen, shown, told

CODES = "pairing/requests/code"
PIN = """\
PIN      418207
valid    10 min (until 03:54), one device, five wrong tries, site=prague
"""


def test_a_pin() -> None:
    """The PIN, what it is good for, and what comes next, as drawn."""
    made = screen(80)
    codes.show(made, minted_pin())
    assert shown(made) == PIN
    assert told(made) == "hint     on the device: palyra node run --gateway home.example.org\n"


def test_addresses_that_may_use_it() -> None:
    """A code for one network says so; one without labels says nothing of them."""
    code = msgspec.structs.replace(minted_pin().code, source="192.168.0.0/16", labels={})
    made = screen(80)
    codes.show(made, minted_pin(code=code))
    assert shown(made).endswith(", one device, five wrong tries, from 192.168.0.0/16\n")


def test_five_wrong_tries_are_the_limit() -> None:
    """What is printed is what the gateway does."""
    assert MAX_FAILED_ATTEMPTS == 5


@pytest.mark.parametrize(
    ("address", "typed"),
    [
        ("home.example.org:7443", "home.example.org"),
        ("home.example.org:17443", "home.example.org:17443"),
        ("[2001:db8::9]:7443", "[2001:db8::9]"),
        ("192.168.1.9:1", "192.168.1.9:1"),
    ],
)
def test_the_gateway_as_it_is_typed(address: str, typed: str) -> None:
    """The usual port is left out, another one is told."""
    made = screen(80)
    codes.show(made, minted_pin(address=address))
    assert told(made) == f"hint     on the device: palyra node run --gateway {typed}\n"


def test_a_pin_for_this_machine_only() -> None:
    """It says so, as it does of a pairing line."""
    made = screen(80)
    codes.show(made, minted_pin(address="127.0.0.1:7443", loopback_only=True))
    assert told(made).endswith("note     only this machine can reach 127.0.0.1:7443\n")


def test_a_pairing_line(console: FakeConsole) -> None:
    """A QR of 41 by 21 cells, the whole line, and what to do on the device."""
    console.on("POST", CODES, minted())
    status, seen = on_terminal(console.root, "pairing", "code", "--method", "qr")
    lines = seen.splitlines()
    assert status == 0
    drawn = [line for line in lines if line.startswith(" " * 9 + "█") or line.endswith("▀▀▀")]
    assert len(drawn) == 21
    assert {len(line) - 9 for line in drawn} == {41}
    # The terminal wraps the line; the command does not.
    assert minted().uri in seen.replace("\n", "")
    assert lines[-2].startswith("valid    10 min (until ")
    assert lines[-2].endswith("), one device, site=prague")
    assert lines[-1] == (
        "hint     on the device: palyra node run --pairing-uri -  (then paste that line)"
    )


def test_a_small_terminal_has_no_qr(console: FakeConsole) -> None:
    """The line alone, and the note that only this machine can use it."""
    console.on("POST", CODES, minted(loopback=True))
    _, seen = on_terminal(console.root, "pairing", "code", "--method", "qr", columns=49)
    assert "█" not in seen
    assert "note     only this machine can reach home.example" in seen


@pytest.mark.parametrize("code", [minted(), minted_pin()])
def test_a_code_is_not_in_a_repr(code: MintedCode) -> None:
    """What is logged or raised of it has no secret."""
    assert "418207" not in repr(code)
    assert "palyra://" not in repr(code)
