"""The host's ends of a worker's pipes: frames in, frames out, and what it says on stderr.

A worker may stop reading, never end a line, or write without end: nothing here blocks a caller,
and nothing grows.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import IO

from palyra.capability.frames import HEAD_BYTES, frame_length
from palyra.capability.wording import one_line

MAX_STDERR_BYTES = 64 * 1024
"""What is kept, and what is passed on, of one run."""
_MAX_LINE = 1000
_LEAST_LINE = 64
"""A line counts for as many bytes at least: each is an entry of the log."""
_CHUNK = 64 * 1024
_PATIENCE_MS = 500


def read_frame(stream: IO[bytes], limit: Callable[[], int]) -> bytes | None:
    """The body of the next frame; None at the end.  ``limit`` is asked when its head was read.

    :raises Malformed: the frame is too large.
    """
    head = stream.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    length = frame_length(head, limit())
    body = stream.read(length)
    return body if len(body) == length else None


class Pen:
    """Writes to a worker and never waits for it: what the pipe does not take, a thread brings."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._fd = stream.fileno()
        self._lock = threading.Lock()
        self._rest: deque[bytes] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        if sys.platform != "win32":
            os.set_blocking(self._fd, False)

    def write(self, data: bytes) -> None:
        """Bring ``data`` behind what was written before.  Silent where nobody reads any more."""
        with self._lock:
            if self._closed:
                return
            if not self._rest:
                data = data[self._written(data) :]
            if data:
                self._rest.append(data)
            if self._rest and self._thread is None:
                self._thread = self._begun()

    def close(self) -> None:
        """Write nothing more; the pipe itself is closed by its owner, afterwards."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join(2 * _PATIENCE_MS / 1000)

    def _begun(self) -> threading.Thread | None:
        """A thread that brings the rest; None where there is none to be had, until the next write.

        What waits for that is a worker that will not answer, and its run has a deadline.
        """
        thread = threading.Thread(target=self._bring, name="palyra-worker-in", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None
        return thread

    def _bring(self) -> None:
        while True:
            with self._lock:
                if self._closed or not self._rest:
                    self._thread = None
                    return
                data = self._rest[0]
            written = self._written_patiently(data)
            with self._lock:
                self._rest[0] = data[written:]
                if not self._rest[0]:
                    self._rest.popleft()

    def _written_patiently(self, data: bytes) -> int:
        if sys.platform == "win32":
            try:
                return os.write(self._fd, data)
            except OSError:
                return len(data)
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return self._written(data) if poll.poll(_PATIENCE_MS) else 0

    def _written(self, data: bytes) -> int:
        """How much the pipe took at once; all of it where nobody reads any more."""
        if sys.platform == "win32":
            return 0
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)


class Mutterings:
    """What a worker says on stderr: cleaned and bounded, line by line, and the end of it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._tail = bytearray()
        self._left = MAX_STDERR_BYTES
        self._line = b""

    def listen(self, stream: IO[bytes]) -> None:
        """Read to the end; the life of a thread."""
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(stream.fileno(), _CHUNK):
                self._take(chunk)
        self._end_line()

    def new_run(self) -> None:
        """What was said before is not of this run."""
        with self._lock:
            self._tail.clear()
            self._left = MAX_STDERR_BYTES

    def tail(self) -> str:
        """The last 64 KiB of what was said since the run began."""
        with self._lock:
            return bytes(self._tail).decode("utf-8", "replace")

    def last_line(self) -> str:
        """The last line that is not empty, fit to be shown; '' where there is none."""
        lines = (one_line(line) for line in reversed(self.tail().splitlines()) if line.strip())
        return next(lines, "")

    def _take(self, chunk: bytes) -> None:
        with self._lock:
            self._tail += chunk
            del self._tail[:-MAX_STDERR_BYTES]
        *lines, rest = (self._line + chunk).split(b"\n")
        for line in lines:
            self._pass_on(line)
        self._line = rest[: _MAX_LINE + 1]

    def _end_line(self) -> None:
        if self._line:
            self._pass_on(self._line)
            self._line = b""

    def _pass_on(self, line: bytes) -> None:
        if not line.strip():
            return
        with self._lock:
            before, self._left = self._left, max(0, self._left - max(_LEAST_LINE, len(line) + 1))
            left = self._left
        if before and left:
            self._tell(one_line(line.decode("utf-8", "replace"), _MAX_LINE))
        elif before:
            self._tell("(more than 64 KiB in one run; the rest is not shown)")
