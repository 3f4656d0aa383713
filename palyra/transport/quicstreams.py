"""The streams of a device's QUIC connection: a request, what answers it, and a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.core.frames import STOPPING
from palyra.errors import Malformed, PalyraError
from palyra.transport import quicframes as frames
from palyra.transport import refusals
from palyra.transport.interfaces import ICarrier
from palyra.transport.quicdialing import unreachable
from palyra.transport.quicpath import ClientConnection
from palyra.transport.statuses import ENDED
from palyra.wire import session as session_wire
from palyra.wire.service import messages

LAST_WORD_S = 1.0
"""How long the reason may take after the gateway has given a stream up."""
_NO_ERROR = 0

Over = Callable[[BaseException | None], object]


class Outgoing:
    """One request on a stream (``quicpath.Handler``), and the frames that answer it.

    Frames wait until somebody takes them; a refusal is what the stream ends with.
    """

    def __init__(
        self,
        connection: ClientConnection,
        clock: IReactorTime,
        address: HostPort,
        said: bytes,
        *,
        end: bool,
    ) -> None:
        """``said`` are the first frames; ``end``: nothing follows them.

        :raises PalyraError: the connection is over.
        """
        self.pumped: Callable[[], object] = lambda: None
        """Called when something may be written."""
        self._connection = connection
        self._clock = clock
        self._address = address
        self._reader = frames.FrameReader()
        self._waiting: list[bytes] = []
        self._receive: Callable[[bytes], object] | None = None
        self._tell: Over | None = None
        self._over = False
        self._error: BaseException | None = None
        self._writable = not end
        self._readable = True
        self._patience: IDelayedCall | None = None
        self._id = connection.open_stream(self, said, end=end)

    # -- taking ---------------------------------------------------------------------------------

    def answer(self) -> Deferred[bytes]:
        """The next frame; fails with what ended the stream.  Cancelling it ends the stream."""
        waiting: Deferred[bytes] = Deferred(lambda _: self.stop())

        def received(frame: bytes) -> None:
            self._receive = None
            waiting.callback(frame)

        def over(error: BaseException | None) -> None:
            if not waiting.called:
                waiting.errback(error or unreachable(self._address, ENDED))

        self.take(received, over)
        return waiting

    def follow(self, received: Callable[[bytes], object]) -> Deferred[None]:
        """Give each frame to ``received``; fires at a normal end, fails with what else ended it."""
        waiting: Deferred[None] = Deferred(lambda _: self.stop())

        def over(error: BaseException | None) -> None:
            if waiting.called:
                return
            if error is None:
                waiting.callback(None)
            else:
                waiting.errback(error)

        self.take(received, over)
        return waiting

    def take(self, received: Callable[[bytes], object], over: Over) -> None:
        """Each frame goes to ``received`` from now on, and then the end to ``over``, once."""
        self._receive, self._tell = received, over
        self._give()

    def _give(self) -> None:
        """Hand out what waits.  What its taker does not understand ends the stream."""
        while self._waiting and self._receive is not None:
            try:
                self._receive(self._waiting.pop(0))
            except Exception as error:
                self.end(error)
        if self._over and not self._waiting and self._tell is not None:
            tell, self._tell = self._tell, None
            tell(self._error)

    # -- what the connection says ---------------------------------------------------------------

    def arrived(self, data: bytes, ended: bool) -> None:
        self._readable = not ended
        self._reader.feed(data)
        try:
            while not self._over and (frame := self._reader.next()) is not None:
                self._frame(frame)
            if ended and self._reader.pending:
                raise Malformed("frame", "ends before it is complete")
        except Malformed as error:
            self._finish(error)
        if ended:
            self._finish(None)
        else:
            self._give()

    def _frame(self, frame: bytes) -> None:
        if frames.is_json(frame):
            answer = frames.read_answer(frame)
            if isinstance(answer, frames.Error):
                self._finish(refusals.error_of(frames.refusal_in(answer)))
                return
        self._waiting.append(frame)

    def given_up(self) -> None:
        # It is told of a stream whose refusal is on its way, too.
        self._writable = False
        if self._patience is None and not self._over:
            cut = unreachable(self._address, ENDED)
            self._patience = self._clock.callLater(LAST_WORD_S, self._finish, cut)

    def pump(self) -> None:
        if self._writable:
            self.pumped()

    def lost(self, error: PalyraError) -> None:
        self._readable = self._writable = False
        self._finish(error)

    # -- what its owner says --------------------------------------------------------------------

    @property
    def room(self) -> bool:
        """Whether another frame may be written."""
        return self._writable and self._connection.link.room(self._id)

    def touch(self) -> None:
        """There is something to write: it is asked for in the next turn."""
        if self._writable:
            self._connection.link.touch()

    def write(self, payload: bytes, *, end: bool = False) -> None:
        """Write a frame; ``end``: the last one."""
        self._connection.link.write(self._id, frames.encode_frame(payload), end=end)
        if end:
            self._writable = False

    def end(self, error: BaseException | None) -> None:
        """End the stream, with that error or normally; what was not taken yet is dropped."""
        self._waiting.clear()
        self._finish(error)

    def stop(self) -> None:
        """End the stream; nobody here is told anything more."""
        self._tell = self._receive = None
        self.end(None)

    def _finish(self, error: BaseException | None) -> None:
        if not self._over:
            self._over, self._error = True, error
            if self._patience is not None and self._patience.active():
                self._patience.cancel()
            self._give_up()
            self._connection.forget(self._id)
        self._give()

    def _give_up(self) -> None:
        """Neither speak nor listen any more, as far as that is not over anyway."""
        link = self._connection.link
        if link.over or not link.engine.is_open(self._id):
            return
        if self._readable:
            link.stop_reading(self._id)
        if self._writable:
            link.engine.reset_stream(self._id, _NO_ERROR)
        self._readable = self._writable = False
        link.touch()


@implementer(ICarrier)
class CarriedSession:
    """``node.session`` after its registration, from the node's end."""

    def __init__(self, stream: Outgoing, device_id: str) -> None:
        self._stream = stream
        self._device_id = device_id
        self._session: Any = None
        self._wanted = False

    def carry(self, make_session: Callable[[ICarrier], Any]) -> Deferred[None]:
        """Fires at a normal end, fails with what else ended it; cancelling ends the stream."""
        self._session = make_session(self)
        self._stream.pumped = self._pump
        over = self._stream.follow(self._received)
        self._stream.touch()
        return over

    def wake(self) -> None:
        self._wanted = True
        self._stream.touch()

    def close(self, error: PalyraError | None) -> None:
        self._stream.end(error)

    def _received(self, frame: bytes) -> None:
        try:
            message = messages.NodeEventResponse.FromString(frame)
        except DecodeError as error:
            raise Malformed("frame", "is no NodeEventResponse") from error
        self._session.received(session_wire.read_frame(message))

    def _pump(self) -> None:
        """Write what gathered, as often as there is room, until the session's last word."""
        if self._session is None or not self._wanted or not self._stream.room:
            return
        self._wanted = False
        try:
            event = self._session.take_event()
            if event is not None:
                message = session_wire.write_event(event, self._device_id)
                self._stream.write(message.SerializeToString(), end=event.name == STOPPING)
        except Exception as error:  # a session that cannot speak is over
            self._stream.end(error)
