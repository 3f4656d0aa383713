"""Tests of :mod:`palyra._lock`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra._lock import RootLock
from palyra.errors import StateRootLocked, StoreUnavailable

HOLDER = """
import pathlib, sys
from palyra._lock import RootLock
lock = RootLock.take(pathlib.Path(sys.argv[1]), who="A gateway")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its stdin ends."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "palyra.lock")]
    path = os.pathsep.join(each for each in sys.path if each)
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_refused(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """With the id of the first, its kind and the state root."""
    with pytest.raises(StateRootLocked) as refused:
        RootLock.take(tmp_path / "palyra.lock", who="A gateway")
    expected = f"A gateway (pid {holder.pid}) already uses state root {tmp_path}."
    assert refused.value.sentence == expected
    assert refused.value.hint == f"stop it with kill {holder.pid}, or use --state-root DIR"


def test_a_killed_holder_leaves_no_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """The file stays behind and means nothing."""
    holder.kill()
    holder.wait(30)
    lock = RootLock.take(tmp_path / "palyra.lock", who="A gateway")
    assert (tmp_path / "palyra.lock").read_text().strip() == str(os.getpid())
    lock.release()


def test_released_is_free(tmp_path: Path) -> None:
    """In the same process too; the file is private and stays."""
    path = tmp_path / "palyra.lock"
    first = RootLock.take(path, who="A node host")
    with pytest.raises(StateRootLocked, match="A node host"):
        RootLock.take(path, who="A node host")
    first.release()
    RootLock.take(path, who="A node host").release()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_in_the_file_is_only_a_word(tmp_path: Path) -> None:
    """A holder that did not write its id is told without one."""
    path = tmp_path / "palyra.lock"
    lock = RootLock.take(path, who="A gateway")
    path.write_text("somebody\n")
    with pytest.raises(StateRootLocked) as refused:
        RootLock.take(path, who="A gateway")
    assert refused.value.sentence == f"A gateway already uses state root {tmp_path}."
    lock.release()


def test_a_forked_child_signs_anew(tmp_path: Path) -> None:
    """The lock is inherited; the id in it becomes the child's, shorter or longer."""
    path = tmp_path / "palyra.lock"
    lock = RootLock.take(path, who="A gateway")
    path.write_text("1234567890123\n")
    lock.sign()
    assert path.read_text().strip() == str(os.getpid())
    lock.release()


def test_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """The question takes nothing away and makes no file."""
    held, free = tmp_path / "palyra.lock", tmp_path / "free.lock"
    assert RootLock.holder(held) == RootLock.holder(held) == holder.pid
    assert RootLock.holder(free) is None and not free.exists()
    RootLock.take(free, who="A gateway").release()
    assert RootLock.holder(free) is None
    held.write_bytes(b"\xff\xb2")
    assert RootLock.holder(held) == 0
    with pytest.raises(StateRootLocked) as refused:
        RootLock.take(held, who="A gateway")
    assert refused.value.pid == 0


def test_what_is_no_lock_file(tmp_path: Path) -> None:
    """A directory, a link or a pipe is named, and not followed."""
    lock, elsewhere = tmp_path / "palyra.lock", tmp_path / "elsewhere"
    lock.mkdir()
    with pytest.raises(StoreUnavailable, match=str(lock)):
        RootLock.take(lock, who="A gateway")
    lock.rmdir()
    elsewhere.write_text("letters")
    lock.symlink_to(elsewhere)
    with pytest.raises(StoreUnavailable):
        RootLock.take(lock, who="A gateway")
    assert elsewhere.read_text() == "letters"
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(StoreUnavailable, match="no file"):
        RootLock.take(lock, who="A gateway")
    with pytest.raises(StoreUnavailable):
        RootLock.holder(lock)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock holds, and nobody is named instead of its holder."""
    path = tmp_path / "palyra.lock"
    path.write_text("4021\n")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        lock = RootLock.take(path, who="A gateway")
    assert RootLock.holder(path) == 0
    lock.release()
