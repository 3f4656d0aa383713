"""The calls of paired clients over gRPC: one job, many jobs on a stream, a job to follow, a cancel.

A stream belongs to the certificate it was opened with: the desk closes it when that is no longer
trusted.  A caller that goes away leaves its jobs running.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import grpc
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.core.frames import Wanted
from palyra.core.jobs import Job
from palyra.errors import Category, PalyraError
from palyra.transport.asyncbridge import as_future
from palyra.transport.grpcgate import LAST_WRITE_S, Context, abort, admit, answered
from palyra.transport.interfaces import ICallStream, IJobFollowing, INodeDesk, Peer
from palyra.wire import calls as wire
from palyra.wire.service import NodeServiceServicer, messages

MAX_UNANSWERED = 1_024
"""Requests of one SubmitJobs stream without their last answer; with more it is not read."""
MAX_UNANSWERED_BYTES = 64 * 1024 * 1024
"""The same in bytes: the inputs, and the largest outputs they may have."""
USUAL_OUTPUT = 64 * 1024
"""How large an output is taken to be where the request does not limit it."""
FULL_MESSAGE = 512 * 1024
"""Bytes of output with which a message is full: the last may be 3 MiB, below 4 MiB in all."""
_NO_LONGER_TRUSTED = (Category.FORBIDDEN, Category.UNAUTHENTICATED)


class CallsServicer(NodeServiceServicer):
    """What paired clients call; every call and every stream passes the trust gate first."""

    def __init__(self, desk: INodeDesk) -> None:
        self._desk = desk

    async def ExecuteCapability(
        self, request: messages.ExecuteCapabilityRequest, context: Context
    ) -> messages.ExecuteCapabilityResponse:
        try:
            peer = admit(self._desk, context, None)
            running = self._desk.run(peer, wire.read_call(request))
            try:
                job = await as_future(running)
            except asyncio.CancelledError:
                running.cancel()  # nobody waits any more; the job goes on
                raise
            admit(self._desk, context, None)  # a job takes long enough to be revoked meanwhile
            return wire.write_executed(job)
        except PalyraError as error:
            await abort(context, error)
            raise AssertionError("abort raises") from error

    async def SubmitJobs(
        self, request_iterator: AsyncIterator[messages.SubmitJobRequest], context: Context
    ) -> None:
        async def serve() -> None:
            peer = admit(self._desk, context, None)
            await _Submissions(self._desk, peer, context).serve()

        await answered(context, serve())

    async def FollowJob(self, request: messages.FollowJobRequest, context: Context) -> None:
        async def serve() -> None:
            peer = admit(self._desk, context, None)
            await _Following(self._desk, peer, context).serve(wire.read_job_id(request))

        await answered(context, serve())

    async def CancelJob(
        self, request: messages.CancelJobRequest, context: Context
    ) -> messages.CancelJobResponse:
        async def cancel() -> messages.CancelJobResponse:
            peer = admit(self._desk, context, None)
            job = await as_future(self._desk.cancel(peer, wire.read_job_id(request)))
            return wire.write_cancelled(job)

        return await answered(context, cancel())


@implementer(ICallStream)
class _CallStream:
    """A stream that one task writes, until it is done or the desk closes the stream."""

    def __init__(self, desk: INodeDesk, peer: Peer, context: Context) -> None:
        self._desk = desk
        self._peer = peer
        self._context = context
        self._error: PalyraError | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted = asyncio.Event()

    def close(self, error: PalyraError) -> None:
        if self._error is None:
            self._error = error
            if not self._closed.done():
                self._closed.set_result(None)
            self._wanted.set()

    async def _carry(self, writing: Coroutine[Any, Any, None]) -> None:
        """Run the writer to its end.  A stream that is closed ends with its error, and soon: a
        caller that does not read may not hold it open."""
        writer = asyncio.ensure_future(writing)
        try:
            self._desk.opened(self._peer, self)
            await asyncio.wait((writer, self._closed), return_when=asyncio.FIRST_COMPLETED)
            if self._error is not None and not writer.done():
                # Not in the middle of a message, if that can be: after that gRPC sends the caller
                # no status at all.
                await asyncio.wait((writer,), timeout=LAST_WRITE_S)
            if writer.done():
                with contextlib.suppress(grpc.aio.BaseError):  # a write to a caller that is gone
                    writer.result()
            if self._error is not None:
                raise self._error
        finally:
            self._desk.closed(self._peer, self)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)


class _Submissions(_CallStream):
    """One SubmitJobs stream.  Its answers gather in the order in which they come to be; there is a
    reader and a writer, and no task for a job."""

    _log = Logger()

    def __init__(self, desk: INodeDesk, peer: Peer, context: Context) -> None:
        super().__init__(desk, peer, context)
        self._running: dict[Deferred[Job], int] = {}  # and the bytes that are reserved for each
        self._answers: deque[tuple[messages.SubmitJobResponse, int]] = deque()
        self._unanswered = 0
        self._reserved = 0
        self._room = asyncio.Event()
        self._read_all = False
        self._at_once = 1

    async def serve(self) -> None:
        reader = asyncio.ensure_future(self._read())
        try:
            await self._carry(self._write())
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            running, self._running = self._running, {}
            for deferred in running:
                deferred.cancel()  # nobody waits any more; the jobs go on

    def close(self, error: PalyraError) -> None:
        if self._error is None:
            if error.category in _NO_LONGER_TRUSTED:
                self._answers.clear()
            self._answers.append((wire.write_refusal(0, error), 0))
            super().close(error)

    # -- requests -------------------------------------------------------------------------------

    async def _read(self) -> None:
        read = self._context.read
        try:
            while (message := await read()) is not grpc.aio.EOF:
                for request in wire.read_many(message):
                    self._submit(request)
                if message.takes_more:
                    self._at_once = wire.MAX_IN_MESSAGE
                while self._unanswered >= MAX_UNANSWERED or self._reserved >= MAX_UNANSWERED_BYTES:
                    self._room.clear()
                    await self._room.wait()
        except PalyraError as error:
            self.close(error)
        except grpc.aio.BaseError:
            pass  # the call is over, and its handler is told so
        finally:
            self._read_all = True
            self._wanted.set()

    def _submit(self, request: messages.SubmitJobRequest) -> None:
        """Hand one request to the desk; what is wrong with it is its answer."""
        tag = request.tag
        self._unanswered += 1
        try:
            wanted = wire.read_submitted(request)
            accepted = partial(self._accepted, tag) if request.report_accepted else None
            running = self._desk.run(self._peer, wanted, accepted)
        except PalyraError as error:
            self._answer(wire.write_refusal(tag, error), 0)
            return
        size = _weight(wanted)
        self._reserved += size
        self._running[running] = size
        given = (tag, running)
        running.addCallbacks(self._ended, self._failed, callbackArgs=given, errbackArgs=given)

    # -- answers --------------------------------------------------------------------------------

    def _accepted(self, tag: int, job: Job) -> None:
        if self._error is None:
            self._answers.append((wire.write_answer(tag, job, final=False), 0))
            self._wanted.set()

    def _ended(self, job: Job, tag: int, running: Deferred[Job]) -> None:
        size = self._running.pop(running, None)
        if size is not None:
            self._answer(wire.write_answer(tag, job, final=True), size)

    def _failed(self, failure: Failure, tag: int, running: Deferred[Job]) -> None:
        size = self._running.pop(running, None)
        if size is None:
            return  # the stream has ended: nobody is to be told
        error = failure.value
        if not isinstance(error, PalyraError):
            self._log.failure("a submitted job failed", failure)
            error = PalyraError()
        self._answer(wire.write_refusal(tag, error), size)

    def _answer(self, message: messages.SubmitJobResponse, size: int) -> None:
        if self._error is None:
            self._answers.append((message, size))
            self._wanted.set()

    async def _write(self) -> None:
        """Write what gathers: one wake-up, and where the caller takes that one message, for all
        of it."""
        while True:
            while self._answers:
                await self._write_some()
            if self._error is not None or (self._read_all and not self._unanswered):
                return
            self._wanted.clear()
            await self._wanted.wait()

    async def _write_some(self) -> None:
        message, weight, size, answered = None, 0, 0, 0
        for _ in range(min(self._at_once, len(self._answers))):
            each, reserved = self._answers.popleft()
            if message is None:
                message = each
            else:
                message.more.append(each)
            weight += reserved
            answered += each.final
            size += len(each.result.output_json)
            if size >= FULL_MESSAGE:
                break
        await self._context.write(message)
        self._unanswered -= answered
        self._reserved -= weight
        self._room.set()


def _weight(wanted: Wanted) -> int:
    """The bytes that a request may keep here until it is answered."""
    return len(wanted.input_json) + (wanted.max_payload_bytes or USUAL_OUTPUT)


class _Following(_CallStream):
    """One FollowJob stream: the job's newest state as often as the caller can take it."""

    def __init__(self, desk: INodeDesk, peer: Peer, context: Context) -> None:
        super().__init__(desk, peer, context)
        self._following: IJobFollowing | None = None
        self._over = False

    async def serve(self, job_id: str) -> None:
        try:
            await self._carry(self._follow(job_id))
        finally:
            self._over = True
            if self._following is not None:
                self._following.close()

    async def _follow(self, job_id: str) -> None:
        beginning = self._desk.follow(self._peer, job_id, self._wanted.set)
        following = await as_future(beginning.addCallback(self._begun))
        while self._error is None:
            self._wanted.clear()
            for update in following.take():
                await self._context.write(wire.write_update(update))
            if following.finished:
                return
            await self._wanted.wait()

    def _begun(self, following: IJobFollowing) -> IJobFollowing:
        if self._over:
            following.close()  # its caller went away meanwhile
        else:
            self._following = following
        return following
