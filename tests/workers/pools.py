"""A pool with fake distributions; no process and no thread of it is left when the test ends."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psutil

from palyra.capability.catalogue import Offer
from palyra.capability.context import CapabilityContext, DeviceFacts
from palyra.capability.frames import Limits
from palyra.capability.outcome import Outcome
from palyra.workers.killing import Containment, Groups, best_containment, swept_or_grouped
from palyra.workers.places import PoolRun
from palyra.workers.pool import PoolSettings, WorkerPool
from tests.capability.distributions import make_capability, worker_argv

PATIENCE_S = 60.0
MIB = 1024 * 1024
LIMITS = Limits(memory_bytes=1024 * MIB, open_files=256, file_bytes=64 * MIB, processes=256)
DEVICE = DeviceFacts("01D", "f1", "https://gateway:7444", 5, 100, "pi")
ECHO = "return input"
LEVELS: dict[str, Callable[[], Containment]] = {
    "best": best_containment,
    "swept": swept_or_grouped,
    "grouped": Groups,
}


class Host:
    """Starts runs and collects what becomes of them."""

    def __init__(
        self,
        path: Path,
        *,
        argv: list[str] | None = None,
        grace_s: float = 0.3,
        limits: Limits = LIMITS,
        contain: Callable[[], Containment] = best_containment,
        clock: Callable[[], float] = time.monotonic,
        **settings: Any,
    ) -> None:
        self.path = path
        self.lines: list[tuple[str, str]] = []
        self.changes: SimpleQueue[tuple[str, str | None]] = SimpleQueue()
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self.progress: list[tuple[float | None, str]] = []
        self.pool = WorkerPool(
            PoolSettings(**{"limits": limits, "start_s": PATIENCE_S, **settings}),
            argv=argv or worker_argv(path),
            grace_s=grace_s,
            log=lambda distribution, line: self.lines.append((distribution, line)),
            changed=lambda *change: self.changes.put(change),
            contain=contain,
            clock=clock,
        )

    def offer(self, capability: str, body: str = ECHO, **how: Any) -> Offer:
        """A capability of a distribution of its own, described by a worker."""
        distribution = make_capability(self.path, capability, body, **how)
        said = self.pool.describe(distribution)
        assert said.faults == (), said.faults
        return next(Offer(each) for each in said.descriptors if each.name == capability)

    def start(
        self,
        offer: Offer,
        raw: bytes = b"{}",
        *,
        in_s: float = PATIENCE_S,
        max_output_bytes: int = 64 * 1024,
        on_done: Callable[[Outcome], None] | None = None,
    ) -> PoolRun:
        """Start a run; its outcome comes to :attr:`outcomes`."""
        context = CapabilityContext(
            "job-1",
            DEVICE,
            deadline_s=time.monotonic() + in_s,
            on_progress=lambda *told: self.progress.append(told),
        )
        return self.pool.start(offer, raw, context, max_output_bytes, on_done or self.outcomes.put)

    def outcome(self) -> Outcome:
        """The next outcome."""
        return self.outcomes.get(timeout=PATIENCE_S)

    def run(self, offer: Offer, raw: bytes = b"{}", **how: Any) -> Outcome:
        """Start a run and wait for its outcome."""
        self.start(offer, raw, **how)
        return self.outcome()

    def pids(self) -> list[int]:
        """Numbers of the workers that are there."""
        return [place.worker.pid for place in self.pool._placing.places if place.worker]


@contextmanager
def hosting(path: Path, **how: Any) -> Iterator[Host]:
    """A host whose pool is closed at the end, and has left nothing behind."""
    before = set(psutil.Process().children()), threading.active_count()
    host = Host(path, **how)
    try:
        yield host
    finally:
        host.pool.close(0.3)
        adopt_no_more()
    left = [each for each in psutil.Process().children() if each not in before[0]]
    assert left == []
    assert threading.active_count() <= before[1], threading.enumerate()


def adopt_no_more() -> None:
    """A reaper of orphans is for a process's life; here it is for one test's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something that a real process does."""
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end_s, f"never: {what}"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid_in(file: Path) -> int:
    """The number that a process of a test writes into a file."""
    until(lambda: file.exists() and file.read_text().endswith("\n"), f"{file.name} is written")
    return int(file.read_text())


def as_root() -> bool:
    """Whether this is root, whom some limits do not hold."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
