"""``node-host-process.json``: the process that serves a state root, and whether it still does.

Written by every node host when it begins to serve, removed when it ends in peace.  A number alone
proves nothing: it is another process's after a reboot, or a day later.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import msgspec

from palyra._versioned import VersionedFile
from palyra.errors import PalyraError

SCHEMA_VERSION = 1
PROCESS_FILE = "node-host-process.json"
_MAX_PID = 2**31 - 1
_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class ProcessFile(msgspec.Struct, frozen=True):
    """What is kept.  ``boot_id`` names the life of the machine, and ``start_token`` the moment of
    the process's start in it: together with ``pid`` they name one process.  ``manager`` is who
    keeps it running (:class:`palyra.supervision.service.Manager`), empty in a terminal."""

    schema_version: int
    pid: Annotated[int, msgspec.Meta(ge=1, le=_MAX_PID)]
    stdout_log_path: _Text
    stderr_log_path: _Text
    started_at_unix_ms: int
    boot_id: _Text = ""
    start_token: _Text = ""
    manager: _Text = ""
    version: _Text = ""


def read(path: Path) -> ProcessFile | None:
    """What the file says, also of a process that is gone; None where there is none.

    :raises PalyraError: it cannot be read, or says nothing (see :meth:`VersionedFile.read`).
    """
    return _at(path).read()


def read_or_none(path: Path) -> ProcessFile | None:
    """The same where a file that cannot be used counts as none: it names no process.  Whether one
    serves that cannot be told from it, its lock says."""
    found = read_owned_or_none(path)
    return None if found is None else found[0]


def read_owned_or_none(path: Path) -> tuple[ProcessFile, int] | None:
    """The same, and the uid of whoever wrote it."""
    try:
        return _at(path).read_owned()
    except PalyraError:
        return None


def write(path: Path, file: ProcessFile) -> None:
    """Name the process that serves, in the place of whatever an earlier one has left.

    :raises DiskFull, OSError: it is not possible; the file is as it was.
    """
    _at(path).replace(file)


def remove_if_mine(path: Path, pid: int) -> None:
    """Take it away at the end of process ``pid``, where no other one has written it since.  Never
    raises: what stays names a process that is gone."""
    with contextlib.suppress(OSError):
        file = read_or_none(path)
        if file is not None and file.pid == pid:
            path.unlink(missing_ok=True)


def _at(path: Path) -> VersionedFile[ProcessFile]:
    return VersionedFile(path, ProcessFile, SCHEMA_VERSION)
