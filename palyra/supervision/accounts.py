"""The users of this machine that a system service can run as, and handing a state tree to one.

Root does all of this, in directories that another user may be changing meanwhile: every file is
looked at through the descriptor by which it is handed over.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from palyra.errors import AccountUnknown
from palyra.supervision.programs import NOT_FOUND, run
from palyra.supervision.service import Account

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}\$?")
_OURS = frozenset({"node-host", "palyra.toml"})
_SBIN = ("/usr/sbin", "/sbin")
"""Where such programs are, and where PATH does not lead after ``su``."""
_USER_EXISTS = 9
_NO_SUCH_USER = 6


def check_name(name: str) -> str:
    """``name``, if a user can have it: it becomes an argument, and a line of a unit.

    :raises AccountUnknown: it is none.
    """
    if not _NAME.fullmatch(name):
        raise AccountUnknown(ascii(name[:80]), "no user can have that name")
    return name


def find(name: str) -> Account:
    """The user of that name.

    :raises AccountUnknown: there is none, or this system has no such users.
    """
    check_name(name)
    try:
        import pwd
    except ImportError as error:  # Windows
        raise AccountUnknown(name, "this system has no such users") from error
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise AccountUnknown(name, "no user of this machine has that name") from error
    return Account(name, entry.pw_uid, entry.pw_gid)


def can_make() -> bool:
    """Whether this machine has what :func:`make` needs."""
    return shutil.which("useradd", path=_environ()["PATH"]) is not None


def make(name: str, home: Path) -> Account:
    """A system user of its own group that nobody can sign in as; its home is not made.

    :raises AccountUnknown: this machine has no useradd.
    :raises ServiceManagerFailed: useradd refused.
    """
    check_name(name)
    shell = shutil.which("nologin", path="/usr/sbin:/sbin:/usr/bin:/bin") or "/bin/false"
    command = (
        "useradd", "--system", "--user-group", "--home-dir", str(home), "--no-create-home",
        "--shell", shell, name,
    )  # fmt: skip
    ran = run(command, check=False, environ=_environ())
    if ran.code == NOT_FOUND:
        problem = "no user of this machine has that name, and there is no useradd to make one"
        raise AccountUnknown(name, problem)
    if ran.code not in (0, _USER_EXISTS):
        raise ran.failed(command)
    return find(name)


def remove(name: str) -> None:
    """Remove a user that :func:`make` made, and none of its files.  Where there is none, nothing.

    :raises ServiceManagerFailed: userdel refused, as it does while a process of the user runs.
    """
    command = ("userdel", check_name(name))
    ran = run(command, check=False, environ=_environ())
    if ran.code not in (0, _NO_SUCH_USER):
        raise ran.failed(command)


def _environ() -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": os.pathsep.join((path, *_SBIN))}


def check_place(tree: Path, account: Account) -> None:
    """Refuse a place for a state root that a third user can put something else into.

    :raises AccountUnknown: naming what is his.
    """
    for path in (tree.absolute(), Path(os.path.realpath(tree))):
        with contextlib.suppress(FileNotFoundError):
            _check_above(path, account)


def check_contents(tree: Path, account: Account, *, opened: int | None = None) -> None:
    """Refuse a directory that is not that user's yet and has other things in it; in one of his own
    he may keep what he wants.

    :raises AccountUnknown: naming the first of them.
    """
    place = tree if opened is None else opened
    strange = sorted(set(os.listdir(place)) - _OURS)
    if strange and os.stat(place).st_uid != account.uid:
        raise _refused(account, tree / strange[0], "is no node host's; use a directory of its own")


def give(tree: Path, account: Account) -> None:
    """Hand the state root ``tree`` to ``account``, with all files of a node host in it.

    No symbolic link is followed, and nothing is handed over before all of it was looked at.

    :raises AccountUnknown: something in it or above it is another user's, has a second name
        elsewhere (a hard link), or is no node host's.
    :raises OSError: it cannot be read.
    """
    real = Path(os.path.realpath(tree))
    check_place(tree, account)
    with _opened(real, account) as top:
        check_contents(real, account, opened=top)
        names = sorted(_OURS.intersection(os.listdir(top)))
        _walk(top, real, account, names, change=False)
        _walk(top, real, account, names, change=True)


def _check_above(path: Path, account: Account) -> None:
    """Whoever could put another directory in its place could have that one handed over."""
    for each in path.parents:
        found = each.lstat()
        _check_owner(found, each, account)
        open_to_all = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        sticky = found.st_mode & stat.S_ISVTX
        if stat.S_ISDIR(found.st_mode) and open_to_all and not sticky:
            raise _refused(account, each, "can be changed by other users")
    _check_owner(path.lstat(), path, account)


@contextlib.contextmanager
def _opened(path: Path, account: Account) -> Iterator[int]:
    """The directory ``path``, of which no part is a symbolic link."""
    descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in path.parts[1:]:
            below = _directory(part, descriptor, path, account)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _directory(name: str, within: int, path: Path, account: Account) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=within)
    except NotADirectoryError as error:  # also of a symbolic link
        raise _refused(account, path, "changed meanwhile") from error


def _walk(top: int, path: Path, account: Account, names: Iterable[str], *, change: bool) -> None:
    """Look at all ``names`` in the directory ``top``, and with ``change`` hand them over: the
    directory itself last, so that until then only root can change what is in one of root's."""
    device = os.fstat(top).st_dev
    for name in names:
        found = os.stat(name, dir_fd=top, follow_symlinks=False)
        below = path / name
        if found.st_dev != device:
            raise _refused(account, below, "is on another file system")
        if stat.S_ISDIR(found.st_mode):
            inner = _directory(name, top, below, account)
            try:
                _walk(inner, below, account, os.listdir(inner), change=change)
            finally:
                os.close(inner)
        elif stat.S_ISREG(found.st_mode):
            _file(name, top, below, account, change)
        else:
            _special(name, found, top, below, account, change)
    _hand_over(top, path, account, change)


def _file(name: str, within: int, path: Path, account: Account, change: bool) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(name, flags, dir_fd=within)
    except OSError as error:
        raise _refused(account, path, f"cannot be opened ({error.strerror})") from error
    try:
        _hand_over(descriptor, path, account, change)
    finally:
        os.close(descriptor)


def _hand_over(descriptor: int, path: Path, account: Account, change: bool) -> None:
    found = os.fstat(descriptor)
    _check_owner(found, path, account)
    if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
        raise _refused(account, path, "has a second name elsewhere (a hard link)")
    if change and (found.st_uid, found.st_gid) != (account.uid, account.gid):
        os.fchown(descriptor, account.uid, account.gid)


def _special(
    name: str, found: os.stat_result, within: int, path: Path, account: Account, change: bool
) -> None:
    """A socket, a pipe or a symbolic link: it cannot be opened, and is handed over as itself."""
    _check_owner(found, path, account)
    if stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode):
        raise _refused(account, path, "is a device of this machine")
    if found.st_nlink > 1:
        raise _refused(account, path, "has a second name elsewhere (a hard link)")
    if change:
        os.chown(name, account.uid, account.gid, dir_fd=within, follow_symlinks=False)


def _check_owner(found: os.stat_result, path: Path, account: Account) -> None:
    if found.st_uid not in (0, account.uid):
        raise _refused(account, path, f"belongs to another user ({found.st_uid})")


def _refused(account: Account, path: Path, problem: str) -> AccountUnknown:
    return AccountUnknown(account.name, f"{path} {problem}")
