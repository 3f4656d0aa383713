"""Log lines: ``03:41:07 info  message`` on a terminal, RFC 3339 time in a file."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
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
from twisted.python.logfile import LogFile

ROTATE_BYTES = 10 * 1024 * 1024
KEEP_FILES = 5


def terminal_observer(stream: IO[str] | None = None) -> ILogObserver:
    """For the foreground: plain lines with the time of day on standard output."""
    return _filtered(FileLogObserver(stream or sys.stdout, _short))


def file_observer(path: Path) -> ILogObserver:
    """For a daemon: a rotated file, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = LogFile(
        path.name,
        str(path.parent),
        rotateLength=ROTATE_BYTES,
        maxRotatedFiles=KEEP_FILES,
        defaultMode=0o600,
    )
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


def _line(event: LogEvent, spell: Callable[[datetime.datetime], str]) -> str | None:
    text = formatEvent(event)
    failure: Any = event.get("log_failure")
    if failure is not None:
        text = f"{text}\n{failure.getTraceback()}" if text else failure.getTraceback()
    if not text:
        return None
    when = datetime.datetime.fromtimestamp(event.get("log_time", 0)).astimezone()
    level = event.get("log_level")
    word = level.name if level is not None else "info"
    body = text.rstrip("\n").replace("\n", "\n    ")
    return f"{spell(when)} {word:<5} {body}\n"
