"""Backoff: how long a node host without a session waits before its next try.

A thousand nodes that lost the same gateway come back spread out, and no node comes sooner than the
gateway asked it to.  Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable

from palyra.errors import PalyraError
from palyra.node.gateways import MAX_ASKED_S, asked_s
from palyra.node.rejoin import is_final

FINAL_RETRY_S = 600.0
"""How often a node that was told to stay away (revoked) looks whether a person changed that."""
SOON_S = 2.0
"""Over this time the tries are spread of nodes whose network has just changed."""
SETTLED_S = 30.0
"""A session that ends sooner is one more failure: whoever ends each at once is not to be asked for
another all the time."""
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
        self._elsewhere = False
        self._not_before_s = float("-inf")
        self._connected_s: float | None = None

    def connected(self) -> None:
        """There is a session, or another one: once it has lasted, the next pause is a first one."""
        self._settle()
        self._connected_s = self._elapsed_s()
        self._drained_s = 0.0

    def drained(self, in_s: float, *, elsewhere: bool = False) -> None:
        """The gateway drains, and says in how many seconds to come back.

        ``elsewhere``: there is another gateway, which did not ask for that; it is not to be stormed
        either.
        """
        self._drained_s = min(MAX_ASKED_S, in_s)
        self._elsewhere = elsewhere

    def pause_s(self, error: PalyraError | None, *, soon: bool = False) -> float:
        """How long to wait after a try, or a session, that ended with ``error``.

        With ``soon`` the network has changed since it began; what the gateway asked for stands.
        """
        self._settle()
        self._failures = 0 if soon else self._failures + 1
        if drained_s := self._drained_s:
            # It was expected, and the next try is not one more that failed.
            self._failures, self._drained_s = 0, 0.0
            if self._elsewhere:
                return self._jitter(0.0, min(drained_s, self._first_retry_s))
            # Each node was told a moment of its own; older gateways tell all the same.
            return self._hold(drained_s + self._jitter(0.0, SOON_S))
        if is_final(error):
            return self._hold(FINAL_RETRY_S * self._jitter(1.0, 1.2))
        asked = 0.0 if error is None else asked_s(error)
        return max(self._hold(asked * self._jitter(1.0, 1.1)), self._own_s())

    def sooner_s(self) -> float:
        """The network has changed: how long to wait from now on.  The tries that failed are
        forgotten; what the gateway asked for is not."""
        self._failures = 0
        return max(self._not_before_s - self._elapsed_s(), self._own_s())

    def _settle(self) -> None:
        """Look whether the session lasted, if there was one."""
        since_s, self._connected_s = self._connected_s, None
        if since_s is not None and self._elapsed_s() - since_s >= SETTLED_S:
            self._failures = 0

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
