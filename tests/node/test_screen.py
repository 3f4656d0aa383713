"""Tests of :mod:`palyra.node.screen`."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from palyra.config.addresses import HostPort
from palyra.core.frames import Welcome
from palyra.core.transports import Transport
from palyra.errors import GatewayUnreachable, NotRegistered, PalyraError, RemoteRefusal
from palyra.node.identity import ClientFile, Credential
from palyra.node.link import Route
from palyra.node.screen import PairingScreen, Screen, ServingScreen
from tests.node.fakes import DEVICE_ID, NOW_MS

WELCOME = Welcome(DEVICE_ID, "e", 1, 15_000, NOW_MS, "", ("echo", "system.health"), "pi", "1")
ROUTE = Route(Transport.GRPC, HostPort("gw.example", 7444))
REFUSED = GatewayUnreachable("gw.example:7444", "connection refused")
WIPE = "\r\x1b[K"


class Out(io.StringIO):
    """A stream that is a terminal, or not, or closed at its other end."""

    def __init__(self, tty: bool = True) -> None:
        super().__init__()
        self.tty = tty
        self.broken = False

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> int:
        if self.broken:
            raise BrokenPipeError
        return super().write(text)

    def take(self) -> str:
        """What was written since the last look."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


class FakeIdentity:
    """A device whose certificate ends in so many seconds."""

    left_s = 24 * 3_600.0

    def client(self) -> ClientFile:
        ends_ms = int((time.time() + self.left_s) * 1000)
        return ClientFile(1, "", Credential("", "", ends_ms))


class Serving:
    """A screen on which a node host is shown."""

    def __init__(self, tty: bool) -> None:
        self.out = Out(tty)
        self.clock = Clock()
        self.identity = FakeIdentity()
        self.final: list[PalyraError] = []
        self.screen = Screen(self.out)
        self.serving = ServingScreen(
            self.screen,
            self.identity,  # type: ignore[arg-type]
            self.clock,
            self.final.append,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.serving, name)


@pytest.fixture
def on_tty() -> Iterator[Serving]:
    made = Serving(tty=True)
    yield made
    made.stop()
    assert not made.clock.getDelayedCalls()


@pytest.fixture
def piped() -> Iterator[Serving]:
    made = Serving(tty=False)
    yield made
    made.stop()
    assert not made.clock.getDelayedCalls()


def test_the_live_line(on_tty: Serving) -> None:
    """As it is drawn in the guide; it changes in place with the number of jobs."""
    on_tty.usable(2)
    on_tty.online(WELCOME, ROUTE)
    line = "online  pi  grpc gw.example:7444  cert 24h  2 capabilities  "
    assert on_tty.out.take() == f"{WIPE}{line}0 jobs"
    on_tty.noticed("job B8Q2ZN echo started", 1)
    assert on_tty.out.take() == f"{WIPE}{line}1 job"
    on_tty.noticed("job B8Q2ZN echo succeeded 3 ms", 0)
    assert on_tty.out.take() == f"{WIPE}{line}0 jobs"
    on_tty.clock.advance(1)
    assert on_tty.out.take() == ""


def test_the_transport_is_the_one_in_use(on_tty: Serving) -> None:
    """Over QUIC the line says so, with the address of QUIC."""
    on_tty.online(WELCOME, Route(Transport.QUIC, HostPort("gw.example", 9444)))
    assert "online  pi  quic gw.example:9444  cert 24h" in on_tty.out.take()


def test_it_counts_down_to_the_next_try(on_tty: Serving) -> None:
    """Once a second, and stays at one until it is tried."""
    on_tty.offline(REFUSED, 4.0)
    shown = [on_tty.out.take()]
    for _ in range(5):
        on_tty.clock.advance(1)
        shown.append(on_tty.out.take())
    tail = "(gw.example:7444 refused)"
    assert shown[:4] == [f"{WIPE}offline  retry in {n}s  {tail}" for n in (4, 3, 2, 1)]
    assert shown[4:] == ["", ""]


def test_the_last_hours_of_a_certificate(on_tty: Serving) -> None:
    """In minutes."""
    on_tty.identity.left_s = 2_400
    on_tty.online(WELCOME, ROUTE)
    assert "cert 40m" in on_tty.out.take()
    on_tty.identity.left_s = -5
    on_tty.online(WELCOME, ROUTE)
    on_tty.clock.advance(1)
    assert "cert 0m" in on_tty.out.take()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (None, "the gateway closed the session"),
        (NotRegistered(), NotRegistered().sentence.removesuffix(".")),
        (RemoteRefusal("x", "Bad\x1b[2J."), "Bad\\u001b[2J"),
    ],
)
def test_why_it_is_offline(on_tty: Serving, error: PalyraError | None, cause: str) -> None:
    """In one clause, without control characters of a stranger."""
    on_tty.offline(error, 1.0)
    assert f"({cause})" in on_tty.out.take()


def test_a_final_refusal_ends_it(on_tty: Serving) -> None:
    """Nothing is shown here: the command prints it and ends."""
    error = RemoteRefusal("device_revoked", "This device was revoked.", final=True)
    on_tty.offline(error, 600.0)
    assert on_tty.final == [error]
    assert on_tty.out.take() == ""


def test_a_note_stays_above_the_live_line(on_tty: Serving) -> None:
    """And at the end the cursor is on a line of its own, once."""
    on_tty.offline(REFUSED, 1.0)
    live = on_tty.out.take().removeprefix(WIPE)
    on_tty.noticed("stopping, 1 job has 10s to finish", 1)
    assert on_tty.out.take() == f"{WIPE}stopping, 1 job has 10s to finish\n{live}"
    on_tty.screen.end()
    on_tty.screen.end()
    assert on_tty.out.take() == "\n"


def test_a_question_is_not_drawn_over(on_tty: Serving) -> None:
    """The live line gives way while a person types, and comes back."""
    on_tty.offline(REFUSED, 9.0)
    on_tty.out.take()
    on_tty.screen.hold(True)
    assert on_tty.out.take() == WIPE
    on_tty.clock.advance(1)
    assert on_tty.out.take() == ""
    on_tty.screen.note("stopping")
    assert on_tty.out.take() == "\nstopping\n"
    on_tty.screen.hold(False)
    assert on_tty.out.take().startswith("offline  retry in 8s")


def test_a_line_that_is_too_long_is_cut() -> None:
    """One that wraps could not be redrawn."""
    out = Out()
    Screen(out).live("x" * 200)
    assert out.take() == WIPE + "x" * 78 + "~"


def test_lines_for_a_program(piped: Serving) -> None:
    """One a change, without escapes; a retry for the same cause is none."""
    piped.usable(2)
    piped.online(WELCOME, ROUTE)
    piped.noticed("job B8Q2ZN echo started", 1)
    piped.noticed("job B8Q2ZN echo succeeded 3 ms", 0)
    piped.offline(REFUSED, 4.0)
    piped.offline(REFUSED, 9.0)
    piped.offline(None, 2.0)
    piped.clock.advance(60)
    piped.online(WELCOME, ROUTE)
    online = "online  pi  grpc gw.example:7444  cert 24h  2 capabilities"
    assert piped.out.take().splitlines() == [
        online,
        "job B8Q2ZN echo started",
        "job B8Q2ZN echo succeeded 3 ms",
        "offline  retry in 4s  (gw.example:7444 refused)",
        "offline  retry in 2s  (the gateway closed the session)",
        online,
    ]


def test_a_closed_pipe_ends_nothing(piped: Serving) -> None:
    """The node host goes on without a reader."""
    piped.out.broken = True
    piped.online(WELCOME, ROUTE)
    piped.out.broken = False
    piped.noticed("job", 1)
    assert piped.out.take() == ""


def test_letters_that_the_terminal_has_not() -> None:
    """What a gateway calls this device is shown as far as that goes, and ends nothing."""
    kept = io.BytesIO()
    screen = Screen(io.TextIOWrapper(kept, encoding="latin-1"))
    screen.note("online  počítač")
    screen.note("and on")
    assert kept.getvalue().splitlines() == [b"online  po\\u010d\xedta\\u010d", b"and on"]
    kept.close()
    screen.note("gone")


# -- pairing ------------------------------------------------------------------------------------


def test_pairing_for_a_person() -> None:
    """Steps, and a countdown in place of a last line until an operator decides."""
    out, clock = Out(), Clock()
    shown = PairingScreen(Screen(out), clock)
    shown.gateway_verified("gw:7443", "9f3c51d07ab8e264" + "0" * 48, matches=True)
    shown.identity_shown("pi", DEVICE_ID, "7d4c19e203abf58e" + "0" * 48)  # type: ignore[arg-type]
    shown.waiting("01M80TNY9PZTHXEWCMG453300P")
    clock.advance(1)
    clock.advance(1)
    shown.retrying("Cannot reach gw:7443: no answer.")
    shown.clock_differs(-720_000)
    shown.approved("ana\x07", "pi")
    text = out.take()
    assert text.startswith(
        "ok  gateway    gw:7443  CA 9f3c 51d0 7ab8 e264 matches the line\n"
        "ok  identity   pi  X4K7QM  7d4c 19e2 03ab f58e\n"
        f"{WIPE}..  waiting for an operator to approve, 10:00 left"
        f"{WIPE}..  waiting for an operator to approve, 9:59 left"
        f"{WIPE}..  waiting for an operator to approve, 9:58 left"
    )
    assert "!!  Cannot reach gw:7443: no answer. Asking again.\n" in text
    assert "!!  This clock is 12 min behind the gateway's.\n" in text
    assert text.endswith(f"{WIPE}ok  approved   by ana\\u0007 as pi\n")
    assert not clock.getDelayedCalls()


def test_pairing_by_pin_for_a_person() -> None:
    """As it is drawn in the guide: the CA is no more than shown, before both sides confirm."""
    out, clock = Out(), Clock()
    shown = PairingScreen(Screen(out), clock)
    shown.gateway_verified("home.example.org:7443", "9f3c51d07ab8e264" + "0" * 48, matches=False)
    shown.pin_failed("That PIN is wrong, expired or used up.")
    shown.pin_confirmed()
    assert out.take() == (
        "ok  gateway    home.example.org:7443  CA 9f3c 51d0 7ab8 e264\n"
        "!!  That PIN is wrong, expired or used up.\n"
        "ok  PIN        confirmed by both sides\n"
    )


def test_pairing_for_a_program() -> None:
    """A label and fields, tab-separated."""
    out, clock = Out(tty=False), Clock()
    shown = PairingScreen(Screen(out), clock)
    shown.gateway_verified("gw:7443", "ca", matches=False)
    shown.pin_confirmed()
    shown.identity_shown("pi", DEVICE_ID, "fingerprint")  # type: ignore[arg-type]
    shown.waiting("R")
    shown.clock_differs(60_001)
    shown.approved("ana", "pi")
    shown.stop()
    assert out.take().splitlines() == [
        "gateway\tgw:7443\tca",
        "PIN\tconfirmed by both sides",
        "identity\tpi\tX4K7QM\tfingerprint",
        "waiting\tR",
        "!!  This clock is 1 min ahead of the gateway's.",
        "approved\tana\tpi",
    ]


def test_what_can_be_run_may_become_another_number(on_tty: Serving) -> None:
    """The line says how many capabilities are granted and can be run, as it is now."""
    on_tty.usable(2)
    on_tty.online(WELCOME, ROUTE)
    assert "2 capabilities" in on_tty.out.take()
    on_tty.usable(1)
    assert "1 capability" in on_tty.out.take()
    on_tty.usable(1)
    assert on_tty.out.take() == ""
