"""launchd of macOS: an agent of a user, or a daemon of the machine (launchctl(1))."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import attrs
from zope.interface import implementer

from palyra._files import write_atomic
from palyra.errors import (
    CredentialsUnsupported,
    DidNotStop,
    PalyraError,
    ServiceElsewhere,
    ServiceManagerFailed,
)
from palyra.supervision.grace import LONGEST_S, grace_s
from palyra.supervision.interfaces import IServiceManager
from palyra.supervision.launchdplist import MAX_BYTES, plist_of, state_root_in, stop_within_s
from palyra.supervision.programs import NOT_FOUND, Ran, run
from palyra.supervision.service import (
    LABEL,
    Manager,
    Scope,
    Service,
    ServiceState,
    elsewhere,
    is_same_place,
)

TRIES = 10
"""At starting a job that launchd has not let go of yet."""
LOOK_EVERY_S = 0.5
_SLOW_S = 30.0
_ALREADY = (5, 37)
"""What bootstrap says of a job that is there, or on its way out: EIO and EALREADY as launchd has
them."""
_NO_SUCH_DOMAIN = (112, 113, 125)
_DISABLED = 119


@attrs.frozen
class Printed:
    """What ``launchctl print`` says of a job that it has; 0 and empty where it does not."""

    state: str = ""
    pid: int = 0
    exit_code: str = ""

    @classmethod
    def read(cls, text: str) -> Printed:
        """The entries of the job itself: blocks within it have entries of the same names.

        Apple promises nothing of this text, so what is not there is left out.
        """
        depth, found = 0, dict[str, str]()
        for line in text.splitlines():
            name, equals, value = line.strip().partition(" = ")
            if depth == 1 and equals and value != "{":
                found.setdefault(name, value[:80])
            depth += line.rstrip().endswith("{") - (line.strip() == "}")
        pid = found.get("pid", "")
        return cls(
            found.get("state", ""),
            int(pid) if re.fullmatch(r"[0-9]{1,9}", pid) else 0,
            found.get("last exit code", ""),
        )


@implementer(IServiceManager)
class Launchd:
    """The job ``org.palyra.node``, of the user who is signed in on the desktop or of the machine.

    A job that launchd knows is started again whenever it dies, so one that is stopped is taken out
    (``bootout``) until it is started, or until the next sign-in or boot.
    """

    kind = Manager.LAUNCHD

    def __init__(
        self,
        scope: Scope,
        state_root: Path | None = None,
        *,
        home: Path | None = None,
        machine: Path = Path("/Library"),
        uid: int | None = None,
        pause: Callable[[float], None] = time.sleep,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``state_root`` is whose service it keeps; a job of another one is none of its own (None:
        any is)."""
        user = scope is Scope.USER
        self._state_root = state_root
        uid = os.getuid() if uid is None else uid
        self.described = "launchd agent" if user else "launchd daemon"
        self.domain = f"gui/{uid}" if user else "system"
        self.target = f"{self.domain}/{LABEL}"
        library = (home or Path.home()) / "Library" if user else machine
        self.path = library / ("LaunchAgents" if user else "LaunchDaemons") / f"{LABEL}.plist"
        self.files = [self.path]
        self._pause = pause
        self._elapsed_s = elapsed_s

    def available(self) -> str:
        """Empty; else why launchd cannot be used here."""
        ran = run(["launchctl", "print", self.domain], check=False)
        if ran.code == 0:
            return ""
        if ran.code == NOT_FOUND:
            return "launchctl is not there"
        if ran.code in _NO_SUCH_DOMAIN:
            return "the user is not signed in on the desktop"
        return _first_line(ran)

    def check(self, service: Service) -> None:
        """Refuse credentials, a job of another state root, and one that somebody else wrote."""
        if service.credentials:
            raise CredentialsUnsupported("launchd")
        self._ours(service.state_root)

    def install(self, service: Service) -> list[Path]:
        """Write the property list.  launchd reads it when the service is started.

        :raises PalyraError, OSError: what was there before is there.
        """
        self.check(service)
        before = self._ours(service.state_root)
        data = plist_of(service, grace_s=grace_s(service.state_root))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_atomic(self.path, data, 0o644)
            # Somebody may have disabled a job of this name; launchd remembers that for ever.
            self._ask("enable", self.target)
        except BaseException:
            self._put_back(before)
            raise
        return [self.path]

    def uninstall(self) -> list[Path]:
        """Stop it, and remove the property list."""
        if self._elsewhere() is not None:
            return []
        there = self._ours(None) is not None
        self.stop()
        self.path.unlink(missing_ok=True)
        return [self.path] if there else []

    def start(self) -> None:
        """Hand it to launchd, which starts it at once."""
        other = self._elsewhere()
        if other is not None:
            raise other
        loaded = self._loaded()
        if loaded is not None:
            if not loaded.pid:
                self._ask("kickstart", self.target)
            return
        self._ask("enable", self.target)
        for _ in range(TRIES):
            ran = run(["launchctl", "bootstrap", self.domain, str(self.path)], check=False)
            if ran.code == 0:
                return
            if ran.code not in _ALREADY:
                raise self._failed("bootstrap", ran)
            # Of a job that it is about to let go launchd says the same as of one that it has.
            self._pause(LOOK_EVERY_S)
        loaded = self._loaded()
        if loaded is None:
            raise self._failed("bootstrap", ran)
        if not loaded.pid:
            self._ask("kickstart", self.target)

    def stop(self) -> None:
        """Take it out of launchd, which ends it by SIGTERM.

        :raises DidNotStop: launchd did not end it in the time that it was given.
        """
        loaded = self._loaded()
        if loaded is None or self._elsewhere() is not None:
            return
        until = self._elapsed_s() + stop_within_s(LONGEST_S)
        ran = run(["launchctl", "bootout", self.target], timeout_s=_SLOW_S, check=False)
        while (now := self._loaded()) is not None:
            if self._elapsed_s() > until:
                raise DidNotStop(now.pid or loaded.pid)
            if ran.code in (1, NOT_FOUND):  # not permitted: it will not go by waiting
                raise self._failed("bootout", ran)
            self._pause(LOOK_EVERY_S)

    def restart(self) -> None:
        """Out of launchd and back: ``kickstart -k`` would go by the property list that launchd read
        before, and not by one that was installed since."""
        self.stop()
        self.start()

    def state(self) -> ServiceState:
        """As ``launchctl print`` has it."""
        if self._elsewhere() is not None:
            return ServiceState(installed=False)
        installed = self.path.exists()
        loaded = self._loaded()
        if loaded is None:
            return ServiceState(installed=installed, at_boot=self._enabled(installed))
        return ServiceState(
            installed=installed,
            running=loaded.pid > 0,
            pid=loaded.pid,
            at_boot=self._enabled(installed),
            word=loaded.state,
            result=_ended(loaded.exit_code),
        )

    def logs(self, lines: int, follow: bool) -> list[str] | None:
        """Its log is the files of the node host."""
        return None

    def _loaded(self) -> Printed | None:
        """What launchd says of the job; None where it does not have it."""
        ran = run(["launchctl", "print", self.target], check=False)
        return Printed.read(ran.out) if ran.code == 0 else None

    def _enabled(self, installed: bool) -> bool | None:
        """Whether it is started at boot or sign-in; None where launchd does not tell."""
        if not installed:
            return False
        ran = run(["launchctl", "print-disabled", self.domain], check=False)
        if ran.code != 0:
            return None
        said = re.search(rf'^\s*"{re.escape(LABEL)}" => (\w+)', ran.out, re.MULTILINE)
        return said is None or said[1] not in ("true", "disabled")

    def _ask(self, verb: str, *arguments: str) -> None:
        ran = run(["launchctl", verb, *arguments], check=False)
        if ran.code != 0:
            raise self._failed(verb, ran)

    def _failed(self, verb: str, ran: Ran) -> ServiceManagerFailed:
        """launchd's own words are numbers; the remedy is what they mean."""
        doing = f"launchctl {verb} {self.domain if verb == 'bootstrap' else self.target}"
        if not self.path.exists():
            remedy = "palyra node install --start"
        elif ran.code in _ALREADY:
            remedy = f"launchctl bootout {self.target}, then: palyra node start"
        elif ran.code in _NO_SUCH_DOMAIN:
            remedy = "sign in on the desktop of this Mac as that user, then: palyra node start"
        elif ran.code == _DISABLED:
            remedy = f"launchctl enable {self.target}, then: palyra node start"
        else:
            remedy = f"launchctl print {self.target}"
        return ServiceManagerFailed(doing, _first_line(ran), remedy)

    def _ours(self, state_root: Path | None) -> bytes | None:
        """The property list that is there; None where there is none.

        :raises ServiceElsewhere: it is for another root than ``state_root`` (None: any is right).
        :raises ServiceManagerFailed: somebody else wrote it.
        """
        if not os.path.lexists(self.path):
            return None
        data, found = b"", None
        if self.path.is_file() and not self.path.is_symlink():
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            found = state_root_in(data)
        if found is None:
            said = "there is a job of that name which palyra did not write"
            remedy = f"plutil -p {shlex.quote(str(self.path))}"
            raise ServiceManagerFailed(f"installing {self.path}", said, remedy)
        if state_root is not None and not is_same_place(found, state_root):
            raise ServiceElsewhere(str(self.path), str(found))
        return data

    def _elsewhere(self) -> ServiceElsewhere | None:
        """Where the job is for another state root, that it is."""
        return elsewhere(lambda: self._ours(self._state_root))

    def _put_back(self, before: bytes | None) -> None:
        """As it was before an install that failed; whatever fails now is not told."""
        with contextlib.suppress(PalyraError, OSError):
            if before is None:
                self.path.unlink(missing_ok=True)
            else:
                write_atomic(self.path, before, 0o644)


def _first_line(ran: Ran) -> str:
    """What launchctl complains of; its last line is the advice to try again as root."""
    first = (ran.err.strip() or ran.out.strip()).partition("\n")[0]
    return attrs.evolve(ran, err=first).said or f"error {ran.code}"


def _ended(exit_code: str) -> str:
    """How it ended last, in words; empty where it never did, or in peace."""
    number = re.match(r"-?[0-9]{1,9}", exit_code)
    return f"ended with exit code {number[0]}" if number and int(number[0]) else ""
