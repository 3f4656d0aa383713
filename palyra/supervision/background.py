"""A node host in the background, where no service manager runs: one process, and its files.

Nobody starts it at boot and nobody starts it again when it dies; the process file says whether it
lives.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

from zope.interface import implementer

from palyra._lock import RootLock
from palyra._ownersocket import own_account
from palyra._versioned import state_of_another
from palyra.core.devices import clean_text
from palyra.errors import (
    CredentialsUnsupported,
    DidNotStart,
    InterpreterUnusable,
    PalyraError,
    StateRootLocked,
    StoreUnavailable,
)
from palyra.supervision import grace, processes, processfile
from palyra.supervision.acting import acting_as
from palyra.supervision.installed import INSTALLED_FILE, mark_at
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.logfiles import opened, rotate
from palyra.supervision.processfile import PROCESS_FILE, ProcessFile
from palyra.supervision.service import (
    MANAGER,
    Account,
    Manager,
    Scope,
    Service,
    ServiceState,
    groups_of,
)

START_S = 30.0
"""How long a host may take until it says that it serves; one that lives on is on its way."""
LOCK = "node-host.lock"
_ROTATE_BYTES = 1024 * 1024
_KEEP = 3
_POLL_S = 0.05
_ENDS_S = 5.0
_MAX_LOOK = 64 * 1024
_MAX_SAID = 300
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OF_ANOTHER_SERVICE = frozenset(
    {
        "CREDENTIALS_DIRECTORY",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LISTEN_FDS",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)


@implementer(IServiceManager)
class BackgroundProcess:
    """IServiceManager without a service manager.

    As root, on a state root that another user owns, the host runs as that user: everything in
    there, the mark too, is his word.
    """

    kind = Manager.PROCESS
    described = "background process"
    files: tuple[Path, ...] = ()

    _children: ClassVar[dict[int, subprocess.Popen[bytes]]] = {}
    """Those that this process has started: their ends are taken here, or nobody takes them."""

    def __init__(
        self,
        state_root: Path,
        *,
        boot_id: Callable[[], str] = processes.boot_id,
        environ: Mapping[str, str] = os.environ,
        start_s: float = START_S,
        grace_s: float | None = None,
    ) -> None:
        """``grace_s``: how long it may take to end; by itself as long as its configuration says."""
        self._root = state_root
        self._directory = state_root / "node-host"
        self._file = self._directory / PROCESS_FILE
        self._mark = mark_at(self._directory / INSTALLED_FILE)
        self._boot_id = boot_id
        self._environ = environ
        self._start_s = start_s
        self._grace_s = grace_s
        self._service: Service | None = None

    def available(self) -> str:
        """Nothing: it can be used everywhere."""
        return ""

    def check(self, service: Service) -> None:
        """Refuse what a process alone cannot have.

        :raises CredentialsUnsupported: naming it.
        """
        if service.credentials:
            raise CredentialsUnsupported(f"A {self.described}")

    def install(self, service: Service) -> list[Path]:
        """Nothing is written: the mark is all there is of it.

        :raises CredentialsUnsupported: see :meth:`check`.
        """
        self.check(service)
        self._service = service
        return []

    def uninstall(self) -> list[Path]:
        self.stop()
        return []

    def start(self) -> None:
        """Start it, and return when it serves; also when it lives and has not said so in 30 s.

        :raises StateRootLocked: a host that is not there for jobs yet uses the state root: one that
            pairs, or begins.
        :raises DidNotStart: it ended.
        :raises InterpreterUnusable: its interpreter cannot be run.
        """
        if self._living() is not None:
            return
        service, account = self._to_run()
        with acting_as(account):
            self._check_unlocked()
            log = _appended(service.stderr_log)
        with log:
            begins = os.fstat(log.fileno()).st_size
            try:
                child = self._spawn(service, account, log)
            except OSError as error:
                problem = (error.strerror or str(error)).lower()
                who = own_account() if account is None else account.name
                raise InterpreterUnusable(service.python, who, problem) from error
        self._children[child.pid] = child
        self._wait(child, service.stderr_log, begins)

    def stop(self) -> None:
        """End it, and return when it has ended.

        :raises StateRootLocked: it runs, but has not said which process it is.
        :raises DidNotStop: it lives on.
        """
        found = self._living()
        if found is None:
            self._check_unlocked()
            return
        file, owner = found
        grace_s = grace.grace_s(self._root) + grace.BEYOND_S
        processes.end(
            file,
            grace_s=grace_s if self._grace_s is None else self._grace_s,
            boot_id=self._boot_id,
            of_user=owner if os.name == "posix" else None,
        )
        self._reap(file.pid)
        processfile.remove_if_mine(self._file, file.pid)

    def restart(self) -> None:
        self.stop()
        self.start()

    def state(self) -> ServiceState:
        """From the process file.  ``installed``: the mark says so."""
        found, mark = self._living(), None
        with contextlib.suppress(PalyraError):  # whoever goes by the mark is told what it is
            mark = self._mark.read()
        return ServiceState(
            installed=mark is not None and mark.manager == self.kind.value,
            running=found is not None,
            pid=0 if found is None else found[0].pid,
            at_boot=False,
            word="stopped" if found is None else "running",
            result="" if found is not None else self._last_end(),
        )

    def _last_end(self) -> str:
        """Why nobody runs, where one began to and never said goodbye: its process file is there."""
        left = processfile.read_owned_or_none(self._file)
        if left is None:
            return ""
        if left[0].boot_id and left[0].boot_id != self._boot_id():
            return "the machine was restarted"
        return "it ended without a word"

    def logs(self, lines: int, follow: bool) -> list[str] | None:
        return None

    def _living(self) -> tuple[ProcessFile, int] | None:
        """The host that serves, and the uid of who says so."""
        found = processfile.read_owned_or_none(self._file)
        if found is None:
            return None
        self._reap(found[0].pid)
        return found if processes.alive(found[0], self._boot_id()) else None

    def _check_unlocked(self) -> None:
        """Refuse where another host runs.  One that was killed keeps the lock until its last
        thread has ended, which is a moment after it counts as dead."""
        over_s = time.monotonic() + _ENDS_S
        while (pid := RootLock.holder(self._directory / LOCK)) is not None:
            ending = pid and not processes.start_token(pid)
            if not ending or time.monotonic() > over_s:
                raise StateRootLocked(str(self._root), pid, "A node host")
            time.sleep(_POLL_S)

    def _reap(self, pid: int) -> None:
        child = self._children.get(pid)
        if child is not None and child.poll() is not None:
            del self._children[pid]

    def _to_run(self) -> tuple[Service, Account | None]:
        """What is started, and as whom; None: as this user.

        :raises StateOfAnother: it is another user's, and this is not root.
        """
        found = self._mark.read_owned()
        account = self._other_owner(_me() if found is None else found[1])
        if self._service is not None:
            return self._service, account
        if found is None:
            return Service(state_root=self._root), account
        scope = Scope.SYSTEM if found[0].scope == Scope.SYSTEM else Scope.USER
        service = Service(state_root=self._root, scope=scope, python=found[0].python)
        return service, account

    def _other_owner(self, of_mark: int) -> Account | None:
        """Whose word anything of the state root may be, where that is not this user alone."""
        places = [self._directory, *([self._root] if _me() == 0 else [])]
        owners = [of_mark, *(each.stat().st_uid for each in places if each.exists())]
        others = [uid for uid in owners if uid != _me()] if os.name == "posix" else []
        if others and _me() != 0:
            raise state_of_another(self._directory)
        return _account_of(others[0]) if others else None

    def _spawn(
        self, service: Service, account: Account | None, log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        more: dict[str, Any] = {}
        if account is not None:
            groups = groups_of(account)
            more = {"user": account.uid, "group": account.gid, "extra_groups": groups}
        return subprocess.Popen(
            service.command(journal=False),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self._root,
            env=self._environment(service, account),
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            umask=0o077 if os.name == "posix" else -1,
            **more,
        )

    def _environment(self, service: Service, account: Account | None) -> dict[str, str]:
        """A user's process has what the user's programs have; another user's nothing of ours."""
        ours = {k: v for k, v in self._environ.items() if k not in _OF_ANOTHER_SERVICE}
        if account is not None:
            kept = ("LANG", "LC_ALL", "TZ", processes.BOOT_ID_FILE)
            ours = {name: ours[name] for name in kept if name in ours}
            ours |= {"PATH": _SEARCH, "HOME": _home_of(account), "USER": account.name}
            ours |= {"LOGNAME": account.name}
        return ours | dict(service.environment) | {MANAGER: self.kind.value}

    def _wait(self, child: subprocess.Popen[bytes], log: Path, begins: int) -> None:
        over = time.monotonic() + self._start_s
        while time.monotonic() < over:
            ended = child.poll() is not None
            found = self._living()
            if found is not None and (found[0].pid == child.pid or ended):
                return  # or another start was a moment earlier
            if ended:
                self._children.pop(child.pid, None)
                raise DidNotStart(_last_word(log, begins))
            time.sleep(_POLL_S)


def _appended(path: Path) -> IO[bytes]:
    """A log that only its owner may read, and that is no link to somewhere else; a long one is
    begun anew.

    :raises StoreUnavailable: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        rotate(path, over_bytes=_ROTATE_BYTES, keep=_KEEP)
        return os.fdopen(os.open(path, flags, 0o600), "ab")
    except OSError as error:
        raise StoreUnavailable(str(path), (error.strerror or str(error)).lower()) from error


def _last_word(log: Path, begins: int) -> str:
    """The last line that was written to the log from ``begins`` on, as a person may see it."""
    file = opened(log)
    if file is None:
        return ""
    with file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(begins, size - _MAX_LOOK))
        lines = file.read(_MAX_LOOK).decode("utf-8", "replace").split("\n")
    # A hint is the line after the sentence that it belongs to.
    told = [line.strip() for line in lines if line.strip() and not line.startswith("hint:")]
    return clean_text(told[-1].removeprefix("error: "), _MAX_SAID) if told else ""


def _me() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _account_of(uid: int) -> Account:
    import pwd

    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, uid)
    return Account(found.pw_name, uid, found.pw_gid)


def _home_of(account: Account) -> str:
    import pwd

    try:
        return pwd.getpwuid(account.uid).pw_dir
    except KeyError:
        return "/"
