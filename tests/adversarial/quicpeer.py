"""A QUIC client that does what no node would: aioquic without I/O, driven by the test itself.

Nothing happens behind the test's back: a peer sends and hears only within a call to it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
from aioquic import tls
from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import MAX_EARLY_DATA, QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicPacketType,
    QuicProtocolVersion,
    encode_long_header_first_byte,
)
from cryptography import x509

from tests.adversarial.wire import TLS_NAME

ALPN = "palyra-quic-v1"
CRYPTO_ERROR = 0x100
LIMIT_S = 10.0
INITIAL_BYTES = 1200
_MAX_DATAGRAM = 65_535
_RETRY = 0xF0
"""The first byte of a Retry of version 1, but for four bits that say nothing (RFC 9000, 17.2.5)."""


def frame(payload: bytes, length: int | None = None) -> bytes:
    """A frame, or one that lies about its length."""
    return (len(payload) if length is None else length).to_bytes(4, "big") + payload


def request(method: str, **more: Any) -> bytes:
    """The first frame of a stream."""
    return frame(json.dumps({"protocol_version": 1, "method": method, **more}).encode())


def frames_of(data: bytes) -> list[bytes]:
    """The complete frames of a stream."""
    found = []
    while len(data) >= 4 and len(data) >= 4 + (size := int.from_bytes(data[:4], "big")):
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


@attrs.define
class Heard:
    """What has come over one stream."""

    data: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def frames(self) -> list[bytes]:
        """Complete frames."""
        return frames_of(self.data)

    @property
    def json(self) -> list[dict[str, Any]]:
        """The frames that are JSON."""
        return [json.loads(each) for each in self.frames if each.startswith(b"{")]

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or self.reset is not None


@attrs.define
class Refused:
    """How a connection ended: the code and the words of CONNECTION_CLOSE."""

    code: int
    reason: str

    @property
    def alert(self) -> int | None:
        """The TLS alert, where the code is one."""
        return self.code - CRYPTO_ERROR if 0 <= self.code - CRYPTO_ERROR <= 0xFF else None

    @property
    def said(self) -> dict[str, Any]:
        """The words, where they are JSON."""
        told: dict[str, Any] = json.loads(self.reason) if self.reason.startswith("{") else {}
        return told


class Peer:
    """One connection.  ``chain`` (PEM, leaf first) and ``key`` are what it shows of itself.

    ``source`` is an address of this machine that it comes from.  ``ca_pem`` is whom it believes;
    without one it believes anybody.
    """

    def __init__(
        self,
        address: str,
        *,
        ca_pem: bytes = b"",
        chain: bytes = b"",
        key: Any = None,
        alpn: Sequence[str] = (ALPN,),
        ticket: tls.SessionTicket | None = None,
        source: str = "127.0.0.1",
        idle_s: float = 60.0,
    ) -> None:
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        certificates = x509.load_pem_x509_certificates(chain) if chain else []
        configuration = QuicConfiguration(
            alpn_protocols=list(alpn),
            is_client=True,
            server_name=TLS_NAME,
            idle_timeout=idle_s,
            cadata=ca_pem or None,
            verify_mode=None if ca_pem else 0,
            certificate=certificates[0] if certificates else None,
            certificate_chain=certificates[1:],
            private_key=key if certificates else None,
            session_ticket=ticket,
        )
        self.tickets: list[tls.SessionTicket] = []
        self.quic = QuicConnection(
            configuration=configuration, session_ticket_handler=self.tickets.append
        )
        self.end: Refused | None = None
        self.handshake: events.HandshakeCompleted | None = None
        self.streams: dict[int, Heard] = {}
        self.mute = False
        """Whether it hears and says nothing."""
        self.wire = _bound(source)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say that this is the end."""
        if self.wire.fileno() >= 0:
            self.quic.close()
            self._send()
        self.vanish()

    def vanish(self) -> None:
        """Leave without a word, as one that was unplugged."""
        self.wire.close()

    # -- connecting -----------------------------------------------------------------------------

    def begin(self) -> Peer:
        """Send the first datagram, and hear nothing yet."""
        self.quic.connect(self.address, now=time.monotonic())
        self._send()
        return self

    def stall(self) -> Peer:
        """Send the first datagram, show where asked that the address is real, and say no more."""
        self.begin()
        if select.select([self.wire], [], [], LIMIT_S)[0]:
            data, address = self.wire.recvfrom(_MAX_DATAGRAM)
            if data[0] & 0xF0 == _RETRY:
                self.quic.receive_datagram(data, address, now=time.monotonic())
                self._send()
        self.mute = True
        return self

    def connect(self) -> Peer:
        """Shake hands; what the other end thinks of the certificate comes later."""
        self.begin()
        self.until(lambda: self.handshake or self.end, "hands are shaken, or not")
        return self

    def ended(self, limit_s: float = LIMIT_S) -> Refused:
        """Wait until the other end has closed the connection; why."""
        self.until(lambda: self.end, "the connection is closed", limit_s)
        assert self.end is not None
        return self.end

    # -- streams --------------------------------------------------------------------------------

    def say(self, data: bytes, stream: int | None = None, *, end: bool = False) -> int:
        """Send on a stream, a new one unless one is named; its number.  Nothing is awaited."""
        number = self.quic.get_next_available_stream_id() if stream is None else stream
        self.streams.setdefault(number, Heard())
        self.quic.send_stream_data(number, data, end)
        self._send()
        return number

    def ask(self, data: bytes) -> Heard:
        """Say all of it on a new stream and wait for the end of what is answered."""
        return self.answer(self.say(data, end=True))

    def answer(self, stream: int) -> Heard:
        """Wait for the end of a stream; the connection may end first."""
        heard = self.streams[stream]
        self.until(lambda: heard.over or self.end, f"stream {stream} is answered")
        return heard

    def next_frame(self, stream: int, seen: int = 0) -> bytes:
        """Wait for the frame after so many; it."""
        heard = self.streams[stream]
        self.until(lambda: len(heard.frames) > seen or heard.over or self.end, "a frame comes")
        assert len(heard.frames) > seen, (heard, self.end)
        return heard.frames[seen]

    def move(self, source: str = "127.0.0.1") -> None:
        """Go on from another port: a NAT, or a device that walks."""
        self.wire.close()
        self.wire = _bound(source)

    # -- the loop -------------------------------------------------------------------------------

    def until(self, look: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
        """Send and hear until ``look`` is true; the test fails after ``limit_s``."""
        over = time.monotonic() + limit_s
        self._send()
        while not look():
            assert time.monotonic() < over, f"not within {limit_s:g} s: {what}"
            self.turn(over)

    def turn(self, until: float) -> None:
        """Wait for a datagram or a timer, at most until then, and do what follows from it."""
        now, timer = time.monotonic(), self.quic.get_timer()
        wait = max(0.0, min(until, now + 0.2 if timer is None else timer) - now)
        if select.select([self.wire], [], [], wait)[0]:
            self._hear()
        now = time.monotonic()
        timer = self.quic.get_timer()
        if timer is not None and timer <= now:
            self.quic.handle_timer(now)
        self._take()
        self._send()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                data, address = self.wire.recvfrom(_MAX_DATAGRAM)
                self.quic.receive_datagram(data, address, now=time.monotonic())

    def _send(self) -> None:
        for data, address in self.quic.datagrams_to_send(now=time.monotonic()):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                if not self.mute:
                    self.wire.sendto(data, address)

    def _take(self) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case events.HandshakeCompleted():
                    self.handshake = event
                case events.ConnectionTerminated() if self.end is None:
                    self.end = Refused(event.error_code, event.reason_phrase)
                case events.StreamDataReceived():
                    heard = self.streams.setdefault(event.stream_id, Heard())
                    heard.data += event.data
                    heard.ended |= event.end_stream
                case events.StreamReset():
                    self.streams.setdefault(event.stream_id, Heard()).reset = event.error_code
        # At once: aioquic itself tells of it when the connection has drained.
        closed = self.quic._close_event
        if closed is not None and self.end is None:
            self.end = Refused(closed.error_code, closed.reason_phrase)


def _bound(source: str) -> socket.socket:
    wire = socket.socket(type=socket.SOCK_DGRAM)
    wire.bind((source, 0))
    wire.setblocking(False)
    return wire


def all_until(
    peers: Sequence[Peer], look: Callable[[], object], what: str, limit_s: float = LIMIT_S
) -> None:
    """As :meth:`Peer.until`, for many at once."""
    over = time.monotonic() + limit_s
    while not look():
        assert time.monotonic() < over, f"not within {limit_s:g} s: {what}"
        for peer in peers:
            peer.turn(0.0)


# -- what is no connection ------------------------------------------------------------------------


def forged_ticket(friend: Peer) -> tls.SessionTicket:
    """A ticket that nobody gave, with what ``friend`` was told in its own handshake: enough for a
    client to resume and to send 0-RTT data at once."""
    now = datetime.datetime.now(datetime.UTC)
    return tls.SessionTicket(
        age_add=0,
        cipher_suite=tls.CipherSuite.AES_256_GCM_SHA384,
        not_valid_after=now + datetime.timedelta(hours=1),
        not_valid_before=now - datetime.timedelta(hours=1),
        resumption_secret=os.urandom(48),
        server_name=TLS_NAME,
        ticket=os.urandom(64),
        max_early_data_size=MAX_EARLY_DATA,
        other_extensions=list(friend.quic.tls.received_extensions or []),
    )


def garbage(count: int) -> Iterator[bytes]:
    """Datagrams that look like Initials of so many clients, and decrypt to nothing."""
    for _ in range(count):
        header = _initial_header(os.urandom(8), os.urandom(8))
        yield header + os.urandom(INITIAL_BYTES - len(header))


def forged_initials(address: str, count: int) -> Iterator[bytes]:
    """Valid first datagrams of so many clients that do not exist, all with one ClientHello."""
    with Peer(address) as peer:
        peer.quic.connect(peer.address, now=time.monotonic())
        hello = bytes(peer.quic._crypto_streams[tls.Epoch.INITIAL].sender._buffer)
        own = peer.quic.host_cid  # which is in the ClientHello too
    payload = _crypto_frame(hello)
    for _ in range(count):
        target = os.urandom(8)
        pair = CryptoPair()
        pair.setup_initial(target, is_client=True, version=QuicProtocolVersion.VERSION_1)
        header = _initial_header(target, own)
        yield pair.encrypt_packet(header, payload.ljust(INITIAL_BYTES - len(header) - 16, b"\0"), 0)


def _crypto_frame(hello: bytes) -> bytes:
    return b"\x06\x00" + encode_uint_var(len(hello)) + hello


def _initial_header(target: bytes, own: bytes) -> bytes:
    """Of an Initial that fills a datagram, with a packet number of two bytes (RFC 9000, 17.2.2)."""
    version = QuicProtocolVersion.VERSION_1
    first = encode_long_header_first_byte(version, QuicPacketType.INITIAL, 1)
    header = bytes([first]) + version.to_bytes(4, "big")
    header += bytes([len(target)]) + target + bytes([len(own)]) + own
    header += b"\x00"  # no token
    length = INITIAL_BYTES - len(header) - 2
    return header + (length | 0x4000).to_bytes(2, "big") + b"\x00\x00"
