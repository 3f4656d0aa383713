"""Fan-outs: one call to many devices, each row of it a job (PROTOCOL: Jobs).

The targets are frozen when a fan-out is accepted.  Its record never changes: what became of it is
what became of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import attrs

from palyra.core.identifiers import FanoutId, JobId
from palyra.core.jobs import FINAL, Job, JobState

BATCH = "batch"
"""What a row that may not start yet waits for."""
FAILED = FINAL - {JobState.SUCCEEDED, JobState.CANCELLED}
"""The ends that count against ``max_failures``, of a row that a device was asked to run."""


@attrs.frozen
class Fanout:
    """What was asked of many devices; never changes.

    ``expression`` is empty where the targets were named one by one.  At most ``batch`` rows are
    started and not ended at a time (None: all at once); when more than ``max_failures`` rows have
    failed (None: never), the rows that were not started are cancelled.
    """

    fanout_id: FanoutId
    requested_by: str
    capability: str
    input_json: bytes
    expression: str
    submitted_at_ms: int
    targets: int
    batch: int | None = None
    max_failures: int | None = None
    approval_id: str | None = None
    """Of the rows that a rule holds until an operator has said yes."""


@attrs.frozen
class Tally:
    """What became of a fan-out's rows so far."""

    counts: Mapping[JobState, int]
    failures: int
    """Rows that a device was asked to run and that did not succeed, cancelled ones left out."""


def is_failure(job: Job) -> bool:
    """Whether a row counts against ``max_failures``: a device was asked and it did not work out.

    A device that was offline or lacks the capability was never asked: it says nothing about what
    would happen to the next one.
    """
    return job.attempts > 0 and job.state in FAILED


class Rollout:
    """Decides which rows of a running fan-out may start.  Holds ids only; pure."""

    def __init__(self, fanout: Fanout, failures: int = 0) -> None:
        self.fanout = fanout
        self.failures = failures
        self._waiting: dict[JobId, None] = {}  # in order, and quick to leave in the middle
        self._started: set[JobId] = set()

    @property
    def stopped(self) -> bool:
        """Whether too many rows have failed for another to start."""
        limit = self.fanout.max_failures
        return limit is not None and self.failures > limit

    def waits(self, job_id: JobId) -> None:
        """A row has not been started yet."""
        self._waiting[job_id] = None

    def started(self, job_id: JobId) -> None:
        """A row was started (also by an earlier life of the gateway)."""
        self._started.add(job_id)

    def ended(self, job: Job) -> None:
        """A row is final and committed as such.  Again: nothing."""
        job_id = job.call.job_id
        if job_id in self._started or job_id in self._waiting:
            self._started.discard(job_id)
            self._waiting.pop(job_id, None)
            self.failures += is_failure(job)

    def take_startable(self) -> list[JobId]:
        """Rows that may start now; they count as started from here on."""
        if self.stopped:
            return []
        batch = self.fanout.batch
        room = len(self._waiting) if batch is None else batch - len(self._started)
        return self._take(max(0, room))

    def take_refused(self) -> list[JobId]:
        """Rows that will never start, because too many have failed."""
        if not self.stopped:
            return []
        return self._take(len(self._waiting))

    def _take(self, count: int) -> list[JobId]:
        taken = list(islice(self._waiting, count))
        for job_id in taken:
            del self._waiting[job_id]
        self._started.update(taken)
        return taken
