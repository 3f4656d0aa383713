"""Work beside the reactor: one thread for what would hold it up for milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class InThread(Protocol):
    """Calls a function elsewhere and gives a Deferred of its result."""

    def __call__(self, work: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Begin."""


class OneThread:
    """A thread that is made when there is something to do.  ``name`` is for people."""

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, 1, name)

    def start(self) -> None:
        """Accept work."""
        self._pool.start()

    def stop(self) -> None:
        """End the thread, after what it is doing."""
        if self._pool.started:
            self._pool.stop()

    def __call__(self, work: Callable[..., T], *arguments: Any) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._pool, work, *arguments)
