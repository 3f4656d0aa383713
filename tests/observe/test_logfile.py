"""Tests of :mod:`palyra.observe.logfile`."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from palyra.observe.logfile import SteadyLogFile


class Full:
    """A file on a disk that is full for a while."""

    def __init__(self, file: object) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self.file.close()  # type: ignore[attr-defined]


@pytest.fixture
def log(tmp_path: Path) -> SteadyLogFile:
    return SteadyLogFile("node-host.stdout.log", str(tmp_path))


def test_a_full_disk(log: SteadyLogFile, tmp_path: Path) -> None:
    """Nobody who logs sees it; how much is missing is said when there is room again."""
    log.write("one\n")
    log._file = Full(log._file)
    opened, log._openFile = log._openFile, lambda: None  # type: ignore[method-assign]
    for _ in range(3):
        log.write("lost\n")
    log._openFile = opened  # type: ignore[method-assign]
    log.write("two\n")
    log.write("three\n")
    assert (tmp_path / log.name).read_text().splitlines() == [
        "one",
        "(3 lines before this one could not be written)",
        "two",
        "three",
    ]
    log.close()


def test_a_rotation_that_gets_no_further(
    log: SteadyLogFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old file is moved and the new one cannot be made; logging begins again by itself."""
    monkeypatch.setattr(log, "rotateLength", 200)
    log.write("1" * 200 + "\n")

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(log, "_openFile", full)
        log.write("lost\n")
        log.write("lost\n")
    log.write("there\n")
    assert (tmp_path / f"{log.name}.1").read_text() == "1" * 200 + "\n"
    assert (tmp_path / log.name).read_text().splitlines()[-1] == "there"
    log.close()


def test_a_directory_that_is_taken_away(log: SteadyLogFile, tmp_path: Path) -> None:
    """Neither a line nor a rotation raises."""
    log.rotateLength = 200
    shutil.rmtree(tmp_path)
    for _ in range(20):
        log.write("x" * 50)
    assert not tmp_path.exists()
    log.close()


def test_what_it_makes_is_private(log: SteadyLogFile, tmp_path: Path) -> None:
    """Also after a rotation."""
    log.rotateLength = 1
    log.write("one\n")
    log.write("two\n")
    assert [each.stat().st_mode & 0o777 for each in tmp_path.iterdir()] == [0o600, 0o600]
    log.close()
