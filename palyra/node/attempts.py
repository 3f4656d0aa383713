"""What a node host remembers of attempts, so that none takes effect twice (PROTOCOL: Jobs).

A non-idempotent attempt is on disk before its handler starts, and its report before it is sent.
Idempotent ones are kept in memory only: running them again does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from palyra.core.identifiers import AttemptId, Entropy
from palyra.core.jobs import Outcome, Report, Standing
from palyra.node.attemptfile import AttemptFile, IAttemptFile

MAX_REMEMBERED = 10_000
REMEMBER_MS = 24 * 3_600_000
MAX_UNACKNOWLEDGED = 3_072
"""With those that run it stays below what one registration may list."""


class AttemptMemory:
    """The attempts of one node host, over the file that keeps them."""

    _log = Logger()

    def __init__(self, file: IAttemptFile) -> None:
        self.memory_id = file.memory_id
        self._file = file
        self._running: set[AttemptId] = set()
        self._kept: dict[AttemptId, int] = {}
        self._reports: dict[AttemptId, Report] = {}
        self._unkept: set[AttemptId] = set()
        """Reports that had no room on disk; they are sent all the same."""
        self._troubled = True  # of an earlier life, as far as is known: until something is written
        self.stored: Callable[[BaseException | None], object] = lambda _: None
        """Told why an attempt or its report could not be kept, and None when one can again."""
        for each in file.kept():
            self._kept[each.attempt_id] = each.forget_at_ms
            if not each.acknowledged:
                self._reports[each.attempt_id] = each.report or _died(each.attempt_id)

    @classmethod
    def open(cls, path: Path, *, reactor: Any, entropy: Entropy, now_ms: int) -> AttemptMemory:
        """Open the memory, or make a new one with a new ``memory_id``; synchronous.

        :raises StoreCorrupt: it is damaged; it is left as it is.
        :raises StoreUnavailable, DiskFull: it cannot be used now.
        """
        return cls(AttemptFile.open(path, reactor=reactor, entropy=entropy, now_ms=now_ms))

    def start(self) -> None:
        """Begin to write."""
        self._file.start()

    def stop(self) -> None:
        """Finish writing and close."""
        self._file.stop()

    # -- what is known ------------------------------------------------------------------------

    def knows(self, attempt_id: AttemptId) -> bool:
        """Whether this attempt was ever accepted here, as far as that matters."""
        return (
            attempt_id in self._running or attempt_id in self._reports or attempt_id in self._kept
        )

    def is_full(self, now_ms: int) -> bool:
        """Whether new work must be refused: forgetting more would allow a second effect."""
        if len(self._kept) >= MAX_REMEMBERED:
            self._forget(now_ms, thoroughly=True)
        return len(self._kept) >= MAX_REMEMBERED or len(self._reports) >= MAX_UNACKNOWLEDGED

    def standings(self) -> dict[str, Standing]:
        """What RegisterNode tells: running, finished and died attempts."""
        standings: dict[str, Standing] = {each: Standing.RUNNING for each in self._running}
        for attempt_id, report in self._reports.items():
            died = report.outcome is Outcome.DIED
            standings[attempt_id] = Standing.DIED if died else Standing.FINISHED
        return standings

    def unacknowledged(self) -> list[Report]:
        """Reports that the gateway has not confirmed, oldest first."""
        return list(self._reports.values())

    # -- what happens -------------------------------------------------------------------------

    def accepted(
        self, attempt_id: AttemptId, *, durable: bool, now_ms: int, remaining_ms: int
    ) -> Deferred[None]:
        """An attempt is about to run; fires when that may begin.

        Fails with DiskFull: it cannot be remembered, so it must not run.
        """
        self._running.add(attempt_id)
        if not durable:
            return succeed(None)
        forget_at_ms = now_ms + remaining_ms + REMEMBER_MS
        self._kept[attempt_id] = forget_at_ms

        def undo(failure: Any) -> Any:
            self._running.discard(attempt_id)
            self._kept.pop(attempt_id, None)
            return self._not_written(failure)

        return self._file.add(attempt_id, forget_at_ms).addCallbacks(self._written, undo)

    def _written(self, _: None) -> None:
        """The disk takes what it is given, also what it had no room for before."""
        if self._troubled:
            self._troubled = False
            self.stored(None)
        unkept, self._unkept = self._unkept, set()
        for report in [self._reports[each] for each in unkept if each in self._reports]:
            self._keep(report).addErrback(lambda _: None)  # it is tried again after the next one

    def _not_written(self, failure: Any) -> Any:
        self._troubled = True
        self.stored(failure.value)
        return failure

    def _keep(self, report: Report) -> Deferred[None]:
        def undo(failure: Any) -> Any:
            self._unkept.add(report.attempt_id)
            return self._not_written(failure)

        return self._file.finish(report).addCallbacks(self._written, undo)

    def finished(self, report: Report, *, durable: bool) -> Deferred[None]:
        """An attempt ended; fires when its report may be sent."""
        if not durable:
            self._settle(report)
            return succeed(None)

        def settle(result: Any) -> Any:
            self._settle(report)
            return result

        return self._keep(report).addBoth(settle)

    def _settle(self, report: Report) -> None:
        """From here on a new session sends the report: not before it is on disk."""
        self._reports[report.attempt_id] = report
        self._running.discard(report.attempt_id)

    def acknowledged(self, attempt_id: AttemptId, now_ms: int) -> Deferred[None]:
        """The gateway has committed a report; the attempt itself is remembered longer."""
        self._reports.pop(attempt_id, None)
        self._unkept.discard(attempt_id)
        written: Deferred[None] = succeed(None)
        if attempt_id in self._kept:
            written = self._file.acknowledge(attempt_id)
        self._forget(now_ms)
        return written

    def _forget(self, now_ms: int, *, thoroughly: bool = False) -> None:
        """Drop what is over, from the front: attempts are kept in the order they came.

        ``thoroughly`` looks at all of them: one that came while the clock was ahead is not over
        for years, and must not keep those behind it.
        """
        over = []
        for attempt_id, forget_at_ms in self._kept.items():
            if forget_at_ms < now_ms and self._is_done(attempt_id):
                over.append(attempt_id)
            elif not thoroughly:
                break
        for attempt_id in over:
            del self._kept[attempt_id]
        if over:
            self._file.forget(now_ms).addErrback(
                lambda failure: self._log.failure("old attempts were not deleted", failure)
            )

    def _is_done(self, attempt_id: AttemptId) -> bool:
        """Whether the gateway has confirmed its end."""
        return attempt_id not in self._reports and attempt_id not in self._running


def _died(attempt_id: AttemptId) -> Report:
    return Report(attempt_id, Outcome.DIED, error_code="node_died", stopped=True)
