"""Delivering one webhook: HTTPS to an address that was looked at first, and no further.

The name is resolved once, every address is checked, and the connection goes to a checked address
with the name still in SNI and in the certificate: a name that resolves differently the second time
(DNS rebinding) reaches nothing.  Redirects are not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet._sslverify import IOpenSSLTrustRoot  # public only through ssl's functions
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from palyra import __version__
from palyra.core.webhooks import public

TIMEOUT_S = 10.0
MAX_ANSWER = 64 * 1024
HTTPS_PORT = 443

Resolve = Callable[[str, int], Any]
"""``socket.getaddrinfo``."""


class NotDelivered(Exception):
    """Why a message was not taken; worth another try."""


@attrs.frozen
class Target:
    """Where messages go.  ``ca_file`` has CAs in PEM; empty: the system's are trusted."""

    url: str
    allow_private: bool = False
    ca_file: str = ""

    @classmethod
    def of(cls, url: str, allow_private: bool, ca_file: str) -> Target:
        """Look at the CA's file now: what is wrong with it is found at the start.

        :raises OSError, ValueError: it cannot be read, or holds no certificate.
        """
        if ca_file:
            load_pem_x509_certificates(Path(ca_file).expanduser().read_bytes())
        return cls(url, allow_private, ca_file and str(Path(ca_file).expanduser()))


class WebhookClient:
    """Delivers messages to targets; each try has a connection of its own."""

    def __init__(self, reactor: Any, resolve: Resolve) -> None:
        self._reactor = reactor
        self._resolve = resolve

    def deliver(self, target: Target, headers: Mapping[str, str], body: bytes) -> Deferred[None]:
        """POST a JSON body; fires when it was answered with a 2xx.

        Fails with :class:`NotDelivered` in words, after at most 10 seconds.
        """
        asked = Deferred.fromCoroutine(self._deliver(target, headers, body))
        asked.addTimeout(TIMEOUT_S, self._reactor, onTimeoutCancel=_timed_out)
        return asked.addErrback(_in_words)

    async def _deliver(self, target: Target, headers: Mapping[str, str], body: bytes) -> None:
        factory = _CheckedEndpoints(self._reactor, self._resolve, target)
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent = Agent.usingEndpointFactory(self._reactor, factory, pool)
        fields = Headers({name: [value] for name, value in headers.items()})
        fields.setRawHeaders("content-type", ["application/json"])
        fields.setRawHeaders("user-agent", [f"palyra/{__version__}"])
        await factory.look_up()
        response = await agent.request(b"POST", target.url.encode("ascii"), fields, _Body(body))
        await _drained(response)
        if not 200 <= response.code < 300:
            raise NotDelivered(f"it answered {response.code}")


@implementer(IAgentEndpointFactory)
class _CheckedEndpoints:
    """Endpoints to the addresses that were looked up and found to be allowed."""

    def __init__(self, reactor: Any, resolve: Resolve, target: Target) -> None:
        self._reactor = reactor
        self._resolve = resolve
        self._target = target
        self._uri = URI.fromBytes(target.url.encode("ascii"), defaultPort=HTTPS_PORT)
        self._address = ""

    async def look_up(self) -> None:
        """Resolve the name, once; every address it has must be allowed."""
        host, port = self._uri.host.decode("ascii").strip("[]"), self._uri.port
        found = await deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), self._resolve, host, port
        )
        addresses = [each[4][0] for each in found]
        if not addresses:
            raise NotDelivered(f"{host} has no address")
        if not self._target.allow_private and not all(map(public, addresses)):
            raise NotDelivered(f"{host} is an address of a private network")
        self._address = addresses[0]

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        policy = BrowserLikePolicyForHTTPS(self._trust())
        tls = policy.creatorForNetloc(uri.host.strip(b"[]"), uri.port)
        plain = HostnameEndpoint(self._reactor, self._address.encode("ascii"), uri.port)
        endpoint: IStreamClientEndpoint = wrapClientTLS(tls, plain)
        return endpoint

    def _trust(self) -> Any:
        ca_file = self._target.ca_file
        return _TrustFile(ca_file) if ca_file else ssl.platformTrust()


@implementer(IOpenSSLTrustRoot)
@attrs.frozen
class _TrustFile:
    """The CAs in a file and no others."""

    path: str

    def _addCACertsToContext(self, context: SSL.Context) -> None:
        context.load_verify_locations(self.path)


@implementer(IBodyProducer)
class _Body:
    """A body that is there already."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It was all written at once."""

    def resumeProducing(self) -> None:
        """As :meth:`pauseProducing`."""

    def stopProducing(self) -> None:
        """As :meth:`pauseProducing`."""


class _Drain(Protocol):
    """Takes an answer's body and keeps nothing; more than MAX_ANSWER is not read."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._stop())
        self._left = MAX_ANSWER

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._stop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.callback(None)

    def _stop(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


def _drained(response: IResponse) -> Deferred[None]:
    drain = _Drain()
    response.deliverBody(drain)
    return drain.done


def _timed_out(result: Any, timeout_s: float) -> Any:
    if isinstance(result, Failure):
        raise NotDelivered(f"no answer in {timeout_s:g} s")
    return result


def _in_words(failure: Failure) -> None:
    error = failure.value
    if isinstance(error, NotDelivered):
        raise error
    if isinstance(error, ResponseFailed) and error.reasons:
        error = error.reasons[0].value
    if failure.check(DNSLookupError, OSError, ConnectError, ConnectionClosed, SSL.Error):
        raise NotDelivered(str(error) or type(error).__name__) from error
    raise NotDelivered(f"{type(error).__name__}: {error}") from error
