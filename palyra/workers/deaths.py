"""How often the workers of a distribution died, and how long it is left alone for it."""

from __future__ import annotations

import math
from collections import deque

MOST = 3
WITHIN_S = 60.0
FIRST_OFF_S = 10.0
LONGEST_OFF_S = 300.0


class Deaths:
    """The record of one distribution.  ``now`` is monotonic seconds, and never goes back.

    The third death within a minute takes it off for 10 s, and for twice as long each time that
    happens again, up to 5 min; a while without brings it back to 10 s.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=MOST)
        self._off_s = FIRST_OFF_S
        self.off_until = -math.inf

    def died(self, now: float) -> float:
        """A worker died; for how many seconds the distribution is off now, 0.0 where it is not."""
        if now - self.off_until > 2 * LONGEST_OFF_S:
            self._off_s = FIRST_OFF_S
        self._recent.append(now)
        if len(self._recent) < MOST or now - self._recent[0] > WITHIN_S:
            return 0.0
        off_s, self._off_s = self._off_s, min(LONGEST_OFF_S, 2 * self._off_s)
        self._recent.clear()
        self.off_until = now + off_s
        return off_s
