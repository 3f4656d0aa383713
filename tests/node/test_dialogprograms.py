"""Tests of :mod:`palyra.node.dialogprograms`: exact arguments, and every answer of each program."""

from __future__ import annotations

import json

import pytest

from palyra.core.jobs import ALWAYS, FOR_SESSION, ONCE, REFUSED
from palyra.node.dialogprograms import (
    KDIALOG,
    NOT_ANSWERED,
    OSASCRIPT,
    POWERSHELL,
    ZENITY,
    DialogProgram,
    Ended,
    candidates,
)
from palyra.node.dialogtext import Shown

TEXT = 'Somebody.\n    <b>"$(x)" \\n %s --no'
TWO = Shown(TEXT, (REFUSED, ONCE))
FOUR = Shown(TEXT, (REFUSED, ONCE, FOR_SESSION, ALWAYS), 30)


def test_zenity() -> None:
    """No markup, no is what Enter says, the text is one argument, and it ends by itself."""
    assert ZENITY.argv(TWO) == [
        "--question", "--no-markup", "--no-wrap", "--default-cancel", "--title=Palyra",
        "--ok-label=Allow once", "--cancel-label=No", f"--text={TEXT}",
    ]  # fmt: skip
    assert ZENITY.argv(FOUR)[7:] == [
        "--extra-button=Allow for this session", "--extra-button=Always allow", "--timeout=35",
        f"--text={TEXT}",
    ]  # fmt: skip


def test_kdialog() -> None:
    """No is the chosen line, and a backslash stays one."""
    assert KDIALOG.argv(FOUR) == [
        "--title", "Palyra", "--radiolist", TEXT.replace("\\n", "\\\\n"),
        "no", "No", "on", "once", "Allow once", "off",
        "session", "Allow for this session", "off", "always", "Always allow", "off",
    ]  # fmt: skip
    assert KDIALOG.argv(TWO)[4:] == ["no", "No", "on", "once", "Allow once", "off"]


def test_osascript() -> None:
    """The script is the same for every question; the text is an argument of it."""
    argv = OSASCRIPT.argv(FOUR)
    assert argv[-6:] == [
        TEXT, "Palyra", "No", "Allow once", "Allow for this session", "Always allow",
    ]  # fmt: skip
    script = argv[:-6]
    assert script[:2] == ["-e", "on run argv"]
    assert OSASCRIPT.argv(TWO)[: len(script)] == script
    assert OSASCRIPT.argv(TWO)[len(script) :] == [TEXT, "Palyra", "No", "Allow once"]


def test_powershell() -> None:
    """The script is the same for every question; the text is JSON on its input, in ASCII."""
    argv = POWERSHELL.argv(FOUR)
    assert argv[:4] == ["-NoLogo", "-NoProfile", "-STA", "-Command"]
    assert argv == POWERSHELL.argv(TWO)
    assert '"' not in argv[4]
    given = POWERSHELL.stdin(Shown("é\nb", (REFUSED, ONCE)))
    assert given.isascii()
    assert json.loads(given) == {
        "title": "Palyra",
        "text": "é\r\nb",
        "choices": [
            {"choice": "no", "label": "No"},
            {"choice": "once", "label": "Allow once"},
        ],
    }


@pytest.mark.parametrize(
    ("program", "code", "out", "err", "said"),
    [
        (ZENITY, 0, b"", b"", ONCE),
        (ZENITY, 0, b"surprise\n", b"", None),
        (ZENITY, 1, b"", b"Gtk-WARNING: theme not found", REFUSED),
        (ZENITY, 1, b"", b"dbind-WARNING **: Failed to connect to socket /tmp/dbus-x", REFUSED),
        (ZENITY, 1, b"Allow for this session\n", b"", FOR_SESSION),
        (ZENITY, 1, b"Always allow\n", b"", ALWAYS),
        (ZENITY, 1, b"Always\n", b"", None),
        (ZENITY, 1, b"", b"Gtk-WARNING **: cannot open display: :77", None),
        (ZENITY, 1, b"", b"Failed to connect to bus: No such file or directory", None),
        (ZENITY, 1, b"", b"warning\nFailed to start transient service unit: Denied", None),
        (ZENITY, 5, b"", b"", NOT_ANSWERED),
        (ZENITY, 255, b"", b"", None),
        (ZENITY, -9, b"", b"", None),
        (KDIALOG, 0, b"once\n", b"", ONCE),
        (KDIALOG, 0, b"no\n", b"", REFUSED),
        (KDIALOG, 0, b"always\n", b"", ALWAYS),
        (KDIALOG, 1, b"", b"", REFUSED),
        (KDIALOG, 1, b"", b"qt.qpa.xcb: could not connect to display", None),
        (KDIALOG, -6, b"once\n", b"", None),
        (OSASCRIPT, 0, b"Allow once\n", b"", ONCE),
        (OSASCRIPT, 0, b"No\n", b"", REFUSED),
        (OSASCRIPT, 0, b"once\n", b"", None),
        (OSASCRIPT, 1, b"Allow once\n", b"", None),
        (POWERSHELL, 0, b"session", b"", FOR_SESSION),
        (POWERSHELL, 0, b"no", b"", REFUSED),
        (POWERSHELL, 1, b"once", b"", None),
    ],
)
def test_answers(
    program: DialogProgram, code: int, out: bytes, err: bytes, said: str | None
) -> None:
    """What each program ends with means one thing; only a clear yes is a yes."""
    assert program.read(Ended(code, out, err)) == said


@pytest.mark.parametrize(
    ("platform", "kde", "names"),
    [
        ("linux", False, ["zenity", "kdialog"]),
        ("linux", True, ["kdialog", "zenity"]),
        ("darwin", False, ["osascript"]),
        ("win32", False, ["powershell"]),
    ],
)
def test_candidates(platform: str, kde: bool, names: list[str]) -> None:
    """Each desktop's own program comes first."""
    assert [each.name for each in candidates(platform, kde=kde)] == names
