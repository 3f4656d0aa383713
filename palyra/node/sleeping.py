"""Sleeping: that the machine was asleep, seen when it is awake again.

Nobody tells a process of it.  It is seen by two clocks of which one stands still meanwhile; a clock
of the time of day that somebody moves is not looked at, and never taken for it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from palyra.node.elapsed import CLOCKS, Clocks

LOOK_S = 5.0
"""How often it is looked; a timer, so of time awake."""
ASLEEP_S = 1.0
"""A shorter difference is none: the two clocks are not read at the same moment."""


class Sleeping:
    """Looks whether the machine was asleep.  It owns one timer, which :meth:`stop` ends."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, woke: Callable[[], object], *, clocks: Clocks = CLOCKS
    ) -> None:
        """``woke`` is called within five seconds of waking up."""
        self._clock = clock
        self._woke = woke
        self._clocks = clocks
        self._asleep_s = 0.0
        self._look: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to look."""
        self._asleep_s = self._all_asleep_s()
        self._schedule()

    def stop(self) -> None:
        """Look no more."""
        look, self._look = self._look, None
        if look is not None:
            look.cancel()

    def _all_asleep_s(self) -> float:
        """How long the machine slept, all in all, from a moment that does not matter."""
        return self._clocks.elapsed_s() - self._clocks.awake_s()

    def _schedule(self) -> None:
        self._look = self._clock.callLater(LOOK_S, self._looks)

    def _looks(self) -> None:
        asleep_s = self._all_asleep_s()
        slept_s, self._asleep_s = asleep_s - self._asleep_s, asleep_s
        self._schedule()
        if slept_s >= ASLEEP_S:
            self._log.info("the machine was asleep for {s:.0f} s", s=slept_s)
            self._woke()
