"""Tests of systemd.unit_status, with a systemd that says what a test tells it to."""

import asyncio
import sys

import pytest
from palyra.capability import OutcomeKind
from palyra.testing.capability import check_conformance

from palyra_cap_systemd import show
from palyra_cap_systemd.plugin import Status, capability

RUNNING = b"""\
Id=ssh.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
Description=OpenBSD Secure Shell server = really
Result=success
StateChangeTimestampMonotonic=5000000
MainPID=812
NRestarts=2
MemoryCurrent=4194304
"""
MISSING = b"""\
Id=nothing.service
LoadState=not-found
ActiveState=inactive
SubState=dead
Description=nothing.service
StateChangeTimestampMonotonic=0
MainPID=0
NRestarts=0
MemoryCurrent=[not set]
"""


class Systemd:
    """Says the same of every unit, and remembers which ones it was asked about."""

    def __init__(self, says):
        self.says = says
        self.asked = []

    async def show(self, unit):
        self.asked.append(unit)
        return self.says


@pytest.fixture
def ask(capability_host):
    """Runs the capability; the device has been up for 65 s, and it is 1,000 s after 1970."""

    def run(systemd, unit, **more):
        made = capability(systemd.show, lambda: 1000.0, lambda: 65.0)
        return capability_host(made).run(made, {"unit": unit}, **more)

    return run


def test_a_unit_that_runs(ask):
    """Its state in systemd's words, times and sizes as numbers."""
    assert ask(Systemd(RUNNING), "ssh").typed(Status) == Status(
        unit="ssh.service",
        load="loaded",
        active="active",
        sub="running",
        enabled="enabled",
        description="OpenBSD Secure Shell server = really",
        result="success",
        since_unix_ms=940_000,
        main_pid=812,
        memory_bytes=4_194_304,
        restarts=2,
    )


def test_a_unit_that_there_is_not(ask):
    """That is an answer, and no error."""
    status = ask(Systemd(MISSING), "nothing").typed(Status)
    assert (status.load, status.active) == ("not-found", "inactive")
    assert status.since_unix_ms is status.main_pid is status.memory_bytes is None


@pytest.mark.parametrize(
    ("unit", "named"),
    [
        ("sshd", "sshd.service"),
        ("backup.timer", "backup.timer"),
        ("getty@tty1", "getty@tty1.service"),
        ("org.example.App", "org.example.App.service"),
    ],
)
def test_the_name_of_a_unit(ask, unit, named):
    """Without a type it is a service."""
    systemd = Systemd(RUNNING)
    assert ask(systemd, unit).succeeded
    assert systemd.asked == [named]


@pytest.mark.parametrize("unit", ["--help", "-H host", "a b", "a/b", "ssh;reboot", "ß", ".service"])
def test_what_is_no_unit_is_not_asked_about(ask, unit):
    """Nothing that could be an option, a path or a command reaches systemctl."""
    systemd = Systemd(RUNNING)
    result = ask(systemd, unit)
    assert result.error_code == "input_invalid" and systemd.asked == []


def test_the_owner_may_say_which_units(ask):
    """By name or pattern; others are not asked about."""
    systemd = Systemd(RUNNING)
    settings = {"units": ["ssh", "backup-*"]}
    assert ask(systemd, "ssh", settings=settings).succeeded
    assert ask(systemd, "backup-home.timer", settings=settings).succeeded
    refused = ask(systemd, "postgresql", settings=settings)
    assert refused.error_code == "input_invalid" and "owner allows" in refused.error
    assert systemd.asked == ["ssh.service", "backup-home.timer"]


def test_it_can_be_cancelled(ask):
    """While systemd takes its time."""

    class Slow(Systemd):
        async def show(self, unit):
            await asyncio.sleep(60)

    result = ask(Slow(b""), "ssh", timeout_s=0.2)
    assert result.kind is OutcomeKind.TIMED_OUT and result.stopped


# -- the command --------------------------------------------------------------------------------


def run(script, monkeypatch, tmp_path, unit="ssh.service"):
    """What ``systemctl`` makes of a command that is this script."""
    command = tmp_path / "systemctl"
    command.write_text(f"#!{sys.executable}\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return asyncio.run(show.systemctl(unit))


def test_the_command_gets_the_unit_as_its_last_argument(monkeypatch, tmp_path):
    """Behind ``--``, so that it is never an option."""
    said = run("import sys; print(sys.argv[1:])", monkeypatch, tmp_path).decode()
    assert said.startswith("['show', '--no-pager', '--property=Id,")
    assert said.endswith("'--', 'ssh.service']\n")


def test_a_command_that_fails(monkeypatch, tmp_path):
    """Its own first line is the reason."""
    script = "import sys; sys.exit('System has not been booted with systemd.\\nMore.')"
    with pytest.raises(show.SystemdUnusable, match="not been booted with systemd"):
        run(script, monkeypatch, tmp_path)


def test_a_command_that_says_too_much(monkeypatch, tmp_path):
    """It is ended."""
    with pytest.raises(show.SystemdUnusable, match="more than 64 KiB"):
        run("while True: print('x' * 100_000)", monkeypatch, tmp_path)


def test_a_command_that_takes_too_long(monkeypatch, tmp_path):
    """It is ended too."""
    monkeypatch.setattr(show, "TIME_S", 0.2)
    with pytest.raises(show.SystemdUnusable, match=r"within 0\.2 s"):
        run("import time; time.sleep(60)", monkeypatch, tmp_path)


def test_a_device_without_systemd(monkeypatch, tmp_path):
    """There is no such command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(show.SystemdUnusable, match="cannot be run"):
        asyncio.run(show.systemctl("ssh.service"))


def test_it_keeps_to_what_every_plugin_must():
    """As a node finds it in the installed package."""
    assert check_conformance("palyra-cap-systemd") == []
