"""Ending a worker together with everything it started, by the best means that this system has.

From best to least: a control group of its own, which nothing leaves; a search of ``/proc`` for
whatever carries the worker's mark, is in its session or descends from it; its process group.  On
Windows a job object.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Protocol

POLL_S = 0.005
MARK = "PALYRA_WORKER"
"""The environment variable by which a worker's descendants are found: the number of its host, and
a random word."""

Child = subprocess.Popen[bytes]


class Tree(Protocol):
    """A worker and its descendants.  Its owner calls :meth:`kill` once, at the end."""

    def exited(self, timeout_s: float) -> bool:
        """Whether the worker itself ends within that time, of its own accord."""

    def kill(self, timeout_s: float) -> bool:
        """Kill all of it and reap the worker; whether nothing is left after that time at most."""


class Containment(Protocol):
    """A way of keeping workers together."""

    @property
    def level(self) -> str:
        """What it is, for ``palyra doctor``."""

    def enclose(self, child: Child, mark: str) -> Tree:
        """Keep a worker that was just started; ``mark`` is in its environment."""

    def tend(self) -> None:
        """Reap what processes of workers left behind; cheap, now and then."""


class GroupTree:
    """A worker and what is in its process group: all that plain POSIX can find again."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def exited(self, timeout_s: float) -> bool:
        """Its process is not reaped yet: as long as it is there, nobody else gets its number."""
        if not hasattr(os, "waitid"):
            return _waited(self._child, timeout_s)
        return settled(lambda: has_exited(self._child.pid), timeout_s)

    def kill(self, timeout_s: float) -> bool:
        """Whether the group is empty."""
        until = time.monotonic() + timeout_s
        kill_group(self._child.pid)
        return _waited(self._child, timeout_s) and settled(
            lambda: not _group_lives(self._child.pid), until - time.monotonic()
        )


class Groups:
    """Workers in process groups."""

    level = "process groups; what leaves its group is not found again"

    def enclose(self, child: Child, mark: str) -> Tree:
        """Nothing to do: it was started in a session of its own."""
        return GroupTree(child)

    def tend(self) -> None:
        """Nobody is adopted."""


def best_containment() -> Containment:
    """The best that works here."""
    if sys.platform == "win32":
        from palyra.workers.jobobjects import JobObjects

        return JobObjects.open()
    if sys.platform != "linux":
        return Groups()
    from palyra.workers.cgroups import ControlGroups

    return ControlGroups.open(otherwise=swept_or_grouped) or swept_or_grouped()


def swept_or_grouped() -> Containment:
    """The best on Linux without control groups; makes this process a reaper of orphans."""
    from palyra.workers.sweeping import Sweeps

    return Sweeps.open() or Groups()


def containment() -> str:
    """How workers of this process would be kept together, for ``palyra doctor``."""
    return best_containment().level


# -- of use to every level ------------------------------------------------------------------------


def kill_group(pid: int) -> None:
    """SIGKILL to the process group of a worker that is not reaped yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def has_exited(pid: int) -> bool:
    """Whether a child of ours has ended; it is not reaped."""
    try:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return ended is not None


def reap(child: Child, timeout_s: float) -> bool:
    """Whether a worker that was killed could be reaped in that time."""
    return _waited(child, timeout_s)


def settled(is_so: Callable[[], bool], timeout_s: float) -> bool:
    """Whether something becomes true in that time; it is asked at least once."""
    until = time.monotonic() + timeout_s
    while not (so := is_so()) and time.monotonic() < until:
        time.sleep(POLL_S)
    return so


def _waited(child: Child, timeout_s: float) -> bool:
    try:
        child.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        return False
    return True


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS says so of a group of zombies
        return False
    return True
