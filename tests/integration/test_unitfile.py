"""Tests of the stand-in for systemd: it must be as strict as what it stands for."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.house import House
from tests.integration.processes import eventually
from tests.integration.servicemanager import ServiceManager, running
from tests.integration.unitfile import (
    INFINITY,
    Malformed,
    UnitFile,
    expanded,
    seconds,
    specified,
    words,
)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("a b  c", ["a", "b", "c"]),
        ('"a b" \'c d\' ""', ["a b", "c d", ""]),
        (r'"a\"b" \x41 \u00e9 \s\t \101 "\\"', ['a"b', "A", "é", " \t", "A", "\\"]),
        ("", []),
    ],
)
def test_words(value: str, read: list[str]) -> None:
    """Quotes around whole words, C's escapes (systemd.syntax(7), "Quoting")."""
    assert words(value) == read


@pytest.mark.parametrize("value", ['"a', 'a"b"', '"a"b', "\\q", "\\x4", "a\\"])
def test_words_that_are_refused(value: str) -> None:
    """systemd would leave the line out, and say so in a log that nobody reads."""
    with pytest.raises(Malformed):
        words(value)


def test_settings() -> None:
    """Comments, continued lines, lists, and an empty value that forgets them."""
    file = UnitFile("# c\n[Service]\nA=1\nA=\nA=2 \\\n  3\n; c\nA=4\n[Install]\nA=5\n")
    assert file.all("A") == ["2  3", "4"]
    assert file.last("A", section="Install") == "5" and file.last("B", "x") == "x"
    for bad in ("A=1", "[Service\n", "[Service]\nA\n"):
        with pytest.raises(Malformed):
            UnitFile(bad)


def test_specifiers_variables_and_times() -> None:
    """Each in its own turn."""
    assert specified("100%% %h", {"h": "/root"}) == "100% /root"
    with pytest.raises(Malformed):
        specified("%q", {})
    given = {"A": "x y", "B": "b"}
    assert expanded(["/$A", "$A", "-${B}$$", "c$B"], given) == ["/$A", "x", "y", "-b$", "c$B"]
    assert [seconds(each) for each in ("30", "1min 30s", "500ms")] == [30, 90, 0.5]
    assert seconds("infinity") == INFINITY
    with pytest.raises(Malformed):
        seconds("soon")


SERVICE = """\
import os, signal, socket, sys, time
kind, = sys.argv[1:]
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
if kind == "fails":
    sys.exit(3)
print(os.environ["WITH"], os.path.basename(os.environ["CREDENTIALS_DIRECTORY"]), flush=True)
os.fork() or time.sleep(600)
say("READY=1\\nSTATUS=" + kind)
signal.signal(signal.SIGTERM, signal.SIG_IGN if kind == "deaf" else lambda *_: sys.exit(0))
while True:
    signal.pause()
"""


@pytest.fixture
def manager(house: House) -> Iterator[ServiceManager]:
    with running(house.path / "machine") as manager:
        yield manager


def define(manager: ServiceManager, kind: str, *more: str) -> None:
    program, secret = manager.units / "program.py", manager.units / "secret"
    program.write_text(SERVICE)
    secret.write_text("s")
    lines = [
        "[Unit]",
        "[Service]",
        "Type=notify",
        f'ExecStart={sys.executable} "{program}" {kind}',
        'Environment="WITH=a b"',
        f"LoadCredential=token:{secret}",
        "Restart=on-failure",
        "RestartSec=5",
        *more,
        "[Install]",
        "WantedBy=default.target",
    ]
    (manager.units / "x.service").write_text("\n".join(lines))


def test_a_service_is_run(manager: ServiceManager) -> None:
    """Started when it is ready, with what its unit gives it; stopped with all that it started."""
    define(manager, "well")
    assert manager.systemctl("is-enabled", "x").out == "disabled\n"
    manager.told("enable", "--now", "x.service")
    shown = manager.told("show", "--property=MainPID,ActiveState,StatusText", "x")
    pid = manager.pid("x.service")
    assert shown.splitlines() == [f"MainPID={pid}", "StatusText=well", "ActiveState=active"]
    assert manager.journal("x.service") == "a b x.service.credentials\n"
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    manager.told("stop", "x")
    assert not Path(f"/proc/{child}").exists() and not Path(f"/proc/{pid}").exists()
    assert manager.systemctl("is-active", "x").code == 3
    assert not (manager.home / "x.service.credentials").exists()


def test_a_service_that_is_killed_or_deaf(manager: ServiceManager) -> None:
    """The first is started anew, the second is killed when its time is over."""
    define(manager, "deaf", "TimeoutStopSec=200ms", "WatchdogSec=60")
    manager.told("start", "x")
    first = manager.pid("x.service")
    os.kill(first, 9)
    manager.restarted(first, "x.service")
    assert manager.state("x.service")["NRestarts"] == 1
    manager.told("stop", "x")
    assert manager.state("x.service")["Result"] == "timeout"


def test_a_service_that_gives_no_sign_of_life(manager: ServiceManager) -> None:
    """It is ended, and started anew."""
    manager.limit(watchdog_s=0.2)
    define(manager, "well", "WatchdogSec=30")
    manager.told("start", "x")
    eventually(lambda: manager.state("x.service")["NRestarts"] > 0, "the watchdog bites")
    assert "Watchdog timeout" in manager.journal("x.service")


def test_a_service_that_cannot_start(manager: ServiceManager) -> None:
    """The call fails, and the unit is tried again and again until somebody stops it."""
    define(manager, "fails")
    ran = manager.systemctl("start", "x")
    assert ran.code == 1 and "exit-code" in ran.err
    manager.told("stop", "x")
    shown = manager.told("show", "-p", "ActiveState", "-p", "Result", "-p", "ExecMainStatus", "x")
    assert shown.splitlines() == ["Result=exit-code", "ExecMainStatus=3", "ActiveState=failed"]
    manager.told("reset-failed", "x")
    assert manager.told("show", "--value", "-p", "ActiveState", "x") == "inactive\n"


def test_what_it_does_not_know_it_refuses(manager: ServiceManager) -> None:
    """No test passes because a call did nothing."""
    for call in (["frobnicate"], ["start", "--strange", "x"], ["show", "-p", "Strange", "x"]):
        assert manager.systemctl(*call).code == 64
    assert manager.systemctl("start", "none").code == 5
    assert manager.told("show", "-p", "LoadState", "none") == "LoadState=not-found\n"


def test_a_changed_file_counts_after_it_was_loaded(manager: ServiceManager) -> None:
    """As with systemd, which also says that it should be."""
    define(manager, "fails")
    manager.systemctl("start", "x")
    manager.told("stop", "x")
    define(manager, "well")
    assert manager.told("show", "--value", "-p", "NeedDaemonReload", "x") == "yes\n"
    assert manager.systemctl("start", "x").code == 1
    manager.told("stop", "x")
    manager.told("daemon-reload")
    manager.told("start", "x")
    manager.power_off()
    assert manager.told("show", "--value", "-p", "ActiveState", "x") == "inactive\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a service as somebody else")
def test_a_service_of_another_user(manager: ServiceManager) -> None:
    """It runs with that user's rights and no other groups."""
    lines = ["[Service]", "User=nobody", "ExecStart=/bin/sh -c 'id -u; id -G; exec sleep 600'"]
    (manager.units / "x.service").write_text("\n".join(lines))
    manager.told("start", "x")
    nobody = pwd.getpwnam("nobody")
    text = f"{nobody.pw_uid}\n{nobody.pw_gid}\n"
    eventually(lambda: manager.journal("x.service") == text, "it says who it is")
