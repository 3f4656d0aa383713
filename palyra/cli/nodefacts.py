"""What can be found out about the node host of a state root, whether it runs or not.

One that runs says it itself, over its control socket.  Else its files tell, and the service manager
where it was installed as a service.  What cannot be read is a sentence among the others, and never
the end of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import attrs

from palyra.cli import nodeservice
from palyra.cli.nodehost import NodeHost
from palyra.errors import (
    NodeHostNotRunning,
    PalyraError,
    SocketPermission,
    StateOfAnother,
    StoreUnavailable,
)
from palyra.node.controlwords import LastError, Status, StatusAnswer
from palyra.node.files import HostFile, NodeFiles
from palyra.node.lasterrorfile import LastErrorFile, last_error_at
from palyra.supervision import processes, processfile
from palyra.supervision.installed import InstalledFile, mark_at
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import ServiceState

PATIENCE_S = 5.0
T = TypeVar("T")
Word = Literal["online", "offline", "starting", "stopped", "not_paired", "unknown"]
ManagerOf = Callable[[InstalledFile], IServiceManager]


@attrs.frozen(kw_only=True)
class Facts:
    """All of it.  ``process`` is one that lives, ``described`` the manager in people's words."""

    files: NodeFiles
    host: HostFile | None = None
    mark: InstalledFile | None = None
    process: ProcessFile | None = None
    answer: StatusAnswer | None = None
    service: ServiceState | None = None
    described: str = ""
    cert_expires_ms: int = 0
    last_error: LastError | None = None
    waits: bool = False
    """A pairing that is not done yet waits for an operator."""
    silent: PalyraError | None = None
    """Why it did not answer; None where it did, or where it does not run."""
    problems: tuple[PalyraError, ...] = ()

    @property
    def running(self) -> bool:
        """Whether there is a process that serves, as far as can be told."""
        managed = self.service is not None and self.service.running
        return self.answer is not None or self.process is not None or managed

    @property
    def state(self) -> Word:
        """``unknown``: it does not answer this user, or nobody."""
        if self.answer is not None:
            return self.answer.state
        if self.silent is not None:
            return "unknown"
        if self.running:
            return "starting"
        return "not_paired" if self.host is None else "stopped"

    @property
    def pid(self) -> int:
        """Its process id; 0 where it does not run, or that is not told."""
        if self.answer is not None:
            return self.answer.pid
        if self.process is not None:
            return self.process.pid
        return self.service.pid if self.service is not None and self.service.running else 0

    @property
    def started_at_ms(self) -> int:
        """Since when it runs; 0 where that is not known."""
        if self.answer is not None:
            return self.answer.started_at_unix_ms
        return self.process.started_at_unix_ms if self.process is not None else 0

    @property
    def by_service(self) -> bool:
        """Whether the process that runs is the service's.  A manager that does not tell the pid of
        what it keeps is believed that it keeps this one, unless that says something else."""
        state, mark, process = self.service, self.mark, self.process
        if state is None or mark is None or not state.running or state.pid not in (0, self.pid):
            return False
        return process is None or process.manager == mark.manager

    @property
    def name(self) -> str:
        """What the device is called."""
        if self.answer is not None:
            return self.answer.name
        return self.host.name if self.host is not None else ""

    @property
    def exit_code(self) -> int:
        """0 online, 3 it runs without its gateway, 1 all else."""
        return {"online": 0, "offline": 3, "starting": 3}.get(self.state, 1)


def look(root: Path, *, manager_of: ManagerOf | None = None) -> Facts:
    """Find it all out; blocks for some seconds at most.  Never raises for what is wrong there."""
    seen = _Look()
    files = NodeFiles(root)
    mark = seen.of(mark_at(files.installed).read)
    kept = seen.of(lambda: last_error_at(files.last_error).read())
    answer, silent = _asked(root, seen)
    facts = Facts(
        files=files,
        host=seen.of(files.host),
        waits=seen.of(files.identity.waiting) is not None,
        mark=mark,
        process=seen.of(lambda: _living(files)),
        answer=answer,
        silent=silent,
        cert_expires_ms=_expires_ms(files, answer, seen),
        last_error=_last_error(answer, kept),
    )
    if mark is not None:
        facts = _managed(facts, mark, manager_of or nodeservice.manager_of, seen)
    return attrs.evolve(facts, problems=seen.problems)


class _Look:
    """Collects what could not be found out, each sentence once."""

    def __init__(self) -> None:
        self._found: dict[str, PalyraError] = {}

    @property
    def problems(self) -> tuple[PalyraError, ...]:
        """In the order in which they were met."""
        return tuple(self._found.values())

    def met(self, error: PalyraError) -> None:
        """Something cannot be told.  That all of it is another user's is said once."""
        key = error.sentence
        if isinstance(error, StateOfAnother | SocketPermission):
            key = error.owner
        self._found.setdefault(key, error)

    def of(self, find: Callable[[], T | None]) -> T | None:
        """What ``find`` gives, or None where it cannot."""
        try:
            return find()
        except PalyraError as error:
            self.met(error)
        except OSError as error:
            where, cause = str(error.filename or "a file"), error.strerror or str(error)
            self.met(StoreUnavailable(where, cause.lower()))
        return None


def _asked(root: Path, seen: _Look) -> tuple[StatusAnswer | None, PalyraError | None]:
    """What it says itself, or why it does not; neither where nobody listens."""
    try:
        return NodeHost(root).ask(Status(), StatusAnswer, PATIENCE_S).value, None
    except NodeHostNotRunning:
        return None, None
    except PalyraError as error:
        seen.met(error)
        return None, error


def _living(files: NodeFiles) -> ProcessFile | None:
    process = processfile.read(files.process)
    if process is None or not processes.alive(process, processes.boot_id()):
        return None
    return process


def _expires_ms(files: NodeFiles, answer: StatusAnswer | None, seen: _Look) -> int:
    if answer is not None:
        return answer.cert_expires_at_unix_ms
    client = seen.of(files.identity.client)
    current = client.current if client is not None else None
    return 0 if current is None else current.cert_expires_at_unix_ms


def _last_error(answer: StatusAnswer | None, kept: LastErrorFile | None) -> LastError | None:
    """As the one that runs has it: its file may be older, where it could not be written."""
    if answer is not None:
        return answer.last_error
    return kept.error if kept is not None else None


def _managed(facts: Facts, mark: InstalledFile, manager_of: ManagerOf, seen: _Look) -> Facts:
    manager = seen.of(lambda: manager_of(mark))
    if manager is None:
        return facts
    return attrs.evolve(facts, described=manager.described, service=seen.of(manager.state))
