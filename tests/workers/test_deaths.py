"""Tests of :mod:`palyra.workers.deaths`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.workers.deaths import FIRST_OFF_S, LONGEST_OFF_S, MOST, WITHIN_S, Deaths


def test_the_third_death_within_a_minute() -> None:
    """Two deaths are borne, the third takes it off for ten seconds; then it counts anew."""
    deaths = Deaths()
    assert [deaths.died(now) for now in (0.0, 20.0, 59.0)] == [0.0, 0.0, 10.0]
    assert deaths.off_until == 69.0
    assert deaths.died(70.0) == 0.0


def test_deaths_far_apart() -> None:
    """Whoever dies every half minute is not taken off."""
    deaths = Deaths()
    assert {deaths.died(31.0 * number) for number in range(20)} == {0.0}


def test_it_doubles_up_to_five_minutes() -> None:
    """Each time it is off for longer, and after a long while for ten seconds again."""
    deaths, now, offs = Deaths(), 0.0, []
    for _ in range(7):
        offs += [off for _ in range(MOST) if (off := deaths.died(now))]
        now = deaths.off_until
    assert offs == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    now += 2 * LONGEST_OFF_S + 1
    assert [deaths.died(now) for _ in range(MOST)][-1] == FIRST_OFF_S


@settings(max_examples=100)
@given(st.lists(st.floats(min_value=0, max_value=200), max_size=60))
def test_it_is_never_off_without_reason(gaps: list[float]) -> None:
    """Off means three deaths within a minute, for ten seconds to five minutes."""
    deaths, now, times = Deaths(), 0.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        off_s = deaths.died(now)
        assert off_s == 0.0 or FIRST_OFF_S <= off_s <= LONGEST_OFF_S
        if off_s:
            assert now - times[-MOST] <= WITHIN_S
