"""A service manager for tests: systemctl, journalctl and loginctl on PATH, and nothing of systemd.

It keeps units that palyra wrote, really runs them (:mod:`tests.integration.unitrunner`), and can
lose its power.  Whatever it started has ended when it is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.integration.processes import Ran, eventually, processes_of, run
from tests.integration.unitrunner import LIMIT_S as PATIENCE_S
from tests.integration.unitrunner import command_line, is_running

UNIT = "palyra-node.service"
PROGRAMS = ("systemctl", "journalctl", "loginctl")


class ServiceManager:
    """One machine's service manager, below a directory of its own."""

    def __init__(self, path: Path, *, restart_s: float = 0.1) -> None:
        """``restart_s`` is the longest pause before a service is started anew, whatever its unit
        says."""
        self.home = path / "manager"
        self.units = path / "units"
        self._bin = path / "bin"
        self._boot_id = path / "boot-id"
        for each in (self.home, self.units, self._bin):
            each.mkdir(parents=True)
        for program in PROGRAMS:
            self._install(program)
        self._new_boot_id()
        self.limit(restart_s=restart_s)
        self.give({"PALYRA_BOOT_ID_FILE": str(self._boot_id), "PYTHONSAFEPATH": "1"})

    def _install(self, program: str) -> None:
        command = shlex.join(command_line(str(self.home), str(self.units), program))
        script = self._bin / program
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)

    def _new_boot_id(self) -> None:
        self._boot_id.write_text(f"{uuid.uuid4()}\n")

    @property
    def env(self) -> Mapping[str, str]:
        """What leads a process here instead of to the real one."""
        return {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "SYSTEMD_UNIT_PATH": str(self.units),
            "SERVICE_MANAGER": str(self.home),
            "PALYRA_BOOT_ID_FILE": str(self._boot_id),
        }

    def limit(self, **seconds: float) -> None:
        """The longest ``restart_s`` and ``watchdog_s``, whatever a unit says."""
        for name, value in seconds.items():
            (self.home / name).write_text(str(value))

    def give(self, environ: Mapping[str, str]) -> None:
        """Have every service find this in its environment besides."""
        with (self.home / "environment").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in environ.items())

    # -- asking -----------------------------------------------------------------------------

    def systemctl(self, *arguments: str) -> Ran:
        """A call, whatever comes of it."""
        return run(["systemctl", *arguments], self.home, limit_s=PATIENCE_S, env=self.env)

    def told(self, *arguments: str) -> str:
        """A call that must succeed; what it printed."""
        ran = self.systemctl(*arguments)
        assert ran.code == 0, (ran, self.journal())
        return ran.out

    def calls(self) -> list[list[str]]:
        """Every call of a program so far."""
        return [json.loads(line) for line in (self.home / "calls").read_text().splitlines()]

    def state(self, unit: str = UNIT) -> dict[str, Any]:
        """What is kept of a unit, as it is now."""
        with contextlib.suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.home / f"{unit}.state").read_text())
            return found
        return {}

    def pid(self, unit: str = UNIT) -> int:
        """Its main process; 0 where there is none."""
        return int(self.state(unit).get("MainPID", 0))

    def journal(self, unit: str = UNIT) -> str:
        """What it has written, with the marks of levels."""
        return self._text(f"{unit}.journal")

    def notified(self, unit: str = UNIT) -> list[str]:
        """Everything it has told its manager, a message a line."""
        return self._text(f"{unit}.notified").splitlines()

    def _text(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.home / name).read_text("utf-8", "replace")
        return ""

    def restarted(self, since: int, unit: str = UNIT) -> int:
        """Wait until another process than ``since`` is ready; which one."""

        def look() -> int | None:
            state = self.state(unit)
            again = state.get("SubState") == "running" and state["MainPID"] != since
            return int(state["MainPID"]) if again else None

        return eventually(look, f"{unit} is started anew\n{self.journal(unit)}")

    # -- the machine ------------------------------------------------------------------------

    def power_off(self) -> None:
        """Everything ends at once, and nothing is told."""
        for place in self.home.glob("*.state"):
            state = json.loads(place.read_text())
            _kill(state.get("supervisor", 0), str(self.home))
            _kill(state.get("MainPID", 0), "")
            place.unlink()

    def boot(self) -> None:
        """Another life of the machine: what is enabled is started."""
        self._new_boot_id()
        for wanted in sorted((self.home / "wanted").glob("*")):
            self.told("start", wanted.name)

    def close(self) -> None:
        """End every service, whatever it thinks of that."""
        self.power_off()
        for left in processes_of(self.home.parent):
            _kill(left.pid, str(self.home.parent))


def _kill(pid: int, told: str) -> None:
    """SIGKILL for a process, if it is the one that was told ``told``; and wait for its end."""
    if not pid:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if any(word.startswith(told) for word in process.cmdline()):
            process.kill()
            # Not psutil's wait: what remains of it is for its parent to take.
            eventually(lambda: not is_running(pid), f"{pid} ends")


@contextlib.contextmanager
def running(path: Path, *, restart_s: float = 0.1) -> Iterator[ServiceManager]:
    """A service manager that is closed at the end."""
    manager = ServiceManager(path, restart_s=restart_s)
    try:
        yield manager
    finally:
        manager.close()
