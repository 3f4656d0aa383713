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
        self._retries: set[IDelayedCall] = set()

    def commit(self, live: Live) -> Deferred[list[Failure] | None]:
        """Keep what became of a job; whoever asks hears of it by ``committed``.

        Fires with None when it is kept; else with why not, and it is tried again.
        """
        final = live.job.final  # as committed here: it may become final before this one is done
        return deferred(self._store.update(live.job)).addCallbacks(
            self._kept, self._not_kept, callbackArgs=(live, final), errbackArgs=(live,)
        )

    def retry(self, act: Callable[..., object], *arguments: object) -> None:
        """Do something again when the store may have recovered."""

        def again() -> None:
            self._retries.discard(call)
            act(*arguments)

        call = self._clock.callLater(RETRY_COMMIT_S, again)
        self._retries.add(call)

    def stop(self) -> None:
        """Try nothing again."""
        for retry in self._retries:
            retry.cancel()
        self._retries.clear()

    def _kept(self, _: None, live: Live, final: bool) -> None:
        self._committed(live, final)

    def _not_kept(self, failure: Failure, live: Live) -> Any:
        """The store could not write (disk full): nobody is told anything until it can."""
        if self._unfinished.by_id(live.job.call.job_id) is not live:
            return None  # it was refused, or the store ended it
        if failure.check(NotRegistered) and live.job.final:
            # The last attempt was never recorded: an earlier one has decided.
            live.job.attempt = None
            return self.commit(live)
        self._log.failure("job {job} waits for the store", failure, job=live.job.call.job_id)
        self.retry(self.commit, live)
        return [failure]
