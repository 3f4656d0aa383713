"""TLS for Twisted servers of ours: the gateway's certificate, and a client's where it has one.

One port takes TLS and, where that is allowed, plain connections: the first byte tells them apart
(RFC 8446 section 5.1: a handshake record begins with 22, which no HTTP request does).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.errors import PalyraError
from palyra.transport.crowd import Crowd, OfPeer, nobody

HANDSHAKE_S = 10.0
"""How long a connection may be silent, and how long its TLS handshake may take."""
MAX_CONNECTIONS = 1024
TLS_RECORD = 0x16
_NO_RENEGOTIATION = 0x4000_0000
"""SSL_OP_NO_RENEGOTIATION (openssl/ssl.h), which not every pyOpenSSL names."""
HTTP_1_1 = b"http/1.1"
SPEAKS_HTTPS = b"this port speaks HTTPS\nopen it with https://\n"
_PLAIN_REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(SPEAKS_HTTPS), SPEAKS_HTTPS)
)

Certificate = Callable[[], tuple[bytes, bytes]]
"""Gives the key and the certificate chain to serve now, both PEM."""
Roots = Callable[[], bytes]
"""Gives the CA certificates (PEM) that clients may be issued by now."""
Refused = Callable[[str], object]
"""Told why a connection was turned away, as a code."""


def nobody_counts(reason: str) -> None:
    """What was turned away is not counted."""


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """TLS 1.2 and newer, HTTP/1.1, no resumption, no renegotiation; client certificates optional.

    What is served and who issues client certificates are asked for at every connection; those
    that are open stay.  No session is ever resumed: a resumed one would carry a certificate that
    nobody has looked at again.  With ``refuse_strangers`` a client certificate that does not
    verify ends the handshake.  Without, its holder has proved no more than to have its key, and
    whoever reads it from the transport has to verify it.
    """

    _log = Logger()

    def __init__(
        self, certificate: Certificate, client_ca_pem: Roots, *, refuse_strangers: bool = True
    ) -> None:
        self._certificate = certificate
        self._client_ca_pem = client_ca_pem
        self._refuse_strangers = refuse_strangers
        self._served: tuple[bytes, bytes, bytes] | None = None
        self._context: SSL.Context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """The OpenSSL side of one connection.

        Where something new cannot be read, what was served before is.
        """
        try:
            self.load()
        except (OSError, ValueError, PalyraError, SSL.Error):
            if self._served is None:
                raise
            self._log.failure("the certificate cannot be read anew")
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(protocol)
        return connection

    def load(self) -> None:
        """Read what is to be served now.

        :raises ValueError, OpenSSL.SSL.Error: it is no certificate, no key, or not its key.
        """
        wanted = (*self._certificate(), self._client_ca_pem())
        if wanted != self._served:
            self._context = _context(*wanted, refuse_strangers=self._refuse_strangers)
            self._served = wanted


def _context(key: bytes, chain: bytes, roots: bytes, *, refuse_strangers: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_TICKET
        | SSL.OP_NO_COMPRESSION
        | _NO_RENEGOTIATION
        | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # As Any: cryptography's own types are taken, which not every stub says.
    certificates: list[Any] = [*x509.load_pem_x509_certificates(chain)]
    leaf, *others = certificates
    context.use_certificate(leaf)
    for other in others:
        context.add_extra_chain_cert(other)
    private: Any = load_pem_private_key(key, None)
    context.use_privatekey(private)
    context.check_privatekey()
    store = context.get_cert_store()
    assert store is not None, "a new context has one"
    trusted: list[Any] = [*x509.load_pem_x509_certificates(roots)]
    for root in trusted:
        store.add_cert(crypto.X509.from_cryptography(root))
        context.add_client_ca(root)
    context.set_verify(SSL.VERIFY_PEER, _verified if refuse_strangers else _proven)
    context.set_alpn_select_callback(_select)
    context.set_info_callback(_tell_handshake)
    return context


def _verified(connection: SSL.Connection, peer: Any, error: int, depth: int, ok: int) -> bool:
    return bool(ok)


def _proven(connection: SSL.Connection, peer: Any, error: int, depth: int, ok: int) -> bool:
    return True


def _select(connection: SSL.Connection, offered: list[bytes]) -> Any:
    return HTTP_1_1 if HTTP_1_1 in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _tell_handshake(connection: SSL.Connection, where: int, value: int) -> None:
    if where & SSL.SSL_CB_HANDSHAKE_DONE:
        protocol = connection.get_app_data()
        told = getattr(protocol.factory, "handshakes", {}).pop(protocol, None)
        if told is not None:
            told()


class _TlsFactory(TLSMemoryBIOFactory):
    """TLS over connections that a :class:`TellingFactory` has looked at."""

    def __init__(self, tls: ServerTls, inner: IProtocolFactory, reactor: Any) -> None:
        super().__init__(tls, False, inner, reactor)
        self.handshakes: dict[Any, Callable[[], None]] = {}
        """Who wants to know when a handshake is done."""


class _NoNegotiation(Factory):
    """A factory without its word on ALPN, which is :class:`ServerTls`'s to say."""

    noisy = False

    def __init__(self, inner: IProtocolFactory) -> None:
        self._inner: Any = inner

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._inner.buildProtocol(addr)

    def doStart(self) -> None:
        self._inner.doStart()

    def doStop(self) -> None:
        self._inner.doStop()


class TellingFactory(Factory):
    """Tells TLS from plain connections, and hands each to ``inner``.

    ``reactor`` is an IReactorTime.  ``plain_allowed``: who may do without TLS.  Those
    beyond what a :class:`Crowd` of ``max_connections`` takes are closed at once.  ``refused`` is
    told why each was turned away.
    """

    noisy = False

    def __init__(
        self,
        inner: IProtocolFactory,
        tls: ServerTls,
        *,
        reactor: Any,
        plain_allowed: OfPeer,
        max_connections: int = MAX_CONNECTIONS,
        speaks_for_many: OfPeer = nobody,
        refused: Refused = nobody_counts,
    ) -> None:
        self.plain = inner
        self.tls: Any = _TlsFactory(tls, _NoNegotiation(inner), reactor)
        self.reactor = reactor
        self.plain_allowed = plain_allowed
        self.open: set[Telling] = set()
        self.refused = refused
        self._crowd = Crowd(max_connections, speaks_for_many)
        self._empty: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Telling | None:
        """One connection; None, which closes it, where there are too many."""
        reason = self._crowd.refusal(addr)
        if reason is not None:
            self.refused(reason)
            return None
        return Telling(self, addr)

    def doStart(self) -> None:
        """Start what is behind it."""
        self.tls.doStart()

    def doStop(self) -> None:
        """Stop what is behind it."""
        self.tls.doStop()

    def close(self, grace_s: float) -> Deferred[None]:
        """Close every connection; what was written is sent, but within ``grace_s``.

        Fires when none is left.
        """
        for each in list(self.open):
            each.lose()
        if not self.open:
            return succeed(None)
        self._empty = Deferred()
        overdue = self.reactor.callLater(grace_s, self._cut_all)
        return self._empty.addCallback(lambda _: overdue.active() and overdue.cancel())

    def opened(self, connection: Telling) -> None:
        """A connection has begun."""
        self.open.add(connection)
        self._crowd.joined(connection.peer)

    def closed(self, connection: Telling) -> None:
        """A connection is over."""
        self.open.discard(connection)
        self._crowd.left(connection.peer)
        empty = self._empty
        if empty is not None and not self.open:
            self._empty = None
            empty.callback(None)

    def _cut_all(self) -> None:
        for each in list(self.open):
            each.cut()


class Telling(Protocol):
    """One connection: waits for its first byte, then is what carries everything else."""

    _log = Logger()

    def __init__(self, factory: TellingFactory, peer: IAddress | None) -> None:
        self._factory = factory
        self.peer = peer
        self._inner: IProtocol | None = None
        self._silent: Any = None
        self._late = False

    def connectionMade(self) -> None:
        """Begin to wait for what it is."""
        self._factory.opened(self)
        self._silent = self._factory.reactor.callLater(HANDSHAKE_S, self._too_slow)

    def dataReceived(self, data: bytes) -> None:
        """Find out what it is, then pass on everything."""
        if self._inner is None:
            self._begin(data[0])
        if self._inner is not None:
            self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self._known()
        if self._factory.tls.handshakes.pop(self._inner, None) is not None and not self._late:
            self._factory.refused("tls_handshake_failed")
        if self._inner is not None:
            self._inner.connectionLost(reason)
        self._factory.closed(self)

    def lose(self) -> None:
        """Close it once what was written is sent."""
        end: Any = self._inner if ISSLTransport.providedBy(self._inner) else self.transport
        end.loseConnection()

    def cut(self) -> None:
        """Close it at once."""
        transport: Any = self.transport
        transport.abortConnection()

    def _begin(self, first: int) -> None:
        if first == TLS_RECORD:
            self._begin_tls()
        elif self._factory.plain_allowed(self.peer):
            self._known()
            self._speak(self._factory.plain)
        else:
            self._refuse_plain()

    def _begin_tls(self) -> None:
        tls = self._factory.tls
        try:
            self._speak(tls)
        except Exception:
            self._log.failure("TLS cannot be served")
            self.cut()
        else:
            tls.handshakes[self._inner] = self._known

    def _speak(self, factory: Any) -> None:
        inner = factory.buildProtocol(self.peer)
        if inner is None:
            self.cut()
            return
        inner.makeConnection(self.transport)
        self._inner = inner

    def _refuse_plain(self) -> None:
        self._factory.refused("not_tls")
        transport: Any = self.transport
        transport.write(_PLAIN_REFUSED)
        transport.loseConnection()

    def _known(self) -> None:
        """It is no stranger any more: nothing hurries."""
        silent, self._silent = self._silent, None
        if silent is not None:
            silent.cancel()

    def _too_slow(self) -> None:
        self._silent, self._late = None, True
        self._factory.refused("too_slow")
        self.cut()
