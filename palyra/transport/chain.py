"""Fetching a gateway's certificate chain before it is trusted (PROTOCOL: Trust; Exchanges).

Nothing is sent over this connection.  The chain's last certificate is the CA itself, and from then
on the only root; what it must hash to came over another road, or is bound into PIN pairing.
"""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.errors import CertificateRefused, ClockSkew, GatewayUnreachable
from palyra.pki.certificates import unix_ms
from palyra.transport.causes import cause_of
from palyra.transport.proxy import Proxy
from palyra.transport.tunnel import TunnelEndpoint

TLS_NAME = "palyrad-node-rpc"
"""The name every gateway certificate carries; devices check it and never the address typed."""
TIMEOUT_S = 10.0
MAX_CHAIN = 4


def fetch_chain(
    reactor: Any, address: HostPort, proxy: Proxy | None = None
) -> Deferred[list[bytes]]:
    """The chain a TLS server shows, leaf first, as DER; nothing of it is verified.

    IPv6 and IPv4 are raced.  Fails with :class:`GatewayUnreachable`.
    """
    catcher = _ChainCatcher()

    async def fetch() -> list[bytes]:
        try:
            endpoint = _endpoint(reactor, address, proxy)
            await connectProtocol(wrapClientTLS(_Unverified(), endpoint), catcher)
            return await catcher.caught.addTimeout(TIMEOUT_S, reactor)
        except (CancelledError, GatewayUnreachable):
            raise
        except Exception as error:
            raise GatewayUnreachable(str(address), cause_of(error, "no TLS there")) from error
        finally:
            transport: Any = catcher.transport
            if transport is not None:
                transport.abortConnection()

    return Deferred.fromCoroutine(fetch())


def _endpoint(reactor: Any, address: HostPort, proxy: Proxy | None) -> IStreamClientEndpoint:
    if proxy is not None:
        return TunnelEndpoint(reactor, proxy, address)
    return HostnameEndpoint(reactor, address.host.encode("idna"), address.port, TIMEOUT_S)


def check_dates(leaf_der: bytes, now_ms: int) -> None:
    """Refuse a certificate that TLS would refuse on its dates, with a sentence that names them.

    ``now_ms`` is this device's clock, Unix milliseconds; the certificate is not trusted yet.

    :raises ClockSkew: by that clock it has not begun, or has ended.
    :raises CertificateRefused: it is no certificate.
    """
    try:
        leaf = x509.load_der_x509_certificate(leaf_der)
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    except ValueError as error:
        raise CertificateRefused("malformed") from error
    here = _day_and_time(datetime.datetime.fromtimestamp(now_ms / 1000))
    if now_ms < unix_ms(begins):
        raise ClockSkew(here, begins=_day_and_time(begins))
    if now_ms >= unix_ms(ends) + 1000:  # its last second is valid (RFC 5280, 4.1.2.5)
        raise ClockSkew(here, ends=_day_and_time(ends))


def _day_and_time(moment: datetime.datetime) -> str:
    return f"{moment.astimezone():%d %b %H:%M}"


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS connections that accept any certificate: only to look at it."""

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_NONE)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        connection = SSL.Connection(context, None)
        connection.set_alpn_protos([b"h2"])
        connection.set_tlsext_host_name(TLS_NAME.encode())
        connection.set_connect_state()
        return connection


@implementer(IHandshakeListener)
class _ChainCatcher(Protocol):
    """Takes the chain when the handshake is done, and hangs up."""

    def __init__(self) -> None:
        self.caught: Deferred[list[bytes]] = Deferred()

    def handshakeCompleted(self) -> None:
        transport: Any = self.transport
        chain = transport.getHandle().get_peer_cert_chain() or []
        ders = [each.to_cryptography().public_bytes(Encoding.DER) for each in chain[:MAX_CHAIN]]
        transport.loseConnection()
        if not self.caught.called:
            self.caught.callback(ders)

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        if not self.caught.called:
            self.caught.errback(reason)
