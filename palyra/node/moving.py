"""Moving back: a session that fell back to gRPC goes over to QUIC as soon as that can be reached.

It is tried beside the living session, which nothing happens to unless the new one is registered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from palyra.core.transports import Transport
from palyra.errors import PalyraError
from palyra.node.gateways import Gateways
from palyra.node.link import Route

BUSY_S = 10.0
"""After this time it is looked again whether a renewal is over, which goes first."""


class Moving:
    """Moves the newest session to QUIC, where it is not there.

    It owns one timer and one attempt; :meth:`stop` ends both, and :meth:`over` waits for that.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        gateways: Gateways,
        busy: Callable[[], bool],
        move: Callable[[], Awaitable[Callable[[], object]]],
    ) -> None:
        """``busy``: a renewal is under way.  ``move`` registers over QUIC, or fails with
        PalyraError and nothing has changed; calling what it gives moves the session there."""
        self._reactor = reactor
        self._gateways = gateways
        self._busy = busy
        self._move = move
        self._timer: IDelayedCall | None = None
        self._working: Deferred[None] | None = None
        self._attempts: set[Deferred[None]] = set()
        self._on_grpc = False

    def begin(self, route: Route) -> None:
        """The session is on that route now."""
        self.stop()
        self._on_grpc = route.transport is Transport.GRPC
        self._schedule()

    def give_way(self) -> None:
        """A renewal begins: an attempt that is under way is given up, and made again later."""
        self._cancel()
        if self._on_grpc and self._timer is None:
            self._schedule(BUSY_S)

    def stop(self) -> None:
        """The session is over."""
        self._on_grpc = False
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._cancel()

    async def over(self) -> None:
        """Wait until nothing is left of an attempt that was given up; closing takes a while."""
        for attempt in list(self._attempts):
            await attempt

    def _cancel(self) -> None:
        working, self._working = self._working, None
        if working is not None:
            working.cancel()

    def _schedule(self, at_least_s: float = 0.0) -> None:
        delay_s = self._gateways.now.move_in_s()
        if self._on_grpc and delay_s is not None:
            self._timer = self._reactor.callLater(max(at_least_s, delay_s), self._due)

    def _due(self) -> None:
        self._timer = None
        if self._busy():
            self._schedule(BUSY_S)
            return
        working = Deferred.fromCoroutine(self._work())
        working.addErrback(lambda failure: self._log.failure("moving to QUIC ended", failure))
        if not working.called:
            self._working = working
        self._attempts.add(working)
        working.addBoth(lambda _: self._attempts.discard(working))

    async def _work(self) -> None:
        try:
            move = await self._move()
        except CancelledError:
            return  # by stop() or give_way(), which see to what follows
        except PalyraError as error:
            self._gateways.now.not_moved(error)
        except Exception as error:
            self._log.failure("the session could not be moved to QUIC")
            self._gateways.now.not_moved(error)
        else:
            self._working = None
            move()
            return
        self._working = None
        self._schedule()
