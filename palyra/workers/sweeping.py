"""Finding what a worker started, in Linux' ``/proc``, also where it left the worker's session.

The host is made the reaper of what is orphaned below it.  It then has children that it did not
start: they are reaped one by one, by number, and only where they were seen to be of a worker, so
that nobody who waits for a child of his own misses its end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from palyra.workers.killing import MARK, POLL_S, Child, GroupTree, Tree, kill_group, reap

_PR_SET_CHILD_SUBREAPER = 36
_PF_FORKNOEXEC = 0x40
_MAX_ENVIRON = 1024 * 1024
_DEAD = "ZX"


class Process(NamedTuple):
    """A line of ``/proc/PID/stat``; ``began`` is in ticks since the machine started."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    began: int
    flags: int = 0

    @property
    def is_dead(self) -> bool:
        """Whether only its end is left, for its parent to take."""
        return self.state in _DEAD


class Sweeps:
    """Workers that are found again by mark, session and descent."""

    level = "child subreaper and a search of /proc"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._adopted: set[tuple[int, int]] = set()
        self._marks: set[str] = set()

    @classmethod
    def open(cls) -> Sweeps | None:
        """Make this process the reaper of orphans below it; None where the kernel refuses.

        What hosts left that were killed is ended first.
        """
        try:
            refused = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        except (OSError, AttributeError):
            return None
        if refused:
            return None
        with contextlib.suppress(OSError):
            clear_stale()
        return cls()

    def enclose(self, child: Child, mark: str) -> Tree:
        """Remember the mark."""
        with self._lock:
            self._marks.add(mark)
        return SweptTree(child, mark, self)

    def forget(self, mark: str) -> None:
        """Its worker is gone."""
        with self._lock:
            self._marks.discard(mark)

    def tend(self) -> None:
        """Note orphans of workers that became our children, and reap those that ended."""
        ours = [each for each in processes().values() if each.parent == os.getpid()]
        with self._lock:
            marks = [f"{MARK}={mark}".encode() for mark in self._marks]
            self._adopted &= {(each.pid, each.began) for each in ours}
        for each in ours:
            if each.is_dead:
                if (each.pid, each.began) in self._adopted or _was_adopted(each):
                    _reap(each.pid)
            elif any(_carries(each.pid, mark) for mark in marks):
                self.adopt(each)

    def adopt(self, process: Process) -> None:
        """It is of a worker; should it become our child, it is ours to reap."""
        with self._lock:
            self._adopted.add((process.pid, process.began))


class SweptTree(GroupTree):
    """A worker, its session, whatever carries its mark, and the descendants of all these."""

    def __init__(self, child: Child, mark: str, sweeps: Sweeps) -> None:
        super().__init__(child)
        self._mark = mark
        self._sweeps = sweeps

    def kill(self, timeout_s: float) -> bool:
        """Whether a look at every process of the machine found none of it alive."""
        until = time.monotonic() + timeout_s
        gone = self._killed(until)
        gone = reap(self._child, until - time.monotonic()) and gone
        self._sweeps.tend()
        self._sweeps.forget(self._mark)
        return gone

    def _killed(self, until: float) -> bool:
        """Look and kill until nothing is found; what forks meanwhile is found the next time.

        The first look comes before the first kill: it is the parents that lead to some.
        """
        seen: list[Process] = []
        while True:
            try:
                seen = self._look(seen)
            except OSError:  # no file to spare: what can be killed unseen is, and no more is known
                kill_group(self._child.pid)
                raise
            alive = [each for each in seen if not each.is_dead]
            if not alive or time.monotonic() >= until:
                return not alive
            kill_group(self._child.pid)
            for each in alive:
                _kill(each)
            time.sleep(POLL_S)

    def _look(self, seen: list[Process]) -> list[Process]:
        known = processes()
        still = [each.pid for each in seen if each.began == began_of(known, each.pid)]
        found = descendants(known, self._child.pid, f"{MARK}={self._mark}".encode(), still)
        for each in found:
            if each.pid != self._child.pid and (each.pid not in still):
                self._sweeps.adopt(each)
        return found


def clear_stale() -> None:
    """End what carries the mark of a host that is no more: the kernel ends that host's workers with
    it, and not what they have started.

    Numbers of another namespace, a container's, say nothing here.
    """
    known = processes()
    for each in known.values():
        mark = _mark_of(each.pid)
        host, _, word = mark.partition("-")
        if not (word and host.isdecimal()):
            continue
        lives = int(host) in known and known[int(host)].began <= each.began
        if not lives and _namespace(each.pid) == _namespace(os.getpid()):
            _kill(each)


def processes() -> dict[int, Process]:
    """Every process of this machine, by number."""
    with os.scandir("/proc") as entries:
        numbers = [int(each.name) for each in entries if each.name.isdigit()]
    return {number: found for number in numbers if (found := look_at(number)) is not None}


def look_at(pid: int) -> Process | None:
    """One process; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # its name may have anything in it, also ")"
    parent, group, session = (int(field) for field in fields[1:4])
    return Process(pid, fields[0].decode(), parent, group, session, int(fields[19]), int(fields[6]))


def began_of(known: Mapping[int, Process], pid: int) -> int:
    """When the process of that number began; -1 where there is none."""
    return known[pid].began if pid in known else -1


def descendants(
    known: Mapping[int, Process], leader: int, mark: bytes, also: Collection[int] = ()
) -> list[Process]:
    """What belongs to a worker that is not reaped yet, itself included, zombies too.

    ``also`` are numbers of processes that are known to belong to it.
    """
    if leader not in known:
        return []
    began = known[leader].began
    later = [each for each in known.values() if each.began >= began and each.pid != os.getpid()]
    found = {each.pid: each for each in later if each.pid in also or _is_of(each, leader, mark)}
    while more := [each for each in later if each.parent in found and each.pid not in found]:
        found.update((each.pid, each) for each in more)
    return list(found.values())


def _is_of(process: Process, leader: int, mark: bytes) -> bool:
    return leader in (process.pid, process.group, process.session) or _carries(process.pid, mark)


def _carries(pid: int, mark: bytes) -> bool:
    return mark in _environ(pid)


def _mark_of(pid: int) -> str:
    """The mark in its environment, or ''."""
    name = f"{MARK}=".encode()
    found = (each[len(name) :] for each in _environ(pid) if each.startswith(name))
    return next(found, b"").decode("ascii", "replace")


def _environ(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read(_MAX_ENVIRON).split(b"\0")
    except OSError:
        return []


def _namespace(pid: int) -> str:
    """Of its number; '' where that cannot be seen."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _kill(process: Process) -> None:
    """Kill exactly this one: its number may belong to another by now."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(process.pid)
        try:
            now = look_at(process.pid)
            if now is not None and now.began == process.began:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _was_adopted(child: Process) -> bool:
    """Whether a child of ours was surely not started by us.

    Ours are in our session or lead one of their own, and there is a program in them: it is the
    orphan of a worker that is in another session, or leads one without ever having had a program.
    """
    if child.session == os.getsid(0):
        return False
    return child.session != child.pid or bool(child.flags & _PF_FORKNOEXEC)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
