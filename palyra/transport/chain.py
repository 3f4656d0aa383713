"""Fetching a gateway's certificate chain before it is trusted (PROTOCOL: URI PAIRING, step 1).

Nothing is sent over this connection.  The chain's last certificate is the CA itself; what it must
hash to came over another road, and from then on it is the only root.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.errors import GatewayUnreachable

TLS_NAME = "palyrad-node-rpc"
"""The name every gateway certificate carries; devices check it and never the address typed."""
TIMEOUT_S = 10.0
MAX_CHAIN = 4


def fetch_chain(reactor: Any, address: HostPort) -> Deferred[list[bytes]]:
    """The chain a TLS server shows, leaf first, as DER; nothing of it is verified.

    IPv6 and IPv4 are raced.  Fails with :class:`GatewayUnreachable`.
    """
    catcher = _ChainCatcher()

    async def fetch() -> list[bytes]:
        try:
            host = address.host.encode("idna")
            endpoint = HostnameEndpoint(reactor, host, address.port, TIMEOUT_S)
            await connectProtocol(wrapClientTLS(_Unverified(), endpoint), catcher)
            return await catcher.caught.addTimeout(TIMEOUT_S, reactor)
        except CancelledError:
            raise
        except Exception as error:
            raise GatewayUnreachable(str(address), _cause(error)) from error
        finally:
            transport: Any = catcher.transport
            if transport is not None:
                transport.abortConnection()

    return Deferred.fromCoroutine(fetch())


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


def _cause(error: Exception) -> str:
    text = str(error).lower()
    for known in ("refused", "no route to host", "network is unreachable"):
        if known in text:
            return "connection refused" if known == "refused" else known
    if "lookup" in text or "name" in text:
        return "the name is not known"
    if "timeout" in type(error).__name__.lower() or "timed out" in text:
        return "no answer"
    return "no TLS there"
