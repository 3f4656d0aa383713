"""A crowd that arrives at once."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from hypothesis import given
from hypothesis import strategies as st

from palyra.core.arrivals import MAX_WAIT_MS, Arrivals


def test_as_many_as_may_then_one_after_the_other() -> None:
    """A second's worth at once; each of the others has a moment of its own."""
    arrivals = Arrivals(100)
    assert [arrivals.wait_ms(5_000) for _ in range(100)] == [0] * 100
    assert [arrivals.wait_ms(5_000) for _ in range(5)] == [10, 20, 30, 40, 50]
    assert arrivals.wait_ms(5_010) == 0, "one step later there is room for one"
    assert arrivals.wait_ms(5_010) == 50


def test_a_crowd_that_is_sent_away() -> None:
    """Each is told the moment at which it will be let in."""
    arrivals = Arrivals(300)
    assert [arrivals.after_ms(number) for number in (0, 3, 300, 9_000)] == [0, 10, 1_000, 30_000]
    assert arrivals.after_ms(1_000_000) == MAX_WAIT_MS


def test_nobody_waits_for_ever() -> None:
    """However many there are, the longest pause is bounded."""
    arrivals = Arrivals(1)
    waits = [arrivals.wait_ms(0) for _ in range(2_000)]
    assert max(waits) == MAX_WAIT_MS


@given(
    rate=st.integers(1, 500),
    times=st.lists(st.integers(0, 20_000), min_size=1, max_size=300).map(sorted),
)
def test_never_more_than_the_rate(rate: int, times: list[int]) -> None:
    """In no second and with no pattern are more let in than the rate, beside one second's worth
    that had gathered."""
    arrivals = Arrivals(rate)
    let_in = [now for now in times if arrivals.wait_ms(now) == 0]
    for begin in let_in:
        within = sum(1 for now in let_in if begin <= now < begin + 1000)
        assert within <= 2 * rate


def test_a_crowd_that_does_as_it_is_told_is_in_as_soon_as_can_be() -> None:
    """Ten thousand that come in one second and then when they were told are all in after as many
    seconds as the rate needs, and hardly one in thirty had to ask three times."""
    arrivals = Arrivals(300)
    crowd = [(number // 10, 1) for number in range(10_000)]
    heapify(crowd)
    last_ms, asked = 0, []
    while crowd:
        now_ms, times = heappop(crowd)
        wait_ms = arrivals.wait_ms(now_ms)
        if wait_ms:
            heappush(crowd, (now_ms + wait_ms, times + 1))
        else:
            last_ms = now_ms
            asked.append(times)
    assert last_ms <= 10_000 / 300 * 1000 + 1_000
    assert sum(1 for each in asked if each > 2) < len(asked) / 30
