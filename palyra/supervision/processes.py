"""Which process a process file names, whether it lives, and how it is ended.

A process is named by three things: the life of the machine (``boot_id``), its number, and the
moment of its start (``start_token``).  A number that the system gave to another process since, or
that it gives after a reboot, is never taken for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from palyra.errors import DidNotStop, PalyraError
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.programs import run
from palyra.workers.sweeping import look_at

BOOT_ID_FILE = "PALYRA_BOOT_ID_FILE"
"""Names a file in the environment from which the boot id is read: a reboot, for tests."""
KILLED_S = 5.0
"""How long a process may take to end after SIGKILL; one that waits for a dead disk takes longer."""
_MAX_ID = 64
_LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACOS_BOOT_ID = ("sysctl", "-n", "kern.bootsessionuuid")


def boot_id(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str:
    """What names this life of the machine; another one after each boot.  Never empty.

    Where the system gives its lives no names it is the second of its start, which a clock that is
    set moves: a process file of before then counts as one of another life.
    """
    named = environ.get(BOOT_ID_FILE)
    if named:
        return _first_line(Path(named)) or "unknown"
    found = ""
    if platform == "linux":
        found = _first_line(_LINUX_BOOT_ID)
    elif platform == "darwin":
        with contextlib.suppress(PalyraError):
            found = run(_MACOS_BOOT_ID).out.strip()[:_MAX_ID]
    return found or f"since {round(psutil.boot_time())}"


def start_token(pid: int, platform: str = sys.platform) -> str:
    """The moment at which that process began, as the system spells it; empty where there is none,
    or only the remains of one that its parent has not taken.

    On Linux in ticks since boot (proc(5), field 22), which no clock that is set can move.
    """
    if platform == "linux":
        found = look_at(pid)
        return "" if found is None or found.is_dead else str(found.began)
    try:
        process = psutil.Process(pid)
        dead = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return "" if dead else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


def alive(file: ProcessFile, boot_id: str) -> bool:
    """Whether the process that the file names lives now; ``boot_id`` is the machine's."""
    return file.boot_id == boot_id and _is_it(file)


def end(
    file: ProcessFile,
    *,
    grace_s: float,
    boot_id: Callable[[], str] = boot_id,
    of_user: int | None = None,
) -> None:
    """End that process: SIGTERM, and SIGKILL after ``grace_s``.  Blocks; returns at once where it
    lives no more.

    Another process that has its number is not signalled; with ``of_user`` neither is one that does
    not belong to that uid, since whoever wrote the file might name any.  Windows knows no SIGTERM:
    there it ends at once.

    :raises DidNotStop: it lives on, or may not be signalled.
    """
    if not alive(file, boot_id()):
        return
    with contextlib.closing(_held(file.pid)) as target:
        # Only from now on the number is held: before, it may have become another one's.
        if not _is_it(file):
            return
        if of_user is not None and _owner(file.pid) != of_user:
            raise DidNotStop(file.pid)
        _end(target, file.pid, grace_s)


_pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
"""None where this system has no pidfds."""


def _held(pid: int) -> _ByHandle | _ByNumber:
    if _pidfd_open is not None:
        with contextlib.suppress(OSError):  # this kernel has none, or allows none
            return _ByHandle(_pidfd_open(pid))
    return _ByNumber(pid)


class _ByHandle:
    """A process by its pidfd: the number cannot be given to another one under it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def close(self) -> None:
        os.close(self._handle)

    def send(self, number: int) -> None:
        signal.pidfd_send_signal(self._handle, number)

    def ends_within(self, limit_s: float) -> bool:
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(limit_s * 1000))


class _ByNumber:
    """A process by number and start, as psutil compares them at each signal."""

    def __init__(self, pid: int) -> None:
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process = psutil.Process(pid)

    def close(self) -> None:
        """Nothing is open."""

    def send(self, number: int) -> None:
        try:
            if self._process is not None:
                self._process.send_signal(number)
        except psutil.AccessDenied as error:
            raise PermissionError(str(error)) from error
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(str(error)) from error

    def ends_within(self, limit_s: float) -> bool:
        with contextlib.suppress(psutil.TimeoutExpired):
            if self._process is not None:
                self._process.wait(limit_s)
            return True
        return False


def _end(target: _ByHandle | _ByNumber, pid: int, grace_s: float) -> None:
    try:
        target.send(signal.SIGTERM)
        if target.ends_within(grace_s):
            return
        target.send(getattr(signal, "SIGKILL", signal.SIGTERM))
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise DidNotStop(pid) from error
    if not target.ends_within(KILLED_S):
        raise DidNotStop(pid)


def _is_it(file: ProcessFile) -> bool:
    return file.start_token != "" and start_token(file.pid) == file.start_token


def _owner(pid: int) -> int:
    """The uid that process runs as; -1 where there is none, or the platform has none."""
    try:
        return int(psutil.Process(pid).uids().real)
    except (psutil.Error, AttributeError):
        return -1


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_ID).decode("ascii", "replace").partition("\n")[0].strip()
    except OSError:
        return ""
