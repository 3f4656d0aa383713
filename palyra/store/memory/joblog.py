"""Jobs, their attempts and keys in memory."""

from __future__ import annotations

from collections.abc import Container, Sequence

import attrs

from palyra.core.callapprovals import CallApproval
from palyra.core.devices import Device, DeviceState
from palyra.core.identifiers import JobId, has_prefix
from palyra.core.interfaces import IdempotencyKey, JobQuery, KeyUse
from palyra.core.jobs import Attempt, Job
from palyra.errors import AlreadyKept, NotFound, NotRegistered
from palyra.store import audited, facts, rules
from palyra.store.joblog import FOUND_AT_MOST
from palyra.store.jobrows import MAX_NOTES
from palyra.store.memory.callapprovals import CallApprovalLog
from palyra.store.memory.records import fired, newest
from palyra.store.retention import KEY_LIFE_MS, first_id


class JobLog(CallApprovalLog):
    """Provides :class:`palyra.core.interfaces.IJobLog`."""

    @fired
    def accept(
        self, job: Job, key: IdempotencyKey | None = None, approval: CallApproval | None = None
    ) -> None:
        job_id = job.call.job_id
        if job_id in self._jobs:
            raise AlreadyKept()
        self._require_session(job)
        self._use(key, job.call.submitted_at_ms, job_id=job_id)
        self._keep_call(approval)
        self._keep_attempt(job)
        self._jobs[job_id] = attrs.evolve(rules.own_job(job), notes=job.notes[:MAX_NOTES])
        self._link(audited.of_job(job, new=True))
        if job.final:
            self._note(facts.job_ended(job))

    @fired
    def update(self, job: Job) -> None:
        kept = self._jobs.get(job.call.job_id)
        self._require_session(job)
        if kept is None:
            raise NotFound("job", job.call.job_id)
        self._consume(job)
        self._keep_attempt(job)
        notes = kept.notes + job.notes[len(kept.notes) : MAX_NOTES]
        changed = kept if kept.final else rules.own_job(job)
        self._jobs[job.call.job_id] = attrs.evolve(changed, call=kept.call, notes=notes)
        if job.final and not kept.final:
            self._link(audited.of_job(job, new=False))
            self._note(facts.job_ended(job))

    @fired
    def job(self, job_id: JobId) -> Job | None:
        kept = self._jobs.get(job_id)
        return None if kept is None else rules.own_job(kept)

    @fired
    def jobs(self, query: JobQuery) -> list[Job]:
        found = [
            each
            for each in self._list_jobs()
            if (query.states is None or each.state in query.states)
            and (query.device_id is None or each.call.device_id == query.device_id)
            and (query.capability is None or each.call.capability == query.capability)
            and (query.requested_by is None or each.call.requested_by == query.requested_by)
            and (query.fanout_id is None or each.call.fanout_id == query.fanout_id)
            and (query.before is None or each.call.job_id < query.before)
        ]
        return [rules.listed_job(each) for each in found[: query.limit]]

    @fired
    def unfinished(self) -> list[Job]:
        return [job for job in reversed(self._list_jobs()) if not job.final]

    @fired
    def job_of_attempt(self, attempt_id: str) -> Job | None:
        job_id = self._attempts.get(attempt_id)
        return None if job_id is None else rules.own_job(self._jobs[job_id])

    @fired
    def find_jobs(self, prefix: str) -> Sequence[JobId]:
        found = sorted((each for each in self._jobs if has_prefix(each, prefix)), reverse=True)
        return found[:FOUND_AT_MOST]

    @fired
    def key_use(self, scope: str, key: str) -> KeyUse | None:
        kept = self._keys.get((scope, key))
        return None if kept is None else kept[0]

    @fired
    def forget_jobs(self, before_ms: int, keep: int, limit: int) -> int:
        young_ms = self._now_ms() - KEY_LIFE_MS
        young = [use for use, at_ms in self._keys.values() if at_ms > young_ms]
        staying = {use.job_id or use.fanout_id for use in young}
        staying |= {each.call.fanout_id for each in self._jobs.values() if not each.final}
        oldest = sorted(self._jobs)
        beyond = frozenset(oldest[: max(0, len(oldest) - keep)])
        old = (each for each in oldest if each < first_id(before_ms) or each in beyond)
        found = [each for each in old if self._may_go(self._jobs[each], staying)][:limit]
        for job_id in found:
            self._forget(job_id)
        return len(found)

    def _list_jobs(self) -> list[Job]:
        return [rules.own_job(each) for each in newest(self._jobs)]

    def _require_session(self, job: Job) -> None:
        """Refuse an attempt not kept yet whose session does not own dispatch."""
        attempt = job.attempt
        if attempt is None or attempt.attempt_id in self._attempts:
            return
        device = self._devices.get(job.call.device_id)
        if device is None or device.state is not DeviceState.PAIRED or not _owns(device, attempt):
            raise NotRegistered()

    def _may_go(self, job: Job, staying: Container[str | None]) -> bool:
        call = job.call
        of_staying = call.fanout_id is not None and call.fanout_id in staying
        return job.final and call.job_id not in staying and not of_staying

    def _forget(self, job_id: JobId) -> None:
        fanout_id = self._jobs.pop(job_id).call.fanout_id
        gone: set[str | None] = {job_id}
        if all(job.call.fanout_id != fanout_id for job in self._jobs.values()):
            gone.add(fanout_id)
        self._fanouts = {key: kept for key, kept in self._fanouts.items() if key not in gone}
        self._attempts = {key: of for key, of in self._attempts.items() if of not in gone}
        self._keys = {
            key: kept
            for key, kept in self._keys.items()
            if (kept[0].job_id or kept[0].fanout_id) not in gone
        }

    def _keep_attempt(self, job: Job) -> None:
        self._require_session(job)
        if job.attempt is not None:
            self._attempts.setdefault(job.attempt.attempt_id, job.call.job_id)


def _owns(device: Device, attempt: Attempt) -> bool:
    return (device.gateway_id, device.session_epoch) == (attempt.gateway_id, attempt.session_epoch)
