"""The desktop session of the person at the device, and starting a program in it.

A node host may have been started long before anyone signed in, and its own process may be limited,
watched and ended as a service is.  What a person sees belongs to the person's session instead: the
variables are asked of systemd at the moment of use, and where a systemd user manager answers it is
the one that starts the program, outside of the node host's cgroup and limits.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence

import attrs

ANSWERS_WITHIN_S = 2.0
"""How long systemd is waited for."""

_NAMES = (
    "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_CURRENT_DESKTOP", "XDG_RUNTIME_DIR",
    "XDG_SESSION_TYPE", "DBUS_SESSION_BUS_ADDRESS", "DESKTOP_SESSION",
)  # fmt: skip
_SHOW_ENVIRONMENT = ("systemctl", "--user", "show-environment")

Which = Callable[[str], str | None]
"""Where a program is, None where it is not; as :func:`shutil.which`."""


@attrs.frozen(slots=True)
class DesktopSession:
    """The session variables of this moment, and whether a systemd user manager starts programs.

    ``systemd_run`` is the path of that program, empty where there is no such manager.
    """

    variables: Mapping[str, str]
    systemd_run: str = ""

    @property
    def has_display(self) -> bool:
        """Whether a window can be shown."""
        return bool(self.variables.get("DISPLAY") or self.variables.get("WAYLAND_DISPLAY"))

    @property
    def is_kde(self) -> bool:
        """Whether it is a Plasma desktop."""
        return "KDE" in self.variables.get("XDG_CURRENT_DESKTOP", "").upper().split(":")

    @property
    def why_no_display(self) -> str:
        """What is missing, in words that fit after a colon and without a point."""
        if self.systemd_run or self.variables.get("XDG_RUNTIME_DIR"):
            return "nobody is signed in at a desktop of this device"
        return "the node host runs outside of any user's session (no_user_session)"

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """``environ`` with this session's variables over it."""
        return {**environ, **self.variables}

    def managed(
        self, argv: Sequence[str], unit: str, properties: Sequence[str], *, pipe: bool = False
    ) -> list[str]:
        """The argument list by which the user manager runs ``argv`` as the service ``unit``.

        It ends as ``argv`` ends, with the same exit code, and ending it before that leaves the
        service alone: see :func:`stop_unit`.  ``pipe``: standard streams are handed over.

        ``argv[0]`` is a path.  No ``Type=exec``: a program that fails at once would be reported by
        1 instead of by its own exit code.
        """
        return [
            self.systemd_run, "--user", "--collect", "--quiet", "--wait",
            *(["--pipe"] if pipe else []),
            f"--unit={unit}",
            *(f"--property={each}" for each in properties),
            *(f"--setenv={name}={value}" for name, value in sorted(self.variables.items())),
            "--",
            *(_unexpanded(each) for each in argv),
        ]  # fmt: skip


def _unexpanded(argument: str) -> str:
    """``argument`` as systemd hands it on unchanged: it would put variables in for ``${NAME}``."""
    return argument.replace("$", "$$")


def find_session(
    environ: Mapping[str, str],
    *,
    show: Callable[[], Mapping[str, str] | None] | None = None,
    which: Which = shutil.which,
) -> DesktopSession:
    """The session as systemd knows it now, else as ``environ`` says.  Blocks, for
    :data:`ANSWERS_WITHIN_S` at most."""
    shown = (show or show_environment)()
    own = {name: value for name in _NAMES if (value := environ.get(name))}
    variables = own | dict(shown or {})
    # systemd-run waits for the end of a service over the session's bus.
    reachable = shown is not None and "DBUS_SESSION_BUS_ADDRESS" in variables
    return DesktopSession(variables, (which("systemd-run") or "") if reachable else "")


def show_environment() -> dict[str, str] | None:
    """The session variables that the systemd user manager knows; None where none answers."""
    try:
        answer = subprocess.run(
            _SHOW_ENVIRONMENT, capture_output=True, check=True, timeout=ANSWERS_WITHIN_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_environment(answer.stdout.decode("utf-8", "replace"))


def parse_environment(text: str) -> dict[str, str]:
    """The session variables among ``NAME=value`` lines; values in shell quotes are left out."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {
        name: value
        for name, _, value in pairs
        if name in _NAMES and value and not value.startswith("$'")
    }


def stop_unit(unit: str, environ: Mapping[str, str]) -> None:
    """End a service of :meth:`DesktopSession.managed` with all its processes.  Blocks, for
    :data:`ANSWERS_WITHIN_S` at most; a service that is not there is no error."""
    null = subprocess.DEVNULL
    try:
        subprocess.run(
            ("systemctl", "--user", "stop", unit),
            stdin=null, stdout=null, stderr=null, env=dict(environ), timeout=ANSWERS_WITHIN_S,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return
