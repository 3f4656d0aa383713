"""The table of unfinished jobs: found by id, by attempt, and by device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from palyra.core.frames import Progress
from palyra.core.identifiers import AttemptId, DeviceId, JobId
from palyra.core.jobmachine import JobInputs
from palyra.core.jobs import Job, JobState
from palyra.gateway.nodesession import NodeSession


@attrs.define(eq=False)
class Live:
    """An unfinished job: its record, its machine, and who waits for it."""

    job: Job
    machine: JobInputs
    waiters: list[Deferred[Job]] = attrs.Factory(list)
    acknowledge: list[tuple[NodeSession, AttemptId]] = attrs.Factory(list)
    """Reports that may be acknowledged once the job's final state is committed."""
    attempt_ids: list[AttemptId] = attrs.Factory(list)
    """Every attempt a report may still come from: the first one decides."""
    asks_left: bool = True
    """Whether a person at the device may still be asked in this attempt."""
    progress: Progress | None = None
    accepted: bool = True
    """Not so: its fan-out is not on record yet, and to everybody outside there is no such job."""
    held: bool = False
    """It may not start yet: the row of a fan-out, or a call that waits for approval."""
    asked_ms: int = 0
    """How long it may wait for approval, besides all else that it may wait for."""
    since_epoch: int = 0
    """The session by which the node said that it does not know the newest attempt.  What older
    sessions say of it was said by a life of the node host that has forgotten it."""
    unrecorded: bool = False
    """Its newest attempt is being committed: nobody has been sent it, and time stands still."""
    trace: Any = None
    """Its spans, for whoever traces jobs (:mod:`palyra.gateway.tracing`)."""

    @property
    def queued(self) -> bool:
        """Whether the job waits to be sent."""
        return self.job.state is JobState.QUEUED


class Unfinished:
    """Every job that is not final and committed as such."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, Live] = {}
        self._of_attempt: dict[AttemptId, Live] = {}
        self._of_device: dict[DeviceId, dict[JobId, Live]] = {}
        self.kept: Callable[[Live], object] | None = None
        """Told of each job that is taken in, in the context of whoever submits it."""
        self.forgotten: Callable[[Live], object] | None = None
        """Told of each job that leaves."""

    def __len__(self) -> int:
        return len(self._jobs)

    def all(self) -> list[Live]:
        """All of them, oldest first."""
        return list(self._jobs.values())

    def by_id(self, job_id: JobId) -> Live | None:
        """The job of that id."""
        return self._jobs.get(job_id)

    def by_attempt(self, attempt_id: AttemptId) -> Live | None:
        """The job that a report on this attempt may still decide."""
        return self._of_attempt.get(attempt_id)

    def of_device(self, device_id: DeviceId) -> list[Live]:
        """The jobs of a device, oldest first."""
        return list(self._of_device.get(device_id, {}).values())

    def count(self, device_id: DeviceId) -> int:
        """How many a device has."""
        return len(self._of_device.get(device_id, ()))

    def keep(self, live: Live) -> Live:
        """Take a job in."""
        job = live.job
        self._jobs[job.call.job_id] = live
        self._of_device.setdefault(job.call.device_id, {})[job.call.job_id] = live
        if job.attempt is not None:
            self.remember(live, job.attempt.attempt_id)
        if self.kept is not None:
            self.kept(live)
        return live

    def remember(self, live: Live, attempt_id: AttemptId) -> None:
        """Reports on this attempt are for that job."""
        if attempt_id not in live.attempt_ids:
            live.attempt_ids.append(attempt_id)
        self._of_attempt[attempt_id] = live

    def unmake(self, live: Live, attempt_id: AttemptId) -> None:
        """The attempt was never recorded: it was never made."""
        live.attempt_ids.remove(attempt_id)
        self._of_attempt.pop(attempt_id, None)

    def forget(self, live: Live) -> None:
        """Its final state is committed, or it was not accepted."""
        call = live.job.call
        self._jobs.pop(call.job_id, None)
        of_device = self._of_device.get(call.device_id)
        if of_device is not None:
            of_device.pop(call.job_id, None)
            if not of_device:
                del self._of_device[call.device_id]
        for attempt_id in live.attempt_ids:
            self._of_attempt.pop(attempt_id, None)
        if self.forgotten is not None:
            self.forgotten(live)
