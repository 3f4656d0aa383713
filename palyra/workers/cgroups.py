"""A control group for each worker (cgroup v2): nothing leaves it, and one write kills all of it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from palyra.workers.killing import Child, Containment, GroupTree, Tree, kill_group, reap, settled

_SYSTEMD = Path("/run/systemd/system")
_PREFIX = "palyra-worker-"
_STALE_S = 0.5
_numbers = itertools.count(1)


class ControlGroups:
    """Workers in control groups below the one of this process."""

    level = "control groups (cgroup v2)"

    def __init__(self, base: Path, otherwise: Callable[[], Containment]) -> None:
        """``otherwise`` makes what keeps the workers for whom no group could be made."""
        self._base = base
        self._otherwise = otherwise
        self._fallback: Containment | None = None

    @classmethod
    def open(cls, otherwise: Callable[[], Containment]) -> ControlGroups | None:
        """None where there is no cgroup v2, or where this process's group was not handed to it."""
        base = own_group()
        if base is None or not delegated(base):
            return None
        try:
            leaf = _make_leaf(base)
            able = (leaf / "cgroup.kill").exists()
            leaf.rmdir()
        except OSError:
            return None
        if able:
            clear_stale(base)
        return cls(base, otherwise) if able else None

    def enclose(self, child: Child, mark: str) -> Tree:
        """Put it into a group of its own; it has not done anything yet."""
        try:
            leaf = _make_leaf(self._base)
        except OSError:
            return self._enclose_otherwise(child, mark)
        try:
            (leaf / "cgroup.procs").write_text(str(child.pid))
        except OSError:
            with contextlib.suppress(OSError):
                leaf.rmdir()
            return self._enclose_otherwise(child, mark)
        return GroupedTree(child, leaf)

    def _enclose_otherwise(self, child: Child, mark: str) -> Tree:
        if self._fallback is None:
            self._fallback = self._otherwise()
        return self._fallback.enclose(child, mark)

    def tend(self) -> None:
        """Orphans in a group are killed with it; only other workers' can become our children."""
        if self._fallback is not None:
            self._fallback.tend()


class GroupedTree(GroupTree):
    """Everything in one control group."""

    def __init__(self, child: Child, leaf: Path) -> None:
        super().__init__(child)
        self._leaf = leaf

    def kill(self, timeout_s: float) -> bool:
        """Whether the kernel says that nothing is in the group any more."""
        kill_group(self._child.pid)
        _kill(self._leaf)
        gone = settled(lambda: not populated(self._leaf), timeout_s)
        gone = reap(self._child, timeout_s) and gone
        if gone:
            remove_group(self._leaf)
        return gone


def clear_stale(base: Path) -> None:
    """End what is in groups of hosts that were killed, and remove these groups."""
    for leaf in base.glob(f"{_PREFIX}*-*"):
        host = leaf.name.removeprefix(_PREFIX).partition("-")[0]
        if host.isdecimal() and not Path("/proc", host).exists():
            _end(leaf)


def own_group() -> Path | None:
    """The directory of this process's control group."""
    mount = _mount_point()
    if mount is None:
        return None
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::/")), None)
    return None if own is None else mount / own.lstrip("/")


def _mount_point() -> Path | None:
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def delegated(base: Path) -> bool:
    """Whether groups below ``base`` are ours to make: systemd says where it keeps out."""
    if not os.access(base, os.W_OK):
        return False
    return not _SYSTEMD.is_dir() or any(
        _attribute(base, name) == b"1" for name in ("user.delegate", "trusted.delegate")
    )


def _attribute(base: Path, name: str) -> bytes:
    try:
        return os.getxattr(base, name)
    except OSError:
        return b""


def _make_leaf(base: Path) -> Path:
    leaf = base / f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
    try:
        leaf.mkdir()
    except FileExistsError:  # of an earlier process of our number: in a container that is likely
        _end(leaf)
        leaf.mkdir()
    return leaf


def _end(leaf: Path) -> None:
    """End what is in a group that nobody looks after, and remove it."""
    _kill(leaf)
    settled(lambda: not populated(leaf), _STALE_S)
    remove_group(leaf)


def _kill(leaf: Path) -> None:
    """Kill everything in a group and below it, at once."""
    with contextlib.suppress(OSError):
        file = os.open(leaf / "cgroup.kill", os.O_WRONLY)  # nobody may read it, and none is made
        try:
            os.write(file, b"1")
        finally:
            os.close(file)


def populated(leaf: Path) -> bool:
    """Whether a living process is in the group or below it."""
    try:
        return "populated 1" in (leaf / "cgroup.events").read_text().splitlines()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def remove_group(leaf: Path) -> None:
    """Remove an empty group, and those that a worker made below it."""
    for directory, _, _ in os.walk(leaf, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
