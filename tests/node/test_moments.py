"""Tests of :mod:`palyra.node.moments`."""

from __future__ import annotations

import attrs

from palyra.node.moments import SET_MS, TimeOfDay


@attrs.define
class Clocks:
    """Two clocks that a test moves."""

    now_ms: int = 10_000
    elapsed_s: float = 5.0

    def time(self) -> TimeOfDay:
        return TimeOfDay(lambda: self.now_ms, lambda: self.elapsed_s)


def test_a_moment_stays_where_it_was() -> None:
    """While the clock runs as clocks do it has one name, to the millisecond."""
    clocks = Clocks()
    time = clocks.time()
    then, soon = time.moment(), time.moment(1.5)
    clocks.now_ms += SET_MS - 1
    assert (time.of(then), time.of(soon)) == (10_000, 11_500)


def test_a_clock_that_was_set() -> None:
    """It is as long ago as it was; also where the clock is then set again."""
    clocks = Clocks()
    time = clocks.time()
    then, soon = time.moment(), time.moment(60.0)
    clocks.elapsed_s += 3.0
    for clocks.now_ms in (1_700_000_000_000, 0):
        assert (time.of(then), time.of(soon)) == (clocks.now_ms - 3_000, clocks.now_ms + 57_000)
