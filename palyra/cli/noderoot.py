"""Which state root the verbs of ``palyra node`` are about, and whose it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click

from palyra._ownersocket import account_of, own_account
from palyra.cli.client import owner_of
from palyra.cli.options import Call
from palyra.config.roots import ENVIRONMENT
from palyra.errors import SocketPermission, StoreCorrupt
from palyra.supervision.service import SYSTEM_STATE_ROOT, Scope, runs_as_root

DIRECTORY = "node-host"


def node_state_root(call: Call) -> Path:
    """The one that was named, else the user's own; root's is that of the system service where
    there is one, and none of root's own."""
    check_here(call)
    root = call.state_root
    if call.named_root is not None or os.environ.get(ENVIRONMENT) or not runs_as_root():
        return root
    system = (SYSTEM_STATE_ROOT / DIRECTORY).is_dir() and not (root / DIRECTORY).is_dir()
    return SYSTEM_STATE_ROOT if system else root


def install_root(call: Call) -> Path:
    """Where ``install`` puts a service: the root that was named, else root's is the machine's."""
    check_here(call)
    named = call.named_root is not None or os.environ.get(ENVIRONMENT)
    return SYSTEM_STATE_ROOT if runs_as_root() and not named else call.state_root


def check_here(call: Call) -> None:
    """No node host can be asked from afar.

    :raises click.UsageError: one was named.
    """
    if call.context or call.gateway_url:
        raise click.UsageError("palyra node is about this device; leave out the gateway from afar")


def check_owner(root: Path, verb: str) -> None:
    """Refuse the node host of another user; root is let in, and looks at the mark.

    :raises SocketPermission: with the user who may.
    :raises StoreCorrupt: a link is in its place.
    """
    directory, me = root / DIRECTORY, _euid()
    try:
        owner = owner_uid(directory)
    except PermissionError as error:
        raise _refusal(root, owner_of(directory), verb) from error
    if owner is not None and me not in (0, owner):
        raise _refusal(root, account_of(owner), verb)


def _refusal(root: Path, owner: str, verb: str) -> SocketPermission:
    """Of the machine's own node host root is the one who may."""
    if root == SYSTEM_STATE_ROOT:
        return _of_another("the system service", "root", verb)
    return _of_another(root / DIRECTORY, owner, verb)


def check_scope(root: Path, scope: str, verb: str) -> None:
    """A system service is root's to change, and a user's is that user's alone.

    :raises SocketPermission: it is not the caller's.
    """
    directory, me = root / DIRECTORY, _euid()
    if os.name != "posix":
        return
    if scope == Scope.SYSTEM and me != 0:
        raise _of_another("the system service", "root", verb)
    owner = owner_uid(directory)
    if scope == Scope.USER and owner not in (None, me):
        raise _of_another(directory, account_of(owner or 0), verb)


def owner_uid(directory: Path) -> int | None:
    """The uid that a directory belongs to; None where it is not there, or on Windows.

    :raises StoreCorrupt: it is a link, or no directory.
    :raises PermissionError: it cannot be looked at.
    """
    if os.name != "posix":
        return None
    try:
        status = directory.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISDIR(status.st_mode):
        raise StoreCorrupt(str(directory), "it is no directory")
    return status.st_uid


def _euid() -> int:
    return os.geteuid() if os.name == "posix" else 0


def _of_another(what: Path | str, owner: str, verb: str) -> SocketPermission:
    return SocketPermission(owner, own_account(), str(what), f"palyra node {verb}")
