"""The worker's end of the pipes to its host, out of the way of what a plugin prints and reads."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import NoReturn

from palyra.capability.frames import (
    HEAD_BYTES,
    FromHost,
    FromWorker,
    decode_from_host,
    encode_frame,
    frame_length,
)

EXIT_BROKEN = 70
"""The status of a worker that no longer understands its host; EX_SOFTWARE of sysexits.h."""
_PIECE_BYTES = 1024 * 1024
_CLOSED = -1


class HostPipe:
    """Frames from and to the host.  One thread reads; any may send."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()

    @classmethod
    def take(cls) -> HostPipe:
        """Move fds 0 and 1 away: from now on there is nothing to read, and output is stderr.

        The pipes are closed in whatever this process executes or forks: a child that held on to
        them would speak for the worker, and keep the host from seeing the worker's end.
        """
        pipe = cls(os.dup(0), os.dup(1))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=pipe.close)
        return pipe

    def read(self, limit: int) -> FromHost:
        """The next frame, of ``limit`` bytes at most.

        :raises EOFError: the host is gone.
        :raises Malformed: that is no frame.
        """
        length = frame_length(self._exactly(HEAD_BYTES), limit)
        return decode_from_host(self._exactly(length))

    def send(self, frame: FromWorker) -> None:
        """Send a frame, from any thread; without a host to send it to, this process ends."""
        rest = memoryview(encode_frame(frame))
        with self._lock:
            while rest:
                try:
                    rest = rest[os.write(self._sink, rest) :]
                except OSError as exc:
                    give_up(f"the host does not read ({exc.strerror})")

    def close(self) -> None:
        """Close both ends; what is sent after that ends this process."""
        source, self._source = self._source, _CLOSED
        sink, self._sink = self._sink, _CLOSED
        self._lock = threading.Lock()  # a thread that is not in the child may have held it
        os.close(source)
        os.close(sink)

    def _exactly(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            piece = os.read(self._source, min(count - len(got), _PIECE_BYTES))
            if not piece:
                raise EOFError
            got += piece
        return bytes(got)


def complain(line: str) -> None:
    """Write to fd 2, whatever a plugin made of ``sys.stderr``."""
    rest = memoryview(f"{line}\n".encode("utf-8", "backslashreplace"))
    try:
        while rest:
            rest = rest[os.write(2, rest) :]
    except OSError:
        return


def flush_output() -> None:
    """Let what a plugin printed be seen now, with the run that it belongs to."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception as exc:
            complain(f"the plugin's output cannot be written ({type(exc).__name__})")


def give_up(why: str) -> NoReturn:
    """End this process at once: its host or itself is beyond understanding."""
    complain(f"palyra worker: {why}")
    os._exit(EXIT_BROKEN)
