"""The QUIC listener on no network, and who sends it datagrams: strangers, and a device.

Nothing happens behind the back of whoever calls: time passes, and datagrams arrive, by a call.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicPacketType,
    QuicProtocolVersion,
    encode_long_header_first_byte,
)
from aioquic.tls import Epoch
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.core.frames import NodeEvent
from palyra.errors import LimitReached
from palyra.pki.authority import DAY_MS, Authority
from palyra.transport import quicframes
from palyra.transport.interfaces import Peer
from palyra.transport.quiclistener import QuicListener
from tests.transport.desks import FakeDesk, FakeSession

Address = tuple[str, int]
PEER: Address = ("192.0.2.7", 40_000)
SERVER: Address = ("192.0.2.1", 7_444)
INITIAL_BYTES = 1_200
TARGET, OWN = bytes(range(8)), bytes(range(8, 16))
"""Connection ids of a stranger's first packet."""
TICK_S = 0.001
MOST_TICKS = 2_000
MOST_TIMERS = 500
DEVICE_ID = "01M80NKQCNX4K7QM2ZT9B3FVHD"
_NOW_MS = 1_790_000_000_000
_KEY = ec.derive_private_key(11, ec.SECP256R1())
_AUTHORITY = Authority.create(
    trust_domain="palyra.test", now_ms=_NOW_MS - DAY_MS, entropy=random.Random(3).randbytes
)
_KEY_PEM = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
_SERVED = (
    _KEY_PEM,
    _AUTHORITY.issue_gateway(_KEY.public_key(), "g1", [], _NOW_MS).pem + _AUTHORITY.ca_pem,
)
_SHOWN = x509.load_pem_x509_certificate(
    _AUTHORITY.issue_device(_KEY.public_key(), DEVICE_ID, _NOW_MS).pem
)


class _Port:
    """A UDP port that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def write(self, datagram: bytes, addr: Address) -> None:
        self.sent.append(datagram)

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", *SERVER)

    def stopListening(self) -> None:
        """It is closed at once."""


class _Reactor(Clock):
    """As much of a reactor as the listener needs."""

    def __init__(self) -> None:
        super().__init__()
        self.port = _Port()

    def listenUDP(self, port: int, protocol: Any, *_: object) -> _Port:
        protocol.makeConnection(self.port)
        return self.port


class _Desk(FakeDesk):
    """Takes every session, and gives no events and no certificates."""

    def attach(self, peer: Peer, first: NodeEvent, carrier: Any) -> FakeSession:
        return FakeSession(True, carrier)

    def follow_events(self, *_: object) -> Deferred[Any]:
        return fail(LimitReached("followers", 0))

    def renew(self, *_: object) -> Deferred[Any]:
        return fail(LimitReached("renewals", 0))


class Served:
    """A listener and the time it lives in."""

    def __init__(self) -> None:
        self.reactor = _Reactor()
        self.listener = QuicListener(
            name="QUIC",
            address=HostPort("127.0.0.1", SERVER[1]),
            desk=_Desk(),
            certificate=lambda: _SERVED,
            reactor=self.reactor,
            elapsed_s=self.reactor.seconds,
            soon=lambda call: self.reactor.callLater(0, call),
            entropy=random.Random(5).randbytes,
            now_ms=lambda: _NOW_MS,
        )
        self.listener.bind()

    def hear(self, datagram: bytes) -> list[bytes]:
        """Let a datagram arrive; what is answered in the same turn."""
        self.listener.datagramReceived(datagram, PEER)
        return self.pass_tick()

    def pass_tick(self) -> list[bytes]:
        """Let a moment pass; what was sent."""
        self.reactor.advance(TICK_S)
        sent, self.reactor.port.sent = self.reactor.port.sent, []
        return sent

    def outlive(self) -> None:
        """Let all time pass: nothing is left then."""
        for _ in range(MOST_TIMERS):
            waiting = self.reactor.getDelayedCalls()
            if not waiting:
                break
            self.reactor.advance(max(0.0, waiting[0].getTime() - self.reactor.seconds()))
        assert not self.reactor.getDelayedCalls(), "something waits for ever"
        assert not self.listener._routes, "a connection is kept"
        assert not self.listener._shaking and not self.listener.count()


@implementer(ILogObserver)
class _Faults:
    """Keeps what is logged as a failure."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self.seen.append(event["log_failure"].getTraceback())


@contextmanager
def faults() -> Iterator[list[str]]:
    """What is logged as a failure meanwhile."""
    observer = _Faults()
    globalLogPublisher.addObserver(observer)
    try:
        yield observer.seen
    finally:
        globalLogPublisher.removeObserver(observer)


def initial(payload: bytes) -> bytes:
    """A first packet that is well made, around any frames (RFC 9000, 17.2.2; RFC 9001, 5.2)."""
    version = QuicProtocolVersion.VERSION_1
    header = bytes([encode_long_header_first_byte(version, QuicPacketType.INITIAL, 1)])
    header += version.to_bytes(4, "big")
    header += bytes([len(TARGET)]) + TARGET + bytes([len(OWN)]) + OWN
    header += b"\x00"  # no token
    payload = payload[: INITIAL_BYTES - len(header) - 20]
    length = INITIAL_BYTES - len(header) - 2
    header += (length | 0x4000).to_bytes(2, "big") + b"\x00\x00"
    pair = CryptoPair()
    pair.setup_initial(TARGET, is_client=True, version=version)
    return pair.encrypt_packet(header, payload.ljust(length - 18, b"\0"), 0)


def first_frames() -> bytes:
    """The frames of a real client's first packet: its ClientHello."""
    client = _client()
    client.connect(SERVER, now=0)
    hello = bytes(client._crypto_streams[Epoch.INITIAL].sender._buffer)
    hello = hello.replace(client.host_cid, OWN)
    return b"\x06\x00" + encode_uint_var(len(hello)) + hello


def first_datagram() -> bytes:
    """A real client's first datagram."""
    client = _client()
    client.connect(SERVER, now=0)
    return bytes(client.datagrams_to_send(now=0)[0][0])


def _client() -> QuicConnection:
    return QuicConnection(
        configuration=QuicConfiguration(
            is_client=True,
            alpn_protocols=[quicframes.ALPN],
            server_name="palyrad-node-rpc",
            verify_mode=0,
            certificate=_SHOWN,
            private_key=_KEY,
        )
    )


class Device:
    """A device whose certificate was admitted."""

    def __init__(self) -> None:
        self.served = Served()
        self.quic = _client()
        self.events: list[events.QuicEvent] = []
        self.quic.connect(SERVER, now=self.now_s)
        self.talk(lambda: self.served.listener.count())
        assert self.served.listener.count() == 1, self.events

    @property
    def now_s(self) -> float:
        """The time of both ends."""
        return self.served.reactor.seconds()

    def talk(self, enough: Callable[[], object]) -> None:
        """Carry datagrams both ways, until it is enough or neither end has anything to say."""
        quiet = 0
        for _ in range(MOST_TICKS):
            said = [data for data, _ in self.quic.datagrams_to_send(now=self.now_s)]
            answered = [each for data in said for each in self.served.hear(data)]
            answered += self.served.pass_tick()
            for each in answered:
                self.quic.receive_datagram(each, SERVER, now=self.now_s)
            timer = self.quic.get_timer()
            if timer is not None and timer <= self.now_s:
                self.quic.handle_timer(self.now_s)
            while (event := self.quic.next_event()) is not None:
                self.events.append(event)
            quiet = 0 if said or answered else quiet + 1
            if enough() or quiet > 20:
                return

    def ask(self, data: bytes) -> tuple[bytes, bool]:
        """Say this on a new stream: what is answered, and whether the answer has an end."""
        stream_id = self.quic.get_next_available_stream_id()
        self.events.clear()
        self.quic.send_stream_data(stream_id, data, end_stream=True)
        self.talk(lambda: self._ended(stream_id))
        answer = [
            each.data
            for each in self.events
            if isinstance(each, events.StreamDataReceived) and each.stream_id == stream_id
        ]
        return b"".join(answer), self._ended(stream_id)

    def send_packet(self, payload: bytes) -> None:
        """Send any frames in a packet with this connection's own keys."""
        header = bytes([0x41]) + self.quic._peer_cid.cid
        number = self.quic._packet_number
        self.quic._packet_number += 1
        pair = self.quic._cryptos[Epoch.ONE_RTT]
        header += (number & 0xFFFF).to_bytes(2, "big")
        for each in self.served.hear(pair.encrypt_packet(header, payload, number)):
            self.quic.receive_datagram(each, SERVER, now=self.now_s)

    def leave(self) -> None:
        """Close the connection; nothing is left of it."""
        self.quic.close()
        for data, _ in self.quic.datagrams_to_send(now=self.now_s):
            self.served.hear(data)
        self.served.outlive()

    def _ended(self, stream_id: int) -> bool:
        return any(
            isinstance(each, events.StreamDataReceived)
            and each.stream_id == stream_id
            and each.end_stream
            for each in self.events
        )
