"""What both twistd commands share: the reactor, clean errors, pidfile and log.

Everything that can refuse a start does it before the fork, so that the person who typed the
command reads it.  On Windows twistd never forks and writes no pidfile: it is in the foreground,
whatever its options say.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver
from twisted.python.usage import Options

from palyra._reactor import require_asyncio_reactor
from palyra.errors import PalyraError
from palyra.observe.logs import file_observer, terminal_observer

_POSIX = os.name == "posix"


def prepare(
    options: Options,
    check: Callable[[], Path],
    *,
    pidfile: str,
    logfile: str,
    posix: bool = _POSIX,
) -> None:
    """Run in ``postOptions``: choose the reactor, ``check`` (which gives the state root), then let
    pidfile and log default into that root.

    A refusal is printed and ends the process with 1, before twistd forks.
    """
    try:
        require_asyncio_reactor()
        root = check()
    except PalyraError as error:
        refuse(error)
    parent: Any = options.parent
    if parent is None:
        return
    if posix and parent.get("pidfile") in (None, "twistd.pid"):
        # The root's lock is held by now: a pidfile there was left by a daemon that was killed, and
        # its number may be another process's today.
        (root / pidfile).unlink(missing_ok=True)
        parent["pidfile"] = str(root / pidfile)
    if parent.get("logger") is None:
        global _log_file
        named = parent.get("logfile")
        to_terminal = named == "-" or (_in_foreground(parent, posix) and not named)
        _log_file = None if to_terminal else Path(named) if named else root / logfile
        parent["logger"] = f"{__name__}.observer"


_log_file: Path | None = None
"""Where :func:`observer` writes; twistd takes an observer only by its dotted name."""


def observer() -> ILogObserver:
    """The log of the daemon that :func:`prepare` prepared."""
    return terminal_observer() if _log_file is None else file_observer(_log_file)


def refuse(error: PalyraError) -> NoReturn:
    """Print an error as every command of ours does and end with its exit code."""
    # twistd sends sys.stderr to the log as soon as it has one.
    terminal = sys.__stderr__ or sys.stderr
    if terminal is not None:  # pythonw has neither
        terminal.write(f"error: {error.sentence}\nhint:  {error.hint}\n")
    raise SystemExit(error.exit_code)


def _in_foreground(parent: Any, posix: bool) -> bool:
    """Whether whoever started twistd sees what this process prints."""
    return parent is None or bool(parent.get("nodaemon")) or not posix


def freeze_memory() -> None:
    """Take what a start has made out of the garbage collector's sight; once, when it serves.

    It lives as long as the process.  Going through it again and again stops everything for a
    tenth of a second, and takes a sixth of the jobs that a busy gateway could do.
    """
    gc.collect()
    gc.freeze()


class CleanFailure(Service):
    """Runs a service; a refusal at its start ends the process with a sentence, not a traceback.

    In the foreground it is printed here.  In the background it is raised: the parent that waits
    prints it (a SystemExit there would leave the parent hanging).
    """

    def __init__(self, service: Service, parent: Any, *, posix: bool = _POSIX) -> None:
        self._service = service
        self._foreground = _in_foreground(parent, posix)
        self._pidfile = None if parent is None else parent.get("pidfile")

    def startService(self) -> None:
        """Start the service.

        :raises PalyraError: it cannot serve, in the background.
        """
        try:
            self._service.startService()
        except PalyraError as error:
            if not self._foreground:
                raise
            if self._pidfile and os.path.exists(self._pidfile):
                os.unlink(self._pidfile)
            refuse(error)
        freeze_memory()
        super().startService()

    def stopService(self) -> Deferred[Any] | None:
        """Stop the service; fires when it has stopped."""
        super().stopService()
        stopped: Deferred[Any] | None = self._service.stopService()
        return stopped
