"""QUIC as a device uses it: registration and session on one stream, renewals and questions beside.

The messages are those of gRPC, one a frame (CONTRACT: QUIC); a refusal is a JSON frame, or the
reason for which the connection is closed, and becomes the same error as over gRPC.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.python.failure import Failure

from palyra.config.addresses import HostPort
from palyra.core.frames import Hello, Welcome
from palyra.core.identifiers import DeviceId
from palyra.errors import Cut, Malformed, NotRegistered, Unreached
from palyra.transport import quicframes as frames
from palyra.transport.asyncbridge import call_soon
from palyra.transport.chain import TLS_NAME
from palyra.transport.interfaces import ICarrier
from palyra.transport.quicconnection import HANDSHAKE_S, Address, configuration
from palyra.transport.quicdialing import Race, resolve, unreachable
from palyra.transport.quicpath import ClientConnection
from palyra.transport.quicstreams import CarriedSession, Outgoing
from palyra.transport.quictrust import GatewayTrust
from palyra.wire import pairing as pairing_wire
from palyra.wire import registration
from palyra.wire.service import messages

CALL_TIMEOUT_S = 15.0

T = TypeVar("T")


class QuicChannel:
    """A connection to the QUIC listener of a gateway, verified under ``ca_pem`` (one CA or more)
    alone, as the device of ``identity`` (key and certificate chain, PEM).

    It is made by the first call; once it is over, every call fails with what ended it.
    """

    def __init__(
        self,
        reactor: Any,
        address: HostPort,
        ca_pem: bytes,
        identity: tuple[bytes, bytes],
        *,
        pin: bytes | None = None,
        handshake_timeout_s: float = HANDSHAKE_S,
        elapsed_s: Callable[[], float] = time.monotonic,
        soon: Callable[[Callable[[], object]], object] = call_soon,
    ) -> None:
        """``pin``: SHA-256 of the DER of the gateway's certificate, or of the CA that signed it.

        The reactor's ``seconds()`` is the time of day; ``soon`` runs something in its next turn.
        """
        self.address = address
        self._reactor = reactor
        self._trust = GatewayTrust(ca_pem, pin)
        self._identity = identity
        self._handshake_s = handshake_timeout_s
        self._elapsed_s = elapsed_s
        self._soon = soon
        self._dialling: Deferred[None] | None = None
        self._race: Race[ClientConnection] | None = None
        self._tried: list[ClientConnection] = []
        self._connection: ClientConnection | None = None
        self._error: BaseException | None = None
        self._waiting: list[Deferred[ClientConnection]] = []
        self._registered: Outgoing | None = None

    # -- calls ----------------------------------------------------------------------------------

    def connect(self) -> Deferred[None]:
        """Connect, and wait until the gateway has let this device in, by an answer of
        :meth:`health`; fails with its refusal.  Cancelling ends the wait."""
        return self.health().addCallback(lambda _: None)

    def register(self, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode, on the stream that the session will have."""

        async def call() -> Welcome:
            request = registration.write_hello(hello).SerializeToString()
            stream = await self._ask(frames.SESSION, request, end=False)
            self._leave_registration()
            self._registered = stream
            answer = _read(messages.RegisterNodeResponse, await stream.answer())
            return registration.read_welcome(answer)

        return self._called(call())

    def renew(self, asked: pairing_wire.RenewalAsked) -> Deferred[pairing_wire.Renewed]:
        """RotateDeviceCertificate, beside the session on this connection."""

        async def call() -> pairing_wire.Renewed:
            request = pairing_wire.write_renewal(asked).SerializeToString()
            stream = await self._ask(frames.ROTATE, request)
            answer = _read(messages.RotateDeviceCertificateResponse, await stream.answer())
            return pairing_wire.read_renewed(answer)

        return self._called(call())

    def revoke(self, device_id: DeviceId, reason: str) -> Deferred[None]:
        """RevokeDevicePairing: this device takes its own trust away, and is removed."""

        async def call() -> None:
            request = pairing_wire.write_leaving(device_id, reason).SerializeToString()
            stream = await self._ask(frames.REVOKE, request)
            answer = _read(messages.RevokeDevicePairingResponse, await stream.answer())
            pairing_wire.read_left(answer)

        return self._called(call())

    def health(self) -> Deferred[frames.Health]:
        """node.health."""

        async def call() -> frames.Health:
            stream = await self._ask(frames.HEALTH)
            answer = frames.read_answer(await stream.answer())
            if not isinstance(answer, frames.Health):
                raise Malformed("answer.kind", "must be health")
            return answer

        return self._called(call())

    # -- streams --------------------------------------------------------------------------------

    def stream(self, make_session: Callable[[ICarrier], Any], device_id: str) -> Deferred[None]:
        """Carry a session (``INodeSession``) until either side ends it, after :meth:`register`.

        Fires when the gateway ended it normally, fails with PalyraError otherwise; cancelling it
        ends the stream.
        """
        stream, self._registered = self._registered, None
        if stream is None:
            return fail(NotRegistered())
        return CarriedSession(stream, device_id).carry(make_session)

    def events(
        self, resume_from: int | None, received: Callable[[frames.Event | frames.Gap], object]
    ) -> Deferred[None]:
        """node.stream_events: this device's journal after the event ``resume_from`` (None: all that
        is kept), then what comes.  Each goes to ``received``.

        Fires when the gateway ended it normally, fails with PalyraError otherwise; cancelling it
        ends the stream.
        """

        def take(frame: bytes) -> None:
            answer = frames.read_answer(frame)
            if not isinstance(answer, (frames.Event, frames.Gap)):
                raise Malformed("answer.kind", "must be event or gap")
            received(answer)

        async def call() -> None:
            stream = await self._ask(frames.EVENTS, resume_from=resume_from)
            await stream.follow(take)

        return Deferred.fromCoroutine(call())

    def close(self) -> Deferred[None]:
        """Close the connection, if there is one, after what was said has been sent."""
        if self._error is None:
            self._error = unreachable(self.address, Cut.CLOSED_OFF)
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        self._tell_waiting(self._error)
        connection, self._connection = self._connection, None
        return Deferred.fromCoroutine(self._close(connection))

    async def _close(self, connection: ClientConnection | None) -> None:
        if connection is not None:
            await connection.close()
        for each in self._tried:
            await each.closed

    # -- the connection -------------------------------------------------------------------------

    async def _ask(
        self, method: str, message: bytes = b"", *, end: bool = True, resume_from: int | None = None
    ) -> Outgoing:
        """A stream on which that was asked for."""
        connection = await self._connected()
        said = frames.write_request(method, resume_from)
        if message:
            said += frames.encode_frame(message)
        return Outgoing(connection, self._reactor, self.address, said, end=end)

    def _connected(self) -> Deferred[ClientConnection]:
        if self._error is not None:
            return fail(self._error)
        if self._connection is not None:
            return succeed(self._connection)
        waiting: Deferred[ClientConnection] = Deferred(self._waits_no_more)
        self._waiting.append(waiting)
        if self._dialling is None:
            self._dialling = Deferred.fromCoroutine(self._dial())
            self._dialling.addErrback(self._not_connected)
        return waiting

    async def _dial(self) -> None:
        patience = self._reactor.callLater(self._handshake_s, self._too_long)
        try:
            addresses = await resolve(self._reactor, self.address)
            self._race = Race(self._reactor, addresses, self._attempt)
            self._connection = await self._race.run()
        finally:
            if patience.active():
                patience.cancel()
        while self._waiting:
            self._waiting.pop(0).callback(self._connection)

    def _too_long(self) -> None:
        telling = self._race.telling if self._race is not None else None
        silent = unreachable(self.address, Unreached.NO_ANSWER)
        self._error = silent if telling is None else telling.value
        if self._dialling is not None:
            self._dialling.cancel()

    def _not_connected(self, failure: Failure) -> None:
        error = self._error or failure.value
        assert error is not None, "a failure has an exception"
        self._error = error
        self._tell_waiting(error)

    def _tell_waiting(self, error: BaseException) -> None:
        while self._waiting:
            self._waiting.pop(0).errback(error)

    def _waits_no_more(self, waiting: Deferred[ClientConnection]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _attempt(self, address: Address) -> Deferred[ClientConnection]:
        key, chain = self._identity
        first, *others = x509.load_pem_x509_certificates(chain)
        connection = ClientConnection(
            reactor=self._reactor,
            elapsed_s=self._elapsed_s,
            soon=self._soon,
            configuration=configuration(
                is_client=True,
                server_name=TLS_NAME,
                verify_mode=ssl.CERT_REQUIRED,
                cadata=self._trust.ca_pem,
                certificate=first,
                certificate_chain=others,
                private_key=load_pem_private_key(key, password=None),
            ),
            trust=self._trust,
            target=self.address,
            address=address,
        )
        self._tried.append(connection)
        return connection.connect(self._handshake_s)

    def _called(self, call: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        def timed_out(failure: Failure) -> Any:
            failure.trap(TimeoutError)
            raise unreachable(self.address, Unreached.NO_ANSWER) from failure.value

        calling = Deferred.fromCoroutine(call)
        return calling.addTimeout(CALL_TIMEOUT_S, self._reactor).addErrback(timed_out)

    def _leave_registration(self) -> None:
        stream, self._registered = self._registered, None
        if stream is not None:
            stream.stop()


def _read(kind: Any, frame: bytes) -> Any:
    try:
        return kind.FromString(frame)
    except DecodeError as error:
        raise Malformed("frame", f"is no {kind.DESCRIPTOR.name}") from error
