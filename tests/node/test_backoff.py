"""Tests of :mod:`palyra.node.backoff`."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.errors import GatewayUnreachable, PalyraError, RemoteRefusal
from palyra.node.backoff import FINAL_RETRY_S, SETTLED_S, SOON_S, Backoff
from palyra.node.gateways import MAX_ASKED_S

AWAY = GatewayUnreachable("gw.example:7444", "connection refused")
FULL = RemoteRefusal("limit_reached", "Too many at once.", retry_after_s=100.0)
REVOKED = RemoteRefusal("device_revoked", "This device was revoked.", final=True)

Draw = Callable[[float, float], float]
DRAWS: dict[str, Draw] = {"least": lambda low, _: low, "most": lambda _, high: high}


class Device:
    """A device with a backoff, and the time that it is told."""

    def __init__(self, draw: str = "most", first_s: float = 10.0, most_s: float = 60.0) -> None:
        self.now_s = 1000.0
        self.backoff = Backoff(
            elapsed_s=lambda: self.now_s,
            jitter=DRAWS.get(draw, random.uniform),
            first_retry_s=first_s,
            max_retry_s=most_s,
        )

    def pauses(self, *errors: PalyraError | None) -> list[float]:
        return [self.backoff.pause_s(error) for error in errors]


@pytest.mark.parametrize(
    ("draw", "pauses"), [("most", [10, 20, 40, 60, 60]), ("least", [0, 0, 0, 0, 0])]
)
def test_the_pauses_grow(draw: str, pauses: list[float]) -> None:
    """The first within ten seconds, then full jitter below a ceiling that doubles to a minute."""
    assert Device(draw).pauses(*[AWAY] * 5) == pauses


@given(st.integers(1, 40), st.floats(0.01, 600), st.floats(0.01, 3600))
@settings(max_examples=60, deadline=None)
def test_they_stay_in_their_bounds(failures: int, first_s: float, most_s: float) -> None:
    """Whatever is configured."""
    pauses = Device("random", first_s, most_s).pauses(*[AWAY] * failures)
    assert 0 <= pauses[0] <= first_s
    assert all(0 <= pause_s <= most_s for pause_s in pauses[1:])


def test_a_session_begins_them_anew() -> None:
    """Once it has lasted the next one is a first one, also where it was handed over just now."""
    device = Device()
    device.pauses(AWAY, AWAY, AWAY)
    device.backoff.connected()
    device.now_s += SETTLED_S
    device.backoff.connected()
    assert device.pauses(None, AWAY) == [10, 20]


def test_sessions_that_end_at_once_are_failures() -> None:
    """Whoever takes each registration and then hangs up is asked less and less often."""
    device, pauses = Device(), []
    for _ in range(5):
        device.backoff.connected()
        device.now_s += SETTLED_S - 1
        pauses += device.pauses(None)
    assert pauses == [10, 20, 40, 60, 60]


@pytest.mark.parametrize(("draw", "pause_s"), [("least", 300), ("most", 302)])
def test_a_drain_says_when(draw: str, pause_s: float) -> None:
    """Once, spread over two seconds more, and it is not one more failure."""
    device = Device(draw)
    device.backoff.drained(300)
    assert device.pauses(None) == [pause_s]
    assert device.pauses(AWAY) == Device(draw).pauses(AWAY)


def test_no_drain_keeps_a_device_away_for_good() -> None:
    """The wire has room for seven weeks; an hour is the most, as with a refusal."""
    device = Device("least")
    device.backoff.drained(2**32 / 1000)
    assert device.pauses(None) == [MAX_ASKED_S]


@pytest.mark.parametrize(("asked_s", "most_s"), [(2.5, 2.5), (300, 10)])
def test_a_drain_where_there_is_another_gateway(asked_s: float, most_s: float) -> None:
    """That one has asked for nothing: it is tried soon, by each node at a moment of its own, and a
    change of the network may bring that nearer."""
    device = Device()
    device.backoff.drained(asked_s, elsewhere=True)
    assert device.pauses(None, AWAY) == [most_s, 10]
    assert device.backoff.sooner_s() == SOON_S


def test_a_drain_that_was_not_meant() -> None:
    """A new session on another gateway has not heard of it."""
    device = Device()
    device.backoff.drained(300)
    device.backoff.connected()
    assert device.pauses(None) == [10]


@pytest.mark.parametrize(
    ("draw", "error", "pause_s"),
    [
        ("least", FULL, 100),
        ("most", FULL, 110),
        ("least", RemoteRefusal("limit_reached", "Later.", retry_after_s=1e9), 3600),
        ("least", REVOKED, FINAL_RETRY_S),
        ("most", REVOKED, FINAL_RETRY_S * 1.2),
    ],
)
def test_a_refusal_says_when(draw: str, error: PalyraError, pause_s: float) -> None:
    """With a share of this device's own, and no gateway keeps it away for more than an hour."""
    assert Device(draw).pauses(error) == [pytest.approx(pause_s)]


# -- the network changes --------------------------------------------------------------------------


@pytest.mark.parametrize(("draw", "soon_s"), [("least", 0), ("most", SOON_S)])
def test_another_network_is_tried_soon(draw: str, soon_s: float) -> None:
    """And the pauses after that begin anew."""
    device = Device(draw)
    device.pauses(*[AWAY] * 6)
    assert device.backoff.sooner_s() == soon_s
    assert device.pauses(AWAY) == Device(draw).pauses(AWAY)


def test_a_try_that_the_change_caught_is_made_again_soon() -> None:
    """What came of it was said of the network before."""
    device = Device()
    device.pauses(AWAY, AWAY)
    assert device.backoff.pause_s(AWAY, soon=True) == SOON_S
    assert device.pauses(AWAY) == [10]


@pytest.mark.parametrize("error", [FULL, REVOKED])
def test_what_the_gateway_asked_for_stands(error: PalyraError) -> None:
    """No change of the network makes room there, and none lets a revoked device in.  Time asleep
    counts."""
    device = Device()
    (pause_s,) = device.pauses(error)
    device.now_s += 30
    assert device.backoff.sooner_s() == pytest.approx(pause_s - 30)
    device.now_s += pause_s
    assert device.backoff.sooner_s() == SOON_S
    assert device.backoff.pause_s(error, soon=True) == pytest.approx(pause_s)


def test_a_drain_stands_too() -> None:
    """A gateway that restarts is not there sooner."""
    device = Device()
    device.backoff.drained(30)
    assert device.backoff.pause_s(None, soon=True) == 32
    assert device.backoff.sooner_s() == 32
