"""The file of a node host's attempts: what is on disk of them, and when it is there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import Attribute, Interface, implementer

from palyra.core.identifiers import AttemptId, Entropy
from palyra.core.jobs import MediationAnswer, Outcome, Report
from palyra.errors import DiskFull, PalyraError, StoreCorrupt, StoreUnavailable

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
_ADDED = ("decided_by", "choice")
"""Columns (TEXT) that the first files did not have: what was said at the device."""
_FORGET = "DELETE FROM attempts WHERE forget_at_ms < ? AND acknowledged"


@attrs.frozen
class KeptAttempt:
    """An attempt as the file has it; without a report it was running when it was written last."""

    attempt_id: AttemptId
    forget_at_ms: int
    report: Report | None = None
    acknowledged: bool = False


class IAttemptFile(Interface):
    """Where attempts are kept.  Writes happen in the order they were asked for; the Deferred of
    each fires when it is on disk, or fails with PalyraError and has then changed nothing."""

    memory_id: str = Attribute("Random, and new when what was kept is lost.")

    def kept() -> Iterable[KeptAttempt]:
        """What an earlier life left, in the order it was added."""

    def add(attempt_id: AttemptId, forget_at_ms: int) -> Deferred[None]:
        """Keep an attempt that is about to run."""

    def finish(report: Report) -> Deferred[None]:
        """Keep the report of an attempt; nothing where the attempt is not kept."""

    def acknowledge(attempt_id: AttemptId) -> Deferred[None]:
        """The report need not be kept any more; the attempt's id is."""

    def forget(now_ms: int) -> Deferred[None]:
        """Drop acknowledged attempts whose time is over."""

    def start() -> None:
        """Begin to write."""

    def stop() -> None:
        """Finish writing and close."""


@implementer(IAttemptFile)
class AttemptFile:
    """IAttemptFile on SQLite.  One thread writes; every method returns at once."""

    def __init__(self, reactor: Any, database: sqlite3.Connection, memory_id: str) -> None:
        self.memory_id = memory_id
        self._reactor = reactor
        self._database = database
        self._pool = ThreadPool(1, 1, "palyra-attempts")
        self._kept: list[KeptAttempt] = []

    @classmethod
    def open(cls, path: Path, *, reactor: Any, entropy: Entropy, now_ms: int) -> AttemptFile:
        """Open the file, or make a new one with a new ``memory_id``; synchronous.

        :raises StoreCorrupt: it is damaged; it is left as it is.
        :raises StoreUnavailable, DiskFull: it cannot be used now.
        """
        database = None
        try:
            # SQLite gives the files beside it the mode of this one.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            file = cls(reactor, database, _prepare(database, entropy, now_ms))
            file._kept = list(_rows(database))
        except (sqlite3.DatabaseError, ValueError, OSError) as error:
            if database is not None:
                database.close()
            raise _translated(error, path) from error
        return file

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        self._pool.stop()
        self._database.close()

    def kept(self) -> Iterable[KeptAttempt]:
        kept, self._kept = self._kept, []
        return kept

    def add(self, attempt_id: AttemptId, forget_at_ms: int) -> Deferred[None]:
        statement = "INSERT INTO attempts (attempt_id, forget_at_ms) VALUES (?, ?)"
        return self._write(statement, (attempt_id, forget_at_ms))

    def finish(self, report: Report) -> Deferred[None]:
        return self._write(
            "UPDATE attempts SET outcome = ?, output_json = ?, error_code = ?, error = ?,"
            " stopped = ?, took_ms = ?, decided_by = ?, choice = ? WHERE attempt_id = ?",
            (
                report.outcome.value,
                report.output_json,
                report.error_code,
                report.error,
                int(report.stopped),
                report.took_ms,
                report.mediation and report.mediation.decided_by,
                report.mediation and report.mediation.choice,
                report.attempt_id,
            ),
        )

    def acknowledge(self, attempt_id: AttemptId) -> Deferred[None]:
        return self._write(
            "UPDATE attempts SET acknowledged = 1, output_json = NULL,"
            " outcome = coalesce(outcome, 'died') WHERE attempt_id = ?",
            (attempt_id,),
        )

    def forget(self, now_ms: int) -> Deferred[None]:
        return self._write(_FORGET, (now_ms,))

    def _write(self, statement: str, values: tuple[Any, ...]) -> Deferred[None]:
        return deferToThreadPool(self._reactor, self._pool, self._execute, statement, values)

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.DatabaseError as error:
            raise _translated(error, Path("attempts.sqlite3")) from error


def _rows(database: sqlite3.Connection) -> Iterable[KeptAttempt]:
    rows = database.execute(
        "SELECT attempt_id, forget_at_ms, acknowledged, outcome, output_json, error_code, error,"
        " stopped, took_ms, decided_by, choice FROM attempts ORDER BY rowid"
    )
    for attempt, forget_at_ms, acknowledged, outcome, output_json, code, text, *rest in rows:
        attempt_id = AttemptId(attempt)
        report = None
        if outcome is not None and not acknowledged:
            stopped, took_ms, decided_by, choice = rest
            report = Report(
                attempt_id=attempt_id,
                outcome=Outcome(outcome),
                output_json=output_json or b"",
                error_code=code,
                error=text,
                stopped=bool(stopped),
                took_ms=took_ms,
                mediation=MediationAnswer(decided_by, choice) if choice else None,
            )
        yield KeptAttempt(attempt_id, forget_at_ms, report, bool(acknowledged))


def _prepare(database: sqlite3.Connection, entropy: Entropy, now_ms: int) -> str:
    """Make or update the file; its memory id.

    One that is there can also be opened on a disk without room: then nothing is written.
    """
    # Nobody else uses it, and so no index is shared, which would be a file that needs room.
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.executescript(_SCHEMA)
    there = {row[1] for row in database.execute("PRAGMA table_info(attempts)")}
    for column in _ADDED:
        if column not in there:
            database.execute(f"ALTER TABLE attempts ADD COLUMN {column} TEXT")
    try:
        database.execute(_FORGET, (now_ms,))
    except sqlite3.OperationalError as error:
        if not _is_full(error):
            raise
    database.execute("INSERT OR IGNORE INTO meta VALUES ('memory_id', ?)", (entropy(16).hex(),))
    (memory_id,) = database.execute("SELECT value FROM meta WHERE key = 'memory_id'").fetchone()
    return str(memory_id)


def _translated(error: Exception, path: Path) -> PalyraError:
    text = str(error)
    if _is_full(error):
        return DiskFull(str(path.parent) if path.is_absolute() else "the device")
    if isinstance(error, OSError):
        return StoreUnavailable(str(path), (error.strerror or text).lower())
    if isinstance(error, sqlite3.OperationalError):
        return StoreUnavailable(str(path), text)
    return StoreCorrupt(str(path), text)


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
