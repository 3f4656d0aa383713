"""Tests of :mod:`palyra.cli.nodelogs`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from palyra.cli import nodelogs, nodeservice
from tests.cli.fakemanager import Device, served


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """A device whose service is installed."""
    with served(tmp_path) as host:
        made = Device(host, tmp_path / "palyra-node.service")
        made.installed()
        monkeypatch.setattr(nodeservice, "manager_of", lambda mark: made.manager)
        yield made


def test_logs_of_files(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """Both files, the last lines; nothing in them can drive the terminal."""
    device.files.stdout_log.write_text("one\ntwo\n\x1b[2Jthree\n")
    assert device.run(capsys, "logs", "-n", "2") == (0, "two\n\\u001b[2Jthree\n", "")
    device.files.stderr_log.write_text("Traceback\n")
    expected = "\\u001b[2Jthree\nnode-host.stderr.log:\nTraceback\n"
    assert device.run(capsys, "logs", "-n", "1") == (0, expected, "")
    status, out, _ = device.run(capsys, "logs", "-n", "1", "--json")
    assert (status, json.loads(out)) == (
        0,
        {"lines": ["\x1b[2Jthree", "node-host.stderr.log:", "Traceback"]},
    )


def test_logs_that_are_followed(device: Device) -> None:
    """The last lines, then what is written from then on to either file, until nobody reads."""
    device.files.stdout_log.write_text("one\ntwo\n")
    followed = nodelogs._followed(device.files, 1)
    assert next(followed) == "two"
    with device.files.stdout_log.open("a") as log:
        log.write("three\n")
    assert next(followed) == "three"
    enough = threading.Event()

    def write() -> None:  # again and again, since nobody tells when it is looked at
        while not enough.wait(0.02):
            with device.files.stderr_log.open("a") as log:
                log.write("Traceback\n")

    writer = threading.Thread(target=write)
    writer.start()
    assert next(followed) == "node-host.stderr.log: Traceback"
    enough.set()
    writer.join()
    threads = threading.active_count()
    followed.close()
    assert threading.active_count() == threads - 2


def test_logs_without_a_service(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """A daemon of twistd has written some too; where nothing is, that is said."""
    device.files.installed.unlink()
    status, _, err = device.run(capsys, "logs")
    assert (status, "No node host is installed" in err) == (1, True)
    device.files.stdout_log.write_text("one\n")
    assert device.run(capsys, "logs") == (0, "one\n", "")


def test_logs_of_a_journal(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """The manager's own program is asked."""
    device.manager.command = [sys.executable, "-c", "print('a')"]
    status, out, _ = device.run(capsys, "logs", "--json")
    assert (status, json.loads(out)) == (0, {"lines": ["a"]})
    many = "import os; os.write(1, b'a line of the journal\\n' * 100_000)"
    device.manager.command = [sys.executable, "-c", many]
    status, out, _ = device.run(capsys, "logs", "--json", "-n", "100000")
    assert (status, len(json.loads(out)["lines"])) == (0, 100_000)
    device.manager.command = ["palyra-no-such-program"]
    for words in (["--json"], []):
        status, _, err = device.run(capsys, "logs", *words)
        assert (status, "palyra-no-such-program" in err) == (1, True)
    status, _, err = device.run(capsys, "logs", "--json", "-f")
    assert (status, "palyra-no-such-program" in err) == (1, True)


def test_a_journal_that_is_followed_by_a_program(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object a line, as each line comes."""
    device.manager.command = [sys.executable, "-c", "print('one\\ntwo')"]
    status, out, _ = device.run(capsys, "logs", "--json", "-f")
    assert status == 0
    assert [json.loads(line) for line in out.splitlines()] == [{"line": "one"}, {"line": "two"}]


def test_the_journal_takes_the_terminal(
    device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the place of this process, so that Ctrl-C is its own."""
    device.manager.command = ["journalctl", "--follow"]
    ran: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execvp", lambda file, args: ran.append((file, args)))
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 0)
    )
    assert device.run(capsys, "logs", "-f")[0] == 0
    assert ran == [("journalctl", ["journalctl", "--follow"])]


def test_a_log_that_cannot_be_read(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory in its place is a sentence, and no traceback."""
    device.files.stdout_log.mkdir()
    status, _, err = device.run(capsys, "logs")
    assert (status, "cannot be used (is a directory)" in err) == (1, True)
