"""A node host says in ``node-host-process.json`` that it serves, for as long as it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from palyra import __version__
from palyra.errors import PalyraError
from palyra.node.files import NodeFiles
from palyra.supervision import processes, processfile
from palyra.supervision.processfile import ProcessFile
from palyra.supervision.service import MANAGER, Manager

AGAIN_S = 30.0
"""When it could not be said: after so long it is tried again."""
_MANAGERS = frozenset(each.value for each in Manager)


class Serving:
    """This process, as the one that serves.  The state root's lock is held all the while.

    It owns one delayed call, which :meth:`end` cancels.
    """

    _log = Logger()

    def __init__(
        self,
        files: NodeFiles,
        *,
        clock: IReactorTime,
        now_ms: Callable[[], int],
        boot_id: Callable[[], str] = processes.boot_id,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """``environ`` says under ``PALYRA_MANAGER`` who keeps it running."""
        self._files = files
        self._clock = clock
        self._again: IDelayedCall | None = None
        self._began_ms = 0
        self._now_ms = now_ms
        self._boot_id = boot_id
        self._environ = environ

    def check(self) -> None:
        """Refuse the state of another user, and clear away what a crash has left of ours.

        :raises StateOfAnother: naming him.
        """
        self._files.check_mine()
        self._files.sweep()

    def begin(self) -> None:
        """Say that it serves.  Where that cannot be written it serves all the same: the lock still
        keeps others away, and it is said when there is room."""
        self._began_ms = self._now_ms()
        if not self._said():
            self._try_again()

    def end(self) -> None:
        """It serves no more.  Never raises."""
        again, self._again = self._again, None
        if again is not None:
            again.cancel()
        processfile.remove_if_mine(self._files.process, os.getpid())

    def _said(self) -> bool:
        try:
            processfile.write(self._files.process, self._described())
        except PalyraError as error:
            self._log.error("the process file is not on disk: {e}", e=error.sentence)
            return False
        except OSError as error:
            self._log.error("the process file is not on disk: {e}", e=error.strerror)
            return False
        return True

    def _try_again(self) -> None:
        def look() -> None:
            self._again = None
            if not self._said():
                self._try_again()

        self._again = self._clock.callLater(AGAIN_S, look)

    def _described(self) -> ProcessFile:
        files, pid, manager = self._files, os.getpid(), self._environ.get(MANAGER, "")
        return ProcessFile(
            schema_version=processfile.SCHEMA_VERSION,
            pid=pid,
            stdout_log_path=str(files.stdout_log.absolute()),
            stderr_log_path=str(files.stderr_log.absolute()),
            started_at_unix_ms=self._began_ms,
            boot_id=self._boot_id(),
            start_token=processes.start_token(pid),
            manager=manager if manager in _MANAGERS else "",
            version=__version__,
        )
