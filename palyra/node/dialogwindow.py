"""One dialog on the screen, from the start of its program to its answer, in a thread of its own.

Plain threads and ``subprocess``, so that every platform goes the same way; what the program writes
goes to files, so that nothing it leaves behind can keep a reader waiting.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import IO

import attrs

from palyra.capability.desktopsession import (
    DesktopSession,
    Which,
    find_session,
    stop_unit,
)
from palyra.node.dialogprograms import NOT_ANSWERED, DialogProgram, Ended, candidates
from palyra.node.dialogtext import Shown

_POLL_S = 0.05
_MAX_OUTPUT = 4096
_STOP_S = 2.0


class CannotShow(Exception):
    """No dialog can be shown; its text is the cause, without a point."""


@attrs.frozen(slots=True)
class Means:
    """How a dialog is shown here and now."""

    program: DialogProgram
    path: str
    session: DesktopSession


@attrs.frozen(slots=True, kw_only=True)
class Desktop:
    """This machine's desktop; everything that differs between machines is an argument."""

    platform: str = sys.platform
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    session: Callable[[Mapping[str, str]], DesktopSession] = find_session
    which: Which = shutil.which
    stop_unit: Callable[[str, Mapping[str, str]], None] = stop_unit

    @property
    def asks_systemd(self) -> bool:
        """Whether :meth:`means` may have to wait for an answer of systemd."""
        return self.platform not in ("win32", "darwin")

    def means(self) -> Means:
        """How a dialog can be shown now.  Blocks for a moment where it :attr:`asks_systemd`.

        :raises CannotShow: there is no desktop, or no program for it.
        """
        session = self.session(self.environ) if self.asks_systemd else DesktopSession({})
        if self.asks_systemd and not session.has_display:
            raise CannotShow(session.why_no_display)
        programs = candidates(self.platform, kde=session.is_kde)
        for program in programs:
            if path := self.which(program.name):
                return Means(program, path, session)
        names = [program.name for program in programs]
        raise CannotShow(
            f"neither {' nor '.join(names)} is installed"
            if len(names) > 1
            else f"{names[0]} is not installed"
        )

    def environment(self, session: DesktopSession) -> dict[str, str]:
        """What the program's process gets: UTF-8 whatever the service was started with, and its
        messages as they are in its source."""
        if not self.asks_systemd:
            return dict(self.environ)
        return session.environment(self.environ) | {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}


class Window:
    """One dialog.  :meth:`show` blocks until it is answered or closed; :meth:`close` does not."""

    def __init__(self, desktop: Desktop, shown: Shown) -> None:
        self._desktop = desktop
        self._shown = shown
        self._closing = threading.Event()
        # Guards the process against being reaped between a look and a kill: its id, and its
        # group's, may be somebody else's after that.
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Take it from the screen; from any thread, at any time, any number of times."""
        with self._lock:
            self._closing.set()
            if self._process is not None and self._process.returncode is None:
                _kill_group(self._process)

    def show(self) -> str | None:
        """One of the choices that were offered, :data:`NOT_ANSWERED`, or None: it was closed.

        :raises CannotShow: no dialog was shown.
        """
        means = self._desktop.means()
        ended = self._run(means)
        if ended is None:
            return None
        answer = means.program.read(ended)
        if answer == NOT_ANSWERED or answer in self._shown.choices:
            return answer
        raise CannotShow(f"{means.program.name} ended with exit code {ended.code}")

    def _run(self, means: Means) -> Ended | None:
        unit = f"palyra-dialog-{secrets.token_hex(8)}.service"
        argv = self._argv(means, unit)
        environ = self._desktop.environment(means.session)
        with contextlib.ExitStack() as files:
            given, out, err = (files.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            given.write(means.program.stdin(self._shown))
            given.seek(0)
            if not self._start(argv, environ, given, out, err):
                return None
            code = self._wait()
            if not self._closing.is_set():
                return Ended(code, _beginning(out), _beginning(err))
        if means.session.systemd_run:
            self._desktop.stop_unit(unit, environ)
        return None

    def _argv(self, means: Means, unit: str) -> list[str]:
        argv = [means.path, *means.program.argv(self._shown)]
        if not means.session.systemd_run:
            return argv
        properties = ["TimeoutStopSec=2"]
        if self._shown.lasts_s is not None:
            # For a node host that was killed and cannot close its dialog.
            properties.append(f"RuntimeMaxSec={self._shown.lasts_s + 60}")
        session = attrs.evolve(
            means.session,
            variables={**means.session.variables, "LC_ALL": "C.UTF-8", "LANGUAGE": ""},
        )
        return session.managed(argv, unit, properties, pipe=True)

    def _start(
        self,
        argv: list[str],
        environ: Mapping[str, str],
        given: IO[bytes],
        out: IO[bytes],
        err: IO[bytes],
    ) -> bool:
        """Start the program, unless the dialog was closed before."""
        with self._lock:
            if self._closing.is_set():
                return False
            try:
                self._process = subprocess.Popen(
                    argv,
                    stdin=given,
                    stdout=out,
                    stderr=err,
                    env=dict(environ),
                    start_new_session=True,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            except OSError as exc:
                raise CannotShow(f"{os.path.basename(argv[0])}: {exc.strerror}") from exc
            return True

    def _wait(self) -> int:
        """Wait for the program's end; while it is closed, not for ever."""
        while (code := self._look()) is None:
            self._closing.wait(_POLL_S)
            if self._closing.is_set():
                return self._reap()
        return code

    def _look(self) -> int | None:
        with self._lock:
            return None if self._process is None else self._process.poll()

    def _reap(self) -> int:
        """The exit code of a program that was killed."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_STOP_S)
        return -1


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and what it started: it leads a process group of its own."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _beginning(written: IO[bytes]) -> bytes:
    written.seek(0)
    return written.read(_MAX_OUTPUT)
