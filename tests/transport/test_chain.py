"""Fetching a chain before anybody is trusted: what comes back, and what does not."""

from __future__ import annotations

import socket

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from palyra.config.addresses import HostPort
from palyra.errors import GatewayUnreachable
from palyra.transport.chain import fetch_chain
from palyra.transport.grpcserver import EnrolmentServicer
from tests.transport.desks import FakeEnrolment
from tests.transport.serving import AUTHORITY, serve


class _HangsUp(Protocol):
    """No TLS, and no patience."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_the_chain_of_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaf first, the CA last, under whatever name the gateway was addressed."""
    from twisted.internet import reactor

    listener = await serve(monkeypatch, EnrolmentServicer(FakeEnrolment()), mutual=False)
    try:
        for host in ("127.0.0.1", "localhost"):
            address = HostPort(host, listener.address.port)
            assert (await fetch_chain(reactor, address))[-1] == AUTHORITY.ca_der
    finally:
        await listener.stop(0)


@pytest_twisted.ensureDeferred
async def test_nobody_listens() -> None:
    """The address and the cause are told."""
    from twisted.internet import reactor

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(GatewayUnreachable) as caught:
        await fetch_chain(reactor, HostPort("127.0.0.1", port))
    assert "connection refused" in caught.value.sentence
    assert f"127.0.0.1:{port}" in caught.value.sentence


@pytest_twisted.ensureDeferred
async def test_something_else_listens() -> None:
    """A server without TLS is no gateway."""
    from twisted.internet import reactor

    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await endpoint.listen(Factory.forProtocol(_HangsUp))
    try:
        with pytest.raises(GatewayUnreachable) as caught:
            await fetch_chain(reactor, HostPort("127.0.0.1", port.getHost().port))
        assert "no TLS there" in caught.value.sentence
    finally:
        await port.stopListening()
