"""The store on PostgreSQL: the same tables and threads, in a database of its own.

One gateway at a time uses it.  That rests on an advisory lock of the writer's session, and on a
word in ``meta`` by which a writer that had to connect again sees that nobody else was there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import attrs
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    create_engine,
    event,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError
from twisted.logger import Logger

from palyra.core.identifiers import Entropy
from palyra.errors import (
    Malformed,
    StoreDriverMissing,
    StoreInUse,
    StoreUnavailable,
)
from palyra.store import opening
from palyra.store.faults import of_postgres
from palyra.store.sql import SqlStore
from palyra.store.tables import meta
from palyra.store.threads import CallFromThread, CallSoon, at_once

OLDEST_VERSION = 130_000
WRITING = "ISOLATION LEVEL READ COMMITTED, READ WRITE"
READING = "ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""A read of several statements (a job and its reports, a snapshot) sees one moment."""
_DRIVERS = ("postgresql", "postgresql+psycopg")
_CONNECT = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""So that a server which fell silent is a lost connection within half a minute."""
_SESSION = (
    "SET lock_timeout = '10s'",
    # The server too has to see soon that a gateway is gone: its lock ends with its session.
    "SET tcp_keepalives_idle = 20",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)
_LOCK = text("SELECT pg_try_advisory_lock(hashtext('palyra'), hashtext(current_schema()))")
_HOLDER = "holder"


def database_name(url: str) -> str:
    """What errors and logs call the database: no user, no password, no options.

    :raises palyra.errors.Malformed: it is not a URL of a PostgreSQL database.
    """
    return _name(_parsed(url))


@attrs.frozen(repr=False, eq=False)
class PostgresDatabase:
    """PostgreSQL for one thread (:class:`palyra.store.threads.IDatabase`)."""

    name: str
    engine: Engine

    def connect(self) -> Connection:
        try:
            return self.engine.connect()
        except Exception as error:
            raise self.translated(error) from error

    def translated(self, error: Exception) -> Exception:
        return of_postgres(error, self.name)

    def is_lost(self, connection: Connection) -> bool:
        if connection.closed or connection.invalidated:
            return True
        raw: Any = connection.connection.driver_connection
        return bool(raw.closed)

    def mark(self, connection: Connection) -> str:
        found = connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()::text")
        return found.scalar() or ""

    def committed(self, connection: Connection, mark: str) -> bool:
        if not mark:
            return True  # it had written nothing
        asked = text("SELECT pg_xact_status(CAST(:mark AS xid8))")
        status = connection.scalar(asked, {"mark": mark})
        if status == "in progress":
            raise StoreUnavailable(self.name, "a commit is still in progress")
        return bool(status == "committed")

    def checkpoint(self, connection: Connection, mode: str) -> None:
        """The server does that."""


@attrs.frozen(repr=False, eq=False)
class WrittenDatabase(PostgresDatabase):
    """The same for the writer, which has the database for itself."""

    holder: str

    def connect(self) -> Connection:
        """A connection whose session has the lock.

        :raises palyra.errors.StoreInUse: another gateway has it, or had it in the meantime.
        """
        connection = self.locked()
        try:
            with connection.begin():
                kept = connection.scalar(select(meta.c.value).where(meta.c.key == _HOLDER))
            if kept != self.holder:
                raise StoreInUse(self.name)
        except Exception as error:
            connection.close()
            raise self.translated(error) from error
        return connection

    def locked(self) -> Connection:
        """A connection with the lock, whoever had it before: for the start."""
        connection = super().connect()
        try:
            with connection.begin():
                if not connection.scalar(_LOCK):
                    raise StoreInUse(self.name)
        except Exception as error:
            connection.close()
            raise self.translated(error) from error
        return connection

    def hold(self, connection: Connection) -> None:
        """Write down who has the lock from now on."""
        change = update(meta).where(meta.c.key == _HOLDER).values(value=self.holder)
        if connection.execute(change).rowcount == 0:
            connection.execute(insert(meta).values(key=_HOLDER, value=self.holder))


class PostgresStore(SqlStore):
    """A SqlStore on a PostgreSQL database."""

    @classmethod
    def open(
        cls,
        url: str,
        *,
        call_from_thread: CallFromThread,
        now_ms: Callable[[], int],
        entropy: Entropy = os.urandom,
        may_make: bool = True,
        call_soon: CallSoon = at_once,
    ) -> PostgresStore:
        """Open the database, or make it; synchronous, for before the reactor runs.

        Nothing is ever imported into it.

        :param url: ``postgresql+psycopg://USER@HOST/DATABASE``; what it leaves out comes from
            libpq's environment and password file.
        :param call_from_thread: ``reactor.callFromThread``; the only way back to the reactor.
        :param call_soon: the loop's; hands over what one turn of it has asked for.
        :param now_ms: wall time in Unix milliseconds.
        :param may_make: whether an empty database is taken; not where there was a full one before.
        :raises palyra.errors.Malformed: the URL cannot be one.
        :raises palyra.errors.StoreDriverMissing: psycopg is not installed.
        :raises palyra.errors.StoreInUse: another gateway uses the database.
        :raises palyra.errors.StoreEmpty: it is empty and may not be made.
        :raises palyra.errors.StoreTooNew: a newer version wrote it.
        :raises palyra.errors.DiskFull: there is no room to make it.
        :raises palyra.errors.StoreUnavailable: it cannot be reached, or promises too little.
        """
        parsed = _parsed(url)
        name = _name(parsed)
        to_write = WrittenDatabase(name, _engine(parsed, name, WRITING), entropy(16).hex())
        to_read = PostgresDatabase(name, _engine(parsed, name, READING))
        writing = to_write.locked()
        try:
            with writing.begin():
                identity = opening.identify(
                    writing, name, entropy=entropy, now_ms=now_ms(), may_make=may_make
                )
                to_write.hold(writing)
        except Exception as error:
            writing.close()
            raise to_write.translated(error) from error
        return cls.over(
            to_write,
            to_read,
            identity,
            call_from_thread=call_from_thread,
            call_soon=call_soon,
            now_ms=now_ms,
            writing=writing,
        )


def _parsed(url: str) -> URL:
    problem = "must be postgresql://USER@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise Malformed("store.url", problem) from None  # the cause quotes the URL
    if parsed.drivername not in _DRIVERS:
        raise Malformed("store.url", problem)
    return parsed.set(drivername="postgresql+psycopg")


def _name(url: URL) -> str:
    host = url.host or url.query.get("host") or "this machine"
    where = host if isinstance(host, str) else ", ".join(host)
    port = f":{url.port}" if url.port else ""
    return f"PostgreSQL database {url.database or '(default)'} on {where}{port}"


def _engine(url: URL, name: str, characteristics: str) -> Engine:
    """An engine for one long connection; every new one is made sure of first."""
    defaults = {key: value for key, value in _CONNECT.items() if key not in url.query}
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args=defaults)
    except ImportError as error:
        raise StoreDriverMissing(str(error).partition("\n")[0]) from error
    event.listen(engine, "connect", lambda raw, _: settle(raw, name, characteristics))
    return engine


def settle(raw: Any, name: str, characteristics: str) -> None:
    """Set what durability and order rest on, and refuse to go on where it is not so."""
    from palyra.store.pgtext import TextDumper  # here: only who uses PostgreSQL has its driver

    if raw.info.server_version < OLDEST_VERSION:
        raise StoreUnavailable(name, "it needs PostgreSQL 13 or newer")
    raw.adapters.register_dumper(str, TextDumper)
    raw.autocommit = True
    for statement in _SESSION:
        raw.execute(statement)
    raw.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION {characteristics}")
    _require(raw, name, "server_encoding", ("UTF8",))
    if _shown(raw, "synchronous_commit") != "remote_apply":
        raw.execute("SET synchronous_commit = on")
    _require(raw, name, "synchronous_commit", ("on", "remote_apply"))
    if _shown(raw, "fsync") != "on":
        _log.warn("{name} has fsync off: a power cut may damage it", name=name)
    raw.autocommit = False


def _require(raw: Any, name: str, setting: str, wanted: tuple[str, ...]) -> None:
    got = _shown(raw, setting)
    if got not in wanted:
        raise StoreUnavailable(name, f"{setting} is {got} and not {wanted[0]}")


def _shown(raw: Any, setting: str) -> str:
    (value,) = raw.execute(f"SHOW {setting}").fetchone()
    return str(value)


_log = Logger()
