"""The log files of a node host: their last lines, their next ones, and old ones moved aside.

A file is rotated to ``NAME.1``, which was ``NAME`` a moment ago; larger numbers are older.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

MAX_LINE = 16 * 1024
"""Bytes of a line that are shown; what comes after them is a line of its own."""
MAX_TAIL = 4 * 1024 * 1024
"""Bytes of all files together that are looked at for the last lines."""
MAX_FILES = 10
POLL_S = 0.25
_PIECE = 64 * 1024
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_READ |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def tail(path: Path, lines: int) -> list[str]:
    """The last ``lines`` lines, oldest first, of the file and those it was rotated to; fewer where
    there are no more in :data:`MAX_TAIL` bytes.  A last line without an end is one.

    :raises OSError: the file is there and cannot be read.
    """
    file = opened(path)
    if file is None:
        return _with_older(path, [], lines)
    with file:
        return _with_older(path, _last(file, _size(file), lines, MAX_TAIL), lines)


def follow(
    path: Path, *, last: int = 0, pause: Callable[[float], object] = time.sleep
) -> Iterator[str]:
    """The ``last`` lines there are, then each line as it is written, without an end: the caller
    stops asking.  Looks every :data:`POLL_S`.

    Nothing between the two is missed or said twice.  A file that is rotated is read to its end
    first; one that was cut short is read from its beginning; one that is not there is waited for.

    :raises OSError: the file is there and cannot be read.
    """
    growing = _Growing(opened(path))
    try:
        yield from _with_older(path, growing.skip(last), last)
        while True:
            yield from growing.lines()
            if growing.is_no_more(path) and (new := opened(path)) is not None:
                yield from growing.lines()  # what was written before it was moved away
                yield from growing.rest()
                growing.close()
                growing = _Growing(new)
            else:
                pause(POLL_S)
    finally:
        growing.close()


class _Growing:
    """A file that somebody writes to; None: one that is not there yet."""

    def __init__(self, file: FileIO | None) -> None:
        self._file = file
        self._rest = b""

    def skip(self, last: int) -> list[str]:
        """Go to the beginning of the line that is being written; the ``last`` ones before it."""
        if self._file is None:
            return []
        at = _begin_of_line(self._file, _size(self._file))
        before = _last(self._file, at, last, MAX_TAIL)
        self._file.seek(at)
        return before

    def lines(self) -> Iterator[str]:
        """What was written since, whole lines only."""
        if self._file is None:
            return
        if _size(self._file) < self._file.tell():
            self._file.seek(0)
            self._rest = b""
        while piece := self._file.read(_PIECE):
            *whole, self._rest = (self._rest + piece).split(b"\n")
            yield from map(_text, whole)
            while len(self._rest) > MAX_LINE:
                begun, self._rest = self._rest[:MAX_LINE], self._rest[MAX_LINE:]
                yield _text(begun)

    def rest(self) -> Iterator[str]:
        """The last line, which nobody will end."""
        if self._rest:
            yield _text(self._rest)
        self._rest = b""

    def is_no_more(self, path: Path) -> bool:
        """Whether another file has that name now, or the first one may have."""
        if self._file is None:
            return True
        try:
            now, then = os.stat(path), os.fstat(self._file.fileno())
        except OSError:
            return False
        return (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino)

    def close(self) -> None:
        """Read no more of it."""
        if self._file is not None:
            self._file.close()


def rotate(path: Path, *, over_bytes: int, keep: int) -> None:
    """Move the file aside where it has more than ``over_bytes``, and keep the ``keep`` newest.

    :raises OSError: it is not possible; no line is lost.
    """
    try:
        if path.lstat().st_size <= over_bytes:
            return
    except FileNotFoundError:
        return
    for number in range(keep - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(_older(path, number), _older(path, number + 1))
    os.replace(path, _older(path, 1))


def _older(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _with_older(path: Path, found: list[str], lines: int) -> list[str]:
    """``found`` with what the rotated files have before it, up to ``lines``."""
    room = MAX_TAIL - sum(map(len, found))
    for number in range(1, MAX_FILES + 1):
        if len(found) >= lines or room <= 0:
            break
        try:
            file = opened(_older(path, number))
        except OSError:
            break
        if file is None:
            break
        with file:
            more = _last(file, _size(file), lines - len(found), room)
        room -= sum(map(len, more))
        found = more + found
    return found


def _last(file: FileIO, end: int, lines: int, most: int) -> list[str]:
    """The last lines before ``end``, as far as they begin in the last ``most`` bytes."""
    data, begin = b"", end
    while begin > 0 and data.count(b"\n") <= lines and len(data) < most:
        step = min(_PIECE, begin)
        begin -= step
        file.seek(begin)
        data = file.read(step) + data
    whole = data if begin == 0 else data.partition(b"\n")[2]
    shown = [_text(line) for line in whole.split(b"\n")]
    if shown and not shown[-1]:
        shown.pop()
    return shown[-lines:] if lines > 0 else []


def _begin_of_line(file: FileIO, end: int) -> int:
    """Where the line begins that is being written at ``end``."""
    begin = max(0, end - MAX_LINE)
    file.seek(begin)
    at = file.read(end - begin).rfind(b"\n")
    return end if at < 0 and begin > 0 else begin + at + 1


def _text(line: bytes) -> str:
    cut = line[:MAX_LINE].decode("utf-8", "replace").rstrip("\r")
    return cut if len(line) <= MAX_LINE else f"{cut} (+{len(line) - MAX_LINE} bytes)"


def opened(path: Path) -> FileIO | None:
    """To be read; None where there is none.  Nothing but a file, for another user may have put
    something else there for root to read.

    :raises OSError: it cannot be read, or is a link or no file.
    """
    try:
        file = FileIO(os.open(path, _READ))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is no file", str(path))


def _size(file: FileIO) -> int:
    return os.fstat(file.fileno()).st_size
