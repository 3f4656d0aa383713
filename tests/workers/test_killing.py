"""Tests of what workers are killed by: for real on Linux, against a stand-in for Windows."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palyra.workers import cgroups, killing, sweeping
from palyra.workers.jobobjects import JobObjects
from palyra.workers.killing import MARK, Containment, Groups, GroupTree, containment, settled
from palyra.workers.sweeping import Process, Sweeps, descendants

from .pools import LEVELS, PATIENCE_S, adopt_no_more, lives, pid_in, until

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux' /proc and control groups")
TRACKING = [
    pytest.param("best", marks=LINUX),
    pytest.param("swept", marks=LINUX),
]
LEAVE = """
import os, sys, time
def note(name):
    with open(os.path.join(sys.argv[1], name), "w") as file: file.write(f"{os.getpid()}\\n")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        note("escaped")
        time.sleep(600)
    os._exit(0)
if os.fork() == 0:
    note("stayed")
    time.sleep(600)
note("leader")
"""


@pytest.fixture(autouse=True)
def no_subreaper() -> Iterator[None]:
    """No test makes this process a reaper of the next one's orphans."""
    yield
    adopt_no_more()


def start(code: str, path: Path, mark: str = "a-mark-of-a-test") -> subprocess.Popen[bytes]:
    """A child that stands for a worker."""
    return subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(path)],
        start_new_session=True,
        env={MARK: mark, "PATH": os.environ["PATH"]},
    )


def enclosed(contain: Callable[[], Containment], code: str, path: Path) -> tuple[Any, Any]:
    """A child in its containment; it begins when it is in there."""
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1] + '/go'): time.sleep(.01)\n"
    child = start(wait + code, path)
    tree = contain().enclose(child, "a-mark-of-a-test")
    (path / "go").touch()
    return child, tree


@pytest.mark.parametrize("level", TRACKING)
def test_who_left_its_session_is_killed_too(tmp_path: Path, level: str) -> None:
    """A grandchild with a session of its own is gone after the kill, with all the others."""
    child, tree = enclosed(LEVELS[level], LEAVE + "time.sleep(600)", tmp_path)
    pids = [pid_in(tmp_path / name) for name in ("escaped", "stayed", "leader")]
    assert all(map(lives, pids))
    assert not tree.exited(0.01)
    assert tree.kill(PATIENCE_S)
    assert not any(map(lives, pids))
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("level", TRACKING)
def test_what_outlives_its_worker_is_killed(tmp_path: Path, level: str) -> None:
    """Descendants of a worker that ended by itself are found, and its exit status is kept."""
    child, tree = enclosed(LEVELS[level], LEAVE + "os._exit(3)", tmp_path)
    pids = [pid_in(tmp_path / name) for name in ("escaped", "stayed", "leader")]
    assert tree.exited(PATIENCE_S)
    assert lives(pids[0])
    assert tree.kill(PATIENCE_S)
    assert not any(map(lives, pids))
    assert child.returncode == 3


@LINUX
def test_a_descendant_without_mark_or_session(tmp_path: Path) -> None:
    """One that dropped the mark and left the session is found by its parents."""
    code = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    code = \"import sys, os, time; f = open(sys.argv[1] + '/bare', 'w');\"\n"
        "    code += \" f.write(f'{os.getpid()}\\\\n'); f.close(); time.sleep(600)\"\n"
        "    os.execve(sys.executable, [sys.executable, '-I', '-c', code, sys.argv[1]], {})\n"
        "time.sleep(600)"
    )
    _, tree = enclosed(LEVELS["swept"], code, tmp_path)
    bare = pid_in(tmp_path / "bare")
    assert tree.kill(PATIENCE_S)
    assert not lives(bare)


@LINUX
def test_other_children_keep_their_exit_status(tmp_path: Path) -> None:
    """Sweeping takes no child's end from whoever waits for it, and reaps every orphan."""
    other = start("raise SystemExit(5)", tmp_path, mark="of-nobody")
    sweeps = Sweeps.open()
    assert sweeps is not None
    until(lambda: killing.has_exited(other.pid), "the other child has ended")
    _, tree = enclosed(lambda: sweeps, LEAVE + "time.sleep(600)", tmp_path)
    escaped = pid_in(tmp_path / "escaped")
    until(lambda: _parent(escaped) == os.getpid(), "the orphan is adopted")
    sweeps.tend()
    os.kill(escaped, signal.SIGKILL)
    until(lambda: not lives(escaped), "the orphan is dead")
    sweeps.tend()
    assert sweeping.look_at(escaped) is None
    assert tree.kill(PATIENCE_S)
    assert other.wait() == 5


@LINUX
def test_what_a_killed_host_left_is_ended(tmp_path: Path) -> None:
    """A process that carries the mark of a host that is no more is killed, whoever its parent is;
    those of a host that lives, and of nobody that is known, stay."""
    host = start("pass", tmp_path)
    host.wait()
    marks = [f"{host.pid}-word", f"{os.getpid()}-word", "word", "99999999", "x-y"]
    sleep = "import sys, time; time.sleep(600)"
    children = [start(sleep, tmp_path, mark) for mark in marks]
    try:
        sweeping.clear_stale()
        assert children[0].wait(PATIENCE_S) == -signal.SIGKILL
        assert all(each.poll() is None for each in children[1:])
    finally:
        for child in children:
            child.kill()
            child.wait()


@LINUX
def test_without_a_file_to_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where processes cannot be looked at, what is in the group is killed, and no more is said."""

    def refused(path: str) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    child = start("import time; time.sleep(600)", tmp_path)
    sweeps = Sweeps.open()
    assert sweeps is not None
    tree = sweeps.enclose(child, "a-mark-of-a-test")
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(OSError, match="too many"):
        tree.kill(PATIENCE_S)
    assert child.wait(PATIENCE_S) == -signal.SIGKILL


def _parent(pid: int) -> int:
    found = sweeping.look_at(pid)
    return 0 if found is None else found.parent


def test_a_group_is_killed(tmp_path: Path) -> None:
    """Plain POSIX finds what stayed in the process group."""
    code = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    print(os.getpid(), file=open(sys.argv[1] + '/stayed', 'w')); time.sleep(600)\n"
        "time.sleep(600)"
    )
    child = start(code, tmp_path)
    tree = Groups().enclose(child, "")
    stayed = pid_in(tmp_path / "stayed")
    assert tree.kill(PATIENCE_S)
    assert not lives(stayed) and child.returncode == -signal.SIGKILL


def test_a_group_without_waitid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a child cannot be looked at without reaping it, it is reaped, and no more."""
    monkeypatch.delattr(os, "waitid", raising=False)
    child = start("raise SystemExit(2)", tmp_path)
    tree = GroupTree(child)
    assert tree.exited(PATIENCE_S)
    assert tree.kill(PATIENCE_S)
    assert child.returncode == 2


def test_descent() -> None:
    """Mark apart, a worker's are those in its session or group, and theirs; none that is older."""
    known = {
        each.pid: each
        for each in [
            Process(1, "S", 0, 1, 1, 0),
            Process(50, "S", 1, 50, 50, 90),  # older, and yet a child of one of them
            Process(100, "S", 1, 100, 100, 100),
            Process(101, "S", 100, 101, 100, 101),
            Process(102, "Z", 1, 100, 999, 102),
            Process(103, "S", 101, 103, 103, 103),
            Process(104, "S", 103, 104, 104, 104),
            Process(200, "S", 1, 200, 200, 200),
        ]
    }
    found = {each.pid for each in descendants(known, 100, b"PALYRA_WORKER=none")}
    assert found == {100, 101, 102, 103, 104}
    assert descendants(known, 7, b"PALYRA_WORKER=none") == []


@LINUX
def test_a_name_cannot_hide_a_process(tmp_path: Path) -> None:
    """A process may put spaces and brackets into its name; its line is still read right."""
    child = start(
        "import ctypes, sys, time; ctypes.CDLL(None).prctl(15, b') Z 1 1 1', 0, 0, 0);"
        "open(sys.argv[1] + '/named', 'w').write('1\\n'); time.sleep(600)",
        tmp_path,
    )
    try:
        pid_in(tmp_path / "named")
        found = sweeping.look_at(child.pid)
        assert found is not None
        assert (found.parent, found.session, found.state) == (os.getpid(), child.pid, "S")
    finally:
        child.kill()
        child.wait()


def test_the_level_has_a_name() -> None:
    """``palyra doctor`` can name what this system has."""
    assert containment() in {
        "control groups (cgroup v2)", "child subreaper and a search of /proc", "job objects",
        Groups.level,
    }  # fmt: skip


# -- control groups -----------------------------------------------------------------------------


def test_a_group_that_systemd_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where systemd rules, only a group that it delegated is used."""
    monkeypatch.setattr(cgroups, "_SYSTEMD", tmp_path)
    monkeypatch.setattr(cgroups, "_attribute", lambda base, name: b"")
    assert not cgroups.delegated(tmp_path)
    monkeypatch.setattr(cgroups, "_attribute", lambda base, name: b"1")
    assert cgroups.delegated(tmp_path)
    monkeypatch.setattr(cgroups, "_SYSTEMD", tmp_path / "none")
    assert cgroups.delegated(tmp_path)
    assert not cgroups.delegated(tmp_path / "none")


@LINUX
def test_no_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cgroup v2, or where a group cannot be made, the next level is taken."""
    monkeypatch.setattr(cgroups, "own_group", lambda: None)
    assert killing.best_containment().level == Sweeps.level
    groups = cgroups.ControlGroups(tmp_path / "none", killing.swept_or_grouped)
    child = start("import time; time.sleep(600)", tmp_path)
    tree = groups.enclose(child, "a-mark-of-a-test")
    groups.tend()
    assert isinstance(tree, sweeping.SweptTree)
    assert tree.kill(PATIENCE_S)


def test_groups_of_killed_hosts_are_removed(tmp_path: Path) -> None:
    """A group whose host is no more goes, with those below it; one whose host lives stays."""
    ended = start("pass", tmp_path)
    ended.wait()
    for host in (ended.pid, os.getpid()):
        (tmp_path / f"palyra-worker-{host}-1" / "below").mkdir(parents=True)
    cgroups.clear_stale(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [f"palyra-worker-{os.getpid()}-1"]


def test_a_group_of_an_earlier_process_of_our_number(tmp_path: Path) -> None:
    """It does not keep this process from control groups: it is removed."""
    left = tmp_path / f"palyra-worker-{os.getpid()}-77"
    (left / "below").mkdir(parents=True)
    numbers = cgroups._numbers
    cgroups._numbers = itertools.count(77)
    try:
        assert cgroups._make_leaf(tmp_path) == left
    finally:
        cgroups._numbers = numbers
    assert list(left.iterdir()) == []


def test_something_settles() -> None:
    """settled() asks at least once, and not longer than it may."""
    answers = iter([False, True])
    assert settled(lambda: next(answers), PATIENCE_S)
    assert not settled(lambda: False, 0)
    assert settled(lambda: True, -1)


# -- job objects --------------------------------------------------------------------------------


class Kernel32:
    """The few calls of Windows that are used; a job loses one process at every question."""

    def __init__(self, *, able: bool = True, processes: int = 2) -> None:
        self.calls: list[str] = []
        self._able = able
        self._left = processes
        self._child: subprocess.Popen[bytes] | None = None

    def CreateJobObjectW(self, attributes: None, name: None) -> int:
        self.calls.append("create")
        return 77

    def SetInformationJobObject(self, job: Any, kind: int, limits: Any, size: int) -> int:
        self.calls.append("limit")
        assert (kind, size) == (9, 144 if ctypes.sizeof(ctypes.c_void_p) == 8 else size)
        return 1

    def AssignProcessToJobObject(self, job: Any, process: Any) -> int:
        self.calls.append("assign")
        return int(self._able)

    def TerminateJobObject(self, job: Any, status: int) -> int:
        self.calls.append("terminate")
        return 1

    def QueryInformationJobObject(
        self, job: Any, kind: int, facts: Any, size: int, length: None
    ) -> int:
        self._left -= 1
        facts._obj.ActiveProcesses = self._left
        return 1

    def CloseHandle(self, handle: Any) -> int:
        self.calls.append("close")
        return 1


def test_a_job_is_ended(tmp_path: Path) -> None:
    """A worker's job is terminated and waited for; its handle is closed."""
    kernel32 = Kernel32()
    child = start("pass", tmp_path)
    jobs = JobObjects(kernel32)
    tree = jobs.enclose(child, "mark")
    assert tree.exited(PATIENCE_S)
    assert tree.kill(PATIENCE_S)
    jobs.tend()
    assert kernel32.calls == ["create", "limit", "assign", "terminate", "close"]


def test_a_worker_without_a_job(tmp_path: Path) -> None:
    """Where the system refuses a job the worker itself is killed."""
    kernel32 = Kernel32(able=False)
    child = start("import time; time.sleep(600)", tmp_path)
    assert JobObjects(kernel32).enclose(child, "mark").kill(PATIENCE_S)
    assert kernel32.calls == ["create", "limit", "assign", "close"]
    assert child.returncode is not None
