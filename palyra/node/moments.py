"""Moments that keep their distance from now when somebody sets the clock.

A device without a battery begins in 1970 and learns the time of day later: what it remembers of
before must not look decades old then, nor what it waits for.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

SET_MS = 2_000
"""From this difference on the clock was set; a smaller one is how clocks run, and moves nothing."""


@attrs.frozen
class Moment:
    """A moment as the time of day had it (Unix ms), and by elapsed time (seconds)."""

    unix_ms: int
    elapsed_s: float


class TimeOfDay:
    """The time of day of moments that are known by elapsed time as well."""

    def __init__(self, now_ms: Callable[[], int], elapsed_s: Callable[[], float]) -> None:
        """``now_ms`` may jump, ``elapsed_s`` never does."""
        self._now_ms = now_ms
        self._elapsed_s = elapsed_s

    def moment(self, in_s: float = 0.0) -> Moment:
        """Now, or in so many seconds."""
        return Moment(self._now_ms() + int(in_s * 1000), self._elapsed_s() + in_s)

    def of(self, moment: Moment) -> int:
        """When that was, or will be, by the clock as it is set now (Unix ms)."""
        found_ms = self._now_ms() - round((self._elapsed_s() - moment.elapsed_s) * 1000)
        return moment.unix_ms if abs(found_ms - moment.unix_ms) < SET_MS else found_ms
