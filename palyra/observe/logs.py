"""Log lines: ``03:41:07 info  message`` on a terminal, RFC 3339 time in a file.

In systemd's journal every line has a time and a place already; it is told the level alone
(sd-daemon(3)).
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)

from palyra.observe.logfile import SteadyLogFile

_JOURNAL = {
    LogLevel.critical: "<2>",
    LogLevel.error: "<3>",
    LogLevel.warn: "<4>",
    LogLevel.info: "<6>",
    LogLevel.debug: "<7>",
}


def terminal_observer(
    stream: IO[str] | None = None, environ: Mapping[str, str] = os.environ
) -> ILogObserver:
    """For the foreground: plain lines on standard output, with the time of day unless that is the
    journal."""
    out = stream or sys.stdout
    return _filtered(FileLogObserver(out, _journal if is_journal(out, environ) else _short))


def is_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Whether the journal takes what is written there: ``JOURNAL_STREAM`` names its socket, which
    standard output is no more where it was redirected (systemd.exec(5))."""
    named = environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        facts = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{facts.st_dev}:{facts.st_ino}"


def file_observer(path: Path) -> ILogObserver:
    """For a daemon: a rotated file, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = SteadyLogFile(path.name, str(path.parent))
    return _filtered(FileLogObserver(cast("IO[str]", file), _long))


def _filtered(observer: ILogObserver) -> ILogObserver:
    """Our own lines from info on; what Twisted says of itself from warn on."""
    wanted = LogLevelFilterPredicate(LogLevel.warn)
    wanted.setLogLevelForNamespace("palyra", LogLevel.info)
    return FilteringLogObserver(observer, [wanted])


def _short(event: LogEvent) -> str | None:
    return _line(event, lambda when: f"{when:%H:%M:%S}")


def _long(event: LogEvent) -> str | None:
    return _line(event, lambda when: when.isoformat(timespec="microseconds"))


def _journal(event: LogEvent) -> str | None:
    text = _text(event)
    if not text:
        return None
    level: Any = event.get("log_level")
    mark = _JOURNAL.get(level, "<6>")
    # To the journal a NUL ends a line too, and what follows could name a level of its own.
    lines = text.rstrip("\n").replace("\0", "\\x00").split("\n")
    return "".join(f"{mark}{'    ' if later else ''}{line}\n" for later, line in enumerate(lines))


def _line(event: LogEvent, spell: Callable[[datetime.datetime], str]) -> str | None:
    text = _text(event)
    if not text:
        return None
    when = datetime.datetime.fromtimestamp(event.get("log_time", 0)).astimezone()
    level = event.get("log_level")
    word = level.name if level is not None else "info"
    body = text.rstrip("\n").replace("\n", "\n    ")
    return f"{spell(when)} {word:<5} {body}\n"


def _text(event: LogEvent) -> str:
    """The message, and the traceback of what failed."""
    text = formatEvent(event)
    failure: Any = event.get("log_failure")
    if failure is None:
        return text
    trace: str = failure.getTraceback()
    return f"{text}\n{trace}" if text else trace
