"""A pause that can be cut short."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Pause:
    """Waits, once at a time.  It owns one timer, which ends when the waiting is cancelled."""

    def __init__(self, clock: IReactorTime, elapsed_s: Callable[[], float]) -> None:
        self._clock = clock
        self._elapsed_s = elapsed_s
        self._timer: IDelayedCall | None = None
        self._due_s = 0.0

    @property
    def left_s(self) -> float | None:
        """How long it goes on; None where nobody waits."""
        return None if self._timer is None else max(0.0, self._due_s - self._elapsed_s())

    def wait(self, seconds: float) -> Deferred[None]:
        """Fires after that time, or sooner where it is cut short."""
        over: Deferred[None] = Deferred(lambda _: self._end())

        def end() -> None:
            self._timer = None
            over.callback(None)

        self._due_s = self._elapsed_s() + seconds
        self._timer = self._clock.callLater(seconds, end)
        return over

    def shorten(self, seconds: float) -> None:
        """End it after so many seconds from now, where it would not end sooner.

        It may have ended long ago by elapsed time: a timer stands still while the machine sleeps.
        """
        if self._timer is not None:
            self._due_s = min(self._due_s, self._elapsed_s() + seconds)
            self._timer.reset(max(0.0, self._due_s - self._elapsed_s()))

    def _end(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
