"""What the two gRPC listeners serve: pairing to anybody, everything else to paired clients.

A servicer only reads, asks its desk and writes: every rule is behind the desk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from twisted.logger import Logger
from zope.interface import implementer

from palyra.core.identifiers import Entropy, new_ulid
from palyra.errors import NotRegistered, PalyraError
from palyra.transport.asyncbridge import Tasks, as_future
from palyra.transport.grpccalls import CallsServicer
from palyra.transport.grpcgate import LAST_WRITE_S, Context, address, admit, answered
from palyra.transport.interfaces import ICarrier, IEnrolmentDesk, IGatewaySession, INodeDesk
from palyra.wire import pairing as pairing_wire
from palyra.wire import registration
from palyra.wire import session as session_wire
from palyra.wire.checks import check_version
from palyra.wire.service import (
    NodeServiceServicer,
    messages,
)

FIRST_WORD_S = 10.0
"""How long a node may take to say its first word on a stream."""


class EnrolmentServicer(NodeServiceServicer):
    """Pairing calls, and nothing else: every other call is UNIMPLEMENTED here."""

    def __init__(self, desk: IEnrolmentDesk) -> None:
        self._desk = desk

    async def BeginPairingSession(
        self, request: messages.BeginPairingSessionRequest, context: Context
    ) -> messages.BeginPairingSessionResponse:
        async def begin() -> messages.BeginPairingSessionResponse:
            message = pairing_wire.read_begin(request)
            opened = await as_future(self._desk.begin(message, address(context)))
            return pairing_wire.write_opened(opened)

        return await answered(context, begin())

    async def CompletePairingSession(
        self, request: messages.CompletePairingSessionRequest, context: Context
    ) -> messages.CompletePairingSessionResponse:
        async def complete() -> messages.CompletePairingSessionResponse:
            proof = pairing_wire.read_complete(request)
            completed = await as_future(self._desk.complete(proof, address(context)))
            return pairing_wire.write_completed(completed)

        return await answered(context, complete())

    async def GetPairingRequestStatus(
        self, request: messages.GetPairingRequestStatusRequest, context: Context
    ) -> messages.GetPairingRequestStatusResponse:
        async def status() -> messages.GetPairingRequestStatusResponse:
            question = pairing_wire.read_status_question(request)
            answer = await as_future(self._desk.status(question, address(context)))
            return pairing_wire.write_status_answer(answer)

        return await answered(context, status())


class NodeServicer(CallsServicer):
    """Calls of paired clients; every one passes the trust gate first."""

    def __init__(self, desk: INodeDesk, entropy: Entropy, now_ms: Callable[[], int]) -> None:
        super().__init__(desk)
        self._entropy = entropy
        self._now_ms = now_ms

    async def RegisterNode(
        self, request: messages.RegisterNodeRequest, context: Context
    ) -> messages.RegisterNodeResponse:
        async def register() -> messages.RegisterNodeResponse:
            hello = registration.read_hello(request)
            peer = admit(self._desk, context, hello.device_id)
            return registration.write_welcome(await as_future(self._desk.register(peer, hello)))

        return await answered(context, register())

    async def StreamNodeEvents(
        self, request_iterator: AsyncIterator[messages.NodeEventRequest], context: Context
    ) -> None:
        async def serve() -> None:
            admit(self._desk, context, None)  # before anything is waited for
            try:
                first = await asyncio.wait_for(anext(request_iterator, None), FIRST_WORD_S)
            except TimeoutError as error:
                raise NotRegistered() from error
            if first is None:
                return
            peer = admit(self._desk, context, first.device_id.ulid)
            carrier = _StreamCarrier(context, self._entropy, self._now_ms)
            event = session_wire.read_event(first)
            await carrier.serve(self._desk.attach(peer, event, carrier), request_iterator)

        await answered(context, serve())

    async def RotateDeviceCertificate(
        self, request: messages.RotateDeviceCertificateRequest, context: Context
    ) -> messages.RotateDeviceCertificateResponse:
        async def rotate() -> messages.RotateDeviceCertificateResponse:
            asked = pairing_wire.read_renewal(request)
            peer = admit(self._desk, context, asked.device_id)
            return pairing_wire.write_renewed(await as_future(self._desk.renew(peer, asked)))

        return await answered(context, rotate())

    async def RevokeDevicePairing(
        self, request: messages.RevokeDevicePairingRequest, context: Context
    ) -> messages.RevokeDevicePairingResponse:
        async def revoke() -> messages.RevokeDevicePairingResponse:
            check_version(request.v)
            peer = admit(self._desk, context, request.device_id.ulid)
            await as_future(self._desk.revoke_self(peer, request.reason))
            return messages.RevokeDevicePairingResponse(v=1, revoked=True)

        return await answered(context, revoke())


@implementer(ICarrier)
class _StreamCarrier:
    """One StreamNodeEvents call.  Writing waits for the client's flow control; what gathers
    meanwhile goes out as one message."""

    _log = Logger()

    def __init__(self, context: Context, entropy: Entropy, now_ms: Callable[[], int]) -> None:
        self._context = context
        self._entropy = entropy
        self._now_ms = now_ms
        self._wanted = asyncio.Event()
        self._written = asyncio.Event()
        self._closing: asyncio.Future[PalyraError | None] = (
            asyncio.get_running_loop().create_future()
        )

    def wake(self) -> None:
        self._wanted.set()

    def close(self, error: PalyraError | None) -> None:
        if not self._closing.done():
            self._closing.set_result(error)
            self._wanted.set()

    async def serve(
        self,
        session: IGatewaySession,
        requests: AsyncIterator[messages.NodeEventRequest],
    ) -> None:
        """Carry the session until either side ends it."""
        tasks = Tasks("node stream")
        reader = asyncio.ensure_future(self._read(session, requests))
        tasks.start(self._write(session))
        reason = "closed by the gateway"
        try:
            waited: set[asyncio.Future[Any]] = {reader, self._closing}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                reason = "closed by the node"
                reader.result()
            else:
                # The writer first, or it could write into a call that is being aborted; and not
                # in the middle of a message: after that gRPC sends the node no status at all.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._written.wait(), LAST_WRITE_S)
                await tasks.stop()
                error = self._closing.result()
                if error is not None:
                    raise error
        except (grpc.aio.BaseError, asyncio.CancelledError):
            reason = "connection lost"
            raise
        finally:
            # First of all: a write into a connection that is gone may be long in ending.
            session.ended(reason)
            reader.cancel()
            await tasks.stop()

    async def _read(
        self,
        session: IGatewaySession,
        requests: AsyncIterator[messages.NodeEventRequest],
    ) -> None:
        async for message in requests:
            session.received(session_wire.read_event(message))

    def _new_event_id(self) -> str:
        return new_ulid(self._now_ms(), self._entropy)

    async def _write(self, session: IGatewaySession) -> None:
        try:
            while not self._closing.done():
                await self._wanted.wait()
                self._wanted.clear()
                await self._write_frame(session)
        except grpc.aio.BaseError:
            pass  # the connection is gone; the reader is told why
        finally:
            self._written.set()

    async def _write_frame(self, session: IGatewaySession) -> None:
        frame = session.take_frame()
        if frame is not None:
            if session.extended:
                await self._context.write(
                    session_wire.write_frame(frame, self._new_event_id(), self._now_ms())
                )
            else:
                for message in session_wire.write_published_frames(frame, self._new_event_id):
                    await self._context.write(message)
