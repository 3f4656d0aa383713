"""Settlement: what is on record is told, and a job whose end is on record is put away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from palyra.core.frames import JobUpdate
from palyra.core.identifiers import DeviceId, JobId
from palyra.core.interfaces import IJobLog
from palyra.core.jobs import Job
from palyra.errors import NotFound
from palyra.gateway.backlog import Backlog
from palyra.gateway.deadlines import Deadlines
from palyra.gateway.records import Records
from palyra.gateway.sessions import Sessions
from palyra.gateway.unfinished import Live, Unfinished
from palyra.gateway.waiters import Waiters
from palyra.gateway.waits import deferred


class Watcher(Protocol):
    """Is told what became of jobs: fan-outs, and whoever follows."""

    def changed(self, update: JobUpdate) -> None:
        """A job's new state is on record, or it got further.

        The job goes on changing: what is kept of it must be a copy.
        """


class Settlement:
    """Hears of every commit: nobody is told of an end before it is on record.

    ``changed()`` hears of every change; ``settled(device_id)`` that a job of the device has ended
    and has left its place to others.
    """

    def __init__(
        self,
        *,
        clock: IReactorTime,
        log: IJobLog,
        sessions: Sessions,
        unfinished: Unfinished,
        backlog: Backlog,
        deadlines: Deadlines,
        waiters: Waiters,
        changed: Callable[[], object],
        settled: Callable[[DeviceId], object],
    ) -> None:
        self._store = log
        self._sessions = sessions
        self._unfinished = unfinished
        self._backlog = backlog
        self._deadlines = deadlines
        self._waiters = waiters
        self._changed = changed
        self._settled = settled
        self._silenced: set[DeviceId] = set()
        self.watchers: list[Watcher] = []
        self.records = Records(
            clock=clock, log=log, unfinished=unfinished, committed=self._committed
        )

    # -- what is on record --------------------------------------------------------------------

    def stored(self, job_id: JobId) -> Deferred[Job]:
        """A job as the store has it; fails with NotFound where there is none."""
        return deferred(self._store.job(job_id)).addCallback(_found, job_id)

    def on_record(self, live: Live) -> Deferred[Job]:
        """The job as it is, but for an end that is still on its way to the store."""
        if not self._is_ending(live):
            return succeed(live.job)
        # What was read before the end was written may come after everybody was told the end.
        return self.stored(live.job.call.job_id).addCallback(
            lambda job: job if job.final or self._is_ending(live) else live.job
        )

    def recorded(self, live: Live) -> None:
        """A change of the job that is not its end is on record."""
        self._changed()
        self._deadlines.watch(live)
        self.tell(live)

    def tell(self, live: Live) -> None:
        """Tell the watchers what is on record, or how far it is."""
        update = self.told(live)
        if update is not None:
            for watcher in self.watchers:
                watcher.changed(update)

    def told(self, live: Live) -> JobUpdate | None:
        """What may be told of a job; None while what it is now is not on record."""
        if live.unrecorded or self._is_ending(live):
            return None
        return JobUpdate(live.job, live.progress)

    def forget(self, live: Live) -> None:
        """The end of the job is on record, or it was not accepted: it is no job of ours."""
        self._unfinished.forget(live)
        self._backlog.leave(live)
        self._deadlines.forget(live)

    def _is_ending(self, live: Live) -> bool:
        """Whether the job's end is on its way to the store: nobody may hear of it yet."""
        return live.job.final and self._unfinished.by_id(live.job.call.job_id) is live

    def _committed(self, live: Live, final: bool) -> None:
        """What became of a job is on record; if it is its end, then everybody is told."""
        if not final:
            self.recorded(live)
            return
        self._changed()
        if live.job.call.device_id in self._silenced:
            # A revocation may have ended it before this did: the first end on record stands.
            self._adopt_stored(live)
        else:
            self._settle(live)

    def _settle(self, live: Live) -> None:
        """A final state is committed: acknowledge reports, answer waiters, make room."""
        device_id = live.job.call.device_id
        self.forget(live)
        owner = self._sessions.owner(device_id)
        if owner is not None:  # an attempt that was given up on keeps no place
            owner.in_flight.difference_update(live.attempt_ids)
        for session, attempt_id in live.acknowledge:
            session.acknowledge(attempt_id)
        live.acknowledge.clear()
        self._waiters.answer(live)
        self.tell(live)
        self._settled(device_id)

    # -- revocations, which end jobs by themselves ----------------------------------------------

    def silence(self, device_id: DeviceId) -> None:
        """A revocation is being committed: what the device says from now on changes nothing."""
        self._silenced.add(device_id)

    def is_silenced(self, device_id: DeviceId) -> bool:
        """Whether a revocation of the device is being committed."""
        return device_id in self._silenced

    def listen_to(self, device_id: DeviceId) -> None:
        """The revocation was committed, or was not."""
        self._silenced.discard(device_id)

    async def device_ended(self, device_id: DeviceId) -> None:
        """The store ended a device's jobs in its own transaction (revocation): tell who waits."""
        for live in self._unfinished.of_device(device_id):
            job = await self._store.job(live.job.call.job_id)
            if job is not None and job.final:
                live.job = job
                self._settle(live)

    def _adopt_stored(self, live: Live) -> None:
        self.stored(live.job.call.job_id).addCallbacks(
            self._adopt,
            lambda _: self.records.retry(self._adopt_stored, live),
            callbackArgs=(live,),
        )

    def _adopt(self, job: Job, live: Live) -> None:
        if self._unfinished.by_id(job.call.job_id) is live:
            live.job = job
            self._settle(live)


def _found(job: Job | None, job_id: JobId) -> Job:
    if job is None:
        raise NotFound("job", job_id)
    return job
