"""What the QUIC listener serves to paired devices: their sessions, and a few calls beside.

As the gRPC servicers do, this only reads, asks its desk and writes: every rule is behind the desk.
Each stream is one request; :class:`ServedConnection` owns them, and judges the certificate before
it looks at a byte of any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import AlertDescription
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import DecodeError, Message
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.core.frames import GatewayFrame
from palyra.core.identifiers import DeviceId, Entropy, new_ulid, parse_ulid
from palyra.core.journal import JournalGap
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
from palyra.transport.interfaces import ICallStream, ICarrier, IGatewaySession, INodeDesk, Peer
from palyra.transport.quicconnection import QuicLink
from palyra.wire import pairing as pairing_wire
from palyra.wire import registration
from palyra.wire import session as session_wire
from palyra.wire.checks import check_version
from palyra.wire.service import messages

TRANSPORT = "quic"
FIRST_WORD_S = 10.0
"""How long a peer may take for each step until its stream does what it was opened for."""
LINGER_S = 0.3
"""How long the last words of streams have before their connection is closed."""
EXPIRY_GRACE_S = 300.0
"""A connection may outlive its certificate by so much, as its session does (PROTOCOL: Trust)."""
EVENTS_AT_ONCE = 64
MAX_CALL = 64 * 1024
"""Bytes of the message of a call beside the session."""
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


class _Stream(Protocol):
    """What a connection asks of the handler of one of its streams."""

    def received(self, frame: bytes) -> None:
        """A frame that followed the request."""

    def finished(self) -> None:
        """The peer sends nothing more."""

    def pump(self) -> None:
        """Write what waits, while the stream has room."""

    def close(self, error: PalyraError | None) -> None:
        """End it: with a refusal, or normally."""

    def lost(self, reason: str) -> None:
        """The connection, or the stream, is gone.  Again: nothing."""


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
        self._handler: _Stream | None = None
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
        self._frames.limit = _LIMITS.get(request.method, frames.MAX_REQUEST)
        self._handler = _HANDLERS[request.method](self, request)

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
        if isinstance(self._handler, _Session):
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


class _Health:
    """``node.health``: answered and over."""

    def __init__(self, stream: _Incoming, request: frames.Request) -> None:
        stream.connection.admit(None)
        stream.write(frames.write_answer(frames.Health(node_rpc_mtls_required=True)))
        stream.end("answered")

    def received(self, frame: bytes) -> None:
        raise Malformed("frame", "nothing follows this request")

    def finished(self) -> None: ...

    def pump(self) -> None: ...

    def close(self, error: PalyraError | None) -> None: ...

    def lost(self, reason: str) -> None: ...


class _Call:
    """A request with one message and one answer (``node.rotate``, ``node.revoke``)."""

    def __init__(self, stream: _Incoming, request: frames.Request) -> None:
        stream.connection.admit(None)
        self._stream = stream
        self._asked = False

    def received(self, frame: bytes) -> None:
        if self._asked:
            raise Malformed("frame", "one message belongs to this request")
        self._asked = True
        self._stream.expect(None)
        self.ask(frame).addCallback(self._answered).addErrback(self._failed)

    def ask(self, frame: bytes) -> Deferred[Message]:
        """Ask the desk; fires with the answer."""
        raise NotImplementedError

    def finished(self) -> None:
        if not self._asked:
            raise Malformed("frame", "the message of this request is missing")

    def pump(self) -> None: ...

    def close(self, error: PalyraError | None) -> None:
        if error is not None and not self._asked:  # what is being done is answered
            self._stream.refuse(error)

    def lost(self, reason: str) -> None: ...

    def _answered(self, answer: Message) -> None:
        self._stream.write(frames.encode_frame(answer.SerializeToString()))
        self._stream.end("answered")

    def _failed(self, failure: Failure) -> None:
        self._stream.refuse(_told(failure, self._stream))


class _Rotate(_Call):
    """RotateDeviceCertificate."""

    def ask(self, frame: bytes) -> Deferred[Message]:
        request = _read(messages.RotateDeviceCertificateRequest, frame)
        connection = self._stream.connection
        asked = pairing_wire.read_renewal(request)
        renewing = connection.desk.renew(connection.admit(request.device_id.ulid), asked)
        return renewing.addCallback(pairing_wire.write_renewed)


class _Revoke(_Call):
    """RevokeDevicePairing: a device takes its own trust away."""

    def ask(self, frame: bytes) -> Deferred[Message]:
        request = _read(messages.RevokeDevicePairingRequest, frame)
        check_version(request.v)
        connection = self._stream.connection
        peer = connection.admit(request.device_id.ulid)
        answer = messages.RevokeDevicePairingResponse(v=1, revoked=True)
        return connection.desk.revoke_self(peer, request.reason).addCallback(lambda _: answer)


class _Events:
    """``node.stream_events``: the device's journal after ``resume_from``, then what comes."""

    def __init__(self, stream: _Incoming, request: frames.Request) -> None:
        self._stream = stream
        self._following: Any = None
        self._wanted = True
        self._taking = False
        self._over = False
        stream.expect(None)
        connection = stream.connection
        peer = connection.admit(None)
        following = connection.desk.follow_events(peer, request.resume_from, self._wake)
        following.addCallback(self._begun).addErrback(self._failed)

    def _begun(self, following: Any) -> None:
        if self._over:
            following.close()
        else:
            self._following = following
            self._wake()

    def _failed(self, failure: Failure) -> None:
        self._stream.refuse(_told(failure, self._stream))

    def _wake(self) -> None:
        self._wanted = True
        if not self._over:
            self._stream.touch()

    def received(self, frame: bytes) -> None:
        raise Malformed("frame", "nothing follows this request")

    def finished(self) -> None: ...

    def pump(self) -> None:
        """Take the next page where the last one has left room."""
        ready = self._following is not None and self._wanted and not self._taking
        if ready and self._stream.room:
            self._wanted, self._taking = False, True
            taking = self._following.take(EVENTS_AT_ONCE)
            taking.addCallback(self._taken).addErrback(self._failed)

    def _taken(self, entries: list[Any]) -> None:
        self._taking = False
        for entry in entries:
            self._stream.write(frames.write_answer(_event(entry)))
        if entries:
            self._wake()  # there may be more

    def close(self, error: PalyraError | None) -> None:
        if error is not None:
            self._stream.refuse(error)
        else:
            self._stream.end("closed by the gateway")

    def lost(self, reason: str) -> None:
        self._over = True
        following, self._following = self._following, None
        if following is not None:
            following.close()


@implementer(ICarrier)
class _Session:
    """``node.session``: a registration, then the messages of StreamNodeEvents, one a frame."""

    def __init__(self, stream: _Incoming, request: frames.Request) -> None:
        stream.connection.admit(None)
        self._stream = stream
        self._session: IGatewaySession | None = None
        self._registering = False
        self._registered = False
        self._wanted = False
        self._over = False

    # -- what the peer says ---------------------------------------------------------------------

    def received(self, frame: bytes) -> None:
        if self._session is not None:
            self._session.received(session_wire.read_event(_read(_Event, frame)))
        elif self._registered:
            self._attach(_read(_Event, frame))
        elif self._registering:
            raise Malformed("frame", "comes before the registration was answered")
        else:
            self._register(_read(messages.RegisterNodeRequest, frame))

    def _register(self, request: messages.RegisterNodeRequest) -> None:
        self._registering = True
        self._stream.expect(None)
        connection = self._stream.connection
        hello = registration.read_hello(request)
        if not hello.extended:  # payloads of version 1 do not fit into a frame
            raise Malformed("hello", "is needed over QUIC; version 1 has gRPC")
        peer = connection.admit(hello.device_id)
        registering = connection.desk.register(peer, hello)
        registering.addCallback(self._welcome).addErrback(self._failed)

    def _welcome(self, welcome: Any) -> None:
        self._registered = True
        answer = registration.write_welcome(welcome)
        self._stream.write(frames.encode_frame(answer.SerializeToString()))
        if not self._over:
            self._stream.expect(FIRST_WORD_S)

    def _failed(self, failure: Failure) -> None:
        self._stream.refuse(_told(failure, self._stream))

    def _attach(self, message: messages.NodeEventRequest) -> None:
        self._stream.expect(None)
        connection = self._stream.connection
        peer = connection.admit(message.device_id.ulid)
        first = session_wire.read_event(message)
        self._session = connection.desk.attach(peer, first, self)
        self.wake()

    def finished(self) -> None:
        if not self._registering:
            raise Malformed("frame", "the registration is missing")
        self._stream.end("closed by the node")

    # -- what the session says (ICarrier) ---------------------------------------------------------

    def wake(self) -> None:
        self._wanted = True
        self._stream.touch()

    def close(self, error: PalyraError | None) -> None:
        if error is None:
            self._stream.end("closed by the gateway")
        else:
            self._stream.refuse(error)

    def pump(self) -> None:
        """Write what gathered: one frame for all of it, as often as there is room."""
        session = self._session
        if session is not None and self._wanted and self._stream.room:
            self._wanted = False
            frame = session.take_frame()
            if frame is not None:
                self._write(frame)

    def _write(self, frame: GatewayFrame) -> None:
        message = session_wire.write_frame(frame, self._event_id(), self._now_ms())
        self._stream.write(frames.encode_frame(message.SerializeToString()))

    def moved(self, address: str) -> None:
        if self._session is not None:
            self._session.moved(address)

    def _event_id(self) -> str:
        return new_ulid(self._now_ms(), self._stream.connection.entropy)

    def _now_ms(self) -> int:
        return self._stream.connection.now_ms()

    def lost(self, reason: str) -> None:
        self._over = True
        session, self._session = self._session, None
        if session is not None:
            session.ended(reason)


_Event = messages.NodeEventRequest
_LIMITS = {
    frames.SESSION: frames.MAX_FRAME,
    frames.ROTATE: MAX_CALL,
    frames.REVOKE: MAX_CALL,
}
"""Bytes of the frames that follow a request."""
_HANDLERS: dict[str, Callable[[_Incoming, frames.Request], Any]] = {
    frames.HEALTH: _Health,
    frames.EVENTS: _Events,
    frames.SESSION: _Session,
    frames.ROTATE: _Rotate,
    frames.REVOKE: _Revoke,
}


def _event(entry: Any) -> frames.Answer:
    if isinstance(entry, JournalGap):
        return frames.Gap(seq=entry.oldest_seq - 1)
    return frames.Event(
        seq=entry.seq, event=entry.kind, at_unix_ms=entry.at_ms, details=entry.details
    )


def _read(kind: Any, frame: bytes) -> Any:
    try:
        return kind.FromString(frame)
    except DecodeError as error:
        raise Malformed("frame", f"is no {kind.DESCRIPTOR.name}") from error


def _told(failure: Failure, stream: _Incoming) -> PalyraError:
    """What the peer is told of a failure; a fault of ours is logged, not told."""
    if isinstance(failure.value, PalyraError):
        return failure.value
    ServedConnection._log.failure("a QUIC request failed by a fault here", failure)
    return PalyraError()


def _pem_of(certificate: x509.Certificate | None) -> bytes:
    if certificate is None:
        raise CertificateRefused("no_certificate")
    return certificate.public_bytes(Encoding.PEM)
