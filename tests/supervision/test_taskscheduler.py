"""Tests of :mod:`palyra.supervision.taskscheduler` against a schtasks that stands in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from palyra.errors import (
    CredentialsUnsupported,
    DidNotStop,
    OptionInvalid,
    ServiceElsewhere,
    ServiceManagerFailed,
    ServiceManagerMissing,
)
from palyra.node.controlsocket import ControlSocket
from palyra.supervision import processes, processfile
from palyra.supervision.controlpoint import control_point
from palyra.supervision.grace import BEYOND_S
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import Manager, Scope, Service, ServiceState
from palyra.supervision.taskscheduler import ENDED_S, TaskScheduler, ask_stop, serving
from tests.node.test_hostcontrol import Controlled
from tests.supervision.othersystems import StandIn, schtasks

READY = ServiceState(installed=True, at_boot=True, word="ready")
RUNS = ServiceState(installed=True, running=True, pid=4312, at_boot=True, word="running")


class Windows:
    """A user's machine; a task that runs serves, until it is ended or does what it is asked."""

    def __init__(self, path: Path, program: StandIn) -> None:
        self.program = program
        self.clock = Clock()
        self.root = path / "state"
        self.root.mkdir()
        self.asked: list[Path] = []
        self.obeys = True
        self.manager = TaskScheduler(
            ask_stop=self.ask_stop,
            serving=self.serving,
            pause=self.clock.advance,
            elapsed_s=self.clock.seconds,
        )
        self.service = Service(state_root=self.root, python=str(path / "python.exe"))
        (path / "pythonw.exe").touch()

    def ask_stop(self, root: Path) -> bool:
        self.asked.append(root)
        if self.obeys:
            self.clock.callLater(5, (self.program.directory / "running").unlink)
        return self.obeys

    def serving(self, root: Path) -> int:
        assert root == self.root
        return 4312 if (self.program.directory / "running").exists() else 0


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    return Windows(tmp_path, schtasks(tmp_path, monkeypatch))


def test_the_whole_life(windows: Windows) -> None:
    """Installed is not started; one that runs is asked to stop before it is ended."""
    manager, program = windows.manager, windows.program
    assert verifyObject(IServiceManager, manager)
    assert (manager.kind, manager.logs(9, False)) == (Manager.TASK, None)
    assert manager.available() == ""
    assert manager.state() == ServiceState(installed=False, at_boot=False)
    manager.stop()
    assert manager.install(windows.service) == [] and manager.state() == READY
    program.calls()
    manager.start()
    assert program.calls()[-1] == "/Run /TN palyra-node" and manager.state() == RUNS
    program.calls()
    manager.start()
    assert not [call for call in program.calls() if "/Run" in call]
    manager.restart()
    assert windows.asked == [windows.root] and windows.clock.seconds() == 5
    assert manager.state() == RUNS
    assert manager.uninstall() == [] and len(windows.asked) == 2
    assert manager.state() == ServiceState(installed=False, at_boot=False)
    assert manager.uninstall() == []
    assert not windows.clock.getDelayedCalls()


def test_one_that_does_not_do_what_it_is_asked(windows: Windows) -> None:
    """Is ended; one that cannot be ended is named."""
    windows.obeys = False
    windows.manager.install(windows.service)
    windows.manager.start()
    windows.manager.stop()
    assert windows.manager.state() == READY and windows.clock.seconds() == 0
    windows.manager._ask_stop = lambda root: True
    windows.program.has("stays")
    (windows.root / "palyra.toml").write_text("[node]\nshutdown_grace_s = 300\n")
    windows.manager.start()
    with pytest.raises(DidNotStop, match="4312"):
        windows.manager.stop()
    assert windows.clock.seconds() == 300 + BEYOND_S + ENDED_S


def _foreign(windows: Windows) -> tuple[Service, type[Exception]]:
    windows.manager.install(windows.service)
    return Service(state_root=Path("/other"), python=windows.service.python), ServiceElsewhere


def _somebody_elses(windows: Windows) -> tuple[Service, type[Exception]]:
    windows.program.directory.joinpath("task.xml").write_bytes("<Task/>".encode("utf-16"))
    return windows.service, ServiceManagerFailed


def _credentials(windows: Windows) -> tuple[Service, type[Exception]]:
    return Service(state_root=windows.root, credentials={"a": windows.root}), CredentialsUnsupported


def _of_the_machine(windows: Windows) -> tuple[Service, type[Exception]]:
    return Service(state_root=windows.root, scope=Scope.SYSTEM), ServiceManagerMissing


def _a_window(windows: Windows) -> tuple[Service, type[Exception]]:
    return Service(state_root=windows.root, python="/nowhere/python.exe"), ServiceManagerFailed


def _a_variable(windows: Windows) -> tuple[Service, type[Exception]]:
    return Service(state_root=Path("/a%TEMP%"), python=windows.service.python), OptionInvalid


def _refused(windows: Windows) -> tuple[Service, type[Exception]]:
    windows.program.fails("Create", 1)
    return windows.service, ServiceManagerFailed


@pytest.mark.parametrize(
    "made",
    [_foreign, _somebody_elses, _credentials, _of_the_machine, _a_window, _a_variable, _refused],
)
def test_what_cannot_be_installed(
    windows: Windows, made: Callable[[Windows], tuple[Service, type[Exception]]]
) -> None:
    """Leaves what was there before, and no file."""
    service, error = made(windows)
    file = windows.program.directory / "task.xml"
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(error):
        windows.manager.install(service)
    assert (file.read_bytes() if file.exists() else None) == before


def test_what_somebody_else_made(windows: Windows) -> None:
    """Is neither stopped nor taken away."""
    _somebody_elses(windows)
    windows.program.has("running")
    with pytest.raises(ServiceManagerFailed):
        windows.manager.uninstall()
    assert (windows.program.directory / "running").exists() and windows.asked == []


def test_the_task_of_another_state_root(windows: Windows) -> None:
    """Is none of its own: it is neither stopped nor started nor taken away."""
    windows.manager.install(windows.service)
    windows.program.has("running")
    other = TaskScheduler(windows.root / "other")
    other.stop()
    assert other.uninstall() == [] and not other.state().installed
    with pytest.raises(ServiceElsewhere):
        other.start()
    assert (windows.program.directory / "running").exists()
    assert (windows.program.directory / "task.xml").exists()


def test_no_task_scheduler(windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or one that does not answer."""
    windows.program.fails("?", 5)
    assert windows.manager.available()
    monkeypatch.setenv("PATH", str(windows.root))
    assert windows.manager.available() == "schtasks is not there"
    assert not windows.manager.state().installed


@pytest_twisted.ensureDeferred
async def test_asking_a_node_host(tmp_path: Path) -> None:
    """Where its owner's commands go; nobody who is not there, or says something else."""
    from twisted.internet import reactor

    directory = tmp_path / "node-host"
    directory.mkdir()
    assert not ask_stop(tmp_path)
    host = Controlled(directory)
    listening = ControlSocket(reactor, control_point(directory), host.control)
    listening.bind()
    try:
        assert await deferToThread(ask_stop, tmp_path)
        assert host.stopped == 1
        host.control.answer = lambda asked, account: 1 / 0  # type: ignore
    finally:
        await listening.stop()
    assert not ask_stop(tmp_path)


def test_who_serves(tmp_path: Path) -> None:
    """The process that the file names, if it is that one."""
    (tmp_path / "node-host").mkdir()
    assert serving(tmp_path) == 0
    pid = os.getpid()
    for boot_id, found in ((processes.boot_id(), pid), ("another life", 0)):
        file = ProcessFile(1, pid, "", "", 0, boot_id, processes.start_token(pid))
        processfile.write(tmp_path / "node-host" / "node-host-process.json", file)
        assert serving(tmp_path) == found
