"""gRPC as a device uses it: pairing calls, registration, and the stream of a node's session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.core.frames import STOPPING, Hello, Welcome
from palyra.core.identifiers import DeviceId
from palyra.core.transcript import DeviceProof
from palyra.errors import GatewayUnreachable, PalyraError, Unreached
from palyra.transport.asyncbridge import Tasks, as_deferred
from palyra.transport.chain import TLS_NAME
from palyra.transport.interfaces import ICarrier
from palyra.transport.proxy import Proxy, as_asked
from palyra.transport.statuses import error_of
from palyra.wire import pairing as pairing_wire
from palyra.wire import registration
from palyra.wire import session as session_wire
from palyra.wire.service import NodeServiceStub

CALL_TIMEOUT_S = 15.0
MAX_MESSAGE = 4 * 1024 * 1024
HEALTH = "/grpc.health.v1.Health/Check"
"""The question of gRPC's health checking protocol; a gateway without it answers UNIMPLEMENTED."""

T = TypeVar("T")


class GatewayChannel:
    """A connection to one listener of a gateway, verified under ``ca_pem`` (one CA or more) alone.

    With ``identity`` (key and certificate chain, PEM) it authenticates as that device.  It goes
    through ``proxy``, and through no other, whatever the environment names.
    """

    def __init__(
        self,
        address: HostPort,
        ca_pem: bytes,
        identity: tuple[bytes, bytes] | None = None,
        proxy: Proxy | None = None,
        connect_s: float | None = None,
    ) -> None:
        """``connect_s``: how long the connection that :meth:`connect` or :meth:`register` needs may
        take of their time, where something else could be tried."""
        self.address = address
        self._ca_pem = ca_pem
        self._identity = identity
        self._proxy = proxy
        self._connect_s = connect_s
        self._channel: grpc.aio.Channel | None = None

    # -- pairing ------------------------------------------------------------------------------

    def begin(self, begin: pairing_wire.Begin) -> Deferred[pairing_wire.SessionOpened]:
        """BeginPairingSession."""

        async def call() -> pairing_wire.SessionOpened:
            request = pairing_wire.write_begin(begin)
            return pairing_wire.read_opened(await self._stub().BeginPairingSession(request))

        return self._called(call)

    def complete(self, proof: DeviceProof) -> Deferred[pairing_wire.Completed]:
        """CompletePairingSession."""

        async def call() -> pairing_wire.Completed:
            request = pairing_wire.write_complete(proof)
            return pairing_wire.read_completed(await self._stub().CompletePairingSession(request))

        return self._called(call)

    def status(self, question: pairing_wire.StatusQuestion) -> Deferred[pairing_wire.StatusAnswer]:
        """GetPairingRequestStatus."""

        async def call() -> pairing_wire.StatusAnswer:
            request = pairing_wire.write_status_question(question)
            return pairing_wire.read_status_answer(
                await self._stub().GetPairingRequestStatus(request)
            )

        return self._called(call)

    # -- the node -----------------------------------------------------------------------------

    def connect(self) -> Deferred[None]:
        """Connect, and wait for an answer, whatever it says: the handshake is over by then.

        Fails with GatewayUnreachable; cancelling ends it.
        """

        async def call() -> None:
            ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            ask = self._connection().unary_unary(HEALTH)
            await self._connected()
            try:
                await ask(b"")
            except grpc.aio.AioRpcError as error:
                if isinstance(error_of(error, str(self.address)), GatewayUnreachable):
                    raise

        return self._called(call)

    def register(self, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode."""

        async def call() -> Welcome:
            request = registration.write_hello(hello)
            await self._connected()
            return registration.read_welcome(await self._stub().RegisterNode(request))

        return self._called(call)

    def renew(self, asked: pairing_wire.RenewalAsked) -> Deferred[pairing_wire.Renewed]:
        """RotateDeviceCertificate, beside the session on this connection."""

        async def call() -> pairing_wire.Renewed:
            request = pairing_wire.write_renewal(asked)
            return pairing_wire.read_renewed(await self._stub().RotateDeviceCertificate(request))

        return self._called(call)

    def revoke(self, device_id: DeviceId, reason: str) -> Deferred[None]:
        """RevokeDevicePairing: this device takes its own trust away, and is removed."""

        async def call() -> None:
            request = pairing_wire.write_leaving(device_id, reason)
            pairing_wire.read_left(await self._stub().RevokeDevicePairing(request))

        return self._called(call)

    def stream(self, make_session: Callable[[ICarrier], Any], device_id: str) -> Deferred[None]:
        """Carry a session (``INodeSession``) until either side ends it.

        Fires when the gateway ended it normally, fails with PalyraError otherwise; cancelling it
        ends the stream.
        """

        async def call() -> None:
            await _Stream(self._stub().StreamNodeEvents(), device_id).serve(make_session)

        return self._called(call, timeout_s=None)

    def close(self) -> Deferred[None]:
        """Close the connection, if there is one."""
        channel, self._channel = self._channel, None
        return as_deferred(_close(channel))

    def _stub(self) -> Any:
        return NodeServiceStub(self._connection())

    def _connection(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_channel(self.address, self._ca_pem, self._identity, self._proxy)
        return self._channel

    async def _connected(self) -> None:
        """Wait for the connection, or until it has failed: the call that follows is told why.

        :raises TimeoutError: it took too long.
        """
        if self._connect_s is None:
            return
        channel = self._connection()
        async with asyncio.timeout(self._connect_s):
            state = channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.IDLE:
                await channel.wait_for_state_change(state)
            # Idle again: it was made, and closed.
            while channel.get_state() is grpc.ChannelConnectivity.CONNECTING:
                await channel.wait_for_state_change(grpc.ChannelConnectivity.CONNECTING)

    def _called(
        self, call: Callable[[], Awaitable[T]], timeout_s: float | None = CALL_TIMEOUT_S
    ) -> Deferred[T]:
        async def translated() -> T:
            try:
                return await asyncio.wait_for(call(), timeout_s)
            except grpc.aio.AioRpcError as error:
                raise through(self._proxy, error, self.address) from error
            except TimeoutError as error:
                raise GatewayUnreachable(str(self.address), Unreached.NO_ANSWER) from error

        return as_deferred(translated())


def open_channel(
    address: HostPort,
    ca_pem: bytes,
    identity: tuple[bytes, bytes] | None = None,
    proxy: Proxy | None = None,
) -> grpc.aio.Channel:
    """A channel to a gateway; it connects with the first call.  Within a running loop.

    :raises GatewayUnreachable: through a proxy, what is named there is no name.
    """
    if proxy is not None:
        address = as_asked(address)
    key, chain = identity if identity is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(ca_pem, key, chain)
    return grpc.aio.secure_channel(str(address), credentials, options=_options(proxy))


def through(proxy: Proxy | None, error: grpc.aio.AioRpcError, address: HostPort) -> PalyraError:
    """What a call failed with that took that way; the proxy is named where it is its fault."""
    known = error_of(error, str(address))
    if proxy is None or not isinstance(known, GatewayUnreachable):
        return known
    return proxy.blamed(known, error.details() or "")


def _options(proxy: Proxy | None) -> list[tuple[str, Any]]:
    return [
        ("grpc.ssl_target_name_override", TLS_NAME),
        ("grpc.default_authority", TLS_NAME),
        ("grpc.max_receive_message_length", MAX_MESSAGE),
        ("grpc.max_send_message_length", MAX_MESSAGE),
        # Reconnecting is the node host's: gRPC must not retry behind its back, nor share a
        # connection that was made with an older certificate.
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        *_way(proxy),
    ]


def _way(proxy: Proxy | None) -> list[tuple[str, Any]]:
    """The one way, in gRPC's words: without a proxy it does not look for one either."""
    if proxy is None:
        return [("grpc.enable_http_proxy", 0)]
    way: list[tuple[str, Any]] = [("grpc.http_proxy", f"http://{proxy}")]
    if proxy.authorization:
        header = f"Proxy-Authorization:{proxy.authorization}"
        way.append(("grpc.http_connect_headers", header))
    return way


async def _close(channel: grpc.aio.Channel | None) -> None:
    if channel is not None:
        await channel.close(None)


@implementer(ICarrier)
class _Stream:
    """One StreamNodeEvents call, from the node's end."""

    def __init__(self, call: Any, device_id: str) -> None:
        self._call = call
        self._device_id = device_id
        self._wanted = asyncio.Event()
        self._error: PalyraError | None = None

    def wake(self) -> None:
        self._wanted.set()

    def close(self, error: PalyraError | None) -> None:
        self._error = error
        self._call.cancel()

    async def serve(self, make_session: Callable[[ICarrier], Any]) -> None:
        session = make_session(self)
        tasks = Tasks("node stream")
        tasks.start(self._write(session))
        try:
            async for message in self._call:
                session.received(session_wire.read_frame(message))
        except asyncio.CancelledError:
            if not self._call.cancelled() or asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise  # this task was cancelled, not only the call
            if self._error is not None:
                raise self._error from None
        finally:
            await tasks.stop()
            self._call.cancel()

    async def _write(self, session: Any) -> None:
        """Write what gathers, until the session's last word: the gateway then ends the call."""
        try:
            last = False
            while not last:
                await self._wanted.wait()
                self._wanted.clear()
                event = session.take_event()
                if event is not None:
                    await self._call.write(session_wire.write_event(event, self._device_id))
                    last = event.name == STOPPING
            await self._call.done_writing()
        except (grpc.aio.BaseError, asyncio.InvalidStateError):
            pass  # the call is over; the reader is told why
        except Exception:
            self._call.cancel()  # a session that cannot speak is over
            raise
