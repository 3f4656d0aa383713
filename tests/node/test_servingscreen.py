"""Tests of what :mod:`palyra.node.screen` shows of a certificate's life."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.task import Clock

from palyra.config.addresses import HostPort
from palyra.core.frames import Welcome
from palyra.core.identifiers import Fingerprint, short_id
from palyra.core.transports import Transport
from palyra.errors import (
    GatewayUnreachable,
    PairingRejected,
    PalyraError,
    PinMismatch,
    RejoinRefused,
)
from palyra.node.identity import ClientFile, Credential
from palyra.node.link import Route
from palyra.node.screen import Screen, ServingScreen
from tests.node.fakes import DEVICE_ID, NOW_MS

WELCOME = Welcome(DEVICE_ID, "e", 1, 15_000, NOW_MS, "", ("echo",), "pi", "1")
ROUTE = Route(Transport.GRPC, HostPort("gw.example", 7444))
WIPE = "\r\x1b[K"


class Out(io.StringIO):
    """A stream that is a terminal, or not."""

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty

    def take(self) -> str:
        """What was written since the last look."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


class Shown:
    """A screen on which a node host is shown, and its certificate."""

    def __init__(self, tty: bool) -> None:
        self.out = Out(tty)
        self.clock = Clock()
        self.left_s = 24 * 3_600.0
        self.final: list[PalyraError] = []
        identity = self
        self.serving = ServingScreen(
            Screen(self.out),
            identity,  # type: ignore[arg-type]
            self.clock,
            self.final.append,
        )

    def client(self) -> ClientFile:
        ends_ms = int((time.time() + self.left_s) * 1000)
        return ClientFile(1, "", Credential("", "", ends_ms))


@pytest.fixture
def make() -> Iterator[Callable[[bool], Shown]]:
    made: list[Shown] = []

    def new(tty: bool) -> Shown:
        made.append(Shown(tty))
        return made[-1]

    yield new
    for each in made:
        each.serving.stop()
        assert not each.clock.getDelayedCalls()


def test_the_live_line_follows_the_certificate(make: Callable[[bool], Shown]) -> None:
    """After a handover it shows the life of the new one."""
    shown = make(True)
    shown.left_s = 8 * 3_600
    shown.serving.online(WELCOME, ROUTE)
    assert "cert 8h" in shown.out.take()
    shown.left_s = 24 * 3_600
    shown.serving.renewed(NOW_MS)
    shown.serving.online(WELCOME, ROUTE)
    assert "cert 24h" in shown.out.take()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (GatewayUnreachable("gw:7444", "no answer"), "Cannot reach gw:7444: no answer."),
        (None, "A fault of this device; see its log."),
    ],
)
def test_a_certificate_that_is_not_renewed(
    make: Callable[[bool], Shown], error: PalyraError | None, text: str
) -> None:
    """How long there is, and why."""
    shown = make(False)
    shown.serving.renewal_failed(error, 3 * 3_600)
    line = f"!!  The certificate could not be renewed, 3h left. {text}\n"
    assert shown.out.take() == line


def test_a_rejoin_for_a_person(make: Callable[[bool], Shown]) -> None:
    """What to compare, that it waits, that the gateway does not answer, and that it is back."""
    shown = make(True)
    shown.serving.identity_shown("pi", DEVICE_ID, Fingerprint("ab" * 32))
    shown.serving.waiting("01M80NKQCNREQUEST000000001")
    shown.serving.retrying("Cannot reach gw:7443: no answer.")
    shown.serving.rejoined(NOW_MS)
    live = "..  waiting for an operator to approve"
    assert shown.out.take() == (
        f"ok  identity   pi  {short_id(DEVICE_ID)}  abab abab abab abab\n"
        f"{WIPE}{live}"
        f"{WIPE}!!  Cannot reach gw:7443: no answer. Asking again.\n{live}"
        f"{WIPE}ok  rejoined   by identity key\n"
    )


def test_a_rejoin_for_a_program(make: Callable[[bool], Shown]) -> None:
    """A label and fields, tab-separated."""
    shown = make(False)
    shown.serving.identity_shown("pi", DEVICE_ID, Fingerprint("ab" * 32))
    shown.serving.waiting("R")
    shown.serving.rejoined(NOW_MS)
    assert shown.out.take() == (
        f"identity\tpi\t{short_id(DEVICE_ID)}\t{'ab' * 32}\nwaiting\tR\nrejoined\tby identity key\n"
    )


@pytest.mark.parametrize("refusal", [RejoinRefused(), PairingRejected("not ours")])
def test_a_rejoin_that_is_refused(make: Callable[[bool], Shown], refusal: PalyraError) -> None:
    """No waiting heals it: a person must pair again."""
    shown = make(True)
    shown.serving.offline(refusal, 600)
    assert shown.final == [refusal]


@pytest.mark.parametrize("tty", [False, True])
def test_a_node_that_falls_back(make: Callable[[bool], Shown], tty: bool) -> None:
    """A line that stays, before the one that says it is online; also where nobody is offline."""
    shown = make(tty)
    line = "quic gw.example:7444 does not answer, using grpc for now"
    shown.serving.fell_back(line)
    assert shown.out.take() == f"!!  {line}\n"
    shown.serving.online(WELCOME, ROUTE)
    assert "online  pi  grpc gw.example:7444" in shown.out.take()


def test_quic_that_does_not_answer(make: Callable[[bool], Shown]) -> None:
    """Where nothing else may be taken the line says which transport it is, and what comes next."""
    shown = make(False)
    shown.serving.offline(GatewayUnreachable("gw:7444", "no answer", "quic"), 8)
    assert shown.out.take() == (
        "offline  retry in 8s  (quic gw:7444 no answer)\n"
        "hint  let 7444/udp through to it, or take --transport auto or grpc\n"
    )
    shown.serving.offline(GatewayUnreachable("gw:7444", "no answer", "quic"), 16)
    assert shown.out.take() == ""


def test_a_pin_that_does_not_hold(make: Callable[[bool], Shown]) -> None:
    """The sentence names the setting."""
    shown = make(False)
    shown.serving.offline(PinMismatch("quic gw:7444"), 8)
    assert "shows another certificate than server_pin names)\nhint  " in shown.out.take()


def test_a_clock_that_is_off(make: Callable[[bool], Shown]) -> None:
    """By how much, and on which side."""
    shown = make(False)
    shown.serving.clock_differs(-720_000)
    assert shown.out.take() == "!!  This clock is 12 min behind the gateway's.\n"
