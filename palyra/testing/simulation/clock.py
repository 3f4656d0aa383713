"""Time: one timeline for the world, and on it the clocks of hosts that may be wrong and may die."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from palyra.testing.simulation.trace import Violation

MOST_AT_ONCE = 10_000
EPOCH_S = 1_800_000_000.0
"""The time of day (Unix seconds) when a world begins."""


@implementer(IDelayedCall)
class Timer:
    """A call that happens once the timeline reaches its time."""

    __slots__ = ("_act", "_arguments", "_timeline", "called", "cancelled", "host", "time")

    def __init__(
        self,
        timeline: Timeline,
        host: HostClock | None,
        time: float,
        act: Callable[..., object],
        arguments: tuple[Any, ...],
    ) -> None:
        self.host = host
        self.time = time
        self.called = False
        self.cancelled = False
        self._timeline = timeline
        self._act = act
        self._arguments = arguments

    def fire(self) -> bool:
        """Make the call, unless nobody is left to make it; whether it was made."""
        if self.cancelled or (self.host is not None and self.host.dead):
            return False
        self.called = True
        self._act(*self._arguments)
        return True

    def __repr__(self) -> str:
        return f"<Timer {getattr(self._act, '__qualname__', self._act)}>"

    def getTime(self) -> float:
        return self.time

    def active(self) -> bool:
        return not (self.called or self.cancelled)

    def cancel(self) -> None:
        if self.cancelled:
            raise AlreadyCancelled
        if self.called:
            raise AlreadyCalled
        self.cancelled = True
        self._arguments = ()

    def reset(self, secondsFromNow: float) -> None:
        self._move(self._timeline.now + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        self._move(self.time + secondsLater)

    def _move(self, time: float) -> None:
        moved = self._timeline.at(time, self._act, *self._arguments, host=self.host)
        self.cancel()
        self._act, self._arguments = moved.fire, ()


class Timeline:
    """Everything that will happen, in its order; what falls together happens as it was planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._planned: list[tuple[float, int, Timer]] = []
        self._number = itertools.count()

    def at(
        self,
        time: float,
        act: Callable[..., object],
        *arguments: Any,
        host: HostClock | None = None,
    ) -> Timer:
        """Plan a call; it is not made when ``host`` is dead by then."""
        timer = Timer(self, host, max(time, self.now), act, arguments)
        heapq.heappush(self._planned, (timer.time, next(self._number), timer))
        return timer

    def later(self, delay_s: float, act: Callable[..., object], *arguments: Any) -> Timer:
        """Plan a call of the world itself."""
        return self.at(self.now + delay_s, act, *arguments)

    def advance(self, seconds: float) -> None:
        """Let everything happen that is planned for the next ``seconds``."""
        until = self.now + seconds
        planned = self._planned
        since = self.events
        while planned and planned[0][0] <= until:
            time, _, timer = heapq.heappop(planned)
            if time > self.now:
                self.now, since = time, self.events
            if timer.fire():
                self.events += 1
                if self.events - since > MOST_AT_ONCE:
                    raise Violation(f"{MOST_AT_ONCE} things happen and no time passes: {timer}")
        self.now = until


@implementer(IReactorTime)
class HostClock:
    """The clock of one life of a process: wall time that may jump, and time that only passes.

    ``wall_offset`` gives how far the machine's wall clock is off.  Delayed calls are never early
    and late by less than ``grain_s``, as on a busy machine; dead hosts make no calls any more.
    """

    def __init__(
        self, timeline: Timeline, wall_offset: Callable[[], float], grain_s: float = 0.0
    ) -> None:
        self.dead = False
        self._timeline = timeline
        self._wall_offset = wall_offset
        self._grain_s = grain_s

    def seconds(self) -> float:
        """The time of day, as this machine has it."""
        return EPOCH_S + self._timeline.now + self._wall_offset()

    def now_ms(self) -> int:
        """The same in milliseconds."""
        return int(self.seconds() * 1000)

    def elapsed_s(self) -> float:
        """Time that never jumps."""
        return self._timeline.now

    def elapsed_ms(self) -> int:
        """The same in milliseconds."""
        return int(self._timeline.now * 1000)

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> Timer:
        act = partial(callable, **kwargs) if kwargs else callable
        time = self._timeline.now + delay
        if delay > 0 and self._grain_s:
            time = math.ceil(time / self._grain_s) * self._grain_s
        return self._timeline.at(time, act, *args, host=self)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return []

    def soon(self, delay_s: float, act: Callable[..., object], *arguments: Any) -> Timer:
        """Plan what comes to this host from outside (a message, the end of a write)."""
        return self._timeline.at(self._timeline.now + delay_s, act, *arguments, host=self)

    def sleep(self, delay_s: float) -> Deferred[None]:
        """Fires after a while."""
        done: Deferred[None] = Deferred()
        self.soon(delay_s, done.callback, None)
        return done

    def kill(self) -> None:
        """The process is gone."""
        self.dead = True
