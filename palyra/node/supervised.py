"""What a node host tells its service manager: that it serves, how it is, that it lives.

It serves before it is connected: a gateway that is away must not make a start fail.  The sign of
life comes from the reactor, so a node host whose reactor hangs is started anew.
"""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from palyra._notify import Notifier
from palyra.core.devices import clean_text
from palyra.core.frames import Welcome
from palyra.core.identifiers import short_id
from palyra.errors import PalyraError
from palyra.node.link import Route

Result = TypeVar("Result")
MAX_TEXT = 256
BEATS = 3
"""Signs of life in the time after which the manager misses one."""
AGAIN_S = 0.5
"""When the manager's socket was full: after so long it is told again that this host serves."""
CLOSING_S = 15.0
"""For what follows the jobs' grace: last words to the gateway, workers, files."""


class Supervised:
    """Tells one manager of one node host (a Listener of :class:`palyra.node.watcher.Watcher`)."""

    def __init__(self, notifier: Notifier, *, clock: IReactorTime, grace_s: float) -> None:
        """``grace_s`` is how long running jobs are given at the end."""
        self._notifier = notifier
        self._clock = clock
        self._grace_s = grace_s
        self._line = "starting"
        self._reloads = 0
        self._stopping = False
        self._beat: IDelayedCall | None = None
        self._again: IDelayedCall | None = None

    def serving(self) -> None:
        """The reactor runs, and control.sock answers."""
        if self._stopping:
            return
        self._ready()
        self._beats()

    def online(self, welcome: Welcome, route: Route) -> None:
        """Registered."""
        self._say(f"online as {welcome.device_name}, {route}")

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        """Not connected."""
        cause = error.sentence if error is not None else "The gateway closed the session."
        self._say(f"offline, retry in {retry_s:.0f}s: {cause}")

    def waiting(self, request_id: str) -> None:
        """Until an operator decides."""
        self._say(f"waiting for an operator to approve {short_id(request_id)}")

    def reloading(self) -> None:
        """The configuration is read again."""
        self._reloads += 1
        if not self._stopping and self._reloads == 1:
            self._notifier.reloading()

    def reloaded(self, result: Result) -> Result:
        """As often as :meth:`reloading`, whatever became of it: a callback, and errback."""
        self._reloads -= 1
        if not self._stopping and self._reloads == 0:
            self._ready()
        return result

    def stopping(self, jobs: int) -> None:
        """``jobs`` are being worked on, and may end."""
        self._stopping = True
        self._forget_again()
        self._notifier.stopping(
            f"stopping, {jobs} running" if jobs else "stopping", self._grace_s + CLOSING_S
        )

    def stopped(self) -> None:
        """Everything is closed."""
        self._stopping = True
        self._forget_again()
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _say(self, text: str) -> None:
        self._line = clean_text(text, MAX_TEXT)
        if not self._stopping:
            self._notifier.status(self._line)

    def _ready(self) -> None:
        """Said until it is taken: a manager that does not hear it ends this host."""
        self._forget_again()
        if not self._notifier.ready(self._line) and self._notifier.present:
            self._again = self._clock.callLater(AGAIN_S, self._ready_again)

    def _ready_again(self) -> None:
        self._again = None
        self._ready()

    def _forget_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _beats(self) -> None:
        if self._notifier.watchdog_s is None:
            return
        self._notifier.watchdog()
        self._beat = self._clock.callLater(self._notifier.watchdog_s / BEATS, self._beats)
