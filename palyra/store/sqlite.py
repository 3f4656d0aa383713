"""The store on SQLite: one file in the state root."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs
from sqlalchemy import Connection

from palyra.core.identifiers import Entropy
from palyra.store import opening
from palyra.store.faults import translated
from palyra.store.sql import SqlStore
from palyra.store.threads import CallFromThread, CallSoon, at_once


@attrs.frozen
class SqliteDatabase:
    """SQLite for one thread (:class:`palyra.store.threads.IDatabase`), whose transactions start
    with ``begin``.  A connection to a file is never lost, and a commit never in doubt."""

    path: Path
    begin: str

    @property
    def name(self) -> str:
        return str(self.path)

    def connect(self) -> Connection:
        return opening.connect(self.path, self.begin)

    def translated(self, error: Exception) -> Exception:
        return translated(error, self.name)

    def is_lost(self, connection: Connection) -> bool:
        return False

    def mark(self, connection: Connection) -> str:
        return ""

    def committed(self, connection: Connection, mark: str) -> bool:
        raise AssertionError("a connection to a file is never lost")

    def checkpoint(self, connection: Connection, mode: str) -> None:
        """Move the WAL into the database, so that the next commits overwrite it from its start:
        one that is not re-grown is cheaper to fsync."""
        raw = connection.connection.driver_connection
        assert raw is not None, "the connection is open"
        raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()


class SqliteStore(SqlStore):
    """A SqlStore on one SQLite file."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        call_from_thread: CallFromThread,
        now_ms: Callable[[], int],
        entropy: Entropy = os.urandom,
        call_soon: CallSoon = at_once,
    ) -> SqliteStore:
        """Open the database, or make it; synchronous, for before the reactor runs.

        :param call_from_thread: ``reactor.callFromThread``; the only way back to the reactor.
        :param call_soon: the loop's; hands over what one turn of it has asked for.
        :param now_ms: wall time in Unix milliseconds.
        :raises palyra.errors.StoreCorrupt: it, or the snapshot to import, is damaged.
        :raises palyra.errors.StoreMissing: it is gone, but ``store_epoch`` is there.
        :raises palyra.errors.StoreTooNew: a newer version wrote it.
        :raises palyra.errors.DiskFull: there is no room to make it.
        :raises palyra.errors.StoreUnavailable: it cannot be read or written.
        """
        identity = opening.prepare(path, entropy=entropy, now_ms=now_ms())
        return cls.over(
            SqliteDatabase(path, "BEGIN IMMEDIATE"),
            SqliteDatabase(path, "BEGIN"),
            identity,
            call_from_thread=call_from_thread,
            call_soon=call_soon,
            now_ms=now_ms,
        )
