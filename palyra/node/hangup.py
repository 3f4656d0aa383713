"""SIGHUP: somebody wants the node host to read its configuration again, or its terminal is gone."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from typing import Any

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

_SIGNAL = getattr(signal, "SIGHUP", None)


class Hangup:
    """Calls ``reload`` in the reactor's thread at SIGHUP; main thread only.

    ``lost`` is called instead where the process has a terminal that is gone.  Where whoever
    started the process had it ignore the signal (nohup), it does.
    """

    def __init__(
        self,
        reactor: Any,
        reload: Callable[[], object],
        lost: Callable[[], object] | None = None,
    ) -> None:
        self._reactor = reactor
        self._reload = reload
        self._lost = lost if lost is not None and _on_terminal() else None
        self._before: Any = None

    def open(self) -> None:
        """Listen to the signal."""
        if _SIGNAL is not None and signal.getsignal(_SIGNAL) != signal.SIG_IGN:
            self._before = signal.signal(_SIGNAL, self._signalled)

    def close(self) -> None:
        """Leave it to whoever had it before."""
        if _SIGNAL is not None and self._before is not None:
            signal.signal(_SIGNAL, self._before)
            self._before = None

    def _signalled(self, number: int, frame: Any) -> None:
        self._reactor.callFromThread(self._hung_up)

    def _hung_up(self) -> None:
        if self._lost is not None and not _on_terminal():
            self._lost()
        else:
            self._reload()


def _on_terminal() -> bool:
    """Whether stdin is a terminal that is still there."""
    if termios is None or sys.stdin is None:
        return False
    with contextlib.suppress(termios.error, OSError, ValueError):
        termios.tcgetattr(sys.stdin.fileno())
        return True
    return False
