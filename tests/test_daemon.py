"""Tests of :mod:`palyra._daemon`."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.python.usage import Options

from palyra import _daemon
from palyra._daemon import CleanFailure, observer, prepare, refuse
from palyra.errors import NotPaired, StateRootLocked

REFUSAL = StateRootLocked("/srv/palyra", 4021)
PRINTED = (
    "error: A gateway (pid 4021) already uses state root /srv/palyra.\n"
    "hint:  stop it with kill 4021, or use --state-root DIR\n"
)


class Daemon(Service):
    """A service that may refuse to start."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[str] = []

    def startService(self) -> None:
        self.calls.append("start")
        if self.error is not None:
            raise self.error

    def stopService(self) -> Deferred[None]:
        self.calls.append("stop")
        return succeed(None)


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is printed on the terminal's own stderr."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    return stream.getvalue


def test_a_refusal_in_the_foreground_is_a_sentence(tmp_path: Path, stderr: Any) -> None:
    """Printed with its hint, exit status 1, and no pidfile of a process that never ran."""
    pidfile = tmp_path / "palyra.pid"
    pidfile.write_text("1")
    service = CleanFailure(Daemon(REFUSAL), {"nodaemon": True, "pidfile": str(pidfile)})
    with pytest.raises(SystemExit) as ended:
        service.startService()
    assert ended.value.code == 1
    assert stderr() == PRINTED
    assert not pidfile.exists()
    assert not service.running


def test_a_refusal_in_the_background_is_raised(tmp_path: Path, stderr: Any) -> None:
    """The parent prints it; a SystemExit would leave the parent waiting."""
    service = CleanFailure(Daemon(REFUSAL), {"nodaemon": False, "pidfile": ""})
    with pytest.raises(StateRootLocked):
        service.startService()
    assert stderr() == ""


def test_a_bug_is_not_dressed_up() -> None:
    """Only refusals of our own are sentences."""
    with pytest.raises(ZeroDivisionError):
        CleanFailure(Daemon(ZeroDivisionError()), None).startService()


def test_it_starts_and_stops_what_it_holds() -> None:
    """And hands on when that has stopped."""
    daemon = Daemon()
    service = CleanFailure(daemon, None)
    service.startService()
    assert service.running
    stopped = service.stopService()
    assert stopped is not None and stopped.called
    assert daemon.calls == ["start", "stop"]


class Parent(dict[str, Any]):
    """twistd's own options."""


def prepared(root: Path, *, posix: bool = True, **given: Any) -> Parent:
    options = Options()
    parent = Parent({"pidfile": "twistd.pid", "logfile": None, "nodaemon": False} | given)
    if not posix:
        del parent["pidfile"]
    options.parent = parent  # type: ignore[assignment]
    prepare(options, lambda: root, pidfile="palyra.pid", logfile="palyra.log", posix=posix)
    return parent


def test_a_pidfile_that_was_left_behind(tmp_path: Path) -> None:
    """Whoever has its number today is no daemon of this root; a file of one's own is kept."""
    left, own = tmp_path / "palyra.pid", tmp_path / "own.pid"
    for file in (left, own):
        file.write_text(str(os.getppid()))
    prepared(tmp_path)
    prepared(tmp_path, pidfile=str(own))
    assert not left.exists() and own.exists()


def test_pidfile_and_log_go_into_the_state_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody named others; the observer that twistd takes by name writes there."""
    parent = prepared(tmp_path)
    assert parent["pidfile"] == str(tmp_path / "palyra.pid")
    assert parent["logger"] == "palyra._daemon.observer"
    assert _daemon._log_file == tmp_path / "palyra.log"
    asked: list[Path] = []
    monkeypatch.setattr(_daemon, "file_observer", asked.append)
    observer()
    assert asked == [tmp_path / "palyra.log"]


def test_what_was_named_is_kept(tmp_path: Path) -> None:
    """A pidfile, a log file and an observer of one's own."""
    assert prepared(tmp_path, pidfile="/run/x.pid")["pidfile"] == "/run/x.pid"
    prepared(tmp_path, logfile=str(tmp_path / "mine.log"))
    assert _daemon._log_file == tmp_path / "mine.log"
    assert prepared(tmp_path, logger="their.observer")["logger"] == "their.observer"


@pytest.mark.parametrize("given", [{"nodaemon": True}, {"logfile": "-"}])
def test_in_the_foreground_the_log_is_the_terminal(tmp_path: Path, given: dict[str, Any]) -> None:
    """With ``-n``, and with ``--logfile=-``."""
    prepared(tmp_path, **given)
    assert _daemon._log_file is None
    observer()


def test_a_refusal_comes_before_the_fork(stderr: Any) -> None:
    """The person who typed the command reads it."""

    def check() -> Path:
        raise NotPaired("/srv/palyra")

    with pytest.raises(SystemExit):
        prepare(Options(), check, pidfile="p", logfile="l")
    assert stderr().startswith("error: The node host on state root /srv/palyra is not paired.\n")


@pytest.mark.parametrize("nodaemon", [True, False])
def test_where_twistd_never_forks(tmp_path: Path, stderr: Any, nodaemon: bool) -> None:
    """On Windows it is always in the foreground, and there is no pidfile."""
    parent = prepared(tmp_path, posix=False, nodaemon=nodaemon)
    assert "pidfile" not in parent and _daemon._log_file is None
    prepared(tmp_path, posix=False, nodaemon=nodaemon, logfile=str(tmp_path / "mine.log"))
    assert _daemon._log_file == tmp_path / "mine.log"
    with pytest.raises(SystemExit):
        CleanFailure(Daemon(REFUSAL), parent, posix=False).startService()
    assert stderr() == PRINTED


def test_a_refusal_that_nobody_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the process all the same."""
    monkeypatch.setattr(sys, "__stderr__", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as ended:
        refuse(REFUSAL)
    assert ended.value.code == 1
