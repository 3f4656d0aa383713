"""A directory that is held open: what is looked at in it and what is removed from it is the same
thing, whoever moves or replaces its name meanwhile.

Windows has no such calls.  There it is a path, and no link is followed by what is looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Protocol

import attrs

HELD = os.open in os.supports_dir_fd and os.unlink in os.supports_dir_fd
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@attrs.frozen
class Entry:
    """What is under a name.  A link is neither a file nor a directory; a socket is a file."""

    is_file: bool
    is_directory: bool
    owner: int

    @classmethod
    def of(cls, status: os.stat_result) -> Entry:
        """From what the system says of the name itself."""
        mode = status.st_mode
        link = bool(getattr(status, "st_reparse_tag", 0))  # Windows: also junctions
        file = (stat.S_ISREG(mode) or stat.S_ISSOCK(mode)) and not link
        return cls(file, stat.S_ISDIR(mode) and not link, status.st_uid)


class Directory(Protocol):
    """One directory.  Every call may raise OSError."""

    def owner(self) -> int:
        """The uid that it belongs to."""

    def names(self) -> list[str]:
        """What is in it."""

    def entry(self, name: str) -> Entry:
        """What is under that name; a link is not followed."""

    def read(self, name: str, limit: int) -> bytes:
        """The first ``limit`` bytes of a file; a link is not followed."""

    def open(self, name: str, flags: int) -> int:
        """A descriptor of a file in it; a link is not followed."""

    def unlink(self, name: str) -> None:
        """Remove a name that is no directory's."""

    def rmdir(self, name: str) -> None:
        """Remove an empty directory."""

    def child(self, name: str) -> Directory:
        """A directory in it; a link is refused."""

    def close(self) -> None:
        """Let go of it."""


class HeldDirectory:
    """By its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def at(cls, path: Path) -> HeldDirectory:
        """That one; links on the way to it are followed, it is not one itself."""
        return cls(os.open(path, _DIRECTORY | _NO_LINK))

    def owner(self) -> int:
        return os.fstat(self._descriptor).st_uid

    def names(self) -> list[str]:
        return sorted(os.listdir(self._descriptor))

    def entry(self, name: str) -> Entry:
        return Entry.of(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False))

    def read(self, name: str, limit: int) -> bytes:
        with os.fdopen(self.open(name, _READ), "rb") as file:
            return file.read(limit)

    def open(self, name: str, flags: int) -> int:
        return os.open(name, flags | _NO_LINK, dir_fd=self._descriptor)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._descriptor)

    def rmdir(self, name: str) -> None:
        os.rmdir(name, dir_fd=self._descriptor)

    def child(self, name: str) -> HeldDirectory:
        flags = _DIRECTORY | _NO_LINK
        return HeldDirectory(os.open(name, flags, dir_fd=self._descriptor))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


class NamedDirectory:
    """By its path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def at(cls, path: Path) -> NamedDirectory:
        """That one; it is no link."""
        if not Entry.of(path.lstat()).is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return cls(path)

    def owner(self) -> int:
        return self._path.lstat().st_uid

    def names(self) -> list[str]:
        return sorted(os.listdir(self._path))

    def entry(self, name: str) -> Entry:
        return Entry.of((self._path / name).lstat())

    def read(self, name: str, limit: int) -> bytes:
        with os.fdopen(self.open(name, _READ | getattr(os, "O_BINARY", 0)), "rb") as file:
            return file.read(limit)

    def open(self, name: str, flags: int) -> int:
        return os.open(self._path / name, flags | _NO_LINK)

    def unlink(self, name: str) -> None:
        (self._path / name).unlink()

    def rmdir(self, name: str) -> None:
        (self._path / name).rmdir()

    def child(self, name: str) -> NamedDirectory:
        return NamedDirectory.at(self._path / name)

    def close(self) -> None:
        """Nothing is held."""


def opened(path: Path) -> Directory:
    """That directory, held where the system can."""
    return HeldDirectory.at(path) if HELD else NamedDirectory.at(path)
