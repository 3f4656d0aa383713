"""Patience: how long somebody may take, counted while the machine sleeps too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class Patience:
    """Time limits.  Each owns a timer, which ends with what it limits.

    A timer stands still while the machine sleeps; :meth:`look`, called when it woke, ends what is
    over by elapsed time.
    """

    def __init__(self, clock: IReactorTime, elapsed_s: Callable[[], float]) -> None:
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._due: dict[IDelayedCall, float] = {}

    def limit(self, waiting: Deferred[T], seconds: float) -> None:
        """Cancel it after that time; it fails with TimeoutError then."""
        over = False

        def end() -> None:
            nonlocal over
            over = True
            waiting.cancel()

        timer = self._clock.callLater(seconds, end)
        self._due[timer] = self._elapsed_s() + seconds

        def ended(result: T | Failure) -> T | Failure:
            del self._due[timer]
            if timer.active():
                timer.cancel()
            if over and isinstance(result, Failure) and result.check(CancelledError):
                return Failure(TimeoutError(seconds, "Deferred"))
            return result

        waiting.addBoth(ended)

    def look(self) -> None:
        """End what is over."""
        now_s = self._elapsed_s()
        for timer, due_s in list(self._due.items()):
            if due_s <= now_s and timer.active():
                timer.reset(0)
