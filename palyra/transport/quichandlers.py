"""What each method of the QUIC listener does with its stream (CONTRACT: QUIC).

A handler reads frames, asks the desk and writes; which stream that is, and whose, it does not care.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from google.protobuf.message import DecodeError, Message
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.core.frames import GatewayFrame
from palyra.core.identifiers import Entropy, new_ulid
from palyra.core.journal import JournalGap
from palyra.errors import Malformed, PalyraError
from palyra.transport import quicframes as frames
from palyra.transport.interfaces import ICarrier, IGatewaySession, INodeDesk, Peer
from palyra.wire import pairing as pairing_wire
from palyra.wire import registration
from palyra.wire import session as session_wire
from palyra.wire.checks import check_version
from palyra.wire.service import messages

FIRST_WORD_S = 10.0
"""How long a peer may take for each step until its stream does what it was opened for."""
EVENTS_AT_ONCE = 64
MAX_CALL = 64 * 1024
"""Bytes of the message of a call beside the session."""
_log = Logger()


class Connection(Protocol):
    """The connection that a stream belongs to."""

    desk: INodeDesk
    entropy: Entropy
    now_ms: Callable[[], int]

    def admit(self, claimed: str | None) -> Peer:
        """The trust gate.

        :raises PalyraError: the certificate is of no use any more, or not for that device.
        """


class Stream(Protocol):
    """What a handler may do with its stream."""

    @property
    def connection(self) -> Connection:
        """Whose it is."""

    @property
    def room(self) -> bool:
        """Whether another frame may be written."""

    def write(self, frame: bytes) -> None:
        """Write a whole frame."""

    def touch(self) -> None:
        """There is something to write: the handler is asked for it in the next turn."""

    def expect(self, within_s: float | None) -> None:
        """Something must arrive in that time; None: whenever it does."""

    def refuse(self, error: PalyraError) -> None:
        """End the stream with a refusal."""

    def end(self, reason: str) -> None:
        """Send what was written, and the stream's end."""


Ask = Callable[[Connection, bytes], Deferred[Message]]


class Handler(Protocol):
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


class _Health:
    """``node.health``: answered and over."""

    def __init__(self, stream: Stream, request: frames.Request) -> None:
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

    def __init__(self, ask: Ask, stream: Stream, request: frames.Request) -> None:
        """``ask`` asks the desk; it fires with the answer."""
        stream.connection.admit(None)
        self._ask = ask
        self._stream = stream
        self._asked = False

    def received(self, frame: bytes) -> None:
        if self._asked:
            raise Malformed("frame", "one message belongs to this request")
        self._asked = True
        self._stream.expect(None)
        asking = self._ask(self._stream.connection, frame)
        asking.addCallback(self._answered).addErrback(self._failed)

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
        self._stream.refuse(_told(failure))


def _rotate(connection: Connection, frame: bytes) -> Deferred[Message]:
    """RotateDeviceCertificate."""
    request = _read(messages.RotateDeviceCertificateRequest, frame)
    asked = pairing_wire.read_renewal(request)
    renewing = connection.desk.renew(connection.admit(request.device_id.ulid), asked)
    return renewing.addCallback(pairing_wire.write_renewed)


def _revoke(connection: Connection, frame: bytes) -> Deferred[Message]:
    """RevokeDevicePairing: a device takes its own trust away."""
    request = _read(messages.RevokeDevicePairingRequest, frame)
    check_version(request.v)
    peer = connection.admit(request.device_id.ulid)
    answer = messages.RevokeDevicePairingResponse(v=1, revoked=True)
    return connection.desk.revoke_self(peer, request.reason).addCallback(lambda _: answer)


class _Events:
    """``node.stream_events``: the device's journal after ``resume_from``, then what comes."""

    def __init__(self, stream: Stream, request: frames.Request) -> None:
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
        self._stream.refuse(_told(failure))

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
class SessionHandler:
    """``node.session``: a registration, then the messages of StreamNodeEvents, one a frame."""

    def __init__(self, stream: Stream, request: frames.Request) -> None:
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
        self._stream.refuse(_told(failure))

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
LIMITS = {
    frames.SESSION: frames.MAX_FRAME,
    frames.ROTATE: MAX_CALL,
    frames.REVOKE: MAX_CALL,
}
"""Bytes of the frames that follow a request."""
HANDLERS: dict[str, Callable[[Stream, frames.Request], Any]] = {
    frames.HEALTH: _Health,
    frames.EVENTS: _Events,
    frames.SESSION: SessionHandler,
    frames.ROTATE: partial(_Call, _rotate),
    frames.REVOKE: partial(_Call, _revoke),
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


def _told(failure: Failure) -> PalyraError:
    """What the peer is told of a failure; a fault of ours is logged, not told."""
    if isinstance(failure.value, PalyraError):
        return failure.value
    _log.failure("a QUIC request failed by a fault here", failure)
    return PalyraError()
