"""Tests of :mod:`palyra.observe.logs`."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from palyra.observe import logs
from palyra.observe.logs import file_observer, terminal_observer

AT_S = 1_700_000_000.25


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the files that a daemon keeps open to its end."""
    made: list[LogFile] = []

    class Closed(LogFile):  # type: ignore[misc]
        def __init__(self, *args: Any, **given: Any) -> None:
            super().__init__(*args, **given)
            made.append(self)

    monkeypatch.setattr(logs, "LogFile", Closed)
    yield
    for file in made:
        file.close()


def event(text: str = "hello", **given: Any) -> dict[str, Any]:
    values = {
        "log_format": "{text}",
        "text": text,
        "log_level": LogLevel.info,
        "log_namespace": "palyra.node.service",
        "log_time": AT_S,
    }
    return values | given


def shown(*events: dict[str, Any]) -> str:
    stream = io.StringIO()
    observe = terminal_observer(stream)
    for each in events:
        observe(each)
    return stream.getvalue()


def test_a_line_on_a_terminal() -> None:
    """The time of day, the level in a column of five, the message."""
    lines = shown(event(), event("careful", log_level=LogLevel.warn)).splitlines()
    clock = datetime.datetime.fromtimestamp(AT_S).strftime("%H:%M:%S")
    assert lines == [f"{clock} info  hello", f"{clock} warn  careful"]


def test_a_line_in_a_file(tmp_path: Path) -> None:
    """RFC 3339 time, with a colon in its offset, in a file for its owner only."""
    path = tmp_path / "logs" / "palyra.log"
    file_observer(path)(event())
    line = path.read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}[+-]\d\d:\d\d info  hello\n", line)
    assert datetime.datetime.fromisoformat(line.split()[0]).timestamp() == AT_S
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_message_cannot_forge_a_line() -> None:
    """What follows a line break is indented."""
    assert shown(event("a\n03:41:07 info  b")).splitlines()[1] == "    03:41:07 info  b"


def test_whose_lines_are_shown() -> None:
    """Ours from info on, everybody else's from warn on, and never an empty one."""
    text = shown(
        event("debug", log_level=LogLevel.debug),
        event("twisted says", log_namespace="twisted.web"),
        event("twisted warns", log_namespace="twisted.web", log_level=LogLevel.warn),
        event(""),
    )
    assert [line[9:] for line in text.splitlines()] == ["warn  twisted warns"]


def test_a_failure_comes_with_its_traceback() -> None:
    """Indented below the message; alone where there is no message."""
    try:
        raise ValueError("the cause")
    except ValueError:
        failure = Failure()
    for text in ("it broke", ""):
        lines = shown(event(text, log_failure=failure, log_level=LogLevel.critical)).splitlines()
        assert text in lines[0] and "critical" in lines[0]
        assert "ValueError: the cause" in lines[-1]
        assert all(line.startswith("    ") for line in lines[1:])


def test_a_file_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its size, and the new one is private too."""
    monkeypatch.setattr(logs, "ROTATE_BYTES", 64)
    path = tmp_path / "palyra.log"
    observe = file_observer(path)
    for number in range(20):
        observe(event(f"line {number}"))
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["palyra.log", *(f"palyra.log.{n}" for n in range(1, logs.KEEP_FILES + 1))]
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in tmp_path.iterdir())


def test_a_logger_of_ours_reaches_it() -> None:
    """The way the house logs."""
    stream = io.StringIO()
    observer: ILogObserver = terminal_observer(stream)
    Logger(namespace="palyra.x", observer=observer).info("{n} things", n=3)
    assert stream.getvalue().endswith(" info  3 things\n")
