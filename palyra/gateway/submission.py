"""Submission: calls as callers make them, each of them once for its idempotency key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from palyra.core.identifiers import short_id
from palyra.core.interfaces import IdempotencyKey, IStore, KeyUse
from palyra.core.jobs import Job
from palyra.errors import JobStillRunning
from palyra.gateway.dispatch import Dispatcher
from palyra.gateway.fanouts import Fanouts, FanoutView
from palyra.gateway.keys import Keys, key_for
from palyra.gateway.orders import FanoutOrder, Order, patience_ms


class Submission:
    """Accepts calls to one device or to many.  ``scope`` is who calls, by which route."""

    def __init__(self, *, store: IStore, dispatcher: Dispatcher, fanouts: Fanouts) -> None:
        self._dispatcher = dispatcher
        self._fanouts = fanouts
        self._keys = Keys(store)

    async def to_one(self, order: Callable[[], Order], scope: str, key: str, asked: Any) -> Job:
        """A call to one device; done when it is on record.

        ``order`` says what ``asked`` means now; it is not called for a repetition.

        :raises IdempotencyConflict: the key was used for another call.
        """
        if not key:
            return await self._dispatcher.submit(order())

        async def make(wanted: IdempotencyKey) -> Job:
            return await self._dispatcher.submit(order(), wanted)

        return await self._keys.once(key_for(scope, key, asked), make, self._job_of)

    async def to_many(
        self, order: Callable[[], FanoutOrder], scope: str, key: str, asked: Any
    ) -> FanoutView:
        """A call to many devices; as :meth:`to_one`."""
        if not key:
            return await self._fanouts.submit(order())

        async def make(wanted: IdempotencyKey) -> FanoutView:
            return await self._fanouts.submit(order(), wanted)

        return await self._keys.once(key_for(scope, key, asked), make, self._fanout_of)

    async def ended(self, job: Job) -> Job:
        """The job when it is final.

        :raises JobStillRunning: it takes longer than it may, and goes on.
        """
        asked_ms = self._dispatcher.asked_ms(job.call.job_id)
        job = await self._dispatcher.wait(job, patience_ms(job.call) + asked_ms)
        if not job.final:
            raise JobStillRunning(short_id(job.call.job_id), job.state.value)
        return job

    async def _job_of(self, use: KeyUse) -> Job:
        assert use.job_id is not None, "the route is part of the scope"
        return await self._dispatcher.job(use.job_id)

    async def _fanout_of(self, use: KeyUse) -> FanoutView:
        assert use.fanout_id is not None, "the route is part of the scope"
        return await self._fanouts.view(use.fanout_id)
