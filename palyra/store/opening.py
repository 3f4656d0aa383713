"""Opening a SQLite store: what is checked, made and imported before anything is served.

Nothing is written before the check, and a store that is damaged is left as it is.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
from sqlalchemy import Connection, Engine, create_engine, delete, event, insert, select
from sqlalchemy.pool import NullPool

from palyra._files import write_atomic
from palyra.core.identifiers import Entropy, new_ulid
from palyra.errors import StoreCorrupt, StoreEmpty, StoreMissing, StoreUnavailable
from palyra.store import audit, audited, directory, joblog, migrations
from palyra.store.faults import translated
from palyra.store.snapshot import SNAPSHOT_NAME, ImportedState, import_snapshot
from palyra.store.tables import meta

EPOCH_NAME = "store_epoch"
UNCONFIRMED = "unconfirmed_since_ms"
"""The key in ``meta`` of the age of what a store was restored or imported from."""
BUSY_TIMEOUT_MS = 5_000
WAL_PAGES = 4_000
"""Where SQLite itself moves the WAL into the database (16 MiB), if no idle moment came before."""
CACHE_KIB = 32 * 1024
"""Pages of a long history's indexes that stay in memory: a fan-out touches one for each device."""
WHOLE_CHECK_BYTES = 256 * 1024 * 1024
_SMALL_TABLES = ("meta", "devices", "revocations", "pairing_codes")

_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "busy_timeout": BUSY_TIMEOUT_MS,
    "wal_autocheckpoint": WAL_PAGES,
    "cache_size": -CACHE_KIB,
}


@attrs.frozen
class Identity:
    """Which store this is.  ``imported``: it was made from a snapshot by this very start."""

    gateway_id: str
    store_epoch: str
    imported: bool
    unconfirmed_since_ms: int | None = None
    """Of when the state is that nobody has confirmed yet."""


def engine_for(path: Path, begin: str) -> Engine:
    """An engine for one long connection whose transactions start with the statement ``begin``.

    Python's driver would start transactions on its own, late and deferred: that is switched off,
    so that savepoints hold and a writer takes its lock before it reads.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=NullPool,
        connect_args={"check_same_thread": False, "isolation_level": None},
    )
    event.listen(engine, "connect", lambda raw, _: set_pragmas(raw, str(path)))
    event.listen(engine, "begin", lambda connection: run_statement(connection, begin))
    return engine


def run_statement(connection: Connection, text: str) -> None:
    """Run a statement on the driver's cursor: SQLAlchemy's way costs more than the statement."""
    cursor = connection.connection.cursor()
    cursor.execute(text)
    cursor.close()


def set_pragmas(raw: Any, file: str) -> None:
    """Set what durability rests on, and refuse to go on where it did not take."""
    for name, value in _PRAGMAS.items():
        raw.execute(f"PRAGMA {name}={value}").fetchall()
        (got,) = raw.execute(f"PRAGMA {name}").fetchone()
        if got != value:
            raise StoreUnavailable(file, f"{name} is {got} and cannot be set to {value}")


def connect(path: Path, begin: str) -> Connection:
    """A connection of its own; StoreCorrupt, DiskFull or StoreUnavailable where there is none."""
    try:
        return engine_for(path, begin).connect()
    except Exception as error:
        raise translated(error, str(path)) from error


def prepare(path: Path, *, entropy: Entropy, now_ms: int) -> Identity:
    """Check the database, or make it, and bring it to the current schema.

    Where there is no database and never was, the snapshot beside it is imported if there is one.
    """
    epoch_file, snapshot = path.with_name(EPOCH_NAME), path.with_name(SNAPSHOT_NAME)
    imported = None
    if path.exists():
        check(path)
    elif epoch_file.exists():
        raise StoreMissing(str(path), snapshot.exists())
    made = _is_made(path)
    if epoch_file.exists() and not made:
        raise StoreCorrupt(str(path), "it is empty")
    if snapshot.exists() and not made and not epoch_file.exists():
        imported = import_snapshot(snapshot.read_bytes(), now_ms=now_ms, file=str(snapshot))
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    identity = _migrated(path, imported, entropy, now_ms)
    if not epoch_file.exists() or epoch_file.read_text() != identity.store_epoch:
        write_atomic(epoch_file, identity.store_epoch.encode())
    return identity


def check(path: Path) -> None:
    """Refuse a damaged database (StoreCorrupt) without writing to it.

    The small tables that trust rests on are looked through at every start.  The whole file, as far
    as WHOLE_CHECK_BYTES, only after a stop that left a WAL behind: history must not slow a start.
    """
    wal = path.with_name(path.name + "-wal")
    unclean = wal.exists() and wal.stat().st_size > 0
    whole = unclean and path.stat().st_size <= WHOLE_CHECK_BYTES
    try:
        with read_only(path) as raw:
            _look_through(raw, str(path), whole)
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error


def _look_through(raw: sqlite3.Connection, file: str, whole: bool) -> None:
    found = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = {name for (name,) in found}
    checks = ["PRAGMA quick_check(1)"] if whole else []
    checks += [f"PRAGMA quick_check({name})" for name in _SMALL_TABLES if name in tables]
    for statement in checks:
        (answer,) = raw.execute(statement).fetchone()
        if answer != "ok":
            raise StoreCorrupt(file, answer.replace("\n", " "))


def _is_made(path: Path) -> bool:
    """Whether the database was ever finished: a start may have been cut in the middle."""
    if not path.exists():
        return False
    with read_only(path) as raw:
        statement = "SELECT count(*) FROM sqlite_master WHERE name = 'meta'"
        (tables,) = raw.execute(statement).fetchone()
        return bool(tables and raw.execute("SELECT count(*) FROM meta").fetchone()[0])


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that leaves no trace; what a WAL holds is read too.

    Without a WAL the file is opened as immutable (the state root's lock is held): SQLite would
    otherwise put an empty WAL beside it and leave that there.
    """
    wal = path.with_name(path.name + "-wal")
    immutable = "" if wal.exists() else "&immutable=1"
    raw = sqlite3.connect(f"file:{quote(str(path))}?mode=ro{immutable}", uri=True)
    try:
        yield raw
    finally:
        raw.close()


def _migrated(
    path: Path, imported: ImportedState | None, entropy: Entropy, now_ms: int
) -> Identity:
    """Schema, identity and import in one transaction: a crash leaves all of it or nothing."""
    connection = connect(path, "BEGIN IMMEDIATE")
    try:
        with connection.begin():
            return identify(
                connection, str(path), imported=imported, entropy=entropy, now_ms=now_ms
            )
    except Exception as error:
        raise translated(error, str(path)) from error
    finally:
        connection.close()


def identify(
    connection: Connection,
    name: str,
    *,
    entropy: Entropy,
    now_ms: int,
    imported: ImportedState | None = None,
    may_make: bool = True,
) -> Identity:
    """Bring the schema to HEAD; which store this is, or a new one, in the same transaction."""
    migrations.upgrade(connection, name)
    kept = dict(map(tuple, connection.execute(select(meta.c.key, meta.c.value))))
    if kept:
        since_ms = int(kept[UNCONFIRMED]) if UNCONFIRMED in kept else None
        audit.ensure_chain(connection, entropy, now_ms, "this gateway began to keep it")
        return Identity(kept["gateway_id"], kept["store_epoch"], False, since_ms)
    if not may_make:
        raise StoreEmpty(name)
    return _made(connection, imported, entropy, now_ms)


def confirm(connection: Connection, now_ms: int) -> None:
    """The operator confirmed a state that was restored or imported."""
    audit.append(connection, audited.state_confirmed(now_ms))
    connection.execute(delete(meta).where(meta.c.key == UNCONFIRMED))


def _made(
    connection: Connection, imported: ImportedState | None, entropy: Entropy, now_ms: int
) -> Identity:
    gateway_id = new_ulid(now_ms, entropy) if imported is None else imported.gateway_id
    since_ms = None if imported is None else imported.generated_at_ms
    identity = Identity(gateway_id, entropy(16).hex(), imported is not None, since_ms)
    rows = {"gateway_id": identity.gateway_id, "store_epoch": identity.store_epoch}
    if since_ms is not None:
        rows[UNCONFIRMED] = str(since_ms)
    connection.execute(insert(meta), [{"key": key, "value": rows[key]} for key in rows])
    why = "a new store" if imported is None else "a store imported from a snapshot"
    audit.ensure_chain(connection, entropy, now_ms, why)
    if imported is not None:
        directory.keep_imported(
            connection, imported.devices, imported.certificates, imported.revocations
        )
        joblog.keep_imported(connection, imported.jobs)
    return identity
