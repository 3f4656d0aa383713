"""The gateway's time of day, as far as a device knows it.

The clock of a device may be off by years.  It refuses nothing for that: whether its certificate
has run out is the gateway's to say, so the gateway's time is what dates are compared with.
"""

from __future__ import annotations

from collections.abc import Callable

TELL_MS = 60_000
"""From here on the difference is told, and again when it changed by as much."""


class GatewayTime:
    """How far this device's clock is ahead of the gateway's."""

    def __init__(
        self, now_ms: Callable[[], int], differs: Callable[[int], object] = lambda _: None
    ) -> None:
        """``now_ms`` is this device's clock; ``differs`` is told by how many ms it is ahead."""
        self._now_ms = now_ms
        self._differs = differs
        self._ahead_ms = 0
        self._told_ms = 0

    def now_ms(self) -> int:
        """The gateway's time, Unix ms; this device's own until the gateway was heard."""
        return self._now_ms() - self._ahead_ms

    def heard(self, gateway_unix_ms: int) -> None:
        """The gateway said what time it is; 0 where it does not say."""
        if gateway_unix_ms <= 0:
            return
        ahead_ms = self._ahead_ms = self._now_ms() - gateway_unix_ms
        if abs(ahead_ms) <= TELL_MS:
            self._told_ms = 0
        elif abs(ahead_ms - self._told_ms) > TELL_MS:
            self._told_ms = ahead_ms
            self._differs(ahead_ms)
