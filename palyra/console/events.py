"""Streams of server-sent events: what changed, written as fast as its reader reads.

A stream takes from its follower only when its connection can carry more.  What changes meanwhile
is merged there, so a slow reader costs no memory and finds the newest state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from zope.interface import implementer

from palyra.console.control import IFeed, IFollowing
from palyra.console.models import FeedEvent, JobEvent
from palyra.core.operators import Caller
from palyra.errors import Draining

KEEP_ALIVE_S = 15.0
"""A connection over which nothing went for that long gets a comment."""
PATIENCE_S = 60.0
"""A reader that takes nothing for that long is cut."""
INTERVAL_S = 0.1
"""The time between two writes that look for news, after the first few."""
BURST = 3
"""The writes that need not wait: a short job is told to its end at once."""
PIECE = 64 * 1024
"""Bytes after which a write is full; Twisted's transports stop their producers above as many."""

COMMENT = b":\n\n"

Wake = Callable[[], None]
Source = IFollowing | IFeed
Follow = Callable[[Wake], Deferred[Source]]


class EventStreams:
    """The open streams of a console.  ``clock`` is an IReactorTime."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._open: set[EventStream] = set()
        self._stopped = False

    def open(self, request: IRequest, follow: Follow, caller: Caller) -> Deferred[bytes]:
        """Answer a request of ``caller`` with a stream.

        Fires, with nothing more to write, when the stream is over; fails as ``follow`` does,
        before anything was written.  Cancelling it says that the reader is gone.
        """
        stream = EventStream(request, self._clock, self._open.discard, caller)
        if self._stopped:
            stream.stop()
            return stream.done
        self._open.add(stream)
        maybeDeferred(follow, stream.wake).addCallback(stream.begin).addErrback(stream.refuse)
        return stream.done

    def stop(self) -> None:
        """End every stream, without an ``end`` event: its reader may come back later."""
        self._stopped = True
        for stream in list(self._open):
            stream.stop()

    def end(self, of: Callable[[Caller], bool]) -> None:
        """End the streams of the callers that ``of`` says."""
        for stream in [each for each in self._open if of(each.caller)]:
            stream.stop()


@implementer(IPushProducer)
class EventStream:
    """One response.  It closes its follower exactly once, however it ends."""

    _log = Logger()

    def __init__(
        self,
        request: IRequest,
        clock: Any,
        ended: Callable[[EventStream], object],
        caller: Caller,
    ) -> None:
        self.caller = caller
        self.done: Deferred[bytes] = Deferred(self._left)
        self._request: Any = request
        self._clock = clock
        self._ended = ended
        self._encoder = msgspec.json.Encoder()
        self._following: Source | None = None
        self._pending: deque[JobEvent | FeedEvent] = deque()
        self._number = 0
        self._woken = True
        self._paused = False
        self._over = False
        self._stalled_s = 0.0
        self._due_s = clock.seconds() - BURST * INTERVAL_S
        self._next: IDelayedCall | None = None
        self._idle: IDelayedCall | None = None

    # -- how it begins ------------------------------------------------------------------------

    def begin(self, following: Source) -> None:
        """The follower is there: headers and its first events are written at once."""
        if self._over:
            following.close()
            return
        self._following = following
        self._request.setHeader(b"content-type", b"text/event-stream")
        self._request.setHeader(b"cache-control", b"no-store")
        self._request.registerProducer(self, True)
        self._idle = self._clock.callLater(KEEP_ALIVE_S, self._keep_alive)
        self._write()
        if not self._request.startedWriting and not self._over:
            self._request.write(COMMENT)

    def refuse(self, failure: Failure) -> None:
        """There is nothing to follow."""
        if not self._over:
            self._close()
            self.done.errback(failure)

    def wake(self) -> None:
        """The follower has something to take."""
        self._woken = True
        self._schedule()

    # -- what it writes -----------------------------------------------------------------------

    def _schedule(self) -> None:
        """Write in another turn: soon while a piece is left, at the interval to look for news."""
        if self._following is None or self._paused or self._over or self._next is not None:
            return
        if self._pending:
            self._next = self._clock.callLater(0, self._write)
        elif self._woken:
            wait_s = max(0.0, min(self._due_s - self._clock.seconds(), INTERVAL_S))
            self._next = self._clock.callLater(wait_s, self._write)

    def _write(self) -> None:
        self._next = None
        following = self._following
        if following is None:
            return
        try:
            if not self._pending:
                self._take(following)
            data = self._piece()
        except Exception:
            self._log.failure("a stream of events failed")
            self._end()
            return
        if data:
            self._say(data)
        if self._over:
            return
        if following.finished and not self._pending:
            self._end()
        else:
            self._schedule()

    def _take(self, following: Source) -> None:
        now_s = self._clock.seconds()
        earliest_s = now_s - (BURST - 1) * INTERVAL_S
        # Not after now: a clock that was set back must not hold the stream up.
        self._due_s = min(max(self._due_s, earliest_s), now_s) + INTERVAL_S
        self._woken = False
        self._pending.extend(following.take())

    def _piece(self) -> bytes:
        """The next events, about as many as the connection carries at once."""
        piece = bytearray()
        while self._pending and len(piece) <= PIECE:
            event = self._pending.popleft()
            self._number += 1
            piece += b"event: %s\nid: %d\ndata: " % (event.kind.encode(), self._number)
            piece += self._encoder.encode(event)
            piece += b"\n\n"
        return bytes(piece)

    def _say(self, data: bytes) -> None:
        if self._idle is not None:
            self._idle.reset(KEEP_ALIVE_S)
        self._request.write(data)

    def _keep_alive(self) -> None:
        self._idle = self._clock.callLater(KEEP_ALIVE_S, self._keep_alive)
        if not self._paused:
            self._request.write(COMMENT)
            return
        self._stalled_s += KEEP_ALIVE_S
        if self._stalled_s >= PATIENCE_S:
            self._log.info("a reader of events took nothing for {s:g} s", s=self._stalled_s)
            self._cut()

    # -- IPushProducer ------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The connection is full."""
        self._paused = True
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def resumeProducing(self) -> None:
        """The connection is empty again."""
        self._paused = False
        self._stalled_s = 0.0
        self._schedule()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._close()

    # -- how it ends --------------------------------------------------------------------------

    def stop(self) -> None:
        """The gateway stops.  A reader that does not read is cut, the others get a clean end."""
        if self._following is None:
            self.refuse(Failure(Draining()))
        elif self._paused:
            self._cut()
        else:
            channel = self._request.channel
            self._end()
            channel.loseConnection()

    def _left(self, done: Deferred[bytes]) -> None:
        self._close()
        done.callback(b"")

    def _cut(self) -> None:
        self._close()
        self._request.transport.abortConnection()

    def _end(self) -> None:
        self._close()
        self._request.unregisterProducer()
        self.done.callback(b"")

    def _close(self) -> None:
        """Let go of everything; again: nothing."""
        if self._over:
            return
        self._over = True
        for call in (self._next, self._idle):
            if call is not None and call.active():
                call.cancel()
        self._next = self._idle = None
        following, self._following = self._following, None
        self._pending.clear()
        self._ended(self)
        if following is not None:
            following.close()
