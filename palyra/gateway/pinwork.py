"""SPAKE2 beside the reactor: a step costs some milliseconds of Python, and anybody may ask for one.

One thread, few that wait for it, and so many a second: strangers cannot keep the gateway busy.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import DeferredLock

from palyra.core.identifiers import Entropy
from palyra.core.pake import GatewayPake
from palyra.core.windows import Windows
from palyra.errors import LimitReached
from palyra.gateway.onethread import InThread

MAX_WAITING = 4
MAX_A_SECOND = 20
_RETRY_S = 1.0


class PinWork:
    """The gateway's SPAKE2 runs.  ``elapsed_ms`` never goes back."""

    def __init__(
        self, *, in_thread: InThread, entropy: Entropy, elapsed_ms: Callable[[], int]
    ) -> None:
        self._in_thread = in_thread
        self._entropy = entropy
        self._elapsed_ms = elapsed_ms
        self._waiting = 0
        self._turn = DeferredLock()
        self._runs = Windows(MAX_A_SECOND, 1_000)

    async def begin(self, pin: str) -> GatewayPake:
        """Begin a run: its ``share`` is Y.

        :raises LimitReached: too many runs, now or in the last second.
        """
        wait_ms = self._runs.wait_ms("begin", self._elapsed_ms())
        if wait_ms:
            raise LimitReached("pairings by PIN in a second", MAX_A_SECOND, wait_ms / 1000)
        if self._waiting > MAX_WAITING:
            raise LimitReached("pairings by PIN at once", MAX_WAITING, _RETRY_S)
        self._runs.add("begin", self._elapsed_ms())
        self._waiting += 1
        try:
            return await self._in_thread(GatewayPake, pin, self._entropy)
        finally:
            self._waiting -= 1

    async def finish(
        self, run: GatewayPake, share: bytes, check: Callable[[], object] = lambda: None
    ) -> bytes:
        """The shared key K.  Every run that began may finish: the device's PIN is void otherwise.

        ``check`` may refuse it when its turn comes: so many may have been started that PIN pairing
        has paused meanwhile, and then the others must cost nothing.

        :raises VerificationFailed: the device's share is not acceptable.
        """
        async with self._turn:
            check()
            return await self._in_thread(run.finish, share)
