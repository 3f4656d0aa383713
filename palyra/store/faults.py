"""What the database's errors mean, told once, for SQLite and PostgreSQL.

The hot path runs its statements on the driver's own cursor, so the same errors come bare and inside
SQLAlchemy's.  Every driver calls its classes what PEP 249 says: they are known by these names, and
a driver that is not in use need not be there.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError

from palyra.errors import DiskFull, StoreCorrupt, StoreUnavailable

_DRIVERS = frozenset({"sqlite3", "psycopg"})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_OF_THE_OPERATION = frozenset({"DataError", "IntegrityError", "InterfaceError", "ProgrammingError"})
_SERVER_FULL = "53100"
_SERVER_DAMAGED = frozenset({"XX001", "XX002"})
_NO_PRIVILEGE = "42501"


def of_database(error: Exception) -> bool:
    """Whether the database is at fault, and its transaction lost, not the operation."""
    cause = _cause(error)
    if getattr(cause, "sqlstate", None) == _NO_PRIVILEGE:
        return True  # a grant is missing: every operation would be refused
    names = _pep249_names(cause)
    return bool(names) and not names & _OF_THE_OPERATION


def already_kept(error: Exception) -> bool:
    """Whether something with that key is there already."""
    return "IntegrityError" in _pep249_names(_cause(error))


def translated(error: Exception, file: str) -> Exception:
    """The typed error for a fault of the SQLite database ``file``; any other error as it is."""
    cause = _cause(error)
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(cause, file)
    if isinstance(cause, OSError) and cause.errno in _FULL:
        return DiskFull(os.path.dirname(file))
    return error


def of_postgres(error: Exception, name: str) -> Exception:
    """The typed error for a fault of the PostgreSQL database ``name``; any other as it is.

    Only the server's one-line message is passed on: its details quote rows.
    """
    cause = _cause(error)
    if isinstance(cause, OSError) and cause.errno in _FULL:  # of the snapshot, on this machine
        return DiskFull("the state root")
    if not _pep249_names(cause):
        return error
    state = getattr(cause, "sqlstate", None)
    if state == _SERVER_FULL:
        return DiskFull(f"the server of {name}")
    said = _message(cause)
    return StoreCorrupt(name, said) if state in _SERVER_DAMAGED else StoreUnavailable(name, said)


def _of_sqlite(error: sqlite3.Error, file: str) -> Exception:
    # The low byte is the primary code; the rest says which call failed.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(os.path.dirname(file))
    if code in _DAMAGED:
        return StoreCorrupt(file, str(error))
    return StoreUnavailable(file, str(error))


def _cause(error: Exception) -> Any:
    return error.orig if isinstance(error, DBAPIError) else error


def _pep249_names(cause: object) -> frozenset[str]:
    """The classes of a driver's error; none where it is not a driver's."""
    driver = [each for each in type(cause).__mro__ if each.__module__.split(".")[0] in _DRIVERS]
    names = frozenset(each.__name__ for each in driver)
    return names if "Error" in names else frozenset()


def _message(cause: Any) -> str:
    said = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause)
    return str(said).strip().partition("\n")[0]
