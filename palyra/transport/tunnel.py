"""A connection through an HTTP proxy: CONNECT (RFC 9110, 9.3.6), and what follows is the target's.

gRPC does the same by itself; this is for what is not gRPC.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.errors import GatewayUnreachable
from palyra.transport.causes import cause_of
from palyra.transport.proxy import Proxy, as_asked

TIMEOUT_S = 10.0
"""For the connection to the proxy, and then for its answer."""
MAX_HEAD = 16 * 1024
"""Bytes of the proxy's answer."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r\n")


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to ``target`` through a proxy, which looks its name up."""

    def __init__(
        self, reactor: Any, proxy: Proxy, target: HostPort, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._target = target
        self._timeout_s = timeout_s

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Fires with the target's protocol; fails with ProxyUnusable."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        proxy = self._proxy
        opening = _Opening(proxy, _request(proxy, self._target), factory)
        try:
            host = proxy.address.host.encode("idna")
            endpoint = HostnameEndpoint(self._reactor, host, proxy.address.port, self._timeout_s)
            await connectProtocol(endpoint, opening)
            return await opening.opened.addTimeout(self._timeout_s, self._reactor)
        except (CancelledError, GatewayUnreachable):
            await opening.give_up()
            raise
        except Exception as error:
            await opening.give_up()
            raise proxy.unusable(cause_of(error, "it closed the connection")) from error


def _request(proxy: Proxy, target: HostPort) -> bytes:
    """The head of a CONNECT.

    :raises GatewayUnreachable: what is named there is no name.
    """
    where = as_asked(target)
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class _Opening(Protocol):
    """Asks the proxy, and then hands everything over to the target's protocol."""

    def __init__(self, proxy: Proxy, request: bytes, factory: IProtocolFactory) -> None:
        self.opened: Deferred[IProtocol] = Deferred()
        self._proxy = proxy
        self._request = request
        self._factory = factory
        self._head = b""
        self._inner: Any = None
        self._over: Deferred[None] = Deferred()

    def give_up(self) -> Deferred[None]:
        """Nobody waits for it any more; fires when the connection is closed, if there was one."""
        transport: Any = self.transport
        if transport is None:
            return succeed(None)
        transport.abortConnection()
        return self._over

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
        elif not self.opened.called:
            self._head += data
            self._look()

    def _look(self) -> None:
        head, ended, rest = self._head.partition(b"\r\n\r\n")
        if len(head) > MAX_HEAD:
            self._fail("its answer has no end")
        elif ended:
            self._head = b""
            self._answered(head + ended, rest)

    def _answered(self, head: bytes, rest: bytes) -> None:
        status = _STATUS.match(head)
        if status is None:
            self._fail("it speaks no HTTP")
        elif not status[1].startswith(b"2"):
            self.opened.errback(self._proxy.refused(int(status[1])))
        else:
            self._open(rest)

    def _open(self, rest: bytes) -> None:
        transport: Any = self.transport
        inner = self._inner = self._factory.buildProtocol(transport.getPeer())
        assert inner is not None, "a factory of one connection builds it"
        inner.makeConnection(transport)
        self.opened.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            self._fail("it closed the connection")
        self._over.callback(None)

    def _fail(self, problem: str) -> None:
        self.opened.errback(self._proxy.unusable(problem))
