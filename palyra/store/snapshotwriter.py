"""When ``node-runtime.v1.json`` is written: soon after a change, never all the time."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

MIN_GAP_S = 1.0
GAP_PER_WRITE = 50
"""The pause after a write, in lengths of that write: it takes 2 % of the reader at most."""


class SnapshotSource(Protocol):
    """A store that can write its picture."""

    def write_snapshot(self, path: Path) -> Awaitable[None]:
        """Replace the file with a picture of the store as it is now."""


class SnapshotWriter:
    """Coalesces changes into writes.  ``last_error`` is why the last write failed, or None."""

    log = Logger()

    def __init__(self, store: SnapshotSource, path: Path, clock: IReactorTime) -> None:
        self._store = store
        self._path = path
        self._clock = clock
        self._dirty = False
        self._writing = False
        self._stopped = False
        self._next: IDelayedCall | None = None
        self._not_before_s = float("-inf")
        self._gap_s = MIN_GAP_S
        self._waiting: list[Deferred[None]] = []
        self._served: list[Deferred[None]] = []
        self.last_error: Exception | None = None

    def touch(self) -> None:
        """Something changed: write as soon as the pause after the last write is over."""
        if self._stopped:
            return
        self._dirty = True
        if not self._writing and self._next is None:
            # A clock that was set back must not put the next write off.
            delay = min(max(0.0, self._not_before_s - self._clock.seconds()), self._gap_s)
            self._next = self._clock.callLater(delay, self._due)

    def force(self) -> Deferred[None]:
        """Write now; fires after a write that began after this call, whether or not it failed."""
        done: Deferred[None] = Deferred()
        self._dirty = True
        self._waiting.append(done)
        if not self._writing:
            self._write()
        return done

    def stop(self) -> Deferred[None]:
        """Write what is not written yet, then nothing more."""
        self._stopped = True
        if self._dirty or self._writing:
            return self.force()
        self._cancel()
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def _due(self) -> None:
        self._next = None
        self._write()

    def _cancel(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _write(self) -> None:
        self._cancel()
        self._dirty, self._writing = False, True
        self._served, self._waiting = self._waiting, []
        began_s = self._clock.seconds()
        written = ensureDeferred(_awaited(self._store.write_snapshot(self._path)))
        written.addCallbacks(self._succeeded, self._failed)
        written.addBoth(self._ended, began_s)

    def _succeeded(self, _: None) -> None:
        self.last_error = None

    def _failed(self, failure: Failure) -> None:
        value = failure.value
        self.last_error = value if isinstance(value, Exception) else None
        self.log.failure("cannot write {path}", failure=failure, path=str(self._path))

    def _ended(self, _: None, began_s: float) -> None:
        now_s = self._clock.seconds()
        self._gap_s = max(MIN_GAP_S, GAP_PER_WRITE * (now_s - began_s))
        self._not_before_s = now_s + self._gap_s
        self._writing = False
        served, self._served = self._served, []
        if self._waiting:
            self._write()
        elif self._dirty:
            self.touch()
        for done in served:
            done.callback(None)


async def _awaited(result: Awaitable[None]) -> None:
    await result
