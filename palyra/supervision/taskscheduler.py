"""The Task Scheduler of Windows: a task that begins when its user signs in.

It starts the task again when it failed, not when it was ended, and it cannot end one in peace: a
node host is asked to stop where its owner's commands go, and ended only if it does not.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from zope.interface import implementer

from palyra._files import write_atomic
from palyra._ownersocket import AVAILABLE
from palyra.errors import (
    CredentialsUnsupported,
    DidNotStop,
    PalyraError,
    ServiceElsewhere,
    ServiceManagerFailed,
    ServiceManagerMissing,
)
from palyra.supervision import processes, processfile
from palyra.supervision.controlpoint import control_point
from palyra.supervision.grace import BEYOND_S, grace_s
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.processfile import PROCESS_FILE
from palyra.supervision.programs import NOT_FOUND, run
from palyra.supervision.service import NAME, Manager, Scope, Service, ServiceState, is_same_place
from palyra.supervision.taskxml import Task, sid_in, task_of, windowless

ENDED_S = 10.0
"""How long Windows may take to end one."""
LOOK_EVERY_S = 0.25
_INSTALLING = f"installing the task {NAME}"
_ASK_S = 5.0
_STOP = b'{"verb":"stop"}\n'
_MAX_SAID = 4096


def ask_stop(state_root: Path, *, unix: bool = AVAILABLE) -> bool:
    """Ask the node host of that state root to stop; whether it said that it will."""
    try:
        with control_point(state_root / "node-host", unix=unix).connect(_ASK_S) as link:
            link.sendall(_STOP)
            said = b""
            while not said.endswith(b"\n") and len(said) < _MAX_SAID:
                piece = link.recv(_MAX_SAID)
                if not piece:
                    break
                said += piece
        return b'"stopping"' in said
    except (OSError, PalyraError):
        return False


def serving(state_root: Path) -> int:
    """The process that serves that state root; 0 where none does."""
    file = processfile.read_or_none(state_root / "node-host" / PROCESS_FILE)
    return file.pid if file is not None and processes.alive(file, processes.boot_id()) else 0


@implementer(IServiceManager)
class TaskScheduler:
    """The task ``palyra-node`` of the user who runs this process.

    What ``schtasks`` prints is in the language of the system, apart from definitions; so whether
    the task runs is what the process file says.
    """

    kind = Manager.TASK
    described = "scheduled task"
    files: tuple[Path, ...] = ()

    def __init__(
        self,
        state_root: Path | None = None,
        *,
        ask_stop: Callable[[Path], bool] = ask_stop,
        serving: Callable[[Path], int] = serving,
        pause: Callable[[float], None] = time.sleep,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``state_root`` is whose service it keeps; a task of another one is none of its own (None:
        any is)."""
        self._state_root = state_root
        self._ask_stop = ask_stop
        self._serving = serving
        self._pause = pause
        self._elapsed_s = elapsed_s

    def available(self) -> str:
        """Empty; else why it cannot be used here."""
        ran = run(["schtasks", "/?"], check=False)
        if ran.code == NOT_FOUND:
            return "schtasks is not there"
        return "" if ran.code == 0 else ran.said or f"schtasks ended with {ran.code}"

    def check(self, service: Service) -> None:
        """Refuse credentials, a service of the machine, an interpreter that would open a window,
        and a task of another state root."""
        if service.credentials:
            raise CredentialsUnsupported("the Task Scheduler")
        if service.scope is Scope.SYSTEM:
            problem = "a task runs for the user who is signed in, not for the machine"
            raise ServiceManagerMissing("The Task Scheduler", problem)
        python = windowless(service.python)
        if not os.path.isfile(python):
            said = f"{python} is not there, and a console window would stay open"
            raise ServiceManagerFailed(_INSTALLING, said, "py -m venv DIR, with Palyra in it")
        self._ours(service.state_root)

    def install(self, service: Service) -> list[Path]:
        """Have it begin at sign-in; Windows keeps the definition, no file is left.

        :raises PalyraError, OSError: what was there before is there.
        """
        self.check(service)
        said = run(["whoami", "/user", "/fo", "csv", "/nh"])
        user = sid_in(said.out)
        if not user:
            raise ServiceManagerFailed("whoami /user", "it did not say who runs this")
        with tempfile.TemporaryDirectory(prefix="palyra-") as directory:
            file = Path(directory) / f"{NAME}.xml"
            write_atomic(file, task_of(service, user))
            run(["schtasks", "/Create", "/TN", NAME, "/XML", str(file), "/F"])
        return []

    def uninstall(self) -> list[Path]:
        """Stop it, and take the task away."""
        if self._own() is not None and self._ours(None) is not None:
            self.stop()
            run(["schtasks", "/Delete", "/TN", NAME, "/F"])
        return []

    def start(self) -> None:
        """Have it begin; the process file says when it serves."""
        if not self.state().running:
            self._ours(self._state_root)
            run(["schtasks", "/Run", "/TN", NAME])

    def stop(self) -> None:
        """Ask it, wait, and end what is left of it.

        :raises DidNotStop: Windows did not end it either.
        """
        task = self._own()
        if task is None:
            return
        root = task.state_root
        if root is not None and self._serving(root) and self._ask_stop(root):
            self._gone(root, grace_s(root) + BEYOND_S)
        # Also where it does not serve: it may be about to.
        run(["schtasks", "/End", "/TN", NAME], check=False)
        if root is not None and not self._gone(root, ENDED_S):
            raise DidNotStop(self._serving(root))

    def restart(self) -> None:
        """Stop it where it runs, and have it begin."""
        self.stop()
        self.start()

    def state(self) -> ServiceState:
        """From the definition that Windows has, and the process file."""
        task = self._own()
        if task is None:
            return ServiceState(installed=False, at_boot=False)
        pid = self._serving(task.state_root) if task.state_root is not None else 0
        word = "running" if pid else "ready" if task.enabled else "disabled"
        return ServiceState(
            installed=True, running=pid > 0, pid=pid, at_boot=task.enabled, word=word
        )

    def logs(self, lines: int, follow: bool) -> list[str] | None:
        """Its log is the files of the node host."""
        return None

    def _task(self) -> Task | None:
        """The task that is there; None where there is none."""
        ran = run(["schtasks", "/Query", "/TN", NAME, "/XML"], check=False)
        return Task.read(ran.out) if ran.code == 0 else None

    def _own(self) -> Task | None:
        """The same, but for one of another state root."""
        task, own = self._task(), self._state_root
        if task is None or task.state_root is None or own is None:
            return task
        return task if is_same_place(task.state_root, own) else None

    def _ours(self, state_root: Path | None) -> Task | None:
        """The same.

        :raises ServiceElsewhere: it is for another root than ``state_root`` (None: any is right).
        :raises ServiceManagerFailed: somebody else made it.
        """
        task = self._task()
        if task is None:
            return None
        if task.state_root is None:
            said = "there is a task of that name which palyra did not make"
            remedy = f"schtasks /Query /TN {NAME} /V /FO LIST"
            raise ServiceManagerFailed(_INSTALLING, said, remedy)
        if state_root is not None and not is_same_place(task.state_root, state_root):
            raise ServiceElsewhere(f"The task {NAME}", str(task.state_root))
        return task

    def _gone(self, root: Path, within_s: float) -> bool:
        """Whether nobody serves that root, within so long."""
        until = self._elapsed_s() + within_s
        while self._serving(root):
            if self._elapsed_s() >= until:
                return False
            self._pause(LOOK_EVERY_S)
        return True
