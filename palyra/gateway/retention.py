"""Retention: ended jobs are kept for a time and up to a number, and no longer."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from palyra.config.jobs import JobsSection
from palyra.core.interfaces import IJobLog

AT_ONCE = 250
"""Jobs deleted in one transaction: others wait for the writer no longer than that takes."""
PAUSE_S = 0.05


class Retention:
    """Deletes what is too old, or too much, a little at a time."""

    def __init__(self, *, clock: IReactorTime, log: IJobLog, limits: JobsSection) -> None:
        self._clock = clock
        self._log = log
        self._limits = limits
        self._stopped = False

    async def sweep(self) -> int:
        """Delete until nothing is left to delete; how many jobs that were."""
        before_ms = int((self._clock.seconds() - self._limits.keep_for_s) * 1000)
        total = 0
        while not self._stopped:
            gone = await self._log.forget_jobs(before_ms, self._limits.keep_at_most, AT_ONCE)
            total += gone
            if gone < AT_ONCE:
                break
            await deferLater(self._clock, PAUSE_S)
        return total

    def stop(self) -> None:
        """Delete no more."""
        self._stopped = True
