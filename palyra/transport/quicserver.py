"""What the QUIC listener serves to paired devices: their sessions, and a few calls beside.

As the gRPC servicers do, this only reads, asks its desk and writes: every rule is behind the desk.
Each stream is one request; :class:`ServedConnection` owns them, and judges the certificate before
it looks at a byte of any.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import AlertDescription
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from palyra.core.identifiers import DeviceId, Entropy, parse_ulid
from palyra.errors import (
    Category,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    Malformed,
    NotRegistered,
    PalyraError,
)
from palyra.transport import quicframes as frames
from palyra.transport.interfaces import ICallStream, INodeDesk, Peer
from palyra.transport.quicconnection import QuicLink
from palyra.transport.quichandlers import (
    FIRST_WORD_S,
    HANDLERS,
    LIMITS,
    Handler,
    SessionHandler,
)

TRANSPORT = "quic"
LINGER_S = 0.3
"""How long the last words of streams have before their connection is closed."""
EXPIRY_GRACE_S = 300.0
"""A connection may outlive its certificate by so much, as its session does (PROTOCOL: Trust)."""
_NO_ERROR = 0
_REFUSED = 1
"""Application error codes of a CONNECTION_CLOSE; the reason phrase says which refusal."""
_ALERTS: dict[str, int] = {
    "no_certificate": AlertDescription.certificate_required,
    "expired": AlertDescription.certificate_expired,
    "not_yet_valid": AlertDescription.certificate_expired,
    "foreign_ca": AlertDescription.unknown_ca,
    "wrong_eku": AlertDescription.unsupported_certificate,
    DeviceRevoked.code: AlertDescription.certificate_revoked,
    CertificateUnknown.code: AlertDescription.certificate_unknown,
    CertificateSuperseded.code: AlertDescription.certificate_revoked,
}


@implementer(ICallStream)
class ServedConnection:
    """One connection of a device (:class:`palyra.transport.quicconnection.LinkOwner`)."""

    _log = Logger()

    def __init__(
        self,
        *,
        desk: INodeDesk,
        clock: IReactorTime,
        address: Callable[[], str],
        entropy: Entropy,
        now_ms: Callable[[], int],
        admitted: Callable[[], object],
        refused: Callable[[str], object],
        over: Callable[[], object],
    ) -> None:
        """``admitted`` may raise what keeps it out after all."""
        self.link: QuicLink
        self.desk = desk
        self.clock = clock
        self.entropy = entropy
        self.now_ms = now_ms
        self.peer: Peer | None = None
        self._address = address
        self._admitted = admitted
        self._refused = refused
        self._over = over
        self._pem = b""
        self._streams: dict[int, _Incoming] = {}
        self._ended: set[int] = set()
        self._linger: IDelayedCall | None = None

    @property
    def device_id(self) -> DeviceId:
        """Whose it is, once it was admitted."""
        assert self.peer is not None, "a connection without a peer has no device"
        return self.peer.device_id

    def admit(self, claimed: str | None) -> Peer:
        """The trust gate, asked again at each start of a stream.

        :raises PalyraError: the certificate is of no use any more, or not for that device.
        """
        if claimed is not None:
            parse_ulid(claimed, "device_id")
        return self.desk.admit(self._pem, claimed, self._address(), TRANSPORT)

    # -- what the link says ---------------------------------------------------------------------

    def shaken(self) -> None:
        """Judge the client's certificate: nothing else of the peer has been looked at."""
        try:
            self._pem = _pem_of(self.link.engine.peer_certificate)
            self.peer = self.admit(None)
            self._admitted()
            self.desk.opened(self.peer, self, EXPIRY_GRACE_S)
        except PalyraError as error:
            self.peer = None
            self._keep_out(error)

    def _keep_out(self, error: PalyraError) -> None:
        refused = error.reason if isinstance(error, CertificateRefused) else error.code
        self._refused(refused)
        phrase = frames.phrase_of(error)
        if error.category in (Category.FORBIDDEN, Category.UNAUTHENTICATED):
            alert = _ALERTS.get(refused, AlertDescription.bad_certificate)
            self.link.refuse(alert, phrase)
        else:
            self.link.close(QuicErrorCode.CONNECTION_REFUSED, phrase, QuicFrameType.PADDING)

    def received(self, stream_id: int, data: bytes, ended: bool) -> None:
        self._look_where_from()
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id in self._ended:
                return  # it was on its way when we said that it is not wanted
            if stream_id % 4 != 0:  # of the client, both ways: we serve no other kind
                phrase = "bidirectional streams only"
                self.link.close(QuicErrorCode.STREAM_STATE_ERROR, phrase, QuicFrameType.STREAM_BASE)
                return
            stream = self._streams[stream_id] = _Incoming(self, stream_id)
        stream.arrived(data, ended)

    def _look_where_from(self) -> None:
        address = self._address()
        if self.peer is not None and self.peer.address != address:
            self.peer = attrs.evolve(self.peer, address=address)
            for stream in list(self._streams.values()):
                stream.moved(address)

    def reset(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.given_up()

    def pump(self) -> None:
        for stream in list(self._streams.values()):
            stream.pump()

    def ended(self, error_code: int, phrase: str) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        for stream in list(self._streams.values()):
            stream.lost("closed by the node" if error_code == _NO_ERROR else "connection lost")
        if self.peer is not None:
            self.desk.closed(self.peer, self)
        self._over()

    # -- what the house says --------------------------------------------------------------------

    def close(self, error: PalyraError) -> None:
        """End everything of this connection with a refusal, within a second."""
        self._end(error)

    def finish(self) -> None:
        """End everything of it normally."""
        self._end(None)

    def _end(self, error: PalyraError | None) -> None:
        if self.link.over or self._linger is not None:
            return
        for stream in list(self._streams.values()):
            stream.close(error)
        code, phrase = (_NO_ERROR, "") if error is None else (_REFUSED, frames.phrase_of(error))
        self._linger = self.clock.callLater(LINGER_S, self.link.close, code, phrase)

    def stream_over(self, stream_id: int) -> None:
        """Nothing is expected of a stream any more."""
        if self._streams.pop(stream_id, None) is not None:
            self._ended = {each for each in self._ended if self.link.engine.is_open(each)}
            self._ended.add(stream_id)


class _Incoming:
    """A stream of the peer: its frames, and the handler that its request asks for."""

    _log = Logger()

    def __init__(self, connection: ServedConnection, stream_id: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self._frames = frames.FrameReader(frames.MAX_REQUEST)
        self._handler: Handler | None = None
        self._writable = True
        self._reading = True
        self._patience: IDelayedCall | None = None
        self.expect(FIRST_WORD_S)

    def expect(self, within_s: float | None) -> None:
        """Something must arrive in that time; None: whenever it does."""
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        if within_s is not None:
            self._patience = self.connection.clock.callLater(within_s, self.refuse, NotRegistered())

    # -- reading --------------------------------------------------------------------------------

    def arrived(self, data: bytes, ended: bool) -> None:
        if not self._reading:
            return
        self._frames.feed(data)
        try:
            while self._reading and (frame := self._frames.next()) is not None:
                self._frame(frame)
            if ended and self._reading:
                self._finished()
        except PalyraError as error:
            self.refuse(error)
        except Exception:
            self._log.failure("a frame was not understood by a fault here")
            self.refuse(PalyraError())

    def _frame(self, frame: bytes) -> None:
        if self._handler is not None:
            self._handler.received(frame)
            return
        request = frames.read_request(frame)
        self._frames.limit = LIMITS.get(request.method, frames.MAX_REQUEST)
        self._handler = HANDLERS[request.method](self, request)

    def _finished(self) -> None:
        if self._frames.pending or self._handler is None:
            raise Malformed("frame", "ends before it is complete")
        self._reading = False
        self._handler.finished()

    # -- writing --------------------------------------------------------------------------------

    @property
    def room(self) -> bool:
        """Whether another frame may be written."""
        return self._writable and self.connection.link.room(self.stream_id)

    def write(self, frame: bytes) -> None:
        """Write a whole frame."""
        if self._writable:
            self.connection.link.write(self.stream_id, frame)

    def touch(self) -> None:
        """The handler has something to write: it is asked for it in the next turn."""
        self.connection.link.touch()

    def pump(self) -> None:
        if self._handler is not None and self._writable:
            self._handler.pump()

    def moved(self, address: str) -> None:
        """The peer speaks from another address now."""
        if isinstance(self._handler, SessionHandler):
            self._handler.moved(address)

    # -- ending ---------------------------------------------------------------------------------

    def refuse(self, error: PalyraError) -> None:
        """End the stream with a refusal; its handler is told that it is over."""
        self.write(frames.write_error(error))
        if self._reading:
            self._reading = False
            self.connection.link.stop_reading(self.stream_id)
        self.end(error.code)

    def end(self, reason: str) -> None:
        """Send what was written, and the stream's end."""
        if self._writable:
            self._writable = False
            self.connection.link.write(self.stream_id, b"", end=True)
        self.lost(reason)

    def given_up(self) -> None:
        """The peer wants nothing more of it; both ways must end, or it keeps its place for ever."""
        if self._reading:
            self._reading = False
            self.connection.link.stop_reading(self.stream_id)
        self.end("given up by the node")

    def close(self, error: PalyraError | None) -> None:
        """The connection is about to be closed."""
        if self._handler is not None:
            self._handler.close(error)
        elif error is not None:
            self.refuse(error)
        else:
            self.end("closed by the gateway")

    def lost(self, reason: str) -> None:
        """The stream is over, whoever ended it."""
        self.expect(None)
        self._reading = self._writable = False
        self.connection.stream_over(self.stream_id)
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.lost(reason)


def _pem_of(certificate: x509.Certificate | None) -> bytes:
    if certificate is None:
        raise CertificateRefused("no_certificate")
    return certificate.public_bytes(Encoding.PEM)
