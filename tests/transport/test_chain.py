"""Fetching a chain before anybody is trusted: what comes back, and what does not."""

from __future__ import annotations

import socket

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from palyra.config.addresses import HostPort
from palyra.errors import CertificateRefused, ClockSkew, GatewayUnreachable
from palyra.pki.authority import DAY_MS
from palyra.pki.certificates import unix_ms
from palyra.transport.chain import check_dates, fetch_chain
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


def test_a_clock_that_tls_would_fail_on() -> None:
    """Before the first second of a certificate or after its last one: both times are named."""
    root = AUTHORITY.ca_certificate
    begins = unix_ms(root.not_valid_before_utc)
    ends = unix_ms(root.not_valid_after_utc)
    for now_ms in (begins, ends, ends + 999):
        check_dates(AUTHORITY.ca_der, now_ms)
    for now_ms, words in ((begins - 1, "certificate begins ("), (ends + 1_000, "ended (")):
        with pytest.raises(ClockSkew) as caught:
            check_dates(AUTHORITY.ca_der, now_ms)
        assert words in caught.value.sentence
        assert caught.value.sentence.startswith("This clock (")
    with pytest.raises(ClockSkew) as caught:
        check_dates(AUTHORITY.ca_der, begins - 40 * DAY_MS)
    assert caught.value.here != caught.value.begins


def test_dates_of_what_is_no_certificate() -> None:
    """There are none."""
    with pytest.raises(CertificateRefused):
        check_dates(b"junk", 0)
