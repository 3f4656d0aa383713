"""One call of a tool as a job: submitted once, followed to its end, cancelled with the call."""

from __future__ import annotations

import logging
from typing import Protocol
from urllib.parse import quote
from uuid import uuid4

import anyio
import anyio.lowlevel
import attrs
import msgspec

from palyra.console.models import CancelJob, Invoke, InvokeAnswer, JobAnswer, JobEvent, JobItem
from palyra.core.callapprovals import APPROVAL
from palyra.core.devices import clean_text
from palyra.core.jobs import FINAL, JobState
from palyra.errors import PalyraError
from palyra.mcp.gatewayclient import GatewayClient, passes

FIRST_WAIT_MS = 300
"""How long the first answer may take: from then on the job's id is known."""
PATIENCE_S = 45.0
"""How long a client that asks for no progress is kept waiting: most give up after 60 s."""
CANCEL_S = 5.0
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Before a stream that broke is opened again: a restart takes a few seconds."""
CANCELLED = "the AI client cancelled its call"
_FINAL = frozenset(state.value for state in FINAL)
_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Where a client hears how far a job is."""

    @property
    def wanted(self) -> bool:
        """Whether the client asked for it."""

    async def tell(self, fraction: float | None, text: str) -> None:
        """Something happened; ``fraction`` is 0 to 1 where it is known."""


@attrs.frozen
class Asked:
    """What is to be run, where, and for how long at most."""

    target: str
    capability: str
    input_json: bytes
    timeout_ms: int | None = None

    def body(self) -> Invoke:
        """The request, with a key by which it runs once however often it is sent."""
        return Invoke(
            capability=self.capability,
            input_json=msgspec.Raw(self.input_json),
            timeout_ms=self.timeout_ms,
            wait_ms=FIRST_WAIT_MS,
            idempotency_key=f"mcp-{uuid4().hex}",
        )


@attrs.define
class CallInterrupted(Exception):
    """The job was accepted, and then the gateway was lost or refused to tell more."""

    job_id: str
    cause: PalyraError


class Calls:
    """Runs capabilities for clients."""

    def __init__(self, gateway: GatewayClient, *, patience_s: float = PATIENCE_S) -> None:
        self._gateway = gateway
        self._patience_s = patience_s

    async def run(self, asked: Asked, progress: Progress) -> JobAnswer:
        """The job when it has ended, waits for approval, or the client should not wait longer.

        Cancelled, it asks for the end of the job.

        :raises PalyraError: it was not accepted; :class:`CallInterrupted`: lost after that.
        """
        path = f"nodes/{quote(asked.target, safe='')}/invoke"
        # Unbroken: once the request is out a job may exist, and only the answer says which.
        with anyio.CancelScope(shield=True):
            first = await self._gateway.post_again(path, asked.body(), InvokeAnswer, FIRST_WAIT_MS)
        try:
            await anyio.lowlevel.checkpoint()
            if first.state not in _FINAL and first.waiting_for != APPROVAL:
                await self._wait(first.job_id, progress)
            return await self.job(first.job_id)
        except anyio.get_cancelled_exc_class():
            await self._cancelled(first.job_id)
            raise
        except PalyraError as error:
            raise CallInterrupted(first.job_id, error) from error

    async def job(self, job_id: str, wait_ms: int = 0) -> JobAnswer:
        """A job as it is, or as it is after ``wait_ms`` at most."""
        return await self._gateway.get(f"jobs/{quote(job_id, safe='')}", JobAnswer, wait_ms)

    async def cancel(self, job_id: str, reason: str = CANCELLED) -> JobAnswer:
        """Ask for the end of a job; to ask again asks for nothing more."""
        path = f"jobs/{quote(job_id, safe='')}/cancel"
        return await self._gateway.post_again(path, CancelJob(reason), JobAnswer)

    async def _cancelled(self, job_id: str) -> None:
        """Nobody waits for it any more."""
        with anyio.move_on_after(CANCEL_S, shield=True):
            try:
                await self.cancel(job_id)
            except PalyraError as error:
                _log.warning("job %s was not cancelled: %s", job_id, clean_text(str(error), 300))

    async def _wait(self, job_id: str, progress: Progress) -> None:
        watch = _Watch(progress)
        with anyio.move_on_after(None if progress.wanted else self._patience_s):
            tries = 0
            while not watch.over:
                told = watch.told
                try:
                    await self._gateway.follow(f"jobs/{job_id}/events", JobEvent, watch.learn)
                    return
                except PalyraError as error:
                    tries = tries if watch.told == told else 0
                    if not passes(error) or tries == len(PAUSES_S):
                        raise
                await anyio.sleep(PAUSES_S[tries])
                tries += 1


@attrs.define
class _Watch:
    """What is heard of a job."""

    progress: Progress
    told: int = 0
    over: bool = False

    async def learn(self, event: JobEvent) -> bool:
        """Tell the client; whether the waiting is over."""
        self.told += 1
        job = event.job
        self.over = event.kind == "end" or (job is not None and _rests(job))
        if job is not None and not self.over:
            await self.progress.tell(event.progress, _said(job, event.progress_text))
        return self.over


def _rests(job: JobItem) -> bool:
    """Whether waiting in a call makes no sense: it ended, or a person decides in the console."""
    return job.state in _FINAL or job.waiting_for == APPROVAL


def _said(job: JobItem, text: str) -> str:
    """How far it is, in words; ``text`` is the device's."""
    if job.state == JobState.AWAITING.value:
        return "The person at the device is asked."
    if text:
        return clean_text(text, 200)
    return "It runs." if job.state == JobState.DISPATCHED.value else "It waits for the device."
