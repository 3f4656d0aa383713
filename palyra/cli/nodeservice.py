"""``palyra node start|stop|restart``: the service that ``palyra node install`` made."""

from __future__ import annotations

import os

import attrs
import click
import msgspec

from palyra import __version__
from palyra.cli import words
from palyra.cli.noderoot import check_owner, check_scope, node_state_root
from palyra.cli.nodestarting import RUNNING, Begun, begun, is_kept, ok, running, show_begun
from palyra.cli.options import Call, Verb, pass_call
from palyra.cli.present import Screen
from palyra.config import load
from palyra.errors import (
    ConfigInvalid,
    HostOutsideService,
    NotInstalled,
    StateRootLocked,
    StoreCorrupt,
)
from palyra.node.controlwords import StatusAnswer
from palyra.node.files import NodeFiles
from palyra.supervision.installed import InstalledFile, mark_at
from palyra.supervision.interfaces import IServiceManager

_GRACE_S = 10.0


class Started(msgspec.Struct, frozen=True):
    """``start`` and ``restart`` with ``--json``."""

    started: bool
    pid: int
    state: str
    manager: str
    version: str
    version_before: str


class Stopped(msgspec.Struct, frozen=True):
    """``stop --json``; ``pid`` is the one that ended, 0 where none ran."""

    stopped: bool
    pid: int
    manager: str


@attrs.frozen
class Installed:
    """A service that is there, and who keeps it."""

    files: NodeFiles
    mark: InstalledFile
    manager: IServiceManager


@click.command(cls=Verb)
@pass_call
def start(call: Call) -> int:
    """Start the service, and wait until it is online."""
    found, screen = _installed(call, "start"), call.screen
    runs = is_kept(found.manager, found.files)
    other = None if runs else running(found.files.state_root)
    if other is not None:
        raise StateRootLocked(str(found.files.root), other.pid, "A node host")
    act = (lambda: None) if runs else found.manager.start
    made = begun(screen, found.manager, found.files, act)
    return _tell(screen, found, made, RUNNING if runs else "started")


@click.command(cls=Verb)
@pass_call
def stop(call: Call) -> None:
    """Stop the service; running jobs get their grace."""
    found, screen = _installed(call, "stop"), call.screen
    pid = _stopped(found, screen)
    if screen.as_json:
        made = Stopped(True, pid, found.mark.manager)
        return screen.json(msgspec.json.encode(made))
    return ok(screen, "stopped", "", str(pid))


@click.command(cls=Verb)
@pass_call
def restart(call: Call) -> int:
    """Stop the service, and start what is installed now."""
    found, screen = _installed(call, "restart"), call.screen
    before = _own_host(found)
    if before is not None:
        say_grace(found.files, screen, before)
    old = before.pid if before else 0
    made = begun(screen, found.manager, found.files, found.manager.restart, not_pid=old)
    return _tell(screen, found, made, "restarted", before.version if before else "")


VERBS = (start, stop, restart)
"""What ``palyra node`` has from here, in the order of use."""


def manager_of(mark: InstalledFile) -> IServiceManager:
    """Who keeps an installed service."""
    from palyra.supervision import choosing

    return choosing.of(mark)


def _installed(call: Call, verb: str) -> Installed:
    """The service of this state root.

    :raises NotInstalled, HostOutsideService: there is none.
    :raises SocketPermission: it is another user's.
    :raises StoreCorrupt: the mark is of another state root: this one was copied or moved.
    """
    root = node_state_root(call)
    check_owner(root, verb)
    files = NodeFiles(root)
    mark = mark_at(files.installed).read()
    if mark is None:
        host = running(root)
        if host is not None:
            raise HostOutsideService(str(root), host.pid)
        raise NotInstalled(str(root))
    if os.path.realpath(mark.state_root) != os.path.realpath(root):
        raise StoreCorrupt(str(files.installed), f"it is the mark of {mark.state_root}")
    check_scope(root, mark.scope, verb)
    return Installed(files, mark, manager_of(mark))


def _stopped(found: Installed, screen: Screen) -> int:
    """Stop it; the pid that ended, 0 where none ran."""
    host, pid = _own_host(found), found.manager.state().pid
    if host is not None:
        say_grace(found.files, screen, host)
    with screen.working("stopping"):
        found.manager.stop()
    return host.pid if host is not None else pid


def _own_host(found: Installed) -> StatusAnswer | None:
    """What the service says of itself; None where it does not answer.

    :raises HostOutsideService: another node host answers.
    """
    host = running(found.files.state_root)
    if host is not None and not is_kept(found.manager, found.files):
        raise HostOutsideService(str(found.files.state_root), host.pid)
    return host


def say_grace(files: NodeFiles, screen: Screen, host: StatusAnswer) -> None:
    """What takes its time, before it does."""
    if not host.jobs:
        return
    try:
        grace_s = load(files.state_root / "palyra.toml").node.shutdown_grace_s
    except ConfigInvalid:
        grace_s = _GRACE_S
    has = "has" if host.jobs == 1 else "have"
    screen.aside(f"stopping, {words.counted(host.jobs, 'job')} {has} {grace_s:g}s to finish")


def _tell(
    screen: Screen, found: Installed, made: Begun, label: str, version_before: str = ""
) -> int:
    version = made.version or __version__
    if screen.as_json:
        said = Started(
            True, made.pid, made.state, found.mark.manager, version, version_before or version
        )
        screen.json(msgspec.json.encode(said))
        return 0 if made.online else 3
    changed = version_before and version_before != version
    more = f", version {version_before} -> {version}" if changed else ""
    return show_begun(screen, made, label, more)
