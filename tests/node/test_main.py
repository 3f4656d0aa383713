"""Tests of :mod:`palyra.node.__main__`, with the platform passed in."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.application import app
from twisted.scripts import _twistw
from twisted.scripts._twistd_unix import ServerOptions

from palyra.node.__main__ import twistd_arguments
from palyra.supervision.service import Service


def arguments(*given: str, posix: bool = True) -> tuple[list[str], dict[str, str]]:
    environ: dict[str, str] = {}
    return twistd_arguments(given, environ=environ, posix=posix), environ


def test_what_twistd_is_told() -> None:
    """What is ours is taken from the front; all the rest is the node's."""
    assert arguments("--state-root", "/a", "--set", "X=y") == (
        ["twistd", "--nodaemon", "--pidfile=", "palyra-node", "--state-root", "/a", "--set", "X=y"],
        {},
    )
    told, environ = arguments("--set", "LANG=cs CZ", "--logfile", "/l", "--set", "A_1==\n", "--x")
    assert told == ["twistd", "--nodaemon", "--pidfile=", "--logfile=/l", "palyra-node", "--x"]
    assert environ == {"LANG": "cs CZ", "A_1": "=\n"}
    assert arguments("--logfile")[0][-1] == "--logfile"


@pytest.mark.parametrize("options", [ServerOptions, _twistw.ServerOptions])
def test_twistd_takes_it(options: type[app.ServerOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    """On POSIX and on Windows, where there is no pidfile and no daemon."""
    monkeypatch.setattr(app.ServerOptions, "subCommands", [])
    service = Service(state_root=Path("/srv"))
    given = service.command(journal=False, environment={"PALYRA_MANAGER": "task"})[4:]
    told, environ = arguments(*given, posix=options is ServerOptions)
    made: Any = options()
    made.parseOptions(told[1 : told.index("palyra-node")])
    assert made["nodaemon"] and made["logfile"] == str(service.stdout_log)
    assert made.get("pidfile") == ("" if options is ServerOptions else None)
    assert environ == {"PALYRA_MANAGER": "task"}
    assert told[told.index("palyra-node") + 1 :] == ["--state-root", "/srv"]


@pytest.mark.parametrize("value", ["", "=", "=x", "A", "1A=x", "A-B=x", "A B=x"])
def test_what_is_no_variable(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused, as any other option."""
    monkeypatch.setattr(sys, "__stderr__", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        arguments("--set", value)
    assert ended.value.code == 2


def without_streams(log: Path) -> None:
    """An interpreter like pythonw, with that log, prints."""
    script = (
        "import sys\n"
        "sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None\n"
        "from palyra.node.__main__ import twistd_arguments\n"
        "twistd_arguments(['--logfile', sys.argv[1]])\n"
        "print('to stdout')\n"
        "print('to stderr \\udc80', file=sys.__stderr__)\n"
        "1 / 0\n"
    )
    command = [sys.executable, "-c", script, str(log)]
    ran = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, b"", b"")


def test_an_interpreter_without_streams(tmp_path: Path) -> None:
    """Gets some: what it says at its end is not lost, and only its owner reads it."""
    without_streams(tmp_path / "node-host.stdout.log")
    file = tmp_path / "node-host.stderr.log"
    said = file.read_text()
    assert said.startswith("to stdout\nto stderr \\udc80\n") and "ZeroDivisionError" in said
    assert file.stat().st_mode & 0o777 == 0o600


def test_streams_that_lead_nowhere(tmp_path: Path) -> None:
    """Do not keep it from its work."""
    without_streams(tmp_path / "missing" / "node-host.stdout.log")
    assert os.listdir(tmp_path) == []


def test_streams_that_are_there(tmp_path: Path) -> None:
    """Stay."""
    before = (sys.stdout, sys.stderr)
    arguments("--logfile", str(tmp_path / "node-host.stdout.log"))
    assert (sys.stdout, sys.stderr) == before and os.listdir(tmp_path) == []
