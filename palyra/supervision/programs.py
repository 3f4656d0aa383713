"""Running programs of the operating system: no shell, a time limit, bounded output."""

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
from typing import IO, Any

import attrs

from palyra.errors import ServiceManagerFailed
from palyra.supervision.service import Account, groups_of

MAX_OUTPUT = 1024 * 1024
"""How many bytes of each stream are kept, unless a caller wants more; a program that writes more
fails at it, or is ended."""
NOT_FOUND = 127
"""The exit code of a program that is not there, or may not be run; as a shell has it."""
TIMED_OUT = 124
"""The exit code of a program that did not end in time, or wrote without end."""

_ENCODING = "oem" if sys.platform == "win32" else "utf-8"
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
        """Its last line of complaint for people: no control characters, and no point at its end."""
        lines = [line.strip() for line in (self.err or self.out).splitlines()]
        # systemctl's last line says where to look further, the one before what is wrong.
        last = next((each for each in reversed(lines) if each and not each.startswith("See ")), "")
        return "".join(each for each in last if each.isprintable())[:_MAX_SAID].rstrip(".")

    def failed(self, command: Sequence[str]) -> ServiceManagerFailed:
        """That ``command`` did not do what it was to do."""
        return ServiceManagerFailed(shlex.join(command)[:_MAX_SAID], self.said)


def run(
    command: Sequence[str],
    *,
    timeout_s: float = 30.0,
    check: bool = True,
    environ: Mapping[str, str] | None = None,
    account: Account | None = None,
    max_output: int = MAX_OUTPUT,
) -> Ran:
    """Run ``command`` to its end, without a terminal and without input.  Blocks.

    A program that is not there has the code :data:`NOT_FOUND`, one that had to be ended with all
    its children :data:`TIMED_OUT`.  ``environ`` is its whole environment, ours where it is None;
    it speaks English in either.  ``account`` is whom it runs as, which takes root; ``max_output``
    is how many bytes of each stream it may write.

    :raises ServiceManagerFailed: with ``check``, for any code but 0; the command line is in it.
    """
    given = dict(os.environ if environ is None else environ)
    ran = _run(command, timeout_s, given, account, max_output)
    if check and ran.code != 0:
        raise ran.failed(command)
    return ran


def _run(
    command: Sequence[str],
    timeout_s: float,
    environ: dict[str, str],
    account: Account | None,
    most: int,
) -> Ran:
    with _room(most) as out, _room(most) as err:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=environ | {"LC_ALL": "C"}, start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                cwd="/" if os.name == "posix" else None, **_user(account),
            )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
            return Ran(NOT_FOUND, "", f"{command[0]}: {problem}")
        try:
            ended = _ends(process, (out, err), most, time.monotonic() + timeout_s)
        finally:
            _end(process)
        if not ended:
            return Ran(TIMED_OUT, _text(out, most), f"it did not end within {timeout_s:g} s")
        return Ran(process.returncode, _text(out, most), _text(err, most))


def _user(account: Account | None) -> dict[str, Any]:
    if account is None or not hasattr(os, "geteuid") or account.uid == os.geteuid():
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": groups_of(account)}


def _room(most: int) -> IO[bytes]:
    """A file for a stream: a pipe would have to be read all the while, and a grandchild could hold
    it open.  Where possible in memory, since the disk may be full; and there it does not grow."""
    if sys.platform == "linux":
        import fcntl

        room = os.memfd_create("palyra-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(room, most)
        fcntl.fcntl(room, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        return os.fdopen(room, "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _ends(
    process: subprocess.Popen[bytes], rooms: Sequence[IO[bytes]], most: int, until: float
) -> bool:
    """Whether it ends by itself, in time and without filling a room."""
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(left, _LOOK_EVERY_S))
            return True
        if any(each.tell() > most for each in rooms):
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


def _text(room: IO[bytes], most: int) -> str:
    """What was written: the program had this very file, and moved our place in it."""
    written = min(room.tell(), most)
    room.seek(0)
    return room.read(written).decode(_ENCODING, "replace")
