"""Starting a worker: which command, as whom, and with how little of this process around it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence

import attrs

from palyra.errors import Malformed
from palyra.workers.killing import MARK, Child, Containment, Tree

WORKER_ARGV = (sys.executable, "-I", "-m", "palyra.capability.worker")
_KEPT = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR"})
_KEPT_ON_WINDOWS = frozenset({
    "COMSPEC", "NUMBER_OF_PROCESSORS", "PATHEXT", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP",
    "USERPROFILE", "WINDIR",
})  # fmt: skip
_NO_WINDOW = 0x08000000
_NEW_GROUP = 0x00000200


@attrs.frozen(slots=True)
class Account:
    """Another user of this machine, whose rights a worker gets."""

    uid: int
    gid: int
    home: str

    @classmethod
    def named(cls, name: str) -> Account:
        """Look a user up.

        :raises Malformed: nobody has that name, or this process may not become somebody else.
        """
        if sys.platform == "win32" or os.geteuid() != 0:
            raise Malformed("node.worker.user", "only root can run plugins as another user")
        import pwd

        try:
            found = pwd.getpwnam(name)
        except KeyError as cause:
            raise Malformed("node.worker.user", f"there is no user {name!r}") from cause
        return cls(found.pw_uid, found.pw_gid, found.pw_dir)


@attrs.frozen(slots=True)
class Spawned:
    """A worker that was started, and what it is killed by."""

    child: Child
    tree: Tree


@attrs.frozen(slots=True)
class Spawner:
    """Starts workers.  The thread that calls must outlive them: they die with it on Linux."""

    argv: Sequence[str]
    account: Account | None
    containment: Containment

    def spawn(self, distribution: str) -> Spawned:
        """Start a worker; it waits for ``hello``.  OSError where the system refuses."""
        mark = f"{os.getpid()}-{secrets.token_hex(16)}"
        child = subprocess.Popen(
            [*self.argv, distribution],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment(os.environ, self.account, mark),
            close_fds=True,
            start_new_session=True,
            user=None if self.account is None else self.account.uid,
            group=None if self.account is None else self.account.gid,
            extra_groups=None if self.account is None else [],
            creationflags=_NO_WINDOW | _NEW_GROUP if sys.platform == "win32" else 0,
        )
        return Spawned(child, self.containment.enclose(child, mark))


def environment(ours: Mapping[str, str], account: Account | None, mark: str) -> dict[str, str]:
    """What a worker is told of ``ours``: where programs are, which language, which time."""
    kept = {MARK: mark}
    for name, value in ours.items():
        if name in _KEPT or name.startswith("LC_") or _is_kept_on_windows(name):
            kept[name] = value
    if account is not None:
        kept["HOME"] = account.home
    return kept


def _is_kept_on_windows(name: str) -> bool:
    return sys.platform == "win32" and name.upper() in _KEPT_ON_WINDOWS
