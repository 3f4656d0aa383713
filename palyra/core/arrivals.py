"""A crowd that arrives at once: how many are let in, and when the others are asked to come again.

A gateway that starts is called by every node it has.  Whoever is one too many is given a moment of
its own, so that they come as fast as they are let in, and not all together after the same pause.
"""

from __future__ import annotations

MAX_WAIT_MS = 600_000


class Arrivals:
    """Lets in ``rate_per_s`` a second, and as many at once after a quiet second.

    Times are milliseconds of one clock that never runs backwards.  Costs and memory do not depend
    on how many there are.
    """

    def __init__(self, rate_per_s: int) -> None:
        self.rate_per_s = rate_per_s
        self._step_ms = 1000 / rate_per_s
        self._room = float(rate_per_s)
        self._looked_ms: int | None = None
        self._last_slot_ms = 0.0

    def wait_ms(self, now_ms: int) -> int:
        """0 for one that is let in; else in how many ms it is to come again."""
        self._refill(now_ms)
        if self._room >= 1:
            self._room -= 1
            return 0
        # A moment is promised once; who comes then competes with newcomers, and is asked again.
        slot_ms = max(self._last_slot_ms, now_ms) + self._step_ms
        self._last_slot_ms = min(slot_ms, float(now_ms + MAX_WAIT_MS))
        return max(1, round(self._last_slot_ms - now_ms))

    def after_ms(self, number: int) -> int:
        """In how many ms the one of that number (from 0) of a crowd is to come, so that all of them
        come as fast as they are let in."""
        return min(MAX_WAIT_MS, round(number * self._step_ms))

    def _refill(self, now_ms: int) -> None:
        passed_ms = now_ms - (self._looked_ms if self._looked_ms is not None else now_ms)
        self._looked_ms = now_ms
        self._room = min(float(self.rate_per_s), self._room + max(0, passed_ms) / self._step_ms)
