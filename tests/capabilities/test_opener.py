"""The openers of three platforms: an argument list, an exit code, and a sentence."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from palyra_capabilities import opener as room
from palyra_capabilities.opener import SystemOpener

from palyra.errors import CannotOpen


def await_in_thread(make: Callable[[], Awaitable[Any]]) -> Any:
    """The result of a coroutine, in a loop of its own as in a warm thread."""
    box: list[Any] = []

    async def main() -> Any:
        return await make()

    def work() -> None:
        try:
            box.append(asyncio.run(main()))
        except BaseException as exc:
            box.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


class Machine:
    """A recording machine: which programs it has, and how they end."""

    def __init__(self, *programs: str, code: int | None = 0, error: OSError | None = None) -> None:
        self.programs = programs
        self.code = code
        self.error = error
        self.ran: list[list[str]] = []
        self.env: Mapping[str, str] = {}

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    async def launch(self, argv: list[str], env: Mapping[str, str]) -> int | None:
        self.ran.append(argv)
        self.env = env
        if self.error is not None:
            raise self.error
        return self.code

    def opener(self, platform: str, **changes: Any) -> SystemOpener:
        facts: dict[str, Any] = {
            "platform": platform,
            "environ": {"PATH": "/usr/bin", "DISPLAY": ":9"},
            "session": dict,
            "which": self.which,
            "launch": self.launch,
            "startfile": None,
        }
        return SystemOpener(**(facts | changes))


def opened(opener: SystemOpener, target: str = "https://a.example") -> None:
    await_in_thread(lambda: opener(target))


@pytest.mark.parametrize(
    ("platform", "programs", "argv"),
    [
        ("linux", ("xdg-open", "gio"), ["/usr/bin/xdg-open", "https://a.example"]),
        ("linux", ("gio",), ["/usr/bin/gio", "open", "--", "https://a.example"]),
        ("darwin", ("open",), ["/usr/bin/open", "https://a.example"]),
    ],
)
@pytest.mark.parametrize("code", [0, None])
def test_argument_lists(
    platform: str, programs: tuple[str, ...], argv: list[str], code: int | None
) -> None:
    """Each platform's program gets the target as one argument; one that stays is no failure."""
    machine = Machine(*programs, code=code)
    opened(machine.opener(platform))
    assert machine.ran == [argv]


def test_session_of_this_moment() -> None:
    """The desktop session's variables win over those the node host was started with."""
    machine = Machine("xdg-open")
    opened(machine.opener("linux", session=lambda: {"DISPLAY": ":0"}))
    assert machine.env == {"PATH": "/usr/bin", "DISPLAY": ":0"}


@pytest.mark.parametrize(
    ("machine", "platform", "changes", "cause"),
    [
        (Machine(), "linux", {}, "neither xdg-open nor gio is installed"),
        (Machine("gio"), "linux", {"environ": {}}, "nobody is signed in"),
        (Machine(), "darwin", {}, "open is not installed"),
        (Machine("gio", code=3), "linux", {}, "gio ended with exit code 3"),
        (Machine("gio", error=PermissionError(13, "Denied")), "linux", {}, "gio: Denied"),
        (Machine(), "win32", {}, "no os.startfile"),
    ],
)
def test_failures_say_why(
    machine: Machine, platform: str, changes: dict[str, Any], cause: str
) -> None:
    """What cannot be opened is a sentence with its cause."""
    with pytest.raises(CannotOpen, match=cause):
        opened(machine.opener(platform, **changes))


def test_windows() -> None:
    """On Windows startfile opens it, and its refusal is told."""
    seen: list[str] = []
    opened(Machine().opener("win32", startfile=seen.append), "C:\\a.txt")
    assert seen == ["C:\\a.txt"]

    def refuse(target: str) -> None:
        raise OSError(1155, "No application")

    with pytest.raises(CannotOpen, match="No application"):
        opened(Machine().opener("win32", startfile=refuse))


def test_launch_tells_the_exit_code() -> None:
    """A real process is started with its arguments as they are, and its exit code is seen."""
    argv = [sys.executable, "-c", "import sys; sys.exit(len(sys.argv[1]))", "a b;$(c)"]
    assert await_in_thread(lambda: room.launch(argv, os.environ)) == len("a b;$(c)")


def test_what_stays_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that still runs at the limit is neither waited for nor ended."""
    made: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **(kwargs | {"stdin": subprocess.PIPE}))
            made.append(self)

    monkeypatch.setattr(room, "LIMIT_S", 0.0)
    monkeypatch.setattr(subprocess, "Popen", Kept)
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    assert await_in_thread(lambda: room.launch(argv, os.environ)) is None
    (process,) = made
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 0


def test_environment_of_systemd() -> None:
    """Only session variables are taken, and none in shell quotes."""
    text = "DISPLAY=:0\nPATH=/x\nXAUTHORITY=$'a\\nb'\nWAYLAND_DISPLAY=wayland-0\nbroken\nDISPLAY\n"
    assert room.parse_environment(text) == {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}


def test_no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without systemd has no session variables to offer, and no error."""
    monkeypatch.setattr(room, "_SHOW_ENVIRONMENT", ("/nonexistent/systemctl",))
    assert room.session_environment() == {}
