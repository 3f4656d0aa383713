"""Records: what becomes of a job is committed, and tried again until it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from palyra.core.interfaces import IJobLog
from palyra.errors import NotRegistered
from palyra.gateway.unfinished import Live, Unfinished
from palyra.gateway.waits import deferred

RETRY_COMMIT_S = 1.0
MAX_PAUSE_S = 5.0


class Records:
    """Commits changes of unfinished jobs.  ``committed(live, final)`` hears of each."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        log: IJobLog,
        unfinished: Unfinished,
        committed: Callable[[Live, bool], object],
    ) -> None:
        self._clock = clock
        self._store = log
        self._unfinished = unfinished
        self._committed = committed
        self._waiting: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self._turn: IDelayedCall | None = None
        self._pause_s = RETRY_COMMIT_S
        self._stopped = False

    def commit(self, live: Live) -> Deferred[list[Failure] | None]:
        """Keep what became of a job; whoever asks hears of it by ``committed``.

        Fires with None when it is kept; else with why not, and it is tried again.
        """
        final = live.job.final  # as committed here: it may become final before this one is done
        return deferred(self._store.update(live.job)).addCallbacks(
            self._kept, self._not_kept, callbackArgs=(live, final), errbackArgs=(live,)
        )

    def retry(self, act: Callable[..., object], *arguments: object) -> None:
        """Do something again when the store may have recovered; all that waits for it together."""
        if self._stopped:
            return
        self._waiting.append((act, arguments))
        if self._turn is None:
            self._log.warn("the store could not write; trying again in {s:g}s", s=self._pause_s)
            self._turn = self._clock.callLater(self._pause_s, self._again)
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)

    def store_writes(self) -> None:
        """The store has written something: the next pause is a short one."""
        self._pause_s = RETRY_COMMIT_S

    def stop(self) -> None:
        """Try nothing again."""
        self._stopped = True
        self._waiting.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _again(self) -> None:
        self._turn = None
        waiting, self._waiting = self._waiting, []
        for act, arguments in waiting:
            try:
                act(*arguments)
            except Exception:  # it must not cost the others their turn
                self._log.failure("what waited for the store failed")

    def _kept(self, _: None, live: Live, final: bool) -> None:
        self.store_writes()
        self._committed(live, final)

    def _not_kept(self, failure: Failure, live: Live) -> Any:
        """The store could not write (disk full): nobody is told anything until it can."""
        if self._unfinished.by_id(live.job.call.job_id) is not live:
            return None  # it was refused, or the store ended it
        if failure.check(NotRegistered) and live.job.final:
            # The last attempt was never recorded: an earlier one has decided.
            live.job.attempt = None
            return self.commit(live)
        if self._turn is None:  # the first of many
            self._log.failure("job {job} waits for the store", failure, job=live.job.call.job_id)
        self.retry(self.commit, live)
        return [failure]
