"""The watchdog: who kept the node host from its work, of what runs in its own process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

LOOK_S = 0.1
"""How often it looks, while something runs in this process."""
LATE_S = 0.25
"""A look that comes so late is logged."""
HUNG_S = 2.0
"""A look that comes so late withdraws what others have brought."""


class InProcess(Protocol):
    """Where capabilities run."""

    def running_here(self) -> list[str]:
        """The names of those that run in this process now."""


class Watchdog:
    """Looks at the clock while capabilities run in this process.

    An idle node host has no delayed call of it.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        elapsed_s: Callable[[], float],
        runners: InProcess,
        hung: Callable[[Iterable[str], float], object],
    ) -> None:
        """``hung`` is told the names that ran, and for how many seconds nothing else did."""
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._runners = runners
        self._hung = hung
        self._look: IDelayedCall | None = None
        self._due_s = 0.0
        self._ran: set[str] = set()
        self._stopped = False

    def began(self, name: str) -> None:
        """A capability is about to run in this process."""
        self._ran.add(name)
        if self._look is None and not self._stopped:
            self._schedule()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _schedule(self) -> None:
        self._due_s = self._elapsed_s() + LOOK_S
        self._look = self._clock.callLater(LOOK_S, self._looks)

    def _looks(self) -> None:
        self._look = None
        late_s = self._elapsed_s() - self._due_s
        if late_s >= LATE_S:
            self._blame(late_s)
        self._ran = set(self._runners.running_here())
        if self._ran:
            self._schedule()

    def _blame(self, late_s: float) -> None:
        names = sorted(self._ran)
        self._log.warn(
            "nothing else ran for {ms} ms while these did: {names}",
            ms=round(late_s * 1000),
            names=", ".join(names),
        )
        if late_s >= HUNG_S:
            self._hung(names, late_s)
