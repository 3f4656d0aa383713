"""One process on a state root: an advisory lock that ends with its holder, however that ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from palyra.errors import StateRootLocked

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


class RootLock:
    """The lock file of a state root.  It is inherited over a fork, so it is taken before one."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path = path
        self._file = file

    @classmethod
    def take(cls, path: Path, *, who: str) -> RootLock:
        """Lock ``path``.

        :raises StateRootLocked: another process holds it; with that process's id.
        """
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        try:
            _lock(file)
        except OSError as error:
            holder = file.read(32).strip()
            file.close()
            pid = int(holder) if holder.isdigit() else 0
            raise StateRootLocked(str(path.parent), pid, who) from error
        lock = cls(path, file)
        lock.sign()
        return lock

    def sign(self) -> None:
        """Write this process's id into the file; again after a fork."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others have the state root.  The file stays: removing it would race with them."""
        self._file.close()
