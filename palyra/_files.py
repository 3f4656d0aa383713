"""Files that must survive a crash and that nobody else may read.

On systems without POSIX modes (Windows) the profile directory's own access list protects the
files: modes are then neither set nor checked, and a directory is not fsynced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from pathlib import Path

from palyra.errors import DirectoryNotPrivate, DiskFull, KeyFilePermission

_POSIX = os.name == "posix"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` at ``path`` so that a crash leaves the whole old or the whole new contents.

    A temporary file beside it, fsync, rename, fsync of the directory.  :class:`DiskFull` when
    there is no room; the old contents then stay.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _translated(error, path) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if _POSIX:
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise _translated(error, path) from error
        raise
    _sync_directory(path.parent)


def sweep_temporaries(path: Path) -> None:
    """Remove what a crash in :func:`write_atomic` of ``path`` left; it may hold a private key.

    Only files of this user with such a name.  Nobody may be writing ``path`` meanwhile.
    """
    shape = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    for each in path.parent.iterdir():
        if shape.fullmatch(each.name):
            with contextlib.suppress(OSError):  # a disk that is read-only, or not ours to change
                if stat.S_ISREG(each.lstat().st_mode) and _is_mine(each):
                    each.unlink()


def make_private_dir(path: Path, *, marks: tuple[str, ...] = ()) -> None:
    """Make ``path`` a directory that only its owner may enter (0700), parents included.

    A directory that exists and is open to others is closed when it is empty or holds one of the
    file names in ``marks``, by which it is known as ours.  Any other is left as it is and refused
    with :class:`DirectoryNotPrivate`: a state root of ``/etc`` by mistake must not close ``/etc``.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        _sync_directory(each.parent)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    mode = _mode(path)
    if not mode & _OTHERS:
        return
    ours = not any(path.iterdir()) or any((path / mark).exists() for mark in marks)
    if not ours:
        raise DirectoryNotPrivate(str(path), mode)
    path.chmod(0o700)


def check_private(path: Path, *, group_may_read: bool = False) -> None:
    """Refuse a key file that group or others may read or write (:class:`KeyFilePermission`).

    ``group_may_read`` is for files with an access list: its mask stands in the group's bits.
    """
    mode = _mode(path)
    if mode & _OTHERS & ~(stat.S_IRGRP if group_may_read else 0):
        raise KeyFilePermission(str(path), mode)


def _is_mine(path: Path) -> bool:
    return not _POSIX or path.lstat().st_uid == os.getuid()


def _mode(path: Path) -> int:
    """Permission bits; those of a private file where modes mean nothing."""
    return stat.S_IMODE(path.stat().st_mode) if _POSIX else 0o600


def _sync_directory(path: Path) -> None:
    """Make a rename or a new name in ``path`` durable."""
    if not _POSIX:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, path: Path) -> Exception:
    """No room becomes a typed error; everything else stays what the system said."""
    return DiskFull(str(path.parent)) if error.errno in _FULL else error
