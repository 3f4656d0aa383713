"""Backoff: how long a node host without a session waits before its next try.

A thousand nodes that lost the same gateway come back spread out, and no node comes sooner than the
gateway asked it to.  Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable

from palyra.errors import PalyraError
from palyra.node.registering import MAX_ASKED_S
from palyra.node.rejoin import is_final

FINAL_RETRY_S = 600.0
"""How often a node that was told to stay away (revoked) looks whether a person changed that."""
SOON_S = 2.0
"""Over this time the tries are spread of nodes whose network has just changed."""
_MOST_DOUBLINGS = 16


class Backoff:
    """The pauses between tries, in seconds of elapsed time.

    The first one is uniform in ``first_retry_s``.  Then follows full jitter: uniform between zero
    and a ceiling, which doubles from there to ``max_retry_s``.
    """

    def __init__(
        self,
        *,
        elapsed_s: Callable[[], float],
        jitter: Callable[[float, float], float],
        first_retry_s: float,
        max_retry_s: float,
    ) -> None:
        self._elapsed_s = elapsed_s
        self._jitter = jitter
        self._first_retry_s = first_retry_s
        self._max_retry_s = max_retry_s
        self._failures = 0
        self._drained_s = 0.0
        self._not_before_s = float("-inf")

    def connected(self) -> None:
        """There is a session: the next pause is a first one again."""
        self._failures = 0
        self._drained_s = 0.0

    def drained(self, retry_after_ms: int) -> None:
        """The gateway drains, and says in how many ms to come back."""
        self._drained_s = retry_after_ms / 1000

    def pause_s(self, error: PalyraError | None, *, soon: bool = False) -> float:
        """How long to wait after a try, or a session, that ended with ``error``.

        With ``soon`` the network has changed since it began; what the gateway asked for stands.
        """
        self._failures = 0 if soon else self._failures + 1
        if drained_s := self._drained_s:
            self.connected()  # it was expected, and the next try is not one more that failed
            # Each node was told a moment of its own; older gateways tell all the same.
            return self._hold(drained_s + self._jitter(0.0, SOON_S))
        if is_final(error):
            return self._hold(FINAL_RETRY_S * self._jitter(1.0, 1.2))
        asked_s = min(MAX_ASKED_S, getattr(error, "retry_after_s", None) or 0.0)
        return max(self._hold(asked_s * self._jitter(1.0, 1.1)), self._own_s())

    def sooner_s(self) -> float:
        """The network has changed: how long to wait from now on.  The tries that failed are
        forgotten; what the gateway asked for is not."""
        self._failures = 0
        return max(self._not_before_s - self._elapsed_s(), self._own_s())

    def _hold(self, asked_s: float) -> float:
        """The gateway asked for so long a pause, by a share of this device's own, since it may have
        asked others for the same."""
        self._not_before_s = self._elapsed_s() + asked_s
        return asked_s

    def _own_s(self) -> float:
        """What nobody asked for."""
        if self._failures == 0:
            return self._jitter(0.0, SOON_S)
        if self._failures == 1:
            return self._jitter(0.0, self._first_retry_s)
        doubled_s = self._first_retry_s * 2.0 ** min(self._failures - 1, _MOST_DOUBLINGS)
        return self._jitter(0.0, min(self._max_retry_s, doubled_s))
