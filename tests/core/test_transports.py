"""Tests of :mod:`palyra.core.transports`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.transports import (
    HANDSHAKE_S,
    HOLD_S,
    MAX_HOLD_S,
    SHORT_HANDSHAKE_S,
    SOON_S,
    GrpcFallback,
    Preference,
    Transport,
    TransportChoice,
)

GRPC, QUIC = Transport.GRPC, Transport.QUIC
AUTO = Preference.AUTO
NEVER = GrpcFallback.NEVER


def choice(preference: Preference = AUTO, **given: Any) -> TransportChoice:
    """A choice at time 0, of a device whose gateway has QUIC; pauses are as long as may be."""
    values: dict[str, Any] = {
        "quic_known": True,
        "last": None,
        "now_s": 0.0,
        "jitter": lambda low, high: high,
    }
    return TransportChoice(preference, **values | given)


@pytest.mark.parametrize(
    ("made", "order"),
    [
        (choice(Preference.GRPC), (GRPC,)),
        (choice(Preference.QUIC), (QUIC,)),
        (choice(Preference.QUIC, quic_known=False), (QUIC,)),
        (choice(), (QUIC, GRPC)),
        (choice(quic_known=False), (GRPC,)),
        (choice(last=QUIC), (QUIC, GRPC)),
        (choice(last=GRPC), (GRPC, QUIC)),
        (choice(last=GRPC, quic_known=False), (GRPC,)),
        (choice(fallback=NEVER), (QUIC,)),
        (choice(fallback=NEVER, last=GRPC), (QUIC,)),
        (choice(fallback=NEVER, quic_known=False), (GRPC,)),
    ],
)
def test_what_comes_first(made: TransportChoice, order: tuple[Transport, ...]) -> None:
    """What is asked for; of both QUIC where its address is known, unless gRPC worked last."""
    assert made.order(0.0) == order


def test_a_start_on_grpc_ends() -> None:
    """After the first pause it is QUIC first again."""
    made = choice(last=GRPC)
    assert made.move_in_s(0.0) == HOLD_S
    assert made.order(HOLD_S) == (QUIC, GRPC)


def test_pauses_double_up_to_an_hour() -> None:
    """And begin anew once a session over QUIC has lasted."""
    made, now_s, pauses = choice(), 0.0, []
    for _ in range(7):
        made.missed(now_s)
        pause_s = made.move_in_s(now_s)
        assert pause_s is not None
        assert made.order(now_s) == (GRPC, QUIC)
        assert made.order(now_s + pause_s) == (QUIC, GRPC)
        pauses.append(pause_s)
        now_s += pause_s
    assert pauses == [300, 600, 1200, 2400, 3600, 3600, 3600]
    made.worked(QUIC)
    assert made.order(now_s) == (QUIC, GRPC)
    made.missed(now_s)
    assert made.move_in_s(now_s) == MAX_HOLD_S
    made.settled()
    made.missed(now_s)
    assert made.move_in_s(now_s) == HOLD_S


def test_a_session_over_quic_ends_the_pause() -> None:
    """Where gRPC was first and could not be reached."""
    made = choice(last=GRPC)
    made.worked(QUIC)
    assert made.order(1.0) == (QUIC, GRPC)


def test_a_gateway_that_has_quic_now() -> None:
    """Is moved to soon; one that has none any more is not."""
    made = choice(quic_known=False)
    assert made.move_in_s(0.0) is None
    made.worked(GRPC)
    made.told(True, 10.0)
    assert made.move_in_s(10.0) == SOON_S
    made.told(False, 20.0)
    assert made.move_in_s(20.0) is None
    assert made.order(100.0) == (GRPC,)


def test_what_a_fallback_is() -> None:
    """QUIC was missed by a node that may choose; neither a person's choice nor want of QUIC."""
    assert [choice(each, last=GRPC).fell_back for each in Preference] == [False, False, True]
    assert not choice(last=GRPC, quic_known=False).fell_back
    made = choice()
    assert not made.fell_back
    made.missed(0.0)
    assert made.fell_back
    made.settled()
    assert not made.fell_back


@pytest.mark.parametrize("preference", [Preference.GRPC, Preference.QUIC])
def test_without_a_choice_nothing_moves(preference: Preference) -> None:
    """What a person asked for stays."""
    made = choice(preference)
    made.told(True, 0.0)
    assert made.move_in_s(0.0) is None


@pytest.mark.parametrize(
    ("made", "handshake_s"),
    [
        (choice(last=GRPC), SHORT_HANDSHAKE_S),
        (choice(), HANDSHAKE_S),
        (choice(last=QUIC), HANDSHAKE_S),
        (choice(Preference.QUIC, last=GRPC), HANDSHAKE_S),
        (choice(fallback=NEVER, last=GRPC), HANDSHAKE_S),
    ],
)
def test_how_long_an_answer_may_take(made: TransportChoice, handshake_s: float) -> None:
    """Not long where gRPC is there and known to work."""
    assert made.handshake_s() == handshake_s


def test_grpc_that_works_is_known_to() -> None:
    """From then on, also when QUIC works again."""
    made = choice()
    made.worked(GRPC)
    made.worked(QUIC)
    assert made.handshake_s() == SHORT_HANDSHAKE_S


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["missed", "settled", "told", "untold", "grpc", "quic"]),
            st.floats(0, 10_000),
        ),
        max_size=30,
    ),
    st.floats(0, 1),
    st.floats(0.1, 3_600),
)
@settings(max_examples=100, deadline=None)
def test_whatever_happens(events: list[tuple[str, float]], draw: float, hold_s: float) -> None:
    """Both transports are tried where both are known, a pause is never longer than an hour, and
    it ends when it says."""
    made = choice(jitter=lambda low, high: low + draw * (high - low), hold_s=hold_s)
    now_s, known = 0.0, True
    for event, passed_s in events:
        now_s += passed_s
        if event in ("told", "untold"):
            known = event == "told"
            made.told(known, now_s)
        elif event in ("grpc", "quic"):
            made.worked(Transport(event))
        else:
            getattr(made, event)(*([now_s] if event == "missed" else []))
        assert set(made.order(now_s)) == ({GRPC, QUIC} if known else {GRPC})
        pause_s = made.move_in_s(now_s)
        assert (pause_s is not None) == known
        if pause_s is not None:
            assert 0 <= pause_s <= MAX_HOLD_S
            assert made.order(now_s + pause_s + 0.001)[0] is QUIC
