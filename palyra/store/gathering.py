"""What belongs into a backup, gathered from a state root whose gateway may run."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

import attrs

from palyra.errors import DiskFull, NoGatewayState, StoreCorrupt
from palyra.store.faults import translated
from palyra.store.opening import BUSY_TIMEOUT_MS, EPOCH_NAME

DATABASE = "palyra.sqlite3"
CONFIG = "palyra.toml"
IDENTITY = "identity"
STORE_KEY = "store.key"
"""In the identity directory; a backup has it under the passphrase only."""
TRIES = 10
OF_IDENTITY = r"(?!store\.key\Z)[a-z0-9][a-z0-9._-]{0,63}\Z"
"""Names in the identity directory that a backup keeps; a file that is being written has a dot."""


@attrs.frozen
class Gathered:
    """Which files were gathered, in the order in which they are kept, and of which gateway.

    ``gateway_id`` is empty and ``schema`` None without the database.
    """

    names: tuple[str, ...]
    gateway_id: str
    schema: str | None


def gather(
    root: Path, tree: Path, *, database: bool, seal_config: Callable[[bytes], bytes]
) -> Gathered:
    """Copy what a backup holds of ``root`` into ``tree``, a new directory.

    The database first: an identity that is newer than it is no harm, the other way round it could
    lack the CA of a certificate that the database knows.  The configuration is kept as
    ``seal_config`` makes it: never in clear, not even in ``tree``.

    :raises NoGatewayState: there is no database, or no identity.
    :raises palyra.errors.StoreCorrupt: the database is damaged.
    :raises palyra.errors.StoreUnavailable: it cannot be read.
    """
    source = root / DATABASE
    if not (root / IDENTITY).is_dir() or (database and not source.is_file()):
        raise NoGatewayState(str(root))
    tree.mkdir(mode=0o700)
    gateway_id, schema = copy_database(source, tree / DATABASE) if database else ("", None)
    names = [f"{IDENTITY}/{name}" for name in _keep_identity(root / IDENTITY, tree / IDENTITY)]
    kept = {CONFIG: seal_config, **({EPOCH_NAME: bytes} if database else {})}
    for name, as_kept in kept.items():
        if (root / name).is_file():
            (tree / name).write_bytes(as_kept((root / name).read_bytes()))
            names.append(name)
    return Gathered((*sorted(names), *([DATABASE] if database else [])), gateway_id, schema)


def copy_database(source: Path, target: Path) -> tuple[str, str]:
    """Copy a SQLite store as it is at one moment; its gateway id and the revision of its schema.

    Writers go on meanwhile.  The copy is looked through: a backup of damage is no backup.
    """
    # Read-only leaves an empty WAL behind where there was none, and otherwise changes nothing.
    mode = "ro" if source.with_name(source.name + "-wal").exists() else "rw"
    uri = f"file:{quote(str(source))}?mode={mode}"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as reading:
            reading.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            with closing(sqlite3.connect(target)) as copy:
                reading.backup(copy)
                return _looked_through(copy, source)
    except sqlite3.Error as error:
        fault = translated(error, str(source))
        # Nothing but the copy grows.
        raise DiskFull(str(target.parent)) if isinstance(fault, DiskFull) else fault from error


def _looked_through(copy: sqlite3.Connection, source: Path) -> tuple[str, str]:
    (answer,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise StoreCorrupt(str(source), answer.replace("\n", " "))
    statement = "SELECT value, version_num FROM meta, alembic_version WHERE key = 'gateway_id'"
    found = copy.execute(statement).fetchone()
    if found is None:
        raise NoGatewayState(str(source.parent))
    return str(found[0]), str(found[1])


def _keep_identity(source: Path, target: Path) -> list[str]:
    """The files of an identity directory as they are at one moment, without the store key."""
    found = _read(source)
    for _ in range(TRIES):
        again = _read(source)
        if again == found:
            break
        found = again
    target.mkdir(mode=0o700)
    for name, contents in found.items():
        (target / name).write_bytes(contents)
    return list(found)


def _read(directory: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for each in sorted(directory.iterdir()):
        if re.match(OF_IDENTITY, each.name) and each.is_file():
            with suppress(FileNotFoundError):  # it was replaced or removed just now
                found[each.name] = each.read_bytes()
    return found
