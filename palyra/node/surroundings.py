"""What goes on around a device: another network, or a lid that was closed and opened again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from palyra.node.elapsed import elapsed_s as node_elapsed_s
from palyra.node.networkwatch import Watch
from palyra.node.sleeping import Sleeping

APART_S = 10.0
"""Not more often is a change told: a network that flaps must not become a storm."""


class Surroundings:
    """Tells of changes, from :meth:`start` to :meth:`stop`; the last one of many is never lost.

    It owns a watch on the network, one on sleep, and one timer.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        stirred: Callable[[], object],
        woke: Callable[[], object],
        elapsed_s: Callable[[], float] = node_elapsed_s,
        watch: Callable[[Any, Callable[[], object]], Watch] = Watch,
        sleeping: Callable[[Any, Callable[[], object]], Sleeping] = Sleeping,
    ) -> None:
        """``stirred`` is called when the way to the gateway may be another one; ``woke`` first,
        each time the machine was asleep."""
        self._reactor = reactor
        self._stirred = stirred
        self._woke = woke
        self._elapsed_s = elapsed_s
        self._watch = watch(reactor, self._stir)
        self._sleeping = sleeping(reactor, self._awake)
        self._told_s = float("-inf")
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to look."""
        self._watch.start()
        self._sleeping.start()

    def stop(self) -> Deferred[None]:
        """Tell nothing any more; fires when no thread looks any more."""
        self._unschedule()
        self._sleeping.stop()
        return self._watch.stop()

    def _awake(self) -> None:
        self._woke()
        self._stir()

    def _stir(self) -> None:
        self._unschedule()
        wait_s = self._told_s + APART_S - self._elapsed_s()
        if wait_s > 0:
            self._timer = self._reactor.callLater(wait_s, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        self._timer = None
        self._told_s = self._elapsed_s()
        self._log.info("the network has changed: the way to the gateway is looked at")
        self._stirred()

    def _unschedule(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
