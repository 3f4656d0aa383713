"""What the database's errors mean, told once."""

from __future__ import annotations

import errno
import os
import sqlite3

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)

from palyra.errors import DiskFull, StoreCorrupt, StoreUnavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_OF_THE_OPERATION = (
    (DataError, IntegrityError, InterfaceError, ProgrammingError),
    (
        sqlite3.DataError,
        sqlite3.IntegrityError,
        sqlite3.InterfaceError,
        sqlite3.ProgrammingError,
    ),
)
"""The same of SQLAlchemy and of the driver: the hot path runs its statements without the former."""


def of_database(error: Exception) -> bool:
    """Whether the database is at fault, and its transaction lost, not the operation."""
    wrapped, bare = _OF_THE_OPERATION
    if isinstance(error, DBAPIError):
        return not isinstance(error, wrapped)
    return isinstance(error, sqlite3.Error) and not isinstance(error, bare)


def already_kept(error: Exception) -> bool:
    """Whether something with that key is there already."""
    return isinstance(error, IntegrityError | sqlite3.IntegrityError)


def translated(error: Exception, file: str) -> Exception:
    """The typed error for a fault of the database ``file``; any other error as it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(cause, file)
    if isinstance(cause, OSError) and cause.errno in _FULL:
        return DiskFull(os.path.dirname(file))
    return error


def _of_sqlite(error: sqlite3.Error, file: str) -> Exception:
    # The low byte is the primary code; the rest says which call failed.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(os.path.dirname(file))
    if code in _DAMAGED:
        return StoreCorrupt(file, str(error))
    return StoreUnavailable(file, str(error))
