"""Callers that wait for the end of a job, each as long as it wants to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from palyra.core.identifiers import short_id
from palyra.core.jobs import Job
from palyra.errors import JobStillRunning, PalyraError
from palyra.gateway.unfinished import Live
from palyra.gateway.wheel import TimerWheel


class Waiters:
    """Deferreds that fire with a final job; their limits turn on the dispatcher's wheel."""

    def __init__(self, wheel: TimerWheel, now_ms: Callable[[], int]) -> None:
        self._wheel = wheel
        self._now_ms = now_ms
        self._limited: dict[Deferred[Job], Live] = {}

    def add(self, live: Live, wait_ms: int | None) -> Deferred[Job]:
        """A Deferred for one caller; cancelling it only stops that caller's waiting.

        Fails with JobStillRunning when ``wait_ms`` (None: no limit) is over first.
        """

        def gone(waiter: Deferred[Job]) -> None:
            _leave(live, waiter)

        waiter: Deferred[Job] = Deferred(gone)
        live.waiters.append(waiter)
        if wait_ms is not None:
            self._wheel.set(waiter, self._now_ms() + wait_ms)
            self._limited[waiter] = live
            waiter.addBoth(self._stop_waiting, waiter)
        return waiter

    def tire(self, waiter: Deferred[Job]) -> None:
        """A caller's limit is over."""
        live = self._limited.get(waiter)
        if live is not None and _leave(live, waiter):
            waiter.errback(JobStillRunning(short_id(live.job.call.job_id), live.job.state.value))

    def refuse(self, failure: Failure, live: Live, waiter: Deferred[Job]) -> None:
        """The call was not accepted: its caller hears why."""
        if _leave(live, waiter):
            waiter.errback(failure)

    def answer(self, live: Live) -> None:
        """The job is final, and committed as such."""
        for waiter in _all(live):
            waiter.callback(live.job)

    def dismiss(self, live: Live, error: PalyraError) -> None:
        """Nobody will be told the end by this gateway."""
        for waiter in _all(live):
            waiter.errback(error)

    def _stop_waiting(self, result: Any, waiter: Deferred[Job]) -> Any:
        self._limited.pop(waiter, None)
        self._wheel.discard(waiter)
        return result


def _leave(live: Live, waiter: Deferred[Job]) -> bool:
    if waiter not in live.waiters:
        return False
    live.waiters.remove(waiter)
    return True


def _all(live: Live) -> list[Deferred[Job]]:
    waiters, live.waiters = live.waiters, []
    return waiters
