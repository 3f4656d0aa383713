"""systemd, of a user or of the machine, as the keeper of a node host."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from zope.interface import implementer

from palyra._files import write_atomic
from palyra.errors import PalyraError, ServiceElsewhere, ServiceManagerFailed
from palyra.supervision import interpreter
from palyra.supervision.grace import LONGEST_S, grace_s
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.programs import NOT_FOUND, Ran, run
from palyra.supervision.service import (
    Manager,
    Scope,
    Service,
    ServiceState,
    elsewhere,
    is_same_place,
)
from palyra.supervision.systemdstate import PROPERTIES, parse_state
from palyra.supervision.systemdunit import (
    START_WITHIN_S,
    UNIT,
    state_root_of,
    stop_within_s,
    target_of,
    unit_text,
)

_RUNS = frozenset({"initializing", "starting", "running", "degraded", "maintenance", "stopping"})
_NOT_LOADED = 5
_MAX_UNIT = 64 * 1024
_MARGIN_S = 15.0
_LONGEST_STOP_S = stop_within_s(LONGEST_S)


@implementer(IServiceManager)
class Systemd:
    """The service manager of root, or of the user who runs this process."""

    kind = Manager.SYSTEMD

    def __init__(
        self,
        scope: Scope,
        state_root: Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """``state_root`` is whose service it keeps; a unit of another one is none of its own (None:
        any is).  ``environ``: the environment its programs get, and where units are looked for;
        ours where it is None."""
        self._scope = scope
        self._state_root = state_root
        self._environ = _reaching(scope, dict(os.environ if environ is None else environ))
        self.described = f"systemd {scope} unit"

    @property
    def unit_file(self) -> Path:
        """Where the unit is, or would be."""
        return self._directory() / UNIT

    @property
    def files(self) -> Sequence[Path]:
        return [self.unit_file]

    @property
    def _wanted_by(self) -> Path:
        """The link that has it started, as ``systemctl enable`` makes it."""
        return self._directory() / f"{target_of(self._scope)}.wants" / UNIT

    def available(self) -> str:
        """Nothing if it can be used; else why not, without a point."""
        ran = self._systemctl("is-system-running", check=False)
        if ran.out.strip() in _RUNS:
            return ""
        if ran.code == NOT_FOUND:
            return "there is no systemctl"
        who = "it does not run" if self._scope is Scope.SYSTEM else "no manager of this user runs"
        said = ran.out.strip()[:40] or ran.said
        return f"{who} ({said})" if said.isprintable() and said else who

    def check(self, service: Service) -> None:
        """Refuse a unit of another state root, one that somebody else wrote, and what no unit can
        hold."""
        self._ours(service.state_root)
        _text(service)

    def install(self, service: Service) -> list[Path]:
        """Write the unit and enable it; what was there is as before if that fails."""
        file = self.unit_file
        before = self._ours(service.state_root)
        text = _text(service)
        made = _make_directory(file.parent)
        try:
            write_atomic(file, text.encode(), mode=0o644)
            self._systemctl("daemon-reload")
            self._systemctl("enable", UNIT)
        except BaseException:
            self._put_back(before, made)
            raise
        return [file]

    def uninstall(self) -> list[Path]:
        """Stop it, and take the unit away."""
        if self._elsewhere() is not None or self._ours(None) is None:
            return []
        if self.available():  # then nobody runs it, and nobody is there to be told
            self._wanted_by.unlink(missing_ok=True)
            self.unit_file.unlink(missing_ok=True)
            return [self.unit_file]
        self._systemctl("disable", "--now", UNIT, timeout_s=_LONGEST_STOP_S + _MARGIN_S)
        self.unit_file.unlink(missing_ok=True)
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", UNIT, check=False)
        return [self.unit_file]

    def start(self) -> None:
        """Start it, and return when it says that it is ready."""
        self._told_why("start", START_WITHIN_S + _MARGIN_S)

    def stop(self) -> None:
        """Stop it, and return when it has ended."""
        if self._elsewhere() is not None:
            return
        command = ("stop", UNIT)
        ran = self._systemctl(*command, check=False, timeout_s=_LONGEST_STOP_S + _MARGIN_S)
        if ran.code not in (0, _NOT_LOADED):
            raise ran.failed(self._command(*command))

    def restart(self) -> None:
        """Stop it where it runs, start it, and return when it says that it is ready."""
        self._told_why("restart", _LONGEST_STOP_S + START_WITHIN_S + _MARGIN_S)

    def state(self) -> ServiceState:
        """How it is.

        :raises ServiceManagerFailed: systemd does not answer, or not so that it can be read.
        """
        if self._elsewhere() is not None:
            return ServiceState(installed=False)
        ran = self._systemctl("show", UNIT, f"--property={','.join(PROPERTIES)}")
        return parse_state(ran.out)

    def logs(self, lines: int, follow: bool) -> list[str] | None:
        """journalctl: the lines of a user's unit are also in the journal of the machine."""
        unit = "--unit" if self._scope is Scope.SYSTEM else "--user-unit"
        more = ["--follow"] if follow else []
        return ["journalctl", "--quiet", "--no-pager", f"{unit}={UNIT}", f"--lines={lines}", *more]

    def _told_why(self, verb: str, timeout_s: float) -> None:
        """Start it; where it ends at once, with systemd's reason instead of systemctl's advice."""
        other = self._elsewhere()
        if other is not None:
            raise other
        ran = self._systemctl(verb, UNIT, check=False, timeout_s=timeout_s)
        if ran.code == 0:
            return
        failed = ran.failed(self._command(verb, UNIT))
        with contextlib.suppress(ServiceManagerFailed):
            result = self.state().result
            failed.said, failed.remedy = result or failed.said, "palyra node logs"
        raise failed

    def _ours(self, state_root: Path | None) -> str | None:
        """The unit that is there; None where there is none.

        :raises ServiceElsewhere: it is for another root than ``state_root`` (None: any is right).
        :raises ServiceManagerFailed: somebody else wrote it.
        """
        file = self.unit_file
        if not file.is_symlink() and not file.exists():
            return None
        text, found = "", None
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                text = opened.read(_MAX_UNIT).decode("utf-8", "replace")
            found = state_root_of(text)
        if found is None:
            said = "there is a unit of that name which palyra did not write"
            raise ServiceManagerFailed(f"installing {file}", said, remedy=f"systemctl cat {UNIT}")
        if state_root is not None and not is_same_place(found, state_root):
            raise ServiceElsewhere(str(file), str(found))
        return text

    def _elsewhere(self) -> ServiceElsewhere | None:
        """Where the unit is for another state root, that it is."""
        return elsewhere(lambda: self._ours(self._state_root))

    def _put_back(self, before: str | None, made: Iterable[Path]) -> None:
        """As it was before an install that failed; whatever fails now is not told."""
        with contextlib.suppress(PalyraError, OSError):
            if before is None:
                self._systemctl("disable", UNIT, check=False)
                self.unit_file.unlink(missing_ok=True)
                for each in made:
                    each.rmdir()
            else:
                write_atomic(self.unit_file, before.encode(), mode=0o644)
        self._systemctl("daemon-reload", check=False)

    def _directory(self) -> Path:
        """Where this manager's units are put; ``SYSTEMD_UNIT_PATH`` is systemd's own variable."""
        for each in self._environ.get("SYSTEMD_UNIT_PATH", "").split(":"):
            if each.startswith("/"):
                return Path(each)
        if self._scope is Scope.SYSTEM:
            return Path("/etc/systemd/system")
        configuration = self._environ.get("XDG_CONFIG_HOME", "")
        home = Path(self._environ.get("HOME") or Path.home())
        base = Path(configuration) if configuration.startswith("/") else home / ".config"
        return base / "systemd" / "user"

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return ("systemctl", *(["--user"] if self._scope is Scope.USER else []), *arguments)

    def _systemctl(self, *arguments: str, check: bool = True, timeout_s: float = 30.0) -> Ran:
        command = self._command(*arguments)
        return run(command, timeout_s=timeout_s, check=check, environ=self._environ)


def lingers(user: str, *, environ: Mapping[str, str] | None = None) -> bool | None:
    """Whether the services of ``user`` run also while nobody is signed in; None where logind cannot
    tell."""
    if user.startswith("-"):
        return None
    command = ("loginctl", "show-user", user, "--property=Linger")
    ran = run(command, timeout_s=5.0, check=False, environ=environ)
    return {"Linger=yes": True, "Linger=no": False}.get(ran.out.strip()) if ran.code == 0 else None


def _reaching(scope: Scope, environ: dict[str, str]) -> dict[str, str]:
    """``environ`` by which a user's manager is found also where nobody signed in (su, cron)."""
    if scope is Scope.USER and not environ.get("XDG_RUNTIME_DIR") and hasattr(os, "getuid"):
        directory = Path(f"/run/user/{os.getuid()}")
        with contextlib.suppress(OSError):
            if directory.stat().st_uid == os.getuid():
                environ["XDG_RUNTIME_DIR"] = str(directory)
    return environ


def _make_directory(path: Path) -> list[Path]:
    """Make ``path``; what had to be made, the deepest first."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return missing


def _text(service: Service) -> str:
    reads = interpreter.places(service.python)
    return unit_text(service, reads=reads, grace_s=grace_s(service.state_root))
