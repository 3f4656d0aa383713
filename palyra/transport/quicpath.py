"""A device's QUIC connection to one address of its gateway, and the sockets that carry it.

It is nobody's before the gateway's certificate was looked at.  After that it outlives its socket:
where the network changes, it goes on over another one (RFC 9000, 9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from palyra.config.addresses import HostPort
from palyra.errors import Cut, PalyraError, PinMismatch, Unreached
from palyra.transport.quicconnection import KEEP_ALIVE_S, Address, Engine, QuicLink
from palyra.transport.quicdialing import ConnectedSocket, cause_of, unreachable
from palyra.transport.quicframes import ALPN, error_in
from palyra.transport.quictrust import (
    NOT_PINNED,
    GatewayTrust,
    NotOurGateway,
    cause_of_alert,
)
from palyra.transport.statuses import ENDED

NO_PALYRA = "no Palyra gateway answers there"
SILENCE_S = 10.0
"""Nothing was heard for so long although something was said: the way there may be another now."""
MOVE_S = 5.0
"""Not more often is another socket taken."""
DOUBT_S = 1.0
"""So long a gateway that is connected may stay silent after the system said that nobody listens."""
DRAIN_S = 1.0
"""How long what was written may wait for the network when the connection is to be closed."""
_DRAIN_POLL_S = 0.02


class Handler(Protocol):
    """Who a stream belongs to."""

    def arrived(self, data: bytes, ended: bool) -> None:
        """The gateway said something; ``ended``: it says nothing more."""

    def given_up(self) -> None:
        """The gateway says nothing more, or wants nothing more."""

    def pump(self) -> None:
        """Write what waits, while there is room."""

    def lost(self, error: PalyraError) -> None:
        """The connection is over."""


class ClientConnection:
    """One connection, from its first datagram to its end (``quicconnection.LinkOwner``)."""

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        elapsed_s: Callable[[], float],
        soon: Callable[[Callable[[], object]], object],
        configuration: QuicConfiguration,
        trust: GatewayTrust,
        target: HostPort,
        address: Address,
    ) -> None:
        """``target`` is what people call the gateway, ``address`` where it is."""
        self.error: PalyraError | None = None
        """What ended it, once it is over."""
        self.made: Deferred[ClientConnection] = Deferred(lambda _: self._give_up())
        """Fires when the gateway is connected and known to be ours; cancelling ends the try."""
        self.closed: Deferred[None] = Deferred()
        """Fires when it is over and its socket is closed."""
        self._reactor = reactor
        self._elapsed_s = elapsed_s
        self._trust = trust
        self._target = target
        self._address = address
        self._streams: dict[int, Handler] = {}
        self._socket = self._new_socket()
        self._gone = False
        self._shaken = False
        self._moved_s = float("-inf")
        self._handshake: IDelayedCall | None = None
        self._beat: IDelayedCall | None = None
        self._move: IDelayedCall | None = None
        self._doubt: IDelayedCall | None = None
        self.link: QuicLink = _Link(
            self,
            Engine(configuration=configuration),
            clock=reactor,
            elapsed_s=elapsed_s,
            soon=soon,
            send=self._send,
            owner=self,
        )

    def connect(self, within_s: float) -> Deferred[ClientConnection]:
        """Begin; gives :attr:`made`.  After ``within_s`` seconds it has failed."""
        try:
            self._socket.open(self._reactor, self._address)
        except OSError as error:
            self._fail(cause_of(error))
            return self.made
        self._handshake = self._reactor.callLater(within_s, self._fail, Unreached.NO_ANSWER)
        self.link.engine.connect(self._address, self._elapsed_s())
        self.link.flush()
        return self.made

    def open_stream(self, handler: Handler, first: bytes, *, end: bool) -> int:
        """A stream of this handler, on which ``first`` is said.

        :raises PalyraError: the connection is over.
        """
        if self.error is not None:
            raise self.error
        stream_id = self.link.open_stream()
        self._streams[stream_id] = handler
        self.link.write(stream_id, first, end=end)
        return stream_id

    def forget(self, stream_id: int) -> None:
        """Nothing more is told of that stream."""
        self._streams.pop(stream_id, None)

    def close(self) -> Deferred[None]:
        """Send what was written, say that this is the end, and close the socket."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        patience_s = self._elapsed_s() + DRAIN_S
        self.link.flush()
        while self._waits_to_send() and self._elapsed_s() < patience_s:
            await deferLater(self._reactor, _DRAIN_POLL_S)
        self.error = self.error or unreachable(self._target, Cut.CLOSED_OFF)
        self._say_goodbye()
        await self.closed

    def _waits_to_send(self) -> bool:
        return not self.link.over and self.link.engine.has_to_send()

    # -- what the link says ---------------------------------------------------------------------

    def shaken(self) -> None:
        """Look at the gateway before anything is said to it."""
        engine = self.link.engine
        try:
            if engine.tls.alpn_negotiated != ALPN:
                raise NotOurGateway(NO_PALYRA, AlertDescription.no_application_protocol)
            leaf = engine.peer_certificate
            assert leaf is not None, "a handshake without a certificate does not complete"
            self._trust.check(leaf, int(self._reactor.seconds() * 1000))
        except NotOurGateway as refused:
            self.error = self._not_ours(refused.cause)
            self._say_goodbye(refused.alert)
            return
        self._shaken = True
        _cancel(self._handshake)
        self._beat = self._reactor.callLater(KEEP_ALIVE_S, self._keep_alive)
        self.made.callback(self)

    def received(self, stream_id: int, data: bytes, ended: bool) -> None:
        handler = self._streams.get(stream_id)
        if handler is not None:
            handler.arrived(data, ended)

    def reset(self, stream_id: int) -> None:
        handler = self._streams.get(stream_id)
        if handler is not None:
            handler.given_up()

    def pump(self) -> None:
        for handler in list(self._streams.values()):
            handler.pump()

    def ended(self, error_code: int, phrase: str) -> None:
        """Tell everybody why."""
        if self.error is None:
            self.error = self._error_of(error_code, phrase)
        for call in (self._handshake, self._beat, self._move, self._doubt):
            _cancel(call)
        streams, self._streams = self._streams, {}
        for handler in streams.values():
            handler.lost(self.error)
        if not self.made.called:
            self.made.errback(self.error)

    def gone(self) -> None:
        """Nothing is sent any more."""
        closing = self._socket.close()
        if not self._gone:
            self._gone = True
            closing.chainDeferred(self.closed)

    def _not_ours(self, cause: str) -> PalyraError:
        error = unreachable(self._target, cause)
        return PinMismatch(error.where) if cause == NOT_PINNED else error

    def _error_of(self, error_code: int, phrase: str) -> PalyraError:
        """What a device makes of the end of a connection."""
        if self._shaken and (told := error_in(phrase)) is not None:
            return told
        return unreachable(self._target, self._cause_of(error_code, phrase))

    def _cause_of(self, error_code: int, phrase: str) -> str:
        if error_code == QuicErrorCode.INTERNAL_ERROR and phrase == "Idle timeout":
            return Unreached.NO_ANSWER
        if error_code == QuicErrorCode.NO_ERROR:
            return ENDED
        if not self._shaken and error_code == QuicErrorCode.CONNECTION_REFUSED:
            return Unreached.REFUSED  # it has no room for another one now
        if not self._shaken and (cause := cause_of_alert(error_code, phrase)) is not None:
            return cause
        crypto = QuicErrorCode.CRYPTO_ERROR
        return Cut.HANDSHAKE_REFUSED if crypto <= error_code < crypto + 0x100 else Cut.CLOSED_OFF

    # -- ending it here -------------------------------------------------------------------------

    def _fail(self, cause: str) -> None:
        """Nobody is there to talk to."""
        if self.error is None:
            self.error = unreachable(self._target, cause)
            self.link.abandon()

    def _give_up(self) -> None:
        self.error = self.error or unreachable(self._target, ENDED)
        self._say_goodbye()

    def _say_goodbye(self, alert: int | None = None) -> None:
        """Close it and be done: the last datagram leaves before the socket is closed."""
        if alert is None:
            self.link.close(QuicErrorCode.NO_ERROR)
        else:
            self.link.refuse(alert, "")
        self.link.flush()
        self.link.abandon()

    # -- its socket -----------------------------------------------------------------------------

    def _new_socket(self) -> ConnectedSocket:
        return ConnectedSocket(received=self._datagram, refused=self._refused, broken=self._broken)

    def _send(self, datagram: bytes, address: Address) -> None:
        if address == self._address:  # never to one that the server would rather be asked at
            self._socket.send(datagram)

    def _datagram(self, datagram: bytes) -> None:
        if self.link.engine.is_reset(datagram):
            self._fail(Cut.CLOSED_OFF)
        else:
            self.link.datagram(datagram, self._address)

    def _refused(self) -> None:
        """Nobody listens there.  Of a gateway that is connected that must be seen twice: such a
        message is easily forged."""
        if not self._shaken:
            self._fail(Unreached.REFUSED)
        elif self._doubt is None or not self._doubt.active():
            heard_s = self.link.heard_s
            self._doubt = self._reactor.callLater(DOUBT_S, self._doubted, heard_s)
            self.link.ping()

    def _doubted(self, heard_s: float) -> None:
        if self.link.heard_s <= heard_s:
            self._fail(Unreached.REFUSED)

    def _broken(self, cause: str) -> None:
        """The socket is of no use: another one may be."""
        if self.error is not None:
            return
        if not self._shaken:
            self._fail(cause)
        elif self._move is None or not self._move.active():
            after_s = max(0.0, self._moved_s + MOVE_S - self._elapsed_s())
            self._move = self._reactor.callLater(after_s, self._migrate)

    def _migrate(self) -> None:
        """Go on over another socket, with another connection id (RFC 9000, 9.5)."""
        self._moved_s = self._elapsed_s()
        self._socket.close()
        self._socket = self._new_socket()
        try:
            self._socket.open(self._reactor, self._address)
        except OSError as error:
            self._broken(cause_of(error))
            return
        self._log.info("{target}: another way is tried", target=self._target)
        self.link.engine.change_connection_id()
        self.link.ping()

    def _keep_alive(self) -> None:
        """Say something every 5 seconds, and look for another way where nothing comes back."""
        now_s, link = self._elapsed_s(), self.link
        waiting = link.sent_s > link.heard_s and now_s - link.heard_s >= SILENCE_S
        if waiting:
            self._broken(Unreached.NO_ANSWER)
        said_s = now_s - link.sent_s
        if said_s < KEEP_ALIVE_S:
            self._beat = self._reactor.callLater(max(0.05, KEEP_ALIVE_S - said_s), self._keep_alive)
            return
        link.ping()
        self._beat = self._reactor.callLater(KEEP_ALIVE_S, self._keep_alive)


class _Link(QuicLink):
    """Tells its connection when nothing is left of it."""

    def __init__(self, connection: ClientConnection, engine: Engine, **more: Any) -> None:
        self._connection = connection
        super().__init__(engine, **more)

    def gone(self) -> None:
        self._connection.gone()


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
