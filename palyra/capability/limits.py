"""What a worker takes from itself before a plugin is imported: memory, files, processes, outliving.

Where a system has no such limit there is none: macOS does not enforce that of memory, Windows knows
none of them, and root may start as many processes as it likes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys

import attrs

from palyra.capability.frames import Limits
from palyra.capability.outcome import HANDLER_FAILED, Outcome, failed

_MIB = 1024 * 1024
_PR_SET_PDEATHSIG = 1
_NO_THREAD = "can't start new thread"
_NO_ROOM = "failed to map segment"


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends; Linux only."""
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def set_limits(limits: Limits) -> None:
    """Set them, soft and hard, so that nothing here raises them again; none above what it is."""
    try:
        import resource
    except ImportError:
        return
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_AS": limits.memory_bytes,
    }
    if sys.platform == "linux" and os.geteuid() != 0:
        wanted["RLIMIT_NPROC"] = limits.processes + _tasks_of(os.getuid())
    for name, value in wanted.items():
        which = getattr(resource, name, None)
        if which is None:
            continue
        hard = resource.getrlimit(which)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(which, (lower, lower))


def _tasks_of(user: int) -> int:
    """How many threads a user has: the kernel counts all of them, those of a desktop too."""
    found = 0
    for each in os.listdir("/proc"):
        if not each.isdigit():
            continue
        with contextlib.suppress(OSError):
            tasks = os.stat(f"/proc/{each}/task")
            if tasks.st_uid == user:
                found += tasks.st_nlink - 2
    return found


def explained(exc: BaseException, limits: Limits) -> Outcome:
    """The failure of a handler; what ran into a limit names it, and where it is configured."""
    outcome = failed(exc)
    if outcome.error_code != HANDLER_FAILED:
        return outcome
    return attrs.evolve(outcome, error_sentence=outcome.error_sentence + limit_of(exc, limits))


def limit_of(exc: BaseException, limits: Limits) -> str:
    """The limit that an exception tells of, to be put behind a sentence about it; or ''."""
    limit = _limit_of(exc, limits)
    return limit and f" (the limit of this worker: {limit})"


def _limit_of(exc: BaseException, limits: Limits) -> str:
    memory = f"{limits.memory_bytes // _MIB} MiB of memory, node.worker.memory_mib"
    number = exc.errno if isinstance(exc, OSError) else None
    unmapped = isinstance(exc, ImportError) and _NO_ROOM in str(exc)
    if unmapped or isinstance(exc, MemoryError) or number == errno.ENOMEM:
        return memory
    if number == errno.EMFILE:
        return f"{limits.open_files} open files, node.worker.open_files"
    if number == errno.EFBIG:
        return f"{limits.file_bytes // _MIB} MiB in a file, node.worker.file_mib"
    if isinstance(exc, RuntimeError) and _NO_THREAD in exc.args:
        return f"{memory}; {limits.processes} processes and threads, node.worker.processes"
    return ""
