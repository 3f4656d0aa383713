"""Submission: calls as callers make them, each of them once for its idempotency key."""

from __future__ import annotations

from palyra.core.identifiers import short_id
from palyra.core.interfaces import IdempotencyKey, IStore, KeyUse
from palyra.core.jobs import Job
from palyra.errors import JobStillRunning
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.fanouts import Fanouts, FanoutView
from palyra.gateway.keys import Keys, key_for
from palyra.gateway.orders import Ask, FanoutOrder, Order


class Submission:
    """Accepts calls to one device or to many.  ``scope`` is who calls, by which route."""

    def __init__(self, *, store: IStore, dispatcher: Dispatcher, fanouts: Fanouts) -> None:
        self._dispatcher = dispatcher
        self._fanouts = fanouts
        self._keys = Keys(store)

    async def to_one(self, order: Order, scope: str, key: str) -> Job:
        """A call to one device; done when it is on record.

        :raises IdempotencyConflict: the key was used for another call.
        """
        if not key:
            return await self._dispatcher.submit(order)

        async def make(wanted: IdempotencyKey) -> Job:
            return await self._dispatcher.submit(order, wanted)

        wanted = key_for(scope, key, order.device_id, *_asked(order))
        return await self._keys.once(wanted, make, self._job_of)

    async def to_many(
        self, order: FanoutOrder, scope: str, key: str, named: tuple[str, ...]
    ) -> FanoutView:
        """A call to many devices, chosen by its expression or ``named`` one by one.

        :raises IdempotencyConflict: as :meth:`to_one`.
        """
        if not key:
            return await self._fanouts.submit(order)

        async def make(wanted: IdempotencyKey) -> FanoutView:
            return await self._fanouts.submit(order, wanted)

        limits = order.batch, order.max_failures
        wanted = key_for(scope, key, order.expression, named, *limits, *_asked(order))
        return await self._keys.once(wanted, make, self._fanout_of)

    async def ended(self, job: Job, wait_ms: int) -> Job:
        """The job when it is final.

        :raises JobStillRunning: after ``wait_ms``; the job goes on.
        """
        job = await self._dispatcher.wait(job, wait_ms)
        if not job.final:
            raise JobStillRunning(short_id(job.call.job_id), job.state.value)
        return job

    async def _job_of(self, use: KeyUse) -> Job:
        assert use.job_id is not None, "the route is part of the scope"
        return await self._dispatcher.job(use.job_id)

    async def _fanout_of(self, use: KeyUse) -> FanoutView:
        assert use.fanout_id is not None, "the route is part of the scope"
        return await self._fanouts.view(use.fanout_id)


def _asked(ask: Ask) -> tuple[object, ...]:
    """What makes a call this call, as JSON can say it."""
    input_json = ask.input_json.decode("utf-8", "surrogateescape")
    return ask.capability, input_json, ask.max_payload_bytes, ask.timeout_ms, ask.ttl_ms
