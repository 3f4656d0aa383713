"""What a node host remembers of attempts, so that none takes effect twice (PROTOCOL: Jobs).

A non-idempotent attempt is on disk before its handler starts, and its report before it is sent.
Idempotent ones are kept in memory only: running them again does no harm.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from palyra.core.identifiers import AttemptId, Entropy
from palyra.core.jobs import Outcome, Report, Standing
from palyra.errors import DiskFull, PalyraError, StoreCorrupt, StoreUnavailable

MAX_REMEMBERED = 10_000
REMEMBER_MS = 24 * 3_600_000
MAX_UNACKNOWLEDGED = 3_072
"""With those that run it stays below what one registration may list."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS attempts (
    attempt_id TEXT PRIMARY KEY,
    forget_at_ms INTEGER NOT NULL,
    outcome TEXT,
    output_json BLOB,
    error_code TEXT,
    error TEXT,
    stopped INTEGER,
    took_ms INTEGER,
    acknowledged INTEGER NOT NULL DEFAULT 0
) STRICT;
"""
_FORGET = "DELETE FROM attempts WHERE forget_at_ms < ? AND acknowledged"


class AttemptMemory:
    """The attempts of one node host.  One thread writes; every method returns at once."""

    _log = Logger()

    def __init__(self, reactor: Any, database: sqlite3.Connection, memory_id: str) -> None:
        self.memory_id = memory_id
        self._reactor = reactor
        self._database = database
        self._pool = ThreadPool(1, 1, "palyra-attempts")
        self._running: set[AttemptId] = set()
        self._kept: dict[AttemptId, int] = {}
        self._reports: dict[AttemptId, Report] = {}
        self._died: set[AttemptId] = set()

    @classmethod
    def open(cls, path: Path, *, reactor: Any, entropy: Entropy, now_ms: int) -> AttemptMemory:
        """Open the memory, or make a new one with a new ``memory_id``; synchronous.

        :raises StoreCorrupt: it is damaged; it is left as it is.
        :raises StoreUnavailable, DiskFull: it cannot be used now.
        """
        database = None
        try:
            # SQLite gives the files beside it the mode of this one.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            memory = cls(reactor, database, _prepare(database, entropy, now_ms))
            memory._load()
        except (sqlite3.DatabaseError, ValueError, OSError) as error:
            if database is not None:
                database.close()
            raise _translated(error, path) from error
        return memory

    def _load(self) -> None:
        rows = self._database.execute(
            "SELECT attempt_id, forget_at_ms, outcome, output_json, error_code, error, stopped,"
            " took_ms, acknowledged FROM attempts ORDER BY rowid"
        )
        for attempt, forget_at_ms, outcome, *rest, acknowledged in rows:
            attempt_id = AttemptId(attempt)
            self._kept[attempt_id] = forget_at_ms
            if outcome is None:
                self._died.add(attempt_id)
                self._reports[attempt_id] = Report(
                    attempt_id, Outcome.DIED, error_code="node_died", stopped=True
                )
            elif not acknowledged:
                output_json, error_code, error, stopped, took_ms = rest
                self._reports[attempt_id] = Report(
                    attempt_id,
                    Outcome(outcome),
                    output_json or b"",
                    error_code,
                    error,
                    bool(stopped),
                    took_ms,
                )

    def start(self) -> None:
        """Start the writing thread."""
        self._pool.start()

    def stop(self) -> None:
        """Finish writing and close."""
        self._pool.stop()
        self._database.close()

    # -- what is known ------------------------------------------------------------------------

    def knows(self, attempt_id: AttemptId) -> bool:
        """Whether this attempt was ever accepted here, as far as that matters."""
        return (
            attempt_id in self._running or attempt_id in self._reports or attempt_id in self._kept
        )

    def is_full(self, now_ms: int) -> bool:
        """Whether new work must be refused: forgetting more would allow a second effect."""
        if len(self._kept) >= MAX_REMEMBERED:
            self._forget(now_ms)
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
            return failure

        return self._write(
            "INSERT INTO attempts (attempt_id, forget_at_ms) VALUES (?, ?)",
            (attempt_id, forget_at_ms),
        ).addErrback(undo)

    def finished(self, report: Report, *, durable: bool) -> Deferred[None]:
        """An attempt ended; fires when its report may be sent."""
        if not durable:
            self._settle(report)
            return succeed(None)
        written = self._write(
            "UPDATE attempts SET outcome = ?, output_json = ?, error_code = ?, error = ?,"
            " stopped = ?, took_ms = ? WHERE attempt_id = ?",
            (
                report.outcome.value,
                report.output_json,
                report.error_code,
                report.error,
                int(report.stopped),
                report.took_ms,
                report.attempt_id,
            ),
        )

        def settle(result: Any) -> Any:
            self._settle(report)
            return result

        return written.addBoth(settle)

    def _settle(self, report: Report) -> None:
        """From here on a new session sends the report: not before it is on disk."""
        self._reports[report.attempt_id] = report
        self._running.discard(report.attempt_id)

    def acknowledged(self, attempt_id: AttemptId, now_ms: int) -> Deferred[None]:
        """The gateway has committed a report; the attempt itself is remembered longer."""
        self._reports.pop(attempt_id, None)
        self._died.discard(attempt_id)
        written: Deferred[None] = succeed(None)
        if attempt_id in self._kept:
            written = self._write(
                "UPDATE attempts SET acknowledged = 1, output_json = NULL,"
                " outcome = coalesce(outcome, 'died') WHERE attempt_id = ?",
                (attempt_id,),
            )
        self._forget(now_ms)
        return written

    def _forget(self, now_ms: int) -> None:
        """Drop what is over, from the front: attempts are kept in the order they came."""
        over = []
        for attempt_id, forget_at_ms in self._kept.items():
            if forget_at_ms >= now_ms or attempt_id in self._reports:
                break
            over.append(attempt_id)
        for attempt_id in over:
            del self._kept[attempt_id]
        if over:
            self._write(_FORGET, (now_ms,)).addErrback(
                lambda failure: self._log.failure("old attempts were not deleted", failure)
            )

    def _write(self, statement: str, values: tuple[Any, ...]) -> Deferred[None]:
        return deferToThreadPool(self._reactor, self._pool, self._execute, statement, values)

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.DatabaseError as error:
            raise _translated(error, Path("attempts.sqlite3")) from error


def _prepare(database: sqlite3.Connection, entropy: Entropy, now_ms: int) -> str:
    """Make or update the file; its memory id."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.executescript(_SCHEMA)
    database.execute(_FORGET, (now_ms,))
    database.execute("INSERT OR IGNORE INTO meta VALUES ('memory_id', ?)", (entropy(16).hex(),))
    (memory_id,) = database.execute("SELECT value FROM meta WHERE key = 'memory_id'").fetchone()
    return str(memory_id)


def _translated(error: Exception, path: Path) -> PalyraError:
    text = str(error)
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return DiskFull(str(path.parent) if path.is_absolute() else "the device")
    if isinstance(error, OSError):
        return StoreUnavailable(str(path), (error.strerror or text).lower())
    if isinstance(error, sqlite3.OperationalError):
        return StoreUnavailable(str(path), text)
    return StoreCorrupt(str(path), text)
