"""Log lines: what is written, where, and who may read it."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from palyra.observe import logfile, logs
from palyra.observe.logfile import SteadyLogFile


@pytest.fixture(autouse=True)
def closed_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files that observers opened are closed, as the end of a process does."""
    opened: list[SteadyLogFile] = []

    class Kept(SteadyLogFile):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            opened.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(logs, "SteadyLogFile", Kept)
    yield
    for file in opened:
        file.close()


NOW = datetime(2026, 11, 22, 3, 41, 7, 250_000, tzinfo=UTC)


def event(text: str = "{name} is online", **changes: object) -> LogEvent:
    return {
        "log_format": text,
        "log_level": LogLevel.info,
        "log_namespace": "palyra.gateway.presence",
        "log_time": NOW.timestamp(),
        "name": "pi",
        **changes,
    }


def shown(*events: LogEvent) -> str:
    stream = io.StringIO()
    observer = logs.terminal_observer(stream)
    assert verifyObject(ILogObserver, observer)
    for each in events:
        observer(each)
    return stream.getvalue()


def test_a_line_on_a_terminal() -> None:
    """Time of day, level, message."""
    assert re.fullmatch(r"\d\d:\d\d:07 info  pi is online\n", shown(event()))
    assert " warn  " in shown(event(log_level=LogLevel.warn))


@pytest.mark.parametrize(
    ("namespace", "level", "said"),
    [
        ("palyra.gateway", LogLevel.info, True),
        ("palyra.gateway", LogLevel.debug, False),
        ("twisted.internet", LogLevel.info, False),
        ("twisted.internet", LogLevel.warn, True),
        ("palyrax", LogLevel.info, False),
    ],
)
def test_what_is_said(namespace: str, level: object, said: bool) -> None:
    """Our own lines from info on, everybody else's from warn on."""
    assert bool(shown(event(log_namespace=namespace, log_level=level))) is said


def test_an_event_without_words() -> None:
    """Nothing to say is no line."""
    assert shown(event("")) == ""


def test_a_failure_keeps_its_lines_together() -> None:
    """A traceback is indented below its message, so that no line of it looks like an event."""
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        failure = Failure()
    text = shown(event("it failed", log_failure=failure, log_level=LogLevel.critical))
    first, *rest = text.rstrip("\n").split("\n")
    assert first.endswith("critical it failed") and "RuntimeError" in text
    assert all(line.startswith("    ") for line in rest)
    assert "Traceback" in shown(event("", log_failure=failure, log_level=LogLevel.critical))


def test_a_message_of_several_lines() -> None:
    """What a peer says cannot forge a line of the log."""
    text = shown(event("{name}", name="pi\n03:41:08 info  revoked"))
    assert text.count("\n") == 2 and text.split("\n")[1].startswith("    ")


def test_a_file(tmp_path: Path) -> None:
    """RFC 3339 time, readable by its owner only, in a directory that is made."""
    path = tmp_path / "logs" / "palyra.log"
    observer = logs.file_observer(path)
    observer(event())
    text = path.read_text()
    time, level, message = text.split(maxsplit=2)
    assert datetime.fromisoformat(time) == NOW
    assert (level, message) == ("info", "pi is online\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_files_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon does not fill the disk with its log."""
    monkeypatch.setattr(logfile, "ROTATE_BYTES", 200)
    monkeypatch.setattr(logfile, "KEEP_FILES", 2)
    observer = logs.file_observer(tmp_path / "palyra.log")
    for _ in range(30):
        observer(event())
    assert len(list(tmp_path.iterdir())) == 3


# -- the journal --------------------------------------------------------------------------------


class Redirected(io.StringIO):
    """Standard output, as it is a file of this system."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def fileno(self) -> int:
        return self._number


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[Redirected, dict[str, str]]]:
    """A stream that is what ``JOURNAL_STREAM`` names."""
    with (tmp_path / "socket").open("w") as file:
        facts = os.fstat(file.fileno())
        environ = {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
        yield Redirected(file.fileno()), environ


def journaled(journal: tuple[Redirected, dict[str, str]], *events: LogEvent) -> str:
    stream, environ = journal
    observer = logs.terminal_observer(stream, environ)
    for each in events:
        observer(each)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("level", "mark"),
    [
        (LogLevel.critical, "<2>"),
        (LogLevel.error, "<3>"),
        (LogLevel.warn, "<4>"),
        (LogLevel.info, "<6>"),
    ],
)
def test_the_journal_is_told_the_level_and_keeps_the_time(
    journal: tuple[Redirected, dict[str, str]], level: object, mark: str
) -> None:
    """``journalctl -p warning`` finds what is to be found, and no line has two times."""
    assert journaled(journal, event(log_level=level)) == f"{mark}pi is online\n"


def test_what_the_journal_is_not_told(journal: tuple[Redirected, dict[str, str]]) -> None:
    """The same as nobody else: debug lines, and nothing at all."""
    assert journaled(journal, event(log_level=LogLevel.debug), event("")) == ""


def test_every_line_in_the_journal_has_the_level(
    journal: tuple[Redirected, dict[str, str]],
) -> None:
    """A line break or a NUL in what a peer says begins no line of another level."""
    text = journaled(journal, event("{name}", name="pi\n<0>fire\0<0>fire", log_level=LogLevel.warn))
    assert text == "<4>pi\n<4>    <0>fire\\x00<0>fire\n"
    try:
        raise RuntimeError("it failed")
    except RuntimeError:
        failure = Failure()
    text = journaled(journal, event("oh", log_failure=failure, log_level=LogLevel.critical))
    assert text.count("\n") > 3
    assert all(line.startswith(("<4>", "<2>")) for line in text.splitlines())


def test_only_the_journal_is_written_to_so(
    journal: tuple[Redirected, dict[str, str]], tmp_path: Path
) -> None:
    """The variable is inherited by what writes elsewhere: then it says nothing."""
    stream, environ = journal
    assert logs.is_journal(stream, environ)
    assert not logs.is_journal(stream, {})
    assert not logs.is_journal(stream, {"JOURNAL_STREAM": "nonsense"})
    assert not logs.is_journal(io.StringIO(), environ)
    with (tmp_path / "other").open("w") as other:
        assert not logs.is_journal(other, environ)
    assert not logs.is_journal(other, environ)  # closed
