"""Promises of how the database's errors are told."""

from __future__ import annotations

import errno
import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from palyra.errors import DiskFull, PalyraError, StoreCorrupt, StoreUnavailable
from palyra.store.faults import already_kept, of_database, of_postgres, translated

FILE = "/srv/palyra/palyra.sqlite3"
NAME = "PostgreSQL database palyra on db"


def of_sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (of_sqlite(sqlite3.SQLITE_FULL), DiskFull("/srv/palyra")),
        (OSError(errno.ENOSPC, "full"), DiskFull("/srv/palyra")),
        (OSError(errno.EDQUOT, "quota"), DiskFull("/srv/palyra")),
        (of_sqlite(sqlite3.SQLITE_NOTADB), StoreCorrupt(FILE, "said by SQLite")),
        (of_sqlite(sqlite3.SQLITE_CORRUPT_INDEX), StoreCorrupt(FILE, "said by SQLite")),
        (of_sqlite(sqlite3.SQLITE_IOERR_FSYNC), StoreUnavailable(FILE, "said by SQLite")),
        (of_sqlite(sqlite3.SQLITE_READONLY), StoreUnavailable(FILE, "said by SQLite")),
        (sqlite3.OperationalError("no code"), StoreUnavailable(FILE, "no code")),
    ],
)
def test_faults_are_typed(error: Exception, meaning: PalyraError) -> None:
    """No room, damage, and everything else, also inside what SQLAlchemy raises."""
    told = translated(error, FILE)
    assert (type(told), str(told)) == (type(meaning), str(meaning))
    if isinstance(error, sqlite3.Error):
        wrapped = OperationalError("x", None, error)
        assert str(translated(wrapped, FILE)) == str(meaning)
        assert of_database(wrapped) and of_database(error)


def test_a_wrong_operation_is_not_the_databases_fault() -> None:
    """What only one operation did wrong leaves its neighbours' transaction alone."""
    for error in (sqlite3.IntegrityError("twice"), sqlite3.ProgrammingError("wrong")):
        assert not of_database(error)
        assert already_kept(error) == isinstance(error, sqlite3.IntegrityError)


def in_postgres(state: str) -> psycopg.Error:
    return psycopg.errors.lookup(state)("said by the server\nDETAIL: a row")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (in_postgres("53100"), DiskFull(f"the server of {NAME}")),
        (in_postgres("XX001"), StoreCorrupt(NAME, "said by the server")),
        (in_postgres("XX002"), StoreCorrupt(NAME, "said by the server")),
        (in_postgres("40001"), StoreUnavailable(NAME, "said by the server")),
        (in_postgres("42501"), StoreUnavailable(NAME, "said by the server")),
        (psycopg.OperationalError("gone\n"), StoreUnavailable(NAME, "gone")),
        (OSError(errno.ENOSPC, "full"), DiskFull("the state root")),
    ],
)
def test_faults_of_a_server_are_typed(error: Exception, meaning: PalyraError) -> None:
    """The same for PostgreSQL, without the details, which quote rows."""
    told = of_postgres(error, NAME)
    assert (type(told), str(told)) == (type(meaning), str(meaning))
    if isinstance(error, psycopg.Error):
        wrapped = OperationalError("x", None, error)
        assert str(of_postgres(wrapped, NAME)) == str(meaning)
        assert of_database(wrapped) and of_database(error)


def test_a_wrong_operation_is_not_the_servers_fault() -> None:
    """A key that is there, a value that does not fit: neighbours are not harmed."""
    for state, kept in (("23505", True), ("22003", False), ("42P01", False)):
        error = in_postgres(state)
        assert not of_database(error)
        assert already_kept(error) == kept
    for other in (ZeroDivisionError(), OSError(errno.EACCES, "no")):
        assert of_postgres(other, NAME) is other


def test_other_errors_stay_what_they_are() -> None:
    """An error that is not the database's is not made one."""
    for error in (ZeroDivisionError(), OSError(errno.EACCES, "no"), DiskFull("/srv")):
        assert translated(error, FILE) is error
        assert not of_database(error)
