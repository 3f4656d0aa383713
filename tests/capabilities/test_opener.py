"""The openers of three platforms: an argument list, an exit code, and a sentence."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from palyra_capabilities import opener as room
from palyra_capabilities.opener import SystemOpener

from palyra.capability.desktopsession import DesktopSession
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
        self.watched = False

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    async def launch(self, argv: list[str], env: Mapping[str, str], watches: bool) -> int | None:
        self.ran.append(argv)
        self.env = env
        self.watched = watches
        if self.error is not None:
            raise self.error
        return self.code

    def opener(self, platform: str, **changes: Any) -> SystemOpener:
        facts: dict[str, Any] = {
            "platform": platform,
            "environ": {"PATH": "/usr/bin", "DISPLAY": ":9"},
            "session": lambda environ: DesktopSession({"DISPLAY": environ.get("DISPLAY", "")}),
            "which": self.which,
            "launch": self.launch,
            "unit": lambda: "palyra-open-1.service",
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
    assert not machine.watched


def test_session_of_this_moment() -> None:
    """The desktop session's variables win over those the node host was started with."""
    machine = Machine("xdg-open")
    opened(machine.opener("linux", session=lambda _: DesktopSession({"DISPLAY": ":0"})))
    assert machine.env == {"PATH": "/usr/bin", "DISPLAY": ":0"}


def test_through_the_user_manager() -> None:
    """Where systemd starts programs for the user, what is opened is a service of that user's: it
    outlives its opener and the node host, and its argument is what was checked, ``$`` and all."""
    session = DesktopSession({"DISPLAY": ":0"}, "/usr/bin/systemd-run")
    machine = Machine("xdg-open")
    opened(machine.opener("linux", session=lambda _: session), "https://a.example/${HOME}$$%h")
    assert machine.ran == [[
        "/usr/bin/systemd-run", "--user", "--collect", "--quiet", "--wait",
        "--unit=palyra-open-1.service", "--property=KillMode=process", "--setenv=DISPLAY=:0",
        "--", "/usr/bin/xdg-open", "https://a.example/$${HOME}$$$$%h",
    ]]  # fmt: skip
    assert machine.watched


def test_every_unit_has_its_name() -> None:
    """Two openings are two services."""
    unit = SystemOpener().unit
    assert unit() != unit()


@pytest.mark.parametrize(
    ("machine", "platform", "changes", "cause"),
    [
        (Machine(), "linux", {}, "neither xdg-open nor gio is installed"),
        (Machine("gio"), "linux", {"environ": {}}, "outside of any user's session"),
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
    assert await_in_thread(lambda: room.launch(argv, os.environ, False)) == len("a b;$(c)")


class Kept(subprocess.Popen[bytes]):
    """A process that ends when its standard input does, and can be looked at from outside."""

    made: ClassVar[list[Kept]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"stdin": subprocess.PIPE}))
        self.made.append(self)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Kept]]:
    """What was started, with no time to wait for it; all of it has ended after the test."""
    monkeypatch.setattr(room, "LIMIT_S", 0.0)
    monkeypatch.setattr(subprocess, "Popen", Kept)
    Kept.made.clear()
    yield Kept.made
    for process in Kept.made:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


STAYS = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def opened_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "palyra-opened"]


def test_what_stays_is_left_alone(kept: list[Kept]) -> None:
    """A program that still runs at the limit is neither waited for nor ended, and when it ends
    its exit code is taken by a thread that keeps nobody from stopping."""
    assert await_in_thread(lambda: room.launch(STAYS, os.environ, False)) is None
    (process,) = kept
    assert process.poll() is None
    (thread,) = opened_threads()
    assert thread.daemon
    assert process.stdin is not None
    process.stdin.close()
    thread.join(20)
    assert process.returncode == 0


def test_a_mere_watcher_does_not_stay(kept: list[Kept]) -> None:
    """What only watches a service of the user's is ended at the limit."""
    assert await_in_thread(lambda: room.launch(STAYS, os.environ, True)) is None
    (process,) = kept
    assert process.wait(20) != 0
    for thread in opened_threads():
        thread.join(20)
