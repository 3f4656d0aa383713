"""Tests of :mod:`palyra.node.serving`."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from palyra import __version__, _versioned
from palyra.errors import DiskFull, StateOfAnother
from palyra.node.files import NodeFiles
from palyra.node.serving import AGAIN_S, Serving
from palyra.supervision import processes, processfile
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import MANAGER
from tests.node.fakes import NOW_MS

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    files = NodeFiles(tmp_path)
    files.make()
    return files


def serving(
    files: NodeFiles, environ: Mapping[str, str] = {}, clock: Clock | None = None
) -> Serving:
    return Serving(
        files,
        clock=clock or Clock(),
        now_ms=lambda: NOW_MS,
        boot_id=lambda: "boot",
        environ=environ,
    )


def test_it_says_which_process_serves(files: NodeFiles) -> None:
    """From the beginning to the end, so that others can tell whether it lives."""
    host = serving(files, {MANAGER: "systemd"})
    host.check()
    assert not files.process.exists()
    host.begin()
    assert processfile.read(files.process) == ProcessFile(
        1,
        os.getpid(),
        str(files.root / "node-host.stdout.log"),
        str(files.root / "node-host.stderr.log"),
        NOW_MS,
        "boot",
        processes.start_token(os.getpid()),
        "systemd",
        __version__,
    )
    host.end()
    assert not files.process.exists()


@pytest.mark.parametrize("manager", ["", "cron", "x" * 9_999])
def test_a_manager_that_nobody_knows(files: NodeFiles, manager: str) -> None:
    """Is none: whatever the environment says is not repeated."""
    serving(files, {MANAGER: manager}).begin()
    file = processfile.read(files.process)
    assert file is not None and file.manager == ""


def test_what_another_process_wrote_stays(files: NodeFiles) -> None:
    """A host that ends late takes nothing away from the next one."""
    host = serving(files)
    host.begin()
    processfile.write(files.process, ProcessFile(1, os.getpid() + 1, "", "", 0))
    host.end()
    assert files.process.exists()


@pytest.mark.parametrize("error", [DiskFull("/"), OSError(errno.EROFS, "Read-only file system")])
def test_a_disk_that_cannot_be_written(
    files: NodeFiles, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It serves all the same, and says so as soon as there is room; not when it has ended."""

    def refuse(*_: object) -> None:
        raise error

    clock = Clock()
    host = serving(files, clock=clock)
    with monkeypatch.context() as trouble:
        trouble.setattr(_versioned, "write_atomic", refuse)
        host.begin()
        clock.advance(AGAIN_S)
        assert not files.process.exists()
    clock.advance(AGAIN_S)
    file = processfile.read(files.process)
    assert file is not None and file.pid == os.getpid()
    assert not clock.getDelayedCalls()
    host.end()
    assert not files.process.exists()


def test_it_ends_before_there_is_room(files: NodeFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing any more."""

    def refuse(*_: object) -> None:
        raise DiskFull("/")

    monkeypatch.setattr(_versioned, "write_atomic", refuse)
    clock = Clock()
    host = serving(files, clock=clock)
    host.begin()
    host.end()
    assert not clock.getDelayedCalls()


def test_what_a_crash_left_is_swept(files: NodeFiles) -> None:
    """Beside each file that the host writes; nobody else's."""
    names = ("node-host.json", "consents.json", "node-host-process.json", "last-error.json")
    left = [files.root / f".{name}.ab_12xyz" for name in (*names, "descriptors-cache.json")]
    for each in (*left, files.root / ".letters.ab_12xyz"):
        each.touch()
    serving(files).check()
    assert [each.name for each in files.root.iterdir()] == [".letters.ab_12xyz"]


@ROOT_ONLY
def test_the_state_of_another_user(files: NodeFiles) -> None:
    """Root does not serve it either: its files would be closed to their owner."""
    os.chown(files.root, 65534, 65534)
    with pytest.raises(StateOfAnother) as refused:
        serving(files).check()
    assert str(files.root) in refused.value.sentence
