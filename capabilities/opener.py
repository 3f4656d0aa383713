"""Handing a checked URL or path to the desktop: an argument list, never a shell."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping

import attrs

from palyra.capability.desktopsession import DesktopSession, find_session
from palyra.errors import CannotOpen

LIMIT_S = 10.0
"""How long an opener is watched; one that still runs then serves what it opened."""

_POLL_S = 0.02
_OUTLIVES = ("KillMode=process",)
"""An opener ends when the browser it started goes on: only its own process is the service's."""

Opener = Callable[[str], Awaitable[None]]
"""Opens an absolute path or an http(s) URL, or raises :class:`CannotOpen`."""

Launch = Callable[[list[str], Mapping[str, str], bool], Awaitable[int | None]]
"""Runs an argument list in an environment; the exit code, None where it still runs.  The third
argument: it only watches what was started elsewhere, so it need not stay."""


async def launch(argv: list[str], env: Mapping[str, str], watches: bool) -> int | None:
    """Start ``argv`` in a session of its own and wait for it, :data:`LIMIT_S` at most.

    It is left running after that, for ``xdg-open`` may be the browser itself from there on, and a
    daemon thread takes its exit code; what only ``watches`` is ended.
    """
    null = subprocess.DEVNULL
    process = subprocess.Popen(
        argv, stdin=null, stdout=null, stderr=null, env=dict(env), start_new_session=True
    )
    until = time.monotonic() + LIMIT_S
    try:
        while (code := process.poll()) is None and time.monotonic() < until:
            await asyncio.sleep(_POLL_S)
        return code
    finally:
        if process.poll() is None:
            if watches:
                process.kill()
            threading.Thread(target=process.wait, name="palyra-opened", daemon=True).start()


@attrs.frozen(slots=True, kw_only=True)
class SystemOpener:
    """The opener of this platform: xdg-open or gio on Linux, open on macOS, startfile on Windows.

    Everything that differs between machines is a constructor argument.
    """

    platform: str = sys.platform
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    session: Callable[[Mapping[str, str]], DesktopSession] = find_session
    which: Callable[[str], str | None] = shutil.which
    launch: Launch = launch
    unit: Callable[[], str] = lambda: f"palyra-open-{secrets.token_hex(8)}.service"
    startfile: Callable[[str], None] | None = attrs.field(
        factory=lambda: getattr(os, "startfile", None)
    )

    async def __call__(self, target: str) -> None:
        """Open ``target``."""
        if self.platform == "win32":
            self._start_file(target)
        elif self.platform == "darwin":
            program = self._program(target, "open")
            await self._run(target, "open", [program, target], self.environ)
        else:
            await self._open_on_linux(target)

    def _start_file(self, target: str) -> None:
        if self.startfile is None:
            raise CannotOpen(target, "this Python has no os.startfile")
        try:
            self.startfile(target)
        except OSError as exc:
            raise CannotOpen(target, exc.strerror or type(exc).__name__) from exc

    async def _open_on_linux(self, target: str) -> None:
        session = await asyncio.to_thread(self.session, self.environ)
        if not session.has_display:
            raise CannotOpen(target, session.why_no_display)
        name, argv = self._linux_argv(target)
        if session.systemd_run:
            argv = session.managed(argv, self.unit(), _OUTLIVES)
        env = session.environment(self.environ)
        await self._run(target, name, argv, env, watches=bool(session.systemd_run))

    def _linux_argv(self, target: str) -> tuple[str, list[str]]:
        if program := self.which("xdg-open"):
            # xdg-open knows no "--"; a checked target begins with "/" or "http".
            return "xdg-open", [program, target]
        if program := self.which("gio"):
            return "gio", [program, "open", "--", target]
        raise CannotOpen(target, "neither xdg-open nor gio is installed on this device")

    def _program(self, target: str, name: str) -> str:
        program = self.which(name)
        if program is None:
            raise CannotOpen(target, f"{name} is not installed on this device")
        return program

    async def _run(
        self,
        target: str,
        name: str,
        argv: list[str],
        env: Mapping[str, str],
        *,
        watches: bool = False,
    ) -> None:
        try:
            code = await self.launch(argv, env, watches)
        except OSError as exc:
            raise CannotOpen(target, f"{name}: {exc.strerror}") from exc
        if code:
            raise CannotOpen(target, f"{name} ended with exit code {code}")
