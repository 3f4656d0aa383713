"""Whether the user that a service will run as can run this installation of Palyra."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from palyra.errors import InterpreterUnusable
from palyra.supervision.programs import run
from palyra.supervision.service import Account, groups_of

TIMEOUT_S = 60.0
_IMPORTS = "import palyra.node.__main__, palyra.node.tap, twisted.plugins.palyra_plugins"
_PATH = "/usr/local/bin:/usr/bin:/bin"
_MAX_LINKS = 40


def prove(
    python: str, account: Account | None, *, environment: Mapping[str, str] | None = None
) -> None:
    """Run ``python`` as ``account`` (None: as this user) and import the node host.  Blocks, for a
    second or more.

    ``environment`` is what the service will have besides a path.

    :raises InterpreterUnusable: it does not work; with the directory that is closed, where that is
        the cause.
    """
    command = (python, "-P", "-c", _IMPORTS)
    environ = {"PATH": _PATH, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    ran = run(command, timeout_s=TIMEOUT_S, check=False, environ=environ, account=account)
    if ran.code == 0:
        return
    shut = None if account is None else _first_closed(python, account)
    user = account.name if account else _own_name()
    problem = f"{shut} is closed to it" if shut else ran.said or f"it ended with {ran.code}"
    raise InterpreterUnusable(python, user, problem)


def places(python: str) -> tuple[Path, ...]:
    """What must be readable to run ``python``: the program, what its name leads to, and of our own
    interpreter also where its modules are."""
    found = [Path(python), Path(os.path.realpath(python))]
    if python == sys.executable:
        modules = (sys.modules[name] for name in ("palyra", "twisted") if name in sys.modules)
        files = (getattr(each, "__file__", None) for each in modules)
        found += [Path(sys.prefix), Path(sys.base_prefix)]
        found += [Path(os.path.realpath(each)).parent for each in files if each]
    return tuple(dict.fromkeys(found))


def _first_closed(python: str, account: Account) -> Path | None:
    """The first directory or file on the way to :func:`places` that ``account`` may not enter or
    read, as far as modes say."""
    for place in places(python):
        for each in _way(place):
            try:
                found = each.stat()
            except OSError:
                return each
            if not _may(found, account):
                return each
    return None


def _way(place: Path) -> Iterator[Path]:
    """Every directory that has to be entered for ``place``, through every symbolic link, and it."""
    for _ in range(_MAX_LINKS):
        yield from reversed(place.parents)
        if not place.is_symlink():
            break
        place = Path(os.path.normpath(place.parent / os.readlink(place)))
    yield place


def _may(found: os.stat_result, account: Account) -> bool:
    if account.uid == 0:
        return True
    owner, group = found.st_uid == account.uid, found.st_gid in groups_of(account)
    shift = 6 if owner else 3 if group else 0
    needed = stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else stat.S_IROTH
    return bool(found.st_mode >> shift & needed)


def _own_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid()) if hasattr(os, "getuid") else "of this process"
