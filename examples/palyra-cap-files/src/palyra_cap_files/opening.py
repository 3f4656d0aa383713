"""Opening a file below an allowed directory, and nothing that a link leads to elsewhere.

Every part of the path is opened below the one before it and without following links, so that
nobody who may write in between can exchange a directory for a link while it is looked at.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

import attrs
from palyra.errors import Category, PalyraError

MAX_PATH = 4096
_PART = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK: a pipe without a writer would keep the run waiting before anybody sees what it is.
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@attrs.define
class PathRefused(PalyraError):
    """A path that is not fetched; ``why`` has no point at its end.

    An error of this tree fails the job with its own code and sentence.
    """

    code = "path_refused"
    category = Category.FORBIDDEN
    path: str
    why: str

    @property
    def sentence(self) -> str:
        return f"{self.path[:200]} is not fetched: {self.why}."

    @property
    def hint(self) -> str:
        return "on the device: palyra capability show files.fetch"


def opened(path: str, directories: Sequence[str]) -> BinaryIO:
    """The regular file at ``path``, which is absolute and below one of ``directories``.

    :raises PathRefused: it is not below any of them, or it cannot be read.
    """
    if sys.platform == "win32":
        raise PathRefused(path, "this system cannot open a path without following links")
    directory, parts = _below(path, directories)
    try:
        descriptor = _descend(directory, parts)
    except OSError as error:
        raise PathRefused(path, _why(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PathRefused(path, "it is no regular file")
    return os.fdopen(descriptor, "rb")


def _below(path: str, directories: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The allowed directory and the parts below it; the file system is not looked at."""
    wanted = PurePosixPath(path)
    if not wanted.is_absolute() or ".." in wanted.parts or "\0" in path or len(path) > MAX_PATH:
        raise PathRefused(path, "a path is absolute and has no '..' in it")
    for directory in directories:
        if wanted != PurePosixPath(directory) and wanted.is_relative_to(directory):
            return directory, wanted.relative_to(directory).parts
    raise PathRefused(path, "it is not below a directory that this device's owner allows")


def _descend(directory: str, parts: Sequence[str]) -> int:
    """Open one part after the other; only the directory that the owner named may be a link."""
    here = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            there = os.open(part, _PART, dir_fd=here)
            os.close(here)
            here = there
        return os.open(parts[-1], _FILE, dir_fd=here)
    finally:
        os.close(here)


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, PermissionError):
        return "the node host may not read it"
    if isinstance(error, NotADirectoryError) or error.errno == errno.ELOOP:
        return "a link or a file stands where a directory should"
    return (error.strerror or "it cannot be opened").lower()
