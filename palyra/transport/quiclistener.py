"""The QUIC listener: one UDP port, and who of its strangers becomes a connection.

A stranger costs little: a first packet is answered by a Retry while many handshakes are open, by
CONNECTION_REFUSED or by nothing where there is no room; a handshake has ten seconds, and its place
only until others need it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import TRANSPORT_CLOSE_FRAME_CAPACITY
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import TOKEN_LIFETIME, QuicRetryTokenHandler
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.logger import Logger

from palyra.config.addresses import HostPort
from palyra.core.identifiers import Entropy
from palyra.core.rates import source_of
from palyra.core.windows import Windows
from palyra.errors import CannotBind, LimitReached, Malformed, not_listening
from palyra.transport.interfaces import INodeDesk
from palyra.transport.quicconnection import (
    HANDSHAKE_S,
    RESET_TOKEN,
    Address,
    Engine,
    QuicLink,
    configuration,
)
from palyra.transport.quicselfcheck import require_client_certificates
from palyra.transport.quicserver import ServedConnection

MAX_CONNECTIONS = 256
MAX_OPEN_HANDSHAKES = 64
RETRY_FROM = 16
"""From so many open handshakes on, a peer must show that it receives at its address."""
MAX_HANDSHAKES_OF_SOURCE = 32
USUAL_HANDSHAKE_S = 1.0
"""So long a handshake keeps its place in any case; after that it may have to make room."""
MAX_SOURCES = 4_096
"""Sources whose last second is remembered."""
MAX_BEGUN_OF_SOURCE = 32
"""Handshakes that a source may begin in a second: each costs milliseconds."""
MAX_OF_DEVICE = 8
"""Connections of one device; beyond them the oldest ends."""
RETRY_TOKEN_S = 10.0
MAX_ANSWERS = 200
"""Answers to strangers in a second: refusals, resets and version lists.  More are left out."""
CID_BYTES = 8
MAX_RESET = 43
TELL_AGAIN_S = 60.0
"""The log tells of each reason for which somebody is turned away once in that time."""
RECEIVE_BUFFER = 4 * 1024 * 1024
MAX_DATAGRAM = 9_216
"""What is larger is cut, and so is noise: no network carries it, and we send less."""
VERSIONS = configuration(is_client=False).supported_versions

Certificate = Callable[[], tuple[bytes, bytes]]


class QuicListener(DatagramProtocol):
    """One UDP port.  Bound before or while the reactor runs, stopped as a Deferred."""

    _log = Logger()
    noisy = False

    def __init__(
        self,
        *,
        name: str,
        address: HostPort,
        desk: INodeDesk,
        certificate: Certificate,
        reactor: Any,
        elapsed_s: Callable[[], float],
        soon: Callable[[Callable[[], object]], object],
        entropy: Entropy,
        now_ms: Callable[[], int],
        max_connections: int = MAX_CONNECTIONS,
        reset_key: bytes | None = None,
    ) -> None:
        """``certificate`` gives key and chain to serve (PEM), asked at every handshake.

        ``reset_key``: 32 secret bytes that outlive this process.  With them a peer of an earlier
        life of the gateway learns at once that its connection is gone.
        """
        self.name = name
        self.address = address
        self.refused: Counter[str] = Counter()
        """Connections that were not admitted, by reason."""
        self._desk = desk
        self._certificate = certificate
        self._reactor = reactor
        self._elapsed_s = elapsed_s
        self._soon = soon
        self._entropy = entropy
        self._now_ms = now_ms
        self._max_connections = max_connections
        self._reset_key = reset_key or secrets.token_bytes(32)
        self._served: tuple[bytes, bytes] | None = None
        self._configuration: QuicConfiguration
        self._tokens = QuicRetryTokenHandler()
        self._begun = Windows(MAX_BEGUN_OF_SOURCE, 1_000, max_keys=MAX_SOURCES)
        self._told_s: dict[str, float] = {}
        self._routes: dict[bytes, _Routed] = {}
        self._shaking: dict[_Routed, str] = {}
        """Connections whose handshake is open, with their sources."""
        self._sources: Counter[str] = Counter()
        self._admitted: OrderedDict[_Routed, None] = OrderedDict()
        self._answers_left = MAX_ANSWERS
        self._answers_from_s = elapsed_s()
        self._port: Any = None
        self._closed = False

    # -- its life -------------------------------------------------------------------------------

    def bind(self) -> None:
        """Listen; ``address`` then holds the port.

        :raises PortTaken, CannotBind: it is not possible.
        """
        require_client_certificates(self.name, str(self.address))
        self._configured()
        host = _literal(self.name, self.address)
        try:
            self._port = self._reactor.listenUDP(self.address.port, self, host, MAX_DATAGRAM)
        except CannotListenError as error:
            raise not_listening(
                self.name, str(self.address), self.address.port, error.socketError
            ) from error
        self.address = self.address.with_port(self._port.getHost().port)

    def open(self) -> Deferred[None]:
        """As :meth:`bind`, as a Deferred."""
        return maybeDeferred(self.bind)

    def stop(self, grace_s: float) -> Deferred[None]:
        """Take nobody any more, and end every connection after ``grace_s``."""
        if self._port is None:
            return succeed(None)
        self._closed = True
        return Deferred.fromCoroutine(self._stop(grace_s))

    async def _stop(self, grace_s: float) -> None:
        for routed in set(self._routes.values()):
            routed.connection.finish()
        await deferLater(self._reactor, grace_s)
        for routed in set(self._routes.values()):
            routed.link.close(QuicErrorCode.NO_ERROR)
            routed.link.flush()
            routed.link.abandon()
        port, self._port = self._port, None
        if port is not None:
            await maybeDeferred(port.stopListening)

    def startProtocol(self) -> None:
        """Room for what arrives while the reactor is busy."""
        handle = getattr(self.transport, "socket", None)
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def count(self) -> int:
        """Connections that are admitted."""
        return len(self._admitted)

    # -- what arrives ---------------------------------------------------------------------------

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        if datagram[:1] < b"\x80":  # a short header: all but the first few packets have one
            routed = self._routes.get(datagram[1 : 1 + CID_BYTES])
            if routed is not None:
                routed.link.datagram(datagram, addr)
                return
        try:
            header = pull_quic_header(Buffer(data=datagram), host_cid_length=CID_BYTES)
        except ValueError:  # and BufferReadError, which is one
            return
        routed = self._routes.get(header.destination_cid)
        if routed is not None:
            routed.link.datagram(datagram, addr)
        elif header.packet_type is QuicPacketType.ONE_RTT:
            self._reset(header.destination_cid, len(datagram), addr)
        elif not self._closed and len(datagram) >= SMALLEST_MAX_DATAGRAM_SIZE:
            self._stranger(datagram, header, addr)

    def _stranger(self, datagram: bytes, header: QuicHeader, addr: Address) -> None:
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return
        if header.version not in VERSIONS:
            self._answer(
                addr,
                lambda: encode_quic_version_negotiation(
                    source_cid=header.destination_cid,
                    destination_cid=header.source_cid,
                    supported_versions=VERSIONS,
                ),
            )
        elif header.packet_type is QuicPacketType.INITIAL:
            self._initial(datagram, header, addr)

    def _initial(self, datagram: bytes, header: QuicHeader, addr: Address) -> None:
        """A first packet: refused, sent back to prove its address, or the beginning."""
        try:
            source = source_of(addr[0])
        except Malformed:
            return
        if len(self._admitted) >= self._max_connections:
            self._refuse(header, addr, "full")
            return
        original = header.destination_cid
        if header.token:
            try:
                original = self._tokens.validate_token(
                    address=addr,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    # aioquic's tokens live longer than ours (PROTOCOL: QUIC client certificates).
                    now=self._elapsed_s() + TOKEN_LIFETIME - RETRY_TOKEN_S,
                )
            except ValueError:
                self._close(header, addr, QuicErrorCode.INVALID_TOKEN)
                return
        elif self._must_prove(source):
            self._retry(header, addr)
            return
        if self._has_place(source, bool(header.token)):
            self._begin(datagram, header, addr, original, source)
        else:
            self.turn_away("handshakes", addr[0])

    def _must_prove(self, source: str) -> bool:
        """Whether a peer must show that it receives at its address before anything is begun.

        Addresses can be forged: whatever comes from one unproven costs it a Retry, never its place.
        """
        many = len(self._shaking) >= RETRY_FROM or self._sources[source] >= RETRY_FROM // 2
        return many or self._begun.wait_ms((source, False), self._now_elapsed_ms()) > 0

    def _has_place(self, source: str, proven: bool) -> bool:
        """Whether another handshake may begin.  Who is not let in asks again in a moment."""
        now_ms = self._now_elapsed_ms()
        if self._begun.wait_ms((source, proven), now_ms):
            return False
        crowd = None
        if self._sources[source] >= MAX_HANDSHAKES_OF_SOURCE:
            crowd = source
        elif len(self._shaking) >= MAX_OPEN_HANDSHAKES:
            crowd = max(self._sources, key=self._sources.__getitem__)
        if crowd is not None and not self._make_room(crowd, source):
            return False
        self._begun.add((source, proven), now_ms)
        return True

    def _make_room(self, crowd: str, source: str) -> bool:
        """Forget the oldest open handshake of a source that has many, for one of another source.

        For one that has as many it must have had its time: a fleet behind one address would push
        itself out.
        """
        oldest = next(each for each, from_there in self._shaking.items() if from_there == crowd)
        fewer = self._sources[crowd] > self._sources[source] + 1
        if not fewer and self._elapsed_s() - oldest.begun_s < USUAL_HANDSHAKE_S:
            return False
        oldest.link.abandon()
        return True

    def _now_elapsed_ms(self) -> int:
        return int(self._elapsed_s() * 1000)

    def _begin(
        self, datagram: bytes, header: QuicHeader, addr: Address, original: bytes, source: str
    ) -> None:
        engine = Engine(
            configuration=self._configured(),
            asks_certificate=True,
            reset_token=self._reset_token,
            original_destination_connection_id=original,
            retry_source_connection_id=header.destination_cid if header.token else None,
        )
        routed = _Routed(self, engine, addr)
        self._shaking[routed] = source
        self._sources[source] += 1
        self.route(header.destination_cid, routed)
        self.route(engine.host_cid, routed)
        routed.link.datagram(datagram, addr)
        if not engine.begun:  # noise that looks like a first packet
            routed.link.abandon()

    def _configured(self) -> QuicConfiguration:
        """The configuration of the next connection: certificates are renewed while we run."""
        served = self._certificate()
        if served != self._served:
            key, chain = served
            first, *others = x509.load_pem_x509_certificates(chain)
            self._configuration = configuration(
                is_client=False,
                connection_id_length=CID_BYTES,
                certificate=first,
                certificate_chain=others,
                private_key=load_pem_private_key(key, password=None),
            )
            self._served = served
        return self._configuration

    # -- answers to strangers -------------------------------------------------------------------

    def _answer(self, addr: Address, make: Callable[[], bytes]) -> None:
        """Answer where that is not asked too often: addresses of strangers may be forged."""
        now = self._elapsed_s()
        if now - self._answers_from_s >= 1.0:
            self._answers_from_s, self._answers_left = now, MAX_ANSWERS
        if self._answers_left > 0:
            self._answers_left -= 1
            self.send(make(), addr)

    def _retry(self, header: QuicHeader, addr: Address) -> None:
        """Cheap, and smaller than what it answers: it is not counted."""
        source_cid = os.urandom(CID_BYTES)
        token = self._tokens.create_token(
            address=addr,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source_cid,
            now=self._elapsed_s(),
        )
        answer = encode_quic_retry(
            version=_version(header),
            source_cid=source_cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self.send(answer, addr)

    def turn_away(self, reason: str, host: str) -> None:
        """Count somebody who does not come in, and say so now and then."""
        self.refused[reason] += 1
        now = self._elapsed_s()
        if now - self._told_s.get(reason, float("-inf")) >= TELL_AGAIN_S:
            self._told_s[reason] = now
            line = "quic: {host} is not let in: {reason} ({n} so far)"
            self._log.info(line, host=host, reason=reason, n=self.refused[reason])

    def _refuse(self, header: QuicHeader, addr: Address, reason: str) -> None:
        self.turn_away(reason, addr[0])
        self._close(header, addr, QuicErrorCode.CONNECTION_REFUSED)

    def _close(self, header: QuicHeader, addr: Address, error_code: int) -> None:
        self._answer(addr, lambda: _closing_initial(header, error_code))

    def _reset(self, cid: bytes, length: int, addr: Address) -> None:
        """Tell a peer that its connection is not known here (RFC 9000, 10.3): it was another
        life of this gateway that had it."""
        size = min(length - 1, MAX_RESET)  # smaller each time: two of us would not loop
        if size >= RESET_TOKEN + 5:
            noise = bytearray(os.urandom(size - RESET_TOKEN))
            noise[0] = noise[0] & 0x3F | 0x40
            self._answer(addr, lambda: bytes(noise) + self._reset_token(cid))

    def _reset_token(self, cid: bytes) -> bytes:
        return hmac.digest(self._reset_key, cid, hashlib.sha256)[:RESET_TOKEN]

    # -- what its connections say ---------------------------------------------------------------

    def send(self, datagram: bytes, addr: Address) -> None:
        """Send a datagram; one that the system does not take now is lost like any other."""
        if self._port is not None:
            with contextlib.suppress(OSError):
                self._port.write(datagram, addr)

    def route(self, cid: bytes, routed: _Routed) -> None:
        """Datagrams with that connection id are this connection's from now on."""
        self._routes[cid] = routed
        routed.cids.add(cid)

    def unroute(self, cid: bytes, routed: _Routed) -> None:
        """They are nobody's any more."""
        if self._routes.get(cid) is routed:
            del self._routes[cid]
        routed.cids.discard(cid)

    def admitted(self, routed: _Routed) -> None:
        """The trust gate let it in.

        :raises LimitReached: there is no room any more.
        """
        if len(self._admitted) >= self._max_connections:
            raise LimitReached("QUIC connections", self._max_connections)
        self._handshake_over(routed)
        self._admitted[routed] = None
        device_id = routed.connection.device_id
        same = [each for each in self._admitted if each.connection.device_id == device_id]
        for oldest in same[:-MAX_OF_DEVICE]:
            oldest.connection.close(LimitReached("QUIC connections of one device", MAX_OF_DEVICE))

    def told_over(self, routed: _Routed) -> None:
        """It takes nobody's room any more; its last words may still be repeated."""
        self._handshake_over(routed)
        self._admitted.pop(routed, None)

    def gone(self, routed: _Routed) -> None:
        """Nothing of it is left."""
        self.told_over(routed)
        for cid in list(routed.cids):
            self.unroute(cid, routed)

    def _handshake_over(self, routed: _Routed) -> None:
        source = self._shaking.pop(routed, None)
        if source is not None:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]


class _Routed:
    """A connection of the listener: its link, its connection ids, and its ten seconds."""

    def __init__(self, listener: QuicListener, engine: Engine, addr: Address) -> None:
        self.cids: set[bytes] = set()
        self.begun_s = listener._elapsed_s()
        self._host = str(addr[0])
        self._listener = listener
        self.connection = ServedConnection(
            desk=listener._desk,
            clock=listener._reactor,
            address=lambda: _host(engine, addr),
            entropy=listener._entropy,
            now_ms=listener._now_ms,
            admitted=self._admitted,
            refused=self._refused,
            over=self._over,
        )
        self.link = _RoutedLink(
            self,
            listener,
            engine,
            clock=listener._reactor,
            elapsed_s=listener._elapsed_s,
            soon=listener._soon,
            send=listener.send,
            owner=self.connection,
        )
        self.connection.link = self.link
        self._handshake = listener._reactor.callLater(HANDSHAKE_S, self._too_slow)

    def _admitted(self) -> None:
        self._handshake.cancel()
        self._listener.admitted(self)

    def _refused(self, reason: str) -> None:
        self._listener.turn_away(reason, self._host)

    def _too_slow(self) -> None:
        self._listener.turn_away("handshake_timeout", self._host)
        self.link.close(QuicErrorCode.CONNECTION_REFUSED, "", QuicFrameType.PADDING)

    def _over(self) -> None:
        if self._handshake.active():
            self._handshake.cancel()
        self._listener.told_over(self)


class _RoutedLink(QuicLink):
    """Keeps the listener's routes."""

    def __init__(self, routed: _Routed, listener: QuicListener, engine: Engine, **more: Any):
        self._routed = routed
        self._listener = listener
        super().__init__(engine, **more)

    def other(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.ConnectionIdIssued):
            self._listener.route(event.connection_id, self._routed)
        elif isinstance(event, events.ConnectionIdRetired):
            self._listener.unroute(event.connection_id, self._routed)

    def gone(self) -> None:
        self._listener.gone(self._routed)


def _host(engine: Engine, first: Address) -> str:
    address = engine.get_peer_address() or first
    return str(address[0]).removeprefix("::ffff:")


def _version(header: QuicHeader) -> int:
    assert header.version is not None, "a first packet names its version"
    return header.version


def _closing_initial(header: QuicHeader, error_code: int) -> bytes:
    """An Initial packet that closes before anything began: keys of the first packet, no state."""
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=_version(header))
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
        peer_cid=header.source_cid,
        version=_version(header),
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    buffer = builder.start_frame(
        QuicFrameType.TRANSPORT_CLOSE, capacity=TRANSPORT_CLOSE_FRAME_CAPACITY
    )
    buffer.push_uint_var(error_code)
    buffer.push_uint_var(QuicFrameType.PADDING)
    buffer.push_uint_var(0)
    return bytes(builder.flush()[0][0])


def _literal(name: str, address: HostPort) -> str:
    """The IP address to listen on."""
    host = "127.0.0.1" if address.host == "localhost" else address.host  # as devices are told
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise CannotBind(name, str(address), cause) from error
    return str(found[0][4][0])
