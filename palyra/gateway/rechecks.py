"""Rechecks: what waits is looked at again when the rules have changed, some of it at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from palyra.gateway.unfinished import Live

SLICE = 250
"""How many jobs are looked at in one turn of the reactor."""


class Rechecks:
    """Goes over jobs; ``check`` is called with each.  Whatever is sent meanwhile is looked at then
    (:class:`palyra.gateway.sending.Sender`)."""

    def __init__(self, clock: IReactorTime, check: Callable[[Live], object]) -> None:
        self._clock = clock
        self._check = check
        self._left: deque[Live] = deque()
        self._turn: IDelayedCall | None = None

    def begin(self, jobs: Iterable[Live]) -> None:
        """Go over these: the first of them at once, and instead of what is left of others."""
        self.stop()
        self._left = deque(jobs)
        self._take_turn()

    def stop(self) -> None:
        """Leave the rest."""
        self._left.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _take_turn(self) -> None:
        self._turn = None
        if len(self._left) > SLICE:
            self._turn = self._clock.callLater(0, self._take_turn)
        for _ in range(min(SLICE, len(self._left))):
            self._check(self._left.popleft())
