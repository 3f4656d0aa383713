"""Running a program of the operating system: no shell, a time limit, and no more output than fits."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO

import attrs

from palyra.errors import ServiceManagerFailed

MAX_OUTPUT = 256 * 1024
"""How many bytes of each stream are kept; a program that writes much more is ended."""
NOT_FOUND = 127
"""The exit code of a program that is not there, or may not be run; as a shell has it."""
TIMED_OUT = 124
"""The exit code of a program that did not end in time, or wrote without end."""

_ENCODING = "oem" if sys.platform == "win32" else "utf-8"
_TOO_MUCH = 16 * MAX_OUTPUT
_LOOK_EVERY_S = 0.1
_MAX_SAID = 300


@attrs.frozen
class Ran:
    """What came of a program: its exit code (negative: the signal that ended it) and the beginning
    of what it wrote, as text."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its last line of complaint, without a point: for people, so without control characters."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        return "".join(each for each in last if each.isprintable())[:_MAX_SAID].rstrip(".")


def run(
    command: Sequence[str],
    *,
    timeout_s: float = 30.0,
    check: bool = True,
    environ: Mapping[str, str] | None = None,
) -> Ran:
    """Run ``command`` to its end, without a terminal and without input.  Blocks.

    A program that is not there has the code :data:`NOT_FOUND`, one that had to be ended with all
    its children :data:`TIMED_OUT`.  ``environ`` is its whole environment, ours where it is None;
    it speaks English in either.

    :raises ServiceManagerFailed: with ``check``, for any code but 0; the command line is in it.
    """
    ran = _run(command, timeout_s, dict(os.environ if environ is None else environ))
    if check and ran.code != 0:
        raise ServiceManagerFailed(shlex.join(command)[:_MAX_SAID], ran.said)
    return ran


def _run(command: Sequence[str], timeout_s: float, environ: dict[str, str]) -> Ran:
    with _room() as out, _room() as err:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=environ | {"LC_ALL": "C"}, start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        except (OSError, ValueError) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return Ran(NOT_FOUND, "", f"{command[0]}: {problem}")
        try:
            ended = _ends(process, (out, err), time.monotonic() + timeout_s)
        finally:
            _end(process)
        if not ended:
            return Ran(TIMED_OUT, _text(out), f"it did not end within {timeout_s:g} s")
        return Ran(process.returncode, _text(out), _text(err))


def _room() -> IO[bytes]:
    """A file for a stream: a pipe would have to be read all the while, and a grandchild could hold
    it open.  In memory where that is possible, since the disk may be full."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("palyra-output"), "w+b", buffering=0)
    return tempfile.TemporaryFile()


def _ends(process: subprocess.Popen[bytes], rooms: Sequence[IO[bytes]], until: float) -> bool:
    """Whether it ends by itself, in time and without filling a room."""
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(left, _LOOK_EVERY_S))
            return True
        if any(os.fstat(each.fileno()).st_size > _TOO_MUCH for each in rooms):
            return False
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(room: IO[bytes]) -> str:
    room.seek(0)
    return room.read(MAX_OUTPUT).decode(_ENCODING, "replace")
