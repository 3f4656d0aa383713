"""One process on a state root: an advisory lock that ends with its holder, however that ends."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import IO

from palyra.errors import StateRootLocked, StoreUnavailable

if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> None:
        """Lock an open file until it is closed; OSError where somebody else has."""
        # Nobody else can read what is locked: not where the number of the holder stands.
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def try_lock(descriptor: int) -> None:
        """Lock an open file until it is closed; OSError where somebody else has."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class RootLock:
    """The lock file of a state root.  It is inherited over a fork, so it is taken before one."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path = path
        self._file = file

    @classmethod
    def take(cls, path: Path, *, who: str, state_root: Path | None = None) -> RootLock:
        """Lock ``path``, which is in ``state_root`` itself unless that is told.

        :raises StateRootLocked: another process holds it; with that process's id.
        :raises StoreUnavailable: it cannot be opened, or is a link or no file.
        """
        file = _opened(path, os.O_CREAT)
        try:
            try_lock(file.fileno())
        except OSError as error:
            pid = _signature(file)
            file.close()
            raise StateRootLocked(str(state_root or path.parent), pid, who) from error
        lock = cls(path, file)
        lock.sign()
        return lock

    @staticmethod
    def holder(path: Path) -> int | None:
        """The id of the process that holds the lock at ``path``, 0 where it has not said it yet;
        None where nobody holds it.

        It is held for the moment of the question: who takes it just then is refused.
        """
        if not path.exists():
            return None
        with _opened(path) as file:
            try:
                try_lock(file.fileno())
            except OSError:
                return _signature(file)
            return None

    def sign(self) -> None:
        """Write this process's id into the file; again after a fork.

        Always as long: that takes no room on a full disk, where an earlier one signed before.
        Where it does, it stays unknown who holds the lock, which holds all the same.
        """
        descriptor = self._file.fileno()
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"{os.getpid():<15}\n".encode())
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)  # nobody is named, rather than an earlier one

    def release(self) -> None:
        """Let others have the state root.  The file stays: removing it would race with them."""
        self._file.close()


def _opened(path: Path, more: int = 0) -> IO[str]:
    flags = os.O_RDWR | more | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise StoreUnavailable(str(path), (error.strerror or str(error)).lower()) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreUnavailable(str(path), "it is no file")
    return os.fdopen(descriptor, "r+", encoding="ascii", errors="replace")


def _signature(file: IO[str]) -> int:
    """What :meth:`RootLock.sign` has written; 0 where that is nothing yet, or no number."""
    text = file.read(32).strip()
    return int(text) if text.isdecimal() and text.isascii() else 0
