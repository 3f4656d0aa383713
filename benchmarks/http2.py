"""gRPC over HTTP/2, as much of it as a load generator needs (RFC 9113; gRPC over HTTP2).

A thousand nodes and their callers share the processors with the gateway that is measured.  With a
gRPC library at their end they would take most of them; this takes a small part.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import click

from palyra.config.addresses import HostPort
from palyra.transport.chain import TLS_NAME

SERVICE = "/palyra.node.v1.NodeService/"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8
FRAME_HEAD, MESSAGE_HEAD = 9, 5
MAX_FRAME = 16_384
USUAL_WINDOW, WIDEST = 65_535, 2**31 - 1


class StreamEnded(click.ClickException):
    """The gateway ended a call without the answer it owed."""


def client_tls(ca: bytes, key: bytes, chain: bytes) -> ssl.SSLContext:
    """Mutual TLS 1.3 with HTTP/2 inside."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca.decode())
    load_pair(context, key, chain)
    context.set_alpn_protocols(["h2"])
    return context


def load_pair(context: ssl.SSLContext, key: bytes, chain: bytes) -> None:
    """The ``ssl`` module reads keys from files only."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pair.pem")
        file.write_bytes(key + chain)
        context.load_cert_chain(file)


async def connect(address: HostPort, tls: ssl.SSLContext) -> Connection:
    """A connection to a node listener."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        Connection, address.host, address.port, ssl=tls, server_hostname=TLS_NAME
    )
    return connection


class Stream:
    """One call.  ``received`` gets every message, ``ended`` the headers that came last."""

    def __init__(
        self,
        connection: Connection,
        number: int,
        received: Callable[[bytes], object],
        ended: Callable[[bytes], object],
    ) -> None:
        self.number = number
        self.window = connection.stream_window
        self.waiting = bytearray()
        self.last = False
        self.received = received
        self.ended = ended
        self._connection = connection
        self._partial = b""

    def send(self, message: bytes, last: bool = False) -> None:
        """Send a message, and with ``last`` say that no other follows."""
        self.waiting += b"\0" + len(message).to_bytes(4, "big") + message
        self.last = last
        self._connection.send_data(self)

    def cancel(self) -> None:
        """Want no more of it."""
        self._connection.reset(self)

    def data(self, piece: bytes) -> None:
        """Take the next bytes of its messages."""
        held = self._partial + piece if self._partial else piece
        at = 0
        while len(held) - at >= MESSAGE_HEAD:
            end = at + MESSAGE_HEAD + int.from_bytes(held[at + 1 : at + MESSAGE_HEAD], "big")
            if end > len(held):
                break
            self.received(held[at + MESSAGE_HEAD : end])
            at = end
        self._partial = held[at:]


class Connection(asyncio.Protocol):
    """One connection and its calls; what is sent in one turn of the loop goes out together."""

    def __init__(self) -> None:
        self.stream_window = USUAL_WINDOW
        self._window = USUAL_WINDOW
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self._held = b""
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    # -- calls --------------------------------------------------------------------------------

    def open(
        self,
        method: str,
        received: Callable[[bytes], object],
        ended: Callable[[bytes], object],
    ) -> Stream:
        """Begin a call."""
        stream = Stream(self, self._next, received, ended)
        self._next += 2
        self._streams[stream.number] = stream
        self._write(HEADERS, END_HEADERS, stream.number, _headers(method))
        return stream

    def call(self, method: str, request: bytes) -> asyncio.Future[bytes]:
        """A call with one request and one answer."""
        answer: asyncio.Future[bytes] = self._loop.create_future()

        def received(message: bytes) -> None:
            if not answer.done():
                answer.set_result(message)

        def ended(trailers: bytes) -> None:
            if not answer.done():
                answer.set_exception(StreamEnded(f"{method}: {_readable(trailers)}"))

        self.open(method, received, ended).send(request, last=True)
        return answer

    def close(self) -> None:
        """Close the connection; open calls are not told."""
        self._streams.clear()
        self._flush()
        self._transport.close()

    # -- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        setting = INITIAL_WINDOW_SIZE.to_bytes(2, "big") + WIDEST.to_bytes(4, "big")
        self._out.append(PREFACE)
        self._write(SETTINGS, 0, 0, setting)
        self._write(WINDOW, 0, 0, (WIDEST - USUAL_WINDOW).to_bytes(4, "big"))
        self._flush()

    def data_received(self, data: bytes) -> None:
        held = self._held + data if self._held else data
        at = 0
        while len(held) - at >= FRAME_HEAD:
            body = at + FRAME_HEAD
            end = body + int.from_bytes(held[at : at + 3], "big")
            if end > len(held):
                break
            number = int.from_bytes(held[at + 5 : body], "big") & WIDEST
            self._frame(held[at + 3], held[at + 4], number, held[body:end])
            at = end
        self._held = held[at:]

    def connection_lost(self, error: Exception | None) -> None:
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.ended(str(error or "the connection was closed").encode())

    # -- frames -------------------------------------------------------------------------------

    def _frame(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if kind in (DATA, HEADERS, RESET):
            self._of_stream(kind, flags, number, body)
        elif kind == SETTINGS and not flags & ACK:
            self._settings(body)
            self._write(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self._write(PING, ACK, 0, body)
        elif kind == WINDOW:
            self._widen(number, int.from_bytes(body, "big"))

    def _of_stream(self, kind: int, flags: int, number: int, body: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if kind == DATA:
            stream.data(body)
        if kind == RESET or flags & END_STREAM:
            self._streams.pop(number, None)
            stream.ended(body)

    def _settings(self, body: bytes) -> None:
        for at in range(0, len(body), 6):
            if int.from_bytes(body[at : at + 2], "big") == INITIAL_WINDOW_SIZE:
                window = int.from_bytes(body[at + 2 : at + 6], "big")
                for stream in self._streams.values():
                    stream.window += window - self.stream_window
                self.stream_window = window
        self._send_waiting()

    def _widen(self, number: int, by: int) -> None:
        if number == 0:
            self._window += by
            self._send_waiting()
        elif number in self._streams:
            self._streams[number].window += by
            self.send_data(self._streams[number])

    def _send_waiting(self) -> None:
        for stream in [each for each in self._streams.values() if each.waiting]:
            self.send_data(stream)

    def send_data(self, stream: Stream) -> None:
        """Send what waits in a stream, as far as both windows allow."""
        while stream.waiting:
            size = min(len(stream.waiting), stream.window, self._window, MAX_FRAME)
            if size <= 0:
                return
            piece = bytes(stream.waiting[:size])
            del stream.waiting[:size]
            stream.window -= size
            self._window -= size
            over = stream.last and not stream.waiting
            self._write(DATA, END_STREAM if over else 0, stream.number, piece)

    def reset(self, stream: Stream) -> None:
        """End a call from this side."""
        if self._streams.pop(stream.number, None) is not None:
            self._write(RESET, 0, stream.number, CANCEL.to_bytes(4, "big"))

    def _write(self, kind: int, flags: int, number: int, body: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        head = len(body).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big")
        self._out.append(head)
        self._out.append(body)

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()


def _headers(method: str) -> bytes:
    """A request's headers, each as a literal without indexing (RFC 7541, 6.2.2)."""
    return b"".join(_literals(method))


def _literals(method: str) -> Iterator[bytes]:
    headers = (
        (":method", "POST"),
        (":scheme", "https"),
        (":path", SERVICE + method),
        (":authority", TLS_NAME),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
    for name, value in headers:
        yield b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def _readable(trailers: bytes) -> str:
    """What a person can read of headers that nobody decoded."""
    text = "".join(chr(byte) if 32 <= byte < 127 else " " for byte in trailers)
    return " ".join(text.split()) or "the gateway ended the call"
