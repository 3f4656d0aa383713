"""A stand-in for systemctl, journalctl and loginctl: it really runs the units, as systemd would.

Run by :class:`tests.integration.servicemanager.ServiceManager`, without any library, as
``main(HOME, UNITS, PROGRAM, ARGUMENTS)``.  ``HOME`` is where everything is kept, ``UNITS`` where
unit files are.  What it does not know it refuses with exit code 64, so that no test passes by luck.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration.unitfile import Malformed, UnitFile, expanded, specified, words

LIMIT_S = 60.0
POLL_S = 0.02
UNKNOWN = 64
BOOT = (
    "import sys; root, *rest = sys.argv[1:]; sys.path.insert(0, root);"
    "from tests.integration.unitrunner import main; sys.exit(main(*rest))"
)
ROOT = str(Path(__file__).parents[2])
_WITH_VALUE = ("--property", "-p", "--signal", "-s", "--unit", "-u", "--user-unit", "--lines", "-n",
               "--output", "-o", "--kill-who", "--job-mode")  # fmt: skip
_FLAGS = ("--user", "--system", "--now", "--quiet", "-q", "--no-pager", "--value", "--follow", "-f",
          "--no-ask-password", "--no-block", "--force", "--full", "-l", "--all", "--no-legend",
          "--plain", "--no-hostname", "--pager-end")  # fmt: skip
_LEVEL = re.compile(r"\A<[0-7]>")


class Usage(Exception):
    """Something this stand-in does not know."""


class Failed(Exception):
    """What the program says when it fails, and its exit code."""

    def __init__(self, said: str, code: int = 1) -> None:
        super().__init__(said)
        self.code = code


def command_line(*arguments: str) -> list[str]:
    """How this file is run as a program."""
    return [sys.executable, "-E", "-s", "-S", "-c", BOOT, ROOT, *arguments]


class Manager:
    """The units and what is kept of them."""

    def __init__(self, home: Path, units: Path) -> None:
        self.home = home
        self.units = units

    # -- files ------------------------------------------------------------------------------

    def fragment(self, unit: str) -> Path:
        """The file that defines a unit."""
        return self.units / unit

    def definition(self, unit: str) -> UnitFile:
        """A unit as it was when it was loaded: a file that was changed since is not in force."""
        loaded = self.home / "loaded" / unit
        if not loaded.exists():
            if not self.fragment(unit).exists():
                raise Failed(f"Unit {unit} not found.", 5)
            loaded.parent.mkdir(exist_ok=True)
            shutil.copyfile(self.fragment(unit), loaded)
        try:
            return UnitFile(loaded.read_text())
        except Malformed as error:
            raise Failed(f"Unit {unit} has a bad unit file setting: {error}") from error

    def reload_definitions(self) -> None:
        """``daemon-reload``."""
        for loaded in (self.home / "loaded").glob("*"):
            loaded.unlink()
            if self.fragment(loaded.name).exists():
                shutil.copyfile(self.fragment(loaded.name), loaded)

    def state(self, unit: str) -> dict[str, Any]:
        """What its supervisor says of a unit; that it is dead where there is no supervisor."""
        found: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):
            found = json.loads((self.home / f"{unit}.state").read_text())
        if found.get("supervisor") and not is_running(found["supervisor"]):
            found |= {"supervisor": 0, "MainPID": 0, "ActiveState": "inactive", "SubState": "dead"}
        return found

    def keep_state(self, unit: str, state: Mapping[str, Any]) -> None:
        """Written whole, or not."""
        temporary = self.home / f"{unit}.state.new"
        temporary.write_text(json.dumps(state))
        temporary.replace(self.home / f"{unit}.state")

    def wanted(self, unit: str) -> Path:
        """The link that has a unit started at boot."""
        return self.home / "wanted" / unit

    def properties(self, unit: str) -> dict[str, str]:
        """What ``systemctl show`` tells."""
        fragment, state = self.fragment(unit), self.state(unit)
        there = fragment.exists()
        loaded = self.home / "loaded" / unit
        stale = there and loaded.exists() and loaded.read_bytes() != fragment.read_bytes()
        return {
            "MainPID": str(state.get("MainPID", 0)),
            "NRestarts": str(state.get("NRestarts", 0)),
            "Result": state.get("Result", "success"),
            "ExecMainCode": str(state.get("ExecMainCode", 0)),
            "ExecMainStatus": str(state.get("ExecMainStatus", 0)),
            "ExecMainPID": str(state.get("ExecMainPID", 0)),
            "StatusText": state.get("StatusText", ""),
            "Id": unit,
            "LoadState": "loaded" if there or loaded.exists() else "not-found",
            "ActiveState": state.get("ActiveState", "inactive"),
            "SubState": state.get("SubState", "dead"),
            "FragmentPath": str(fragment) if there else "",
            "UnitFileState": self.enabled(unit) if there else "",
            "NeedDaemonReload": "yes" if stale else "no",
        }

    def enabled(self, unit: str) -> str:
        """``enabled``, ``disabled`` or ``static``."""
        if self.wanted(unit).exists():
            return "enabled"
        file = UnitFile(self.fragment(unit).read_text())
        return "disabled" if file.all("WantedBy", "Install") else "static"

    # -- verbs ------------------------------------------------------------------------------

    def start(self, unit: str) -> None:
        """Have a supervisor run it, and wait until it says that it is ready."""
        if self.state(unit).get("supervisor"):
            return
        definition = self.definition(unit)
        conditions = [specified(each, {}) for each in definition.all("ConditionPathExists", "Unit")]
        if not all(os.path.exists(each) for each in conditions):
            return  # systemd counts that as done, too
        fresh = {"job": "waiting", "ActiveState": "activating", "SubState": "start"}
        self.keep_state(unit, fresh)
        with (self.home / f"{unit}.supervisor").open("ab") as log:
            program = subprocess.Popen(
                command_line(str(self.home), str(self.units), "supervise", unit),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

        def ended() -> bool:
            return self.state(unit).get("job") != "waiting" or program.poll() is not None

        wait_until(ended)
        if self.state(unit).get("job") != "done":
            result = self.state(unit).get("Result", "its supervisor failed")
            raise Failed(
                f"Job for {unit} failed because of {result}.\n"
                f'See "systemctl status {unit}" and "journalctl -xeu {unit}" for details.'
            )

    def stop(self, unit: str) -> None:
        """Ask the supervisor, and wait until it has ended."""
        supervisor = self.state(unit).get("supervisor")
        if not supervisor:
            self.definition(unit)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)
        wait_until(lambda: not self.state(unit).get("supervisor"))

    def reload(self, unit: str) -> None:
        """Run ``ExecReload=``."""
        state = self.state(unit)
        if state.get("ActiveState") != "active":
            raise Failed(f"Job type reload is not applicable for unit {unit}.")
        commands = self.definition(unit).all("ExecReload")
        if not commands:
            raise Failed(f"Failed to reload {unit}: Job type reload is not applicable.", 3)
        for command in commands:
            arguments = expanded(words(command), {"MAINPID": str(state["MainPID"])})
            if subprocess.run(arguments, check=False).returncode:
                raise Failed(f"Reload failed for {unit}.")

    def enable(self, unit: str) -> None:
        """Have it started at boot."""
        self.definition(unit)
        if self.enabled(unit) == "static":
            raise Failed(f"The unit files have no installation config: {unit}")
        self.wanted(unit).parent.mkdir(exist_ok=True)
        self.wanted(unit).touch()

    def disable(self, unit: str) -> None:
        """Start it at boot no more."""
        self.wanted(unit).unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Whether there is such a process; the remains of one are none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def wait_until(look: Any) -> None:
    """Poll, for a bounded time."""
    over = time.monotonic() + LIMIT_S
    while not look():
        if time.monotonic() > over:
            raise Failed("Connection timed out")
        time.sleep(POLL_S)


# -- programs ---------------------------------------------------------------------------------


def read(arguments: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The words and the options of a command line."""
    plain: list[str] = []
    options: dict[str, list[str]] = {}
    rest = list(arguments)
    while rest:
        each = rest.pop(0)
        name, equals, value = each.partition("=")
        if not each.startswith("-"):
            plain.append(each)
        elif name in _WITH_VALUE:
            options.setdefault(name, []).append(value if equals else rest.pop(0))
        elif each in _FLAGS:
            options[each] = []
        else:
            raise Usage(each)
    return plain, options


def systemctl(manager: Manager, arguments: Sequence[str]) -> int:
    """One call of systemctl."""
    if (manager.home / "down").exists():
        print("offline" if "is-system-running" in arguments else "", end="\n")
        print("System has not been booted with systemd as init system.", file=sys.stderr)
        return 1
    (verb, *units), options = read(arguments)
    units = [unit if "." in unit else f"{unit}.service" for unit in units]
    if verb == "is-system-running":
        print("running")
    elif verb == "daemon-reload":
        manager.reload_definitions()
    elif verb == "show-environment":
        with contextlib.suppress(FileNotFoundError):
            print((manager.home / "environment").read_text(), end="")
    elif verb == "show":
        _show(manager, units, options)
    elif verb in ("is-active", "is-enabled", "is-failed"):
        return _asked(manager, verb, units, "-q" in options or "--quiet" in options)
    elif verb == "kill":
        number = signal.Signals[(options.get("--signal") or options.get("-s") or ["SIGTERM"])[-1]]
        for unit in units:
            os.kill(manager.state(unit)["MainPID"], number)
    elif verb == "reset-failed":
        for unit in units:
            _reset(manager, unit)
    else:
        _change(manager, verb, units, now="--now" in options)
    return 0


def _change(manager: Manager, verb: str, units: Sequence[str], now: bool) -> None:
    if not units:
        raise Usage(f"{verb} without a unit")
    for unit in units:
        if verb == "start":
            manager.start(unit)
        elif verb == "stop":
            manager.stop(unit)
        elif verb == "restart":
            manager.stop(unit)
            manager.start(unit)
        elif verb == "reload":
            manager.reload(unit)
        elif verb == "enable":
            manager.enable(unit)
            if now:
                manager.start(unit)
        elif verb == "disable":
            manager.disable(unit)
            if now:
                manager.stop(unit)
        else:
            raise Usage(verb)


def _show(manager: Manager, units: Sequence[str], options: Mapping[str, list[str]]) -> None:
    asked = [*options.get("--property", ()), *options.get("-p", ())]
    names = {name for each in asked for name in each.split(",")}
    for unit in units:
        found = manager.properties(unit)
        unknown = names - found.keys()
        if unknown:
            raise Usage(f"properties {unknown}")
        for name, value in found.items():
            if not names or name in names:
                print(value if "--value" in options else f"{name}={value}")


def _asked(manager: Manager, verb: str, units: Sequence[str], quiet: bool) -> int:
    (unit,) = units
    found = manager.properties(unit)
    word = found["UnitFileState"] or "not-found" if verb == "is-enabled" else found["ActiveState"]
    if not quiet:
        print(word)
    wanted = {"is-active": "active", "is-enabled": "enabled", "is-failed": "failed"}[verb]
    return 0 if word == wanted else 3 if verb == "is-active" else 1


def _reset(manager: Manager, unit: str) -> None:
    if manager.properties(unit)["LoadState"] == "not-found":
        raise Failed(f"Failed to reset failed state of unit {unit}: Unit {unit} not loaded.")
    state = manager.state(unit)
    if state.get("ActiveState") == "failed":
        state |= {"ActiveState": "inactive", "SubState": "dead", "Result": "success"}
    manager.keep_state(unit, state | {"NRestarts": 0})


def journalctl(manager: Manager, arguments: Sequence[str]) -> int:
    """One call of journalctl: the messages alone."""
    _, options = read(arguments)
    named = [*options.get("--unit", ()), *options.get("-u", ()), *options.get("--user-unit", ())]
    unit = named[-1] if "." in named[-1] else f"{named[-1]}.service"
    count = int([*options.get("--lines", ()), *options.get("-n", ()), "10"][0])
    journal = manager.home / f"{unit}.journal"
    lines = journal.read_text("utf-8", "replace").splitlines() if journal.exists() else []
    for line in lines[-count:] if count else []:
        print(_LEVEL.sub("", line), flush=True)
    place = len(lines)
    while "--follow" in options or "-f" in options:
        time.sleep(POLL_S)
        lines = journal.read_text("utf-8", "replace").splitlines() if journal.exists() else []
        for line in lines[place:]:
            print(_LEVEL.sub("", line), flush=True)
        place = len(lines)
    return 0


def loginctl(manager: Manager, arguments: Sequence[str]) -> int:
    """One call of loginctl: whether services of a user outlive their sessions."""
    (verb, *names), options = read(arguments)
    linger = manager.home / "linger" / (names or ["root"])[0]
    if verb == "show-user":
        word = "yes" if linger.exists() else "no"
        print(word if "--value" in options else f"Linger={word}")
    elif verb == "enable-linger":
        linger.parent.mkdir(exist_ok=True)
        linger.touch()
    else:
        raise Usage(verb)
    return 0


def main(home: str, units: str, program: str, *arguments: str) -> int:
    """Be one of the programs."""
    manager = Manager(Path(home), Path(units))
    if program == "supervise":
        from tests.integration.unitsupervisor import Supervisor

        return Supervisor(manager, arguments[0]).run()
    with (manager.home / "calls").open("a") as calls:
        calls.write(json.dumps([program, *arguments]) + "\n")
    known = {"systemctl": systemctl, "journalctl": journalctl, "loginctl": loginctl}
    try:
        return known[program](manager, arguments)
    except Usage as error:
        print(f"the stand-in does not know {program} {error}", file=sys.stderr)
        return UNKNOWN
    except Failed as error:
        print(error, file=sys.stderr)
        return error.code
