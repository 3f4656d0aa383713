"""Sliding windows: how often something happened lately, by key."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable


class Windows:
    """At most ``limit`` events of a key in ``window_ms``.  A key that is quiet costs nothing more
    than its last ``limit`` times; beyond ``max_keys`` the one that came first is forgotten."""

    def __init__(self, limit: int, window_ms: int, *, max_keys: int = 65_536) -> None:
        self.limit = limit
        self._window_ms = window_ms
        self._max_keys = max_keys
        self._times: dict[Hashable, deque[int]] = {}

    def wait_ms(self, key: Hashable, now_ms: int) -> int:
        """How long the next event of a key must wait; 0 where it may happen now."""
        times = self._times.get(key)
        if times is None or len(times) < self.limit:
            return 0
        left_ms = times[0] + self._window_ms - now_ms
        return left_ms if 0 < left_ms <= self._window_ms else 0  # more: the clock was set back

    def add(self, key: Hashable, now_ms: int) -> None:
        """It happened."""
        self._times.setdefault(key, deque(maxlen=self.limit)).append(now_ms)
        if len(self._times) > self._max_keys:
            del self._times[next(iter(self._times))]
