"""Tests of :mod:`palyra.capability.desktopsession`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palyra.capability import desktopsession as room
from palyra.capability.desktopsession import DesktopSession, find_session

BUS = "unix:path=/run/user/1000/bus"
Which = Callable[[str], str | None]


def here(program: str) -> str | None:
    return f"/usr/bin/{program}"


def test_environment_of_systemd() -> None:
    """Only session variables are taken, and none in shell quotes."""
    text = "DISPLAY=:0\nPATH=/x\nXAUTHORITY=$'a\\nb'\nWAYLAND_DISPLAY=wayland-0\nbroken\nDISPLAY\n"
    assert room.parse_environment(text) == {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}


@given(st.text())
def test_any_environment(text: str) -> None:
    """Whatever systemd writes, what is taken has a session's names and values of one line."""
    for name, value in room.parse_environment(text).items():
        assert name.isupper()
        assert value.splitlines() == [value]


def test_no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without systemd the session is what the process was started with."""
    monkeypatch.setattr(room, "_SHOW_ENVIRONMENT", ("/nonexistent/systemctl",))
    session = find_session({"DISPLAY": ":3", "PATH": "/x"}, which=here)
    assert session == DesktopSession({"DISPLAY": ":3"})
    assert session.has_display


def test_systemd_wins() -> None:
    """What systemd says of the session comes before what the process was started with."""
    shown = {"DISPLAY": ":0", "DBUS_SESSION_BUS_ADDRESS": BUS}
    session = find_session({"DISPLAY": ":3", "XAUTHORITY": "/x"}, show=lambda: shown, which=here)
    assert session.variables == {**shown, "XAUTHORITY": "/x"}
    assert session.systemd_run == "/usr/bin/systemd-run"
    assert session.environment({"DISPLAY": ":3", "PATH": "/p"})["DISPLAY"] == ":0"


@pytest.mark.parametrize(
    ("shown", "which"),
    [(None, here), ({"DISPLAY": ":0"}, here), ({"DBUS_SESSION_BUS_ADDRESS": BUS}, lambda _: None)],
)
def test_no_user_manager(shown: dict[str, str] | None, which: Which) -> None:
    """Without a manager, a bus to wait over, or the program, nothing goes through systemd."""
    assert find_session({}, show=lambda: shown, which=which).systemd_run == ""


@pytest.mark.parametrize(
    ("desktop", "kde"),
    [("KDE", True), ("ubuntu:GNOME", False), ("X-Own:KDE", True), ("", False), ("KDEISH", False)],
)
def test_kde(desktop: str, kde: bool) -> None:
    """Plasma is known by its name in the list of desktops."""
    assert DesktopSession({"XDG_CURRENT_DESKTOP": desktop}).is_kde is kde


def test_why_there_is_no_display() -> None:
    """A service outside of any session is told apart from a desk where nobody sits."""
    assert "no_user_session" in DesktopSession({}).why_no_display
    assert "nobody is signed in" in DesktopSession({"XDG_RUNTIME_DIR": "/r"}).why_no_display
    assert "nobody is signed in" in DesktopSession({}, "/usr/bin/systemd-run").why_no_display


def test_units_are_stopped_by_name(tmp_path: Path) -> None:
    """Stopping a service that is not there, or without systemd, is no error."""
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/said\nexit 5\n')
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    room.stop_unit("palyra-dialog-1.service", environ)
    assert (tmp_path / "said").read_text() == "--user stop palyra-dialog-1.service\n"
    program.unlink()
    room.stop_unit("palyra-dialog-1.service", {"PATH": str(tmp_path)})


def test_a_real_user_manager() -> None:
    """What a real systemd starts gets its arguments unchanged, and its exit code comes back."""
    session = find_session(os.environ)
    if not session.systemd_run:
        pytest.skip("no systemd user manager answers on this machine")
    texts = ["a b", "${HOME}", "$HOME", "$$", "%h", "$(x)", "é\\n"]
    argv = ["/bin/sh", "-c", 'printf "%s\\0" "$@"; exit 7', "x", *texts]
    done = subprocess.run(
        session.managed(argv, f"palyra-test-{os.getpid()}.service", (), pipe=True),
        env=session.environment(os.environ), capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.decode().split("\0")[:-1] == texts
    assert done.returncode == 7
