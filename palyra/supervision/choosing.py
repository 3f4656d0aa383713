"""Which service manager keeps a node host: the one that was asked for, or the one of the system."""

from __future__ import annotations

import sys
from pathlib import Path

from palyra.errors import ServiceManagerMissing, StoreCorrupt
from palyra.supervision.background import BackgroundProcess
from palyra.supervision.installed import INSTALLED_FILE, InstalledFile
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.launchd import Launchd
from palyra.supervision.service import Manager, Scope
from palyra.supervision.systemd import Systemd
from palyra.supervision.taskscheduler import TaskScheduler

_NATIVE = {"linux": Manager.SYSTEMD, "darwin": Manager.LAUNCHD, "win32": Manager.TASK}
_ONLY_ON = {Manager.SYSTEMD: "Linux", Manager.LAUNCHD: "macOS", Manager.TASK: "Windows"}


def choose(
    asked: Manager | None, scope: Scope, state_root: Path, *, platform: str = sys.platform
) -> IServiceManager:
    """The manager to install with: ``asked``, else the system's own where it runs, else a process
    in the background.

    :raises ServiceManagerMissing: the one that was asked for cannot be used here.
    """
    native = _NATIVE.get(platform)
    wanted = asked or native
    if wanted in (None, Manager.PROCESS):
        return BackgroundProcess(state_root)
    if wanted is not native:
        raise ServiceManagerMissing(wanted.value, f"only {_ONLY_ON[wanted]} has it")
    manager = _made(wanted, scope, state_root)
    problem = manager.available()
    if not problem:
        return manager
    if asked is not None:
        raise ServiceManagerMissing(asked.value, problem)
    return BackgroundProcess(state_root)


def of(mark: InstalledFile, *, platform: str = sys.platform) -> IServiceManager:
    """The manager that keeps what ``mark`` says was installed; it is not asked whether it runs.

    :raises StoreCorrupt: the mark names none that there is on this system: its files would be
        written where nobody reads them.
    """
    root = Path(mark.state_root)
    try:
        manager, scope = Manager(mark.manager), Scope(mark.scope)
        if manager not in (_NATIVE.get(platform), Manager.PROCESS):
            raise ValueError(f"it says {manager}, which only {_ONLY_ON[manager]} has")
    except ValueError as error:
        raise StoreCorrupt(str(root / "node-host" / INSTALLED_FILE), str(error)) from error
    return _made(manager, scope, root)


def _made(
    manager: Manager, scope: Scope, state_root: Path
) -> Systemd | Launchd | TaskScheduler | BackgroundProcess:
    match manager:
        case Manager.SYSTEMD:
            return Systemd(scope, state_root)
        case Manager.LAUNCHD:
            return Launchd(scope, state_root)
        case Manager.TASK:
            return TaskScheduler(state_root)
        case Manager.PROCESS:
            return BackgroundProcess(state_root)
