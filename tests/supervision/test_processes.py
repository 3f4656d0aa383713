"""Tests of :mod:`palyra.supervision.processes`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from palyra.errors import DidNotStop
from palyra.supervision import processes
from palyra.supervision.processes import BOOT_ID_FILE, alive, boot_id, end, start_token
from palyra.supervision.processfile import ProcessFile

BOOT = "this boot"
DEAF = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)"
SLEEP = "; import time; time.sleep(60)"


def named(pid: int) -> ProcessFile:
    """The file of a process that lives."""
    return ProcessFile(1, pid, "", "", 0, BOOT, start_token(pid))


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that would live for a minute."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_the_boot_id(tmp_path: Path) -> None:
    """It is there on every system, the same at each question, and another one where a file that the
    environment names says so."""
    for platform in ("linux", "darwin", "win32"):
        assert boot_id({}, platform) == boot_id({}, platform) != ""
    named = tmp_path / "boot"
    assert boot_id({BOOT_ID_FILE: str(named)}) == "unknown"
    named.write_text("another\n")
    assert boot_id({BOOT_ID_FILE: str(named)}) == "another"


def test_the_boot_id_of_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name that the kernel gives its session."""
    program = tmp_path / "sysctl"
    program.write_text('#!/bin/sh\n[ "$*" = "-n kern.bootsessionuuid" ] && echo 0A-1B\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert boot_id({}, "darwin") == "0A-1B"


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_start_of_a_process(child: subprocess.Popen[bytes], platform: str) -> None:
    """It stays the same while the process lives, and is empty when only its remains are left."""
    first = start_token(child.pid, platform)
    assert first and start_token(child.pid, platform) == first
    assert start_token(os.getpid(), platform) != ""
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_token(child.pid, platform) == ""
    child.wait()
    assert start_token(child.pid, platform) == ""


def test_who_is_alive(child: subprocess.Popen[bytes]) -> None:
    """The same number, started at the same moment of the same boot; nothing less."""
    file = named(child.pid)
    assert alive(file, BOOT)
    assert not alive(file, "the boot after")
    assert not alive(msgspec.structs.replace(file, start_token="1"), BOOT)
    assert not alive(msgspec.structs.replace(file, start_token=""), BOOT)
    assert not alive(msgspec.structs.replace(file, pid=os.getpid()), BOOT)
    assert not alive(msgspec.structs.replace(file, boot_id="", start_token=""), "")


@pytest.fixture(params=["pidfd", "number"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a kernel that has pidfds, and with one that has none."""
    if request.param == "number":
        monkeypatch.setattr(processes, "_pidfd_open", None)


def ended(file: ProcessFile, *, grace_s: float = 20, of_user: int | None = None) -> None:
    end(file, grace_s=grace_s, boot_id=lambda: BOOT, of_user=of_user)


@pytest.mark.usefixtures("held")
def test_ending(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM is enough for most; it has ended when that returns."""
    ended(named(child.pid), of_user=os.getuid())
    assert child.wait() in (-signal.SIGTERM, 0)  # psutil has taken its end
    ended(msgspec.structs.replace(named(os.getpid()), pid=child.pid))


@pytest.mark.usefixtures("held")
def test_ending_what_does_not_listen() -> None:
    """It is killed after its grace."""
    with subprocess.Popen([sys.executable, "-c", DEAF + SLEEP], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None and deaf.stdout.readline()
        ended(named(deaf.pid), grace_s=0.05)
        assert deaf.wait() in (-signal.SIGKILL, 0)


@pytest.mark.usefixtures("held")
def test_nobody_else_is_ended(child: subprocess.Popen[bytes]) -> None:
    """Neither who has the number now, nor another user's process that a file names."""
    file = named(child.pid)
    ended(msgspec.structs.replace(file, start_token="1"))
    end(file, grace_s=1, boot_id=lambda: "the boot after")
    with pytest.raises(DidNotStop):
        ended(file, of_user=os.getuid() + 1)
    assert child.poll() is None


@pytest.mark.usefixtures("held")
def test_a_number_that_is_given_away_meanwhile(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the signal the process ended, and another one has its number."""
    file = named(child.pid)
    tokens = iter([file.start_token, "of another"])
    monkeypatch.setattr(processes, "start_token", lambda pid: next(tokens))
    ended(file)
    assert child.poll() is None


def test_what_does_not_end(child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for a dead disk, or may not be signalled, is named."""

    class Stuck:
        def __init__(self, refuses: bool) -> None:
            self.refuses = refuses

        def send(self, number: int) -> None:
            if self.refuses:
                raise PermissionError(1, "no")

        def ends_within(self, limit_s: float) -> bool:
            return False

        def close(self) -> None:
            pass

    for refuses in (True, False):
        monkeypatch.setattr(processes, "_held", lambda pid, refuses=refuses: Stuck(refuses))
        with pytest.raises(DidNotStop) as refused:
            ended(named(child.pid))
        assert refused.value.pid == child.pid
