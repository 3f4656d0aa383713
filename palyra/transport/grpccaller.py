"""A gateway as a program uses it that was paired as ``cli`` or ``desktop``: run jobs, follow them,
cancel them.  Plain asyncio; it needs no reactor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from palyra.config.addresses import HostPort
from palyra.core.frames import Wanted
from palyra.core.jobs import JobState
from palyra.errors import DeviceRevoked, RemoteRefusal, TookTooLong
from palyra.transport.grpcclient import CALL_TIMEOUT_S, open_channel, through
from palyra.transport.proxy import Proxy, proxy_from
from palyra.wire import calls as wire
from palyra.wire.calls import Answer, Executed, Followed, Refused, Submission
from palyra.wire.service import NodeServiceStub

FULL_MESSAGE = 512 * 1024
"""Bytes of input with which a message is full: the last may be 3 MiB, below 4 MiB in all."""


class Caller:
    """Calls over one connection, verified under ``ca_pem`` alone.

    ``identity`` is the key and the certificate chain (PEM) that the device's pairing left.  What
    the gateway refuses is raised as :class:`palyra.errors.RemoteRefusal`, a gateway that does not
    answer as :class:`palyra.errors.GatewayUnreachable`.  Where the environment names an HTTP proxy,
    as gRPC reads it, the connection goes through that.
    """

    def __init__(self, address: HostPort, ca_pem: bytes, identity: tuple[bytes, bytes]) -> None:
        self.address = address
        self._ca_pem = ca_pem
        self._identity = identity
        self._proxy: Proxy | None = None
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, if there is one; open calls end, their jobs go on."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)

    async def execute(self, wanted: Wanted, timeout_s: float | None = None) -> Executed:
        """Run one job and wait for its end, however it ended.

        :raises palyra.errors.TookTooLong: ``timeout_s`` was over first; the job goes on.
        """
        call = self._stub().ExecuteCapability(wire.write_call(wanted))
        with self._translated():
            try:
                return wire.read_executed(await asyncio.wait_for(call, timeout_s))
            except TimeoutError as error:
                what = f"{wanted.capability} did not end"
                raise TookTooLong(what, timeout_s or 0, "palyra jobs list") from error

    async def submit_many(self, submissions: AsyncIterable[Submission]) -> AsyncIterator[Answer]:
        """Submit jobs on one stream: their answers as they come, until each has its last.

        A refused job is an answer; only the end of the whole stream is raised.  The gateway reads
        no further while 1 024 jobs are unanswered, and then ``submissions`` is not asked either.
        """
        with self._translated():
            stream = self._stub().SubmitJobs()
            submitting = asyncio.ensure_future(_Submitting(stream, submissions).run())
            try:
                async for message in stream:
                    for answer in wire.read_answers(message):
                        if answer.tag:
                            yield answer
                await submitting
            except asyncio.CancelledError:
                _raise_own(submitting)
                raise
            finally:
                submitting.cancel()
                stream.cancel()
                await asyncio.gather(submitting, return_exceptions=True)

    async def follow(self, job_id: str) -> AsyncIterator[Followed]:
        """What becomes of a job, beginning with its state now and ending with its last."""
        with self._translated():
            stream = self._stub().FollowJob(wire.write_follow(job_id))
            try:
                async for message in stream:
                    yield wire.read_update(message)
            finally:
                stream.cancel()

    async def cancel(self, job_id: str) -> JobState:
        """Ask for the end of a job; gives its state now.  What runs ends when its node says so."""
        with self._translated():
            call = self._stub().CancelJob(wire.write_cancel(job_id), timeout=CALL_TIMEOUT_S)
            return wire.read_cancelled(await call)

    def _stub(self) -> Any:
        if self._channel is None:
            self._proxy = proxy_from(os.environ, self.address)
            self._channel = open_channel(self.address, self._ca_pem, self._identity, self._proxy)
        return NodeServiceStub(self._channel)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise through(self._proxy, error, self.address) from error


def refusal(refused: Refused) -> RemoteRefusal:
    """A refused job of ``submit_many`` as the error that ``execute`` would have raised."""
    error = RemoteRefusal(refused.code, refused.sentence, refused.hint, job_id=refused.job_id)
    error.final = refused.code == DeviceRevoked.code
    if refused.retry_after_ms:
        error.transient = True
        error.retry_after_s = refused.retry_after_ms / 1000
    return error


class _Submitting:
    """The requests of one stream: those that come while one message is written go as the next."""

    def __init__(self, stream: Any, submissions: AsyncIterable[Submission]) -> None:
        self._stream = stream
        self._submissions = submissions
        self._gathered: list[Submission] = []
        self._size = 0
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        """All were asked for, or the stream has ended: nothing more is to be gathered."""

    async def run(self) -> None:
        """Fails with what the caller's own iterator raises; then the stream is cancelled."""
        writing = asyncio.ensure_future(self._write())
        try:
            async for submission in self._submissions:
                if not await self._gather(submission):
                    break
            self._over = True
            self._wanted.set()
            await writing
        except Exception:
            self._stream.cancel()  # what is submitted cannot be told: neither can its answers
            raise
        finally:
            writing.cancel()

    async def _gather(self, submission: Submission) -> bool:
        """Keep one until it can be written; whether there is a stream to write to."""
        while not self._over and (
            len(self._gathered) >= wire.MAX_IN_MESSAGE or self._size >= FULL_MESSAGE
        ):
            self._room.clear()
            await self._room.wait()
        self._gathered.append(submission)
        self._size += len(submission.wanted.input_json)
        self._wanted.set()
        return not self._over

    async def _write(self) -> None:
        try:
            while not (self._over and not self._gathered):
                self._wanted.clear()
                if self._gathered:
                    batch, self._gathered, self._size = self._gathered, [], 0
                    self._room.set()
                    await self._stream.write(wire.write_submissions(batch))
                else:
                    await self._wanted.wait()
            await self._stream.done_writing()
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            self._over = True  # the stream is; whoever reads the answers is told why
            self._room.set()


def _raise_own(submitting: asyncio.Future[None]) -> None:
    """Raise what went wrong in the caller's own iterator, if that is what ended the stream."""
    if submitting.done() and not submitting.cancelled():
        error = submitting.exception()
        if error is not None:
            raise error
