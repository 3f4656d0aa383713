"""What operators ask about jobs: run, list, follow, cancel; on one device or on many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList

from palyra.console import models
from palyra.console.control import IFollowing, JobFilter
from palyra.console.routes.jobs import MAX_WAIT_MS
from palyra.core.callapprovals import APPROVAL
from palyra.core.frames import JobUpdate
from palyra.core.identifiers import FanoutId, JobId, as_prefix, is_ulid, short_id
from palyra.core.interfaces import IStore, JobQuery
from palyra.core.jobs import Job, JobState
from palyra.core.operators import Caller, Right
from palyra.errors import AmbiguousTarget, JobFinal, NotFound, NotYourJob
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.fanouts import Fanouts, FanoutView
from palyra.gateway.following import Followers
from palyra.gateway.inventory import Inventory
from palyra.gateway.orders import FanoutOrder, Order
from palyra.gateway.queries import state_named, ulid_cursor
from palyra.gateway.streams import FanoutStream, JobStream
from palyra.gateway.submission import Submission
from palyra.gateway.targets import Targets, batch_of
from palyra.gateway.views import CONTRACT, fanout_item, invoke_answer, job_item, job_note, raw

ROWS_AT_ONCE = 500
"""Rows of a fan-out read, or cancelled, in one turn."""


class JobControl:
    """Provides :class:`palyra.console.control.IJobControl`."""

    def __init__(
        self,
        *,
        store: IStore,
        inventory: Inventory,
        targets: Targets,
        dispatcher: Dispatcher,
        fanouts: Fanouts,
        followers: Followers,
        submission: Submission,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._targets = targets
        self._dispatcher = dispatcher
        self._fanouts = fanouts
        self._followers = followers
        self._submission = submission

    # -- run --------------------------------------------------------------------------------

    def invoke(self, target: str, body: models.Invoke, by: Caller) -> Deferred[models.InvokeAnswer]:
        return Deferred.fromCoroutine(self._invoke(target, body, by))

    async def _invoke(self, target: str, body: models.Invoke, by: Caller) -> models.InvokeAnswer:
        def order() -> Order:
            return Order(
                device_id=self._inventory.resolve(target).device_id,
                capability=body.capability,
                input_json=bytes(body.input_json),
                requested_by=by.name,
                caller=by,
                max_payload_bytes=body.max_payload_bytes,
                timeout_ms=body.timeout_ms,
                ttl_ms=body.ttl_ms,
            )

        asked = target, msgspec.structs.replace(body, idempotency_key="", wait_ms=None)
        job = await self._submission.to_one(
            order, f"{by.operator_id} invoke", body.idempotency_key, asked
        )
        if job.waiting_for == APPROVAL:  # a person decides: nobody waits for that here
            return invoke_answer(job)
        if body.wait_ms is not None:
            return invoke_answer(await self._dispatcher.wait(job, min(body.wait_ms, MAX_WAIT_MS)))
        return invoke_answer(await self._submission.ended(job))

    def submit(self, body: models.SubmitJobs, by: Caller) -> Deferred[models.FanoutAnswer]:
        return Deferred.fromCoroutine(self._submit(body, by))

    async def _submit(self, body: models.SubmitJobs, by: Caller) -> models.FanoutAnswer:
        def order() -> FanoutOrder:
            devices, expression = self._targets.chosen(tuple(body.targets), body.where)
            return FanoutOrder(
                devices=devices,
                expression=expression,
                capability=body.capability,
                input_json=bytes(body.input_json),
                requested_by=by.name,
                caller=by,
                max_payload_bytes=body.max_payload_bytes,
                timeout_ms=body.timeout_ms,
                ttl_ms=body.ttl_ms,
                batch=batch_of(body.batch, len(devices)),
                max_failures=body.max_failures,
            )

        asked = msgspec.structs.replace(body, idempotency_key="")
        view = await self._submission.to_many(
            order, f"{by.operator_id} jobs", body.idempotency_key, asked
        )
        rows: list[models.JobItem] = []
        cursor: JobId | None = None
        while page := await self._rows(view, ROWS_AT_ONCE, cursor):
            rows += map(job_item, page)
            cursor = page[-1].call.job_id
        return models.FanoutAnswer(
            CONTRACT, models.Page(len(rows), len(rows), False), fanout_item(view), rows
        )

    # -- look -------------------------------------------------------------------------------

    def jobs(self, which: JobFilter, limit: int, cursor: str | None) -> Deferred[models.JobList]:
        return Deferred.fromCoroutine(self._jobs(which, limit, cursor))

    async def _jobs(self, which: JobFilter, limit: int, cursor: str | None) -> models.JobList:
        states = frozenset(state_named(JobState, each) for each in which.states)
        device = self._inventory.resolve(which.device) if which.device else None
        query = JobQuery(
            states=states or None,
            device_id=device.device_id if device is not None else None,
            limit=limit + 1,
            before=JobId(ulid_cursor(cursor)) if cursor is not None else None,
            capability=which.capability or None,
            requested_by=which.by or None,
            fanout_id=await self._fanout_id(which.fanout) if which.fanout else None,
        )
        found = await self._store.jobs(query)
        return models.JobList(
            CONTRACT, _page(found, limit), [job_item(job) for job in found[:limit]]
        )

    def job(self, target: str, wait_ms: int) -> Deferred[models.JobAnswer]:
        return Deferred.fromCoroutine(self._job(target, wait_ms))

    async def _job(self, target: str, wait_ms: int) -> models.JobAnswer:
        job_id = await self._job_id(target)
        job = await self._dispatcher.job(job_id)
        return self._job_answer(await self._dispatcher.wait(job, wait_ms))

    def _job_answer(self, job: Job) -> models.JobAnswer:
        progress = self._dispatcher.progress_of(job.call.job_id)
        return models.JobAnswer(
            contract=CONTRACT,
            job=job_item(job),
            input_json=msgspec.Raw(job.call.input_json),
            output_json=raw(job.output_json),
            error=job.error or None,
            progress=progress.fraction if progress is not None else None,
            progress_text=progress.text if progress is not None else "",
            notes=[job_note(report) for report in job.notes],
        )

    def fanout(self, target: str, limit: int, cursor: str | None) -> Deferred[models.FanoutAnswer]:
        return Deferred.fromCoroutine(self._fanout(target, limit, cursor))

    async def _fanout(self, target: str, limit: int, cursor: str | None) -> models.FanoutAnswer:
        view = await self._fanouts.view(await self._fanout_id(target))
        before = JobId(ulid_cursor(cursor)) if cursor is not None else None
        found = await self._rows(view, limit + 1, before)
        rows = [job_item(job) for job in found[:limit]]
        return models.FanoutAnswer(CONTRACT, _page(found, limit), fanout_item(view), rows)

    def follow_job(self, target: str, wake: Callable[[], None]) -> Deferred[IFollowing]:
        return Deferred.fromCoroutine(self._follow_job(target, wake))

    async def _follow_job(self, target: str, wake: Callable[[], None]) -> IFollowing:
        job = await self._dispatcher.job(await self._job_id(target))
        following = self._followers.follow(job.call.job_id, wake)
        following.tell(JobUpdate(job, self._dispatcher.progress_of(job.call.job_id)))
        return JobStream(following)

    def follow_fanout(self, target: str, wake: Callable[[], None]) -> Deferred[IFollowing]:
        return Deferred.fromCoroutine(self._follow_fanout(target, wake))

    async def _follow_fanout(self, target: str, wake: Callable[[], None]) -> IFollowing:
        fanout_id = await self._fanout_id(target)
        view = await self._fanouts.view(fanout_id)
        following = self._followers.follow(fanout_id, wake)
        running = self._fanouts.running(fanout_id)
        return FanoutStream(following, running.view if running is not None else lambda: view)

    # -- end --------------------------------------------------------------------------------

    def cancel_job(
        self, target: str, body: models.CancelJob, by: Caller
    ) -> Deferred[models.JobAnswer]:
        return Deferred.fromCoroutine(self._cancel_job(target, body.reason, by))

    async def _cancel_job(self, target: str, reason: str, by: Caller) -> models.JobAnswer:
        job_id = await self._job_id(target)
        _check_own(await self._dispatcher.job(job_id), by)
        return self._job_answer(await self._dispatcher.cancel(job_id, by.name, reason))

    def cancel_fanout(
        self, target: str, body: models.CancelJob, by: Caller
    ) -> Deferred[models.FanoutAnswer]:
        return Deferred.fromCoroutine(self._cancel_fanout(target, body.reason, by))

    async def _cancel_fanout(self, target: str, reason: str, by: Caller) -> models.FanoutAnswer:
        fanout_id = await self._fanout_id(target)
        for row in await self._rows(await self._fanouts.view(fanout_id), 1, None):
            _check_own(row, by)  # one caller asked for all of them
        # The newest first: what may not start yet must not start because others have ended.
        await self._cancel_all(self._fanouts.unfinished(fanout_id)[::-1], by.name, reason)
        return await self._fanout(fanout_id, ROWS_AT_ONCE, None)

    def purge(self, body: models.PurgeJobs, by: Caller) -> Deferred[models.PurgeAnswer]:
        return Deferred.fromCoroutine(self._purge(body, by))

    async def _purge(self, body: models.PurgeJobs, by: Caller) -> models.PurgeAnswer:
        device = self._inventory.resolve(body.device) if body.device else None
        queued = self._dispatcher.queued(device.device_id if device is not None else None)
        return models.PurgeAnswer(
            CONTRACT, await self._cancel_all(queued[::-1], by.name, body.reason)
        )

    async def _cancel_all(self, job_ids: Sequence[JobId], by: str, reason: str) -> int:
        """Ask for the end of jobs; how many were cancelled at once."""
        cancelled = 0
        for begin in range(0, len(job_ids), ROWS_AT_ONCE):
            some = job_ids[begin : begin + ROWS_AT_ONCE]
            asked = [self._dispatcher.cancel(each, by, reason) for each in some]
            results: list[tuple[bool, Any]] = await DeferredList(asked, consumeErrors=True)
            for succeeded, result in results:
                if succeeded:
                    cancelled += result.state is JobState.CANCELLED
                elif not result.check(JobFinal, NotFound):  # it ended meanwhile: as good
                    result.raiseException()
        return cancelled

    # -- which ------------------------------------------------------------------------------

    async def _rows(self, view: FanoutView, limit: int, before: JobId | None) -> list[Job]:
        query = JobQuery(limit=limit, before=before, fanout_id=view.fanout.fanout_id)
        return await self._store.jobs(query)

    async def _fanout_id(self, target: str) -> FanoutId:
        return FanoutId(await _resolved("fan-out", target, self._store.find_fanouts))

    async def _job_id(self, target: str) -> JobId:
        return JobId(await _resolved("job", target, self._store.find_jobs))


def _check_own(job: Job, by: Caller) -> None:
    """Who may only submit may only end what they submitted themselves.

    :raises NotYourJob: somebody else did.
    """
    if not by.may(Right.ADMINISTER) and job.call.operator_id != by.operator_id:
        raise NotYourJob(short_id(job.call.job_id), job.call.requested_by)


async def _resolved(kind: str, target: str, find: Callable[[str], Awaitable[Sequence[str]]]) -> str:
    """The full id that ``target`` is, or is the beginning of.

    :raises NotFound, AmbiguousTarget: it is not, or of several.
    """
    if is_ulid(target.upper()):
        return target.upper()
    prefix = as_prefix(target)
    found = await find(prefix) if prefix is not None else []
    if not found:
        raise NotFound(kind, target[:64])
    if len(found) > 1:
        raise AmbiguousTarget(kind, target[:64], tuple(short_id(each, 10) for each in found))
    return found[0]


def _page(found: Sequence[Job], limit: int) -> models.Page:
    """Where a list stands of which one more than ``limit`` was asked for."""
    shown = found[:limit]
    more = len(found) > limit
    return models.Page(limit, len(shown), more, shown[-1].call.job_id if more else None)
