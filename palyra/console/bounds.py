"""Requests of a bounded size and time: what is too much is refused before it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, HTTPChannel
from twisted.web.server import Request, Site

from palyra.console.problems import problem_of, retry_after, status_of
from palyra.console.reading import MAX_BODY, MAX_INPUT_BODY
from palyra.console.routes import ROUTES
from palyra.core.operators import Caller
from palyra.errors import Malformed, PalyraError, PayloadTooLarge, SignInRequired, UriTooLong

PREFIX = b"/console/v1/"
REQUEST_S = 30.0
"""How long a whole request may take to arrive."""
LINGER_S = 1.0
"""How long a refused request is still read and dropped: closing at once would cut the answer off
with a reset (RFC 9112 section 9.6)."""
CLOSE_S = 60.0
"""How long a peer may take to read the last answer and to close: TLS waits for its word, which may
never come."""
CSP = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[bytes, bytes] = {
    b"content-security-policy": CSP,
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
"""What every answer carries; a part of the page that may be kept says so itself."""

_REASONS = {421: b"Misdirected Request", 429: b"Too Many Requests"}
_KEYED = [
    (
        route.method.encode(),
        re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route.path)).encode()),
    )
    for route in ROUTES
    if route.keyed
]


def body_limit(method: bytes, path: bytes) -> int:
    """How long the body of a request may be, in bytes."""
    if path.startswith(PREFIX):
        rest = path[len(PREFIX) :]
        if any(method == each and re.fullmatch(path, rest) for each, path in _KEYED):
            return MAX_INPUT_BODY
    return MAX_BODY


class BoundedRequest(Request):
    """A request that is examined when its head is there, before anything of its body is kept."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.refused = False
        self._limit = 0
        self._strange = False
        self._kinds: list[bytes] = []

    def examine(self, method: bytes, path: bytes) -> PalyraError | None:
        """Why the request is not served whatever it asks; None: it may be."""
        return None

    def known(self) -> bool:
        """Whether it shows a credential that is good now: only then much of it is kept."""
        return False

    def serves(self, caller: Caller, *, tells: bool) -> None:
        """It was admitted; ``tells``: its answer says more than that something is done."""
        channel: Any = self.channel
        if channel is not None:
            channel.serves(caller, tells=tells)

    def gotLength(self, length: int | None) -> None:
        """The head is there; a body of ``length`` bytes follows, None: in chunks."""
        channel: Any = self.channel
        # The request learns its line only with its end; its channel has it.
        method, path = channel._command, channel._path.partition(b"?")[0]
        for name, value in HEADERS.items():
            self.setHeader(name, value)
        self._limit = body_limit(method, path)
        error = self.examine(method, path)
        if error is None and self._limit > MAX_BODY and not self.known():
            self._limit, self._strange = MAX_BODY, True
        if error is None and length is not None and length > self._limit:
            error = self._too_long(length)
        super().gotLength(0 if error is not None else length)
        if error is not None:
            self._refuse(error, whole=length == 0)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, as far as the whole is not too long."""
        if self.refused:
            return
        assert self.content is not None, "gotLength() came before"
        size = self.content.tell() + len(data)
        if size > self._limit:
            self._refuse(self._too_long(size), whole=False)
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """It is whole: serve it, unless it was refused."""
        channel: Any = self.channel
        channel.request_received()
        if self.refused:
            channel.loseConnection()
            return
        # Twisted would read a form into ``args``, a stranger's too: megabytes of it take seconds.
        self._kinds = list(self.requestHeaders.getRawHeaders(b"content-type") or ())
        self.requestHeaders.removeHeader(b"content-type")
        super().requestReceived(command, path, version)

    def process(self) -> None:
        """Serve it, as it was sent."""
        if self._kinds:
            self.requestHeaders.setRawHeaders(b"content-type", self._kinds)
        super().process()

    def _too_long(self, size: int) -> PalyraError:
        """Whom a longer body would be read of, were they signed in, is told that."""
        return SignInRequired() if self._strange else PayloadTooLarge("request", size, self._limit)

    def _refuse(self, error: PalyraError, *, whole: bool) -> None:
        self.refused = True
        # Nobody shall be told to go on with a body that is not wanted.
        self.requestHeaders.removeHeader(b"expect")
        channel: Any = self.channel
        channel.refuse(_answer(error), whole=whole)


class BoundedChannel(HTTPChannel):
    """A connection whose requests have to come within :data:`REQUEST_S`.

    HTTPChannel's own timeout begins anew with every byte.
    """

    totalHeadersSize = 24 * 1024
    """With the request's line, of which there may be 16 KiB."""
    maxHeaders = 100

    def __init__(self) -> None:
        super().__init__()
        self._due: IDelayedCall | None = None
        self._closing: IDelayedCall | None = None
        self._busy = False
        self._deaf = False
        self._caller: Caller | None = None
        self._tells = False

    def dataReceived(self, data: bytes) -> None:
        """Take what comes; the first byte of a request starts its time."""
        if self._deaf:
            return
        if self._due is None and not self._busy:
            self._due = self.callLater(REQUEST_S, self._too_slow)
        super().dataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse the rest of a line that has no end; Twisted's own way would leave its sender to
        wait, since a transport with a producer is not closed."""
        self._deaf = True
        error: PalyraError = UriTooLong(self.MAX_LENGTH)
        if self.requests:  # its first line was read, so this is a header
            error = Malformed("headers", f"have a line of more than {self.MAX_LENGTH} bytes")
        self.refuse(_answer(error), whole=False)

    def request_received(self) -> None:
        """A request is whole."""
        self._busy = True
        self._stop_waiting()

    def requestDone(self, request: Request) -> None:
        """Its answer is written: another may come."""
        self._busy = False
        super().requestDone(request)

    def serves(self, caller: Caller, *, tells: bool) -> None:
        """Its last request is of this caller; ``tells`` as :meth:`BoundedRequest.serves`."""
        self._caller, self._tells = caller, tells

    def end_of(self, of: Callable[[Caller], bool]) -> None:
        """End the connection within :data:`LINGER_S` where its last caller is one that ``of`` says.

        Who waits to hear that something is done hears it: it may be their own leaving.
        """
        caller = self._caller
        if caller is None or not of(caller) or (self._busy and not self._tells):
            return
        if self._closing is None:
            self._closing = self.callLater(LINGER_S, self._cut)
        self.loseConnection()

    def refuse(self, answer: bytes, *, whole: bool) -> None:
        """Answer at once and end the connection, soon where its peer may still be sending."""
        self._stop_waiting()
        self._busy = True
        transport: Any = self.transport
        transport.write(answer)
        if whole:
            self.loseConnection()
        else:
            self._due = self.callLater(LINGER_S, self._cut)

    def loseConnection(self) -> None:
        """Close it once everything is written, and cut it where that takes too long."""
        if self._closing is None:
            self._closing = self.callLater(CLOSE_S, self._cut)
        super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self._stop_waiting()
        closing = self._closing
        if closing is not None and closing.active():
            closing.cancel()
        super().connectionLost(reason)

    def _too_slow(self) -> None:
        self._due = None
        self._cut()

    def _cut(self) -> None:
        self._due = None
        transport: Any = self.transport
        transport.abortConnection()

    def _stop_waiting(self) -> None:
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()


class QuietSite(Site):
    """Keeps no access log: paths and headers are a stranger's words."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        """Nothing."""


def _answer(error: PalyraError) -> bytes:
    """A refusal as bytes, for a request that is not there yet."""
    status, body = status_of(error), msgspec.json.encode(problem_of(error))
    lines = [
        b"HTTP/1.1 %d %s" % (status, _REASONS.get(status) or RESPONSES.get(status, b"Refused"))
    ]
    lines += [name + b": " + value for name, value in HEADERS.items()]
    wait_s = retry_after(error)
    if wait_s is not None:
        lines.append(b"retry-after: %d" % wait_s)
    lines += [b"content-type: application/json", b"content-length: %d" % len(body)]
    return b"\r\n".join([*lines, b"connection: close", b"", body])
