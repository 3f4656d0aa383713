"""Where heads of the audit chain are given to: the log, the system's log, a file elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.logger import Logger

from palyra.config.audit import AuditSection
from palyra.core.audithead import Head

Sink = Callable[[Head], object]
"""Takes a head; raises where it cannot.  May block: it is called in a thread."""
IDENT = "palyra"


class LogSink:
    """The gateway's own log, and with it the journal of the service it runs as."""

    _log = Logger()

    def __call__(self, head: Head) -> None:
        self._log.info("{line}", line=head.line)


class SystemLog:
    """The system's log (``syslog(3)``), as its security messages."""

    def __call__(self, head: Head) -> None:
        import syslog  # here: not every system has it

        syslog.openlog(IDENT, 0, syslog.LOG_AUTH)
        syslog.syslog(syslog.LOG_NOTICE, head.line)
        syslog.closelog()


class AnchorFile:
    """A file that is only ever appended to, one durable line a head."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, head: Head) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, head.line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_NAMED: dict[str, Callable[[], Sink]] = {"log": LogSink, "syslog": SystemLog}


def sinks(section: AuditSection, relative_to: Path) -> Sequence[Sink]:
    """The sinks of a configuration; a relative file is one of the state root."""
    named = [_NAMED[name]() for name in dict.fromkeys(section.anchors)]
    if not section.anchor_file:
        return named
    return [*named, AnchorFile(relative_to / section.anchor_file)]
