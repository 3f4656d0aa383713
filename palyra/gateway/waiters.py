"""Callers that wait for the end of a job, each as long as it wants to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from palyra.core.identifiers import short_id
from palyra.core.jobs import Job
from palyra.errors import JobStillRunning, PalyraError
from palyra.gateway.unfinished import Live
from palyra.gateway.wheel import TimerWheel


class Waiters:
    """Deferreds that fire with a final job; their limits follow elapsed time."""

    def __init__(self, clock: IReactorTime, elapsed_ms: Callable[[], int]) -> None:
        self._elapsed_ms = elapsed_ms
        self._wheel = TimerWheel(clock, elapsed_ms, self._tire)
        self._limited: dict[Hashable, tuple[Deferred[Job], Live]] = {}

    def start(self) -> None:
        """Begin to watch limits."""
        self._wheel.start()

    def stop(self) -> None:
        """Watch them no more."""
        self._wheel.stop()

    def add(self, live: Live, wait_ms: int | None) -> Deferred[Job]:
        """A Deferred for one caller; cancelling it only stops that caller's waiting.

        Fails with JobStillRunning when ``wait_ms`` (None: no limit) is over first.
        """

        def gone(waiter: Deferred[Job]) -> None:
            _leave(live, waiter)

        waiter: Deferred[Job] = Deferred(gone)
        live.waiters.append(waiter)
        if wait_ms is not None:
            self._wheel.set(waiter, self._elapsed_ms() + wait_ms)
            self._limited[waiter] = (waiter, live)
            waiter.addBoth(self._stop_waiting, waiter)
        return waiter

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

    def _tire(self, key: Hashable, now_ms: int) -> None:
        """A caller's limit is over."""
        waiter, live = self._limited[key]
        if _leave(live, waiter):
            # An end that is not on record yet is told to nobody.
            state = "ending" if live.job.final else live.job.state.value
            waiter.errback(JobStillRunning(short_id(live.job.call.job_id), state))

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
