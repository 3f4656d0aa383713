"""A service manager that a test drives, and the node host that it starts."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from zope.interface import implementer

from palyra import __version__
from palyra.cli.present import Screen
from palyra.errors import PalyraError
from palyra.node.controlwords import CapabilityCount, StatusAnswer
from palyra.node.files import NodeFiles
from palyra.supervision.installed import SCHEMA_VERSION, InstalledFile, mark_at
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.service import Account, Manager, Service, ServiceState
from tests.cli.nodecontrolled import FakeNodeHost

STATUS = StatusAnswer(
    state="online",
    name="pi",
    device_id="01M80NKQCNX4K7QM2ZT9B3FVHD",
    pid=4312,
    started_at_unix_ms=1,
    transport="quic",
    address="gw:7444",
    capabilities=CapabilityCount(5, 0),
    jobs=0,
    requests=0,
    version=__version__,
)


@implementer(IServiceManager)
class FakeManager:
    """Notes what it is told, and refuses what a test says; its service is a line in ``unit``."""

    def __init__(self, unit: Path, kind: Manager = Manager.SYSTEMD) -> None:
        self.unit = unit
        self.kind = kind
        self.described = {Manager.PROCESS: "background process"}.get(kind, "systemd user unit")
        self.files = [unit]
        self.told: list[str] = []
        self.refuses: dict[str, PalyraError] = {}
        self.runs = False
        self.pid = 4312
        self.service: Service | None = None
        self.command: list[str] | None = None
        self.changed: Callable[[], object] = lambda: None

    def check(self, service: Service) -> None:
        self._do("check")

    def install(self, service: Service) -> list[Path]:
        self._do("install")
        self.service = service
        if self.kind is Manager.PROCESS:
            return []
        self.unit.write_text(f"{service.profile} {sorted(service.credentials)}\n")
        return [self.unit]

    def uninstall(self) -> list[Path]:
        self._do("uninstall")
        self._set(runs=False)
        self.unit.unlink(missing_ok=True)
        return [self.unit]

    def start(self) -> None:
        self._do("start")
        self._set(runs=True)

    def stop(self) -> None:
        self._do("stop")
        self._set(runs=False)

    def restart(self) -> None:
        self._do("restart")
        self.pid += 1
        self._set(runs=True)

    def state(self) -> ServiceState:
        at_boot = self.kind is not Manager.PROCESS
        pid = self.pid if self.runs else 0
        return ServiceState(installed=True, running=self.runs, pid=pid, at_boot=at_boot)

    def logs(self, lines: int, follow: bool) -> list[str] | None:
        return self.command

    def _set(self, *, runs: bool) -> None:
        self.runs = runs
        self.changed()

    def _do(self, verb: str) -> None:
        self.told.append(verb)
        if verb in self.refuses:
            raise self.refuses[verb]


class Device:
    """A state root, its node host's socket, and the manager of its service."""

    def __init__(self, host: FakeNodeHost, unit: Path) -> None:
        self.host = host
        self.root = host.root
        self.files = NodeFiles(host.root)
        self.manager = FakeManager(unit)
        self.manager.changed = self.answers
        self.status: StatusAnswer | None = STATUS
        """What the node host says of itself while its service runs; None: nothing."""
        self.proved: list[Account | None] = []

    def answers(self) -> None:
        """Let the node host answer if its service runs."""
        if not self.manager.runs or self.status is None:
            self.host.answers["status"] = b""
        else:
            pid = self.manager.pid
            self.host.answers["status"] = msgspec.structs.replace(self.status, pid=pid)

    def runs(self, status: StatusAnswer | None = STATUS) -> None:
        """Its service runs, and says that."""
        self.status, self.manager.runs = status, True
        self.answers()

    def installed(self, kind: Manager = Manager.SYSTEMD) -> InstalledFile:
        """The service is there."""
        self.manager.kind = kind
        files = () if kind is Manager.PROCESS else (str(self.manager.unit),)
        made = InstalledFile(
            SCHEMA_VERSION, kind, "user", str(self.root), sys.executable, __version__, 1, files
        )
        mark_at(self.files.installed).write(made)
        return made

    @property
    def mark(self) -> InstalledFile | None:
        """What is kept of it."""
        return mark_at(self.files.installed).read()

    def run(self, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of ``palyra node``."""
        return self.host.run(capsys, *args)


@contextlib.contextmanager
def served(root: Path) -> Iterator[FakeNodeHost]:
    """A control socket on a state root."""
    made = FakeNodeHost(root)
    thread = threading.Thread(target=made.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def on_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands believe that they write to a terminal, without colour."""

    def current(*, as_json: bool) -> Screen:
        tty = not as_json
        return Screen(out=sys.stdout, err=sys.stderr, tty=tty, err_tty=tty, as_json=as_json)

    monkeypatch.setattr(Screen, "current", current)
