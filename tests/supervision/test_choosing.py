"""Tests of :mod:`palyra.supervision.choosing`."""

from __future__ import annotations

from pathlib import Path

import pytest

from palyra.errors import ServiceManagerMissing, StoreCorrupt
from palyra.supervision.choosing import choose, of
from palyra.supervision.installed import InstalledFile
from palyra.supervision.launchd import Launchd
from palyra.supervision.service import Manager, Scope
from palyra.supervision.systemd import Systemd
from palyra.supervision.taskscheduler import TaskScheduler

NATIVE = {
    "linux": (Manager.SYSTEMD, Systemd),
    "darwin": (Manager.LAUNCHD, Launchd),
    "win32": (Manager.TASK, TaskScheduler),
}


@pytest.fixture(params=["", "it does not run"])
def problem(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Why none of the managers can be used; empty where they can."""
    for _, manager in NATIVE.values():
        monkeypatch.setattr(manager, "available", lambda self: request.param)
    return str(request.param)


@pytest.mark.parametrize("platform", NATIVE)
def test_the_manager_of_the_system(platform: str, problem: str, tmp_path: Path) -> None:
    """Where it runs; else a process in the background."""
    chosen = choose(None, Scope.USER, tmp_path, platform=platform)
    assert chosen.kind is (Manager.PROCESS if problem else NATIVE[platform][0])


@pytest.mark.parametrize("platform", NATIVE)
def test_the_manager_that_was_asked_for(platform: str, problem: str, tmp_path: Path) -> None:
    """Is taken or refused, and never another one; a process is possible everywhere."""
    assert choose(Manager.PROCESS, Scope.USER, tmp_path, platform=platform).kind is Manager.PROCESS
    for asked in set(Manager) - {Manager.PROCESS}:
        if asked is NATIVE[platform][0] and not problem:
            assert choose(asked, Scope.USER, tmp_path, platform=platform).kind is asked
            continue
        with pytest.raises(ServiceManagerMissing) as refused:
            choose(asked, Scope.USER, tmp_path, platform=platform)
        assert refused.value.sentence.startswith(f"{asked} cannot be used here: ")
        assert refused.value.hint == "palyra node install --manager process"


def test_a_system_that_has_none(tmp_path: Path) -> None:
    """A process in the background."""
    assert choose(None, Scope.USER, tmp_path, platform="freebsd14").kind is Manager.PROCESS


def mark(manager: str, scope: str = "user") -> InstalledFile:
    return InstalledFile(1, manager, scope, "/srv/pi", "/usr/bin/python3", "0.1.0", 0)


@pytest.mark.parametrize("manager", Manager)
@pytest.mark.parametrize("scope", Scope)
def test_the_manager_of_a_mark(manager: Manager, scope: Scope, problem: str) -> None:
    """Whether it runs now or not: it has what was installed."""
    (platform,) = [each for each, (kind, _) in NATIVE.items() if kind is manager] or ["linux"]
    kept = of(mark(manager, scope), platform=platform)
    assert kept.kind is manager
    if manager is Manager.SYSTEMD:
        assert kept.described == f"systemd {scope} unit"


def test_a_mark_that_names_none() -> None:
    """The file is named, which a newer program or a hand has changed."""
    for bad in (mark("runit"), mark("systemd", "planet"), mark("launchd"), mark("task")):
        with pytest.raises(StoreCorrupt, match=r"/srv/pi/node-host/installed\.json"):
            of(bad, platform="linux")
