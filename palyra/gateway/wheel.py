"""Many deadlines on one timer."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class TimerWheel:
    """Calls ``due(key, now_ms)`` for each key soon after its time (within two ``tick_ms``).

    ``clock`` only drives the wheel; ``now_ms`` is the time its deadlines are written in.
    Adding, moving and discarding a key cost the same however many there are, which a delayed call
    for each job would not.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        now_ms: Callable[[], int],
        due: Callable[[Hashable, int], object],
        *,
        tick_ms: int = 100,
    ) -> None:
        self._now_ms = now_ms
        self._due = due
        self._tick_ms = tick_ms
        # Keys that are due together are called in the order they were set, on every run.
        self._slots: dict[int, dict[Hashable, None]] = {}
        self._slot_of: dict[Hashable, int] = {}
        self._next = self._slot(self._now_ms())
        self._call = LoopingCall(self.turn)
        self._call.clock = clock

    def start(self) -> None:
        """Begin to turn."""
        self._call.start(self._tick_ms / 1000, now=False)

    def stop(self) -> None:
        """Stop turning; keys stay and are never due."""
        if self._call.running:
            self._call.stop()

    def set(self, key: Hashable, when_ms: int) -> None:
        """Make ``key`` due at ``when_ms``, and at no other time."""
        # After a clock that went back, the next slot to look at is the one of the new time.
        soonest = min(self._next, self._slot(self._now_ms()) + 1)
        slot = max(self._slot(when_ms) + 1, soonest)
        if self._slot_of.get(key) != slot:
            self.discard(key)
            self._slot_of[key] = slot
            self._slots.setdefault(slot, {})[key] = None
            # Set while the clock was back, it must be found when that has gone forward again.
            self._next = min(self._next, slot)

    def discard(self, key: Hashable) -> None:
        """Forget ``key``."""
        slot = self._slot_of.pop(key, None)
        if slot is not None:
            keys = self._slots[slot]
            keys.pop(key, None)
            if not keys:
                del self._slots[slot]

    def turn(self) -> None:
        """Call what is due."""
        now_ms = self._now_ms()
        last = self._slot(now_ms)
        if not 0 <= last - self._next <= len(self._slots):  # the clock jumped, or nothing waits
            reached = sorted(slot for slot in self._slots if slot <= last)
        else:
            reached = [slot for slot in range(self._next, last + 1) if slot in self._slots]
        self._next = last + 1
        for slot in reached:
            # One by one: what is called may move or discard the keys that are due with it.
            while keys := self._slots.get(slot):
                key = next(iter(keys))
                self.discard(key)
                self._call_due(key, now_ms)

    def _call_due(self, key: Hashable, now_ms: int) -> None:
        """One key's fault must not cost the others their deadlines."""
        try:
            self._due(key, now_ms)
        except Exception:
            self._log.failure("a deadline was not met with its act: {key}", key=key)

    def _slot(self, when_ms: int) -> int:
        return when_ms // self._tick_ms
