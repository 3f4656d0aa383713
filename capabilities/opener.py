"""Handing a checked URL or path to the desktop: an argument list, never a shell."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping

import attrs

from palyra.errors import CannotOpen

LIMIT_S = 10.0
"""How long an opener is watched; one that still runs then serves what it opened."""

_ENVIRONMENT_S = 2.0
_POLL_S = 0.02
_SESSION = (
    "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_CURRENT_DESKTOP", "XDG_RUNTIME_DIR",
    "XDG_SESSION_TYPE", "DBUS_SESSION_BUS_ADDRESS", "DESKTOP_SESSION",
)  # fmt: skip
_SHOW_ENVIRONMENT = ("systemctl", "--user", "show-environment")

Opener = Callable[[str], Awaitable[None]]
"""Opens an absolute path or an http(s) URL, or raises :class:`CannotOpen`."""

Launch = Callable[[list[str], Mapping[str, str]], Awaitable[int | None]]
"""Runs an argument list in an environment; the exit code, None where it still runs."""


async def launch(argv: list[str], env: Mapping[str, str]) -> int | None:
    """Start ``argv`` in a session of its own and wait for it, :data:`LIMIT_S` at most.

    It is left running after that: ``xdg-open`` may be the browser itself from there on.
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
            threading.Thread(target=process.wait, name="palyra-opened", daemon=True).start()


def session_environment() -> dict[str, str]:
    """The variables of the user's desktop session as systemd knows them at this moment.

    The node host may have been started long before anyone signed in.  Empty without systemd.
    """
    try:
        answer = subprocess.run(
            _SHOW_ENVIRONMENT, capture_output=True, check=True, timeout=_ENVIRONMENT_S
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_environment(answer.stdout.decode("utf-8", "replace"))


def parse_environment(text: str) -> dict[str, str]:
    """The session variables among ``NAME=value`` lines; values in shell quotes are left out."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {
        name: value
        for name, _, value in pairs
        if name in _SESSION and value and not value.startswith("$'")
    }


@attrs.frozen(slots=True, kw_only=True)
class SystemOpener:
    """The opener of this platform: xdg-open or gio on Linux, open on macOS, startfile on Windows.

    Everything that differs between machines is a constructor argument.
    """

    platform: str = sys.platform
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    session: Callable[[], Mapping[str, str]] = session_environment
    which: Callable[[str], str | None] = shutil.which
    launch: Launch = launch
    startfile: Callable[[str], None] | None = attrs.field(
        factory=lambda: getattr(os, "startfile", None)
    )

    async def __call__(self, target: str) -> None:
        """Open ``target``."""
        if self.platform == "win32":
            self._start_file(target)
        elif self.platform == "darwin":
            await self._run(target, ["open", target], self.environ)
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
        session = await asyncio.to_thread(self.session)
        env = {**self.environ, **session}
        if not (env.get("DISPLAY") or env.get("WAYLAND_DISPLAY")):
            raise CannotOpen(target, "nobody is signed in at a desktop of this device")
        if self.which("xdg-open"):
            # xdg-open knows no "--"; a checked target begins with "/" or "http".
            await self._run(target, ["xdg-open", target], env)
        elif self.which("gio"):
            await self._run(target, ["gio", "open", "--", target], env)
        else:
            raise CannotOpen(target, "neither xdg-open nor gio is installed on this device")

    async def _run(self, target: str, argv: list[str], env: Mapping[str, str]) -> None:
        program = self.which(argv[0])
        if program is None:
            raise CannotOpen(target, f"{argv[0]} is not installed on this device")
        try:
            code = await self.launch([program, *argv[1:]], env)
        except OSError as exc:
            raise CannotOpen(target, f"{argv[0]}: {exc.strerror}") from exc
        if code:
            raise CannotOpen(target, f"{argv[0]} ended with exit code {code}")
