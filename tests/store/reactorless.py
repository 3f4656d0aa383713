"""A stand-in for the reactor's thread: a queue of calls that the test itself makes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from twisted.internet.defer import Deferred

from palyra.store.sqlite import SqliteStore
from tests.store.samples import NOW_MS

T = TypeVar("T")
PATIENCE_S = 30


class Calls:
    """Collects what threads hand to the reactor and runs it while a test waits."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.now_ms = NOW_MS
        self.made = 0

    def from_thread(self, call: Callable[[], None]) -> None:
        """``reactor.callFromThread``."""
        self.queue.put(call)

    def wait(self, result: Awaitable[T]) -> T:
        """The result of a Deferred; raises what it failed with."""
        assert isinstance(result, Deferred)
        kept: list[T] = []
        failed: list[BaseException] = []
        result.addCallbacks(kept.append, lambda failure: failed.append(failure.value))
        while not kept and not failed:
            self.queue.get(timeout=PATIENCE_S)()
            self.made += 1
        if failed:
            raise failed[0]
        return kept[0]

    def open(self, path: Path) -> SqliteStore:
        """Open a store whose clock is ``now_ms``."""
        return SqliteStore.open(path, call_from_thread=self.from_thread, now_ms=lambda: self.now_ms)
