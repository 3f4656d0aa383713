"""Through an HTTP proxy: what looks at a gateway and what speaks to it take the same way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from palyra._reactor import the_reactor
from palyra.config.addresses import HostPort
from palyra.errors import GatewayUnreachable, ProxyUnusable
from palyra.transport.asyncbridge import as_deferred
from palyra.transport.chain import fetch_chain
from palyra.transport.grpccaller import Caller
from palyra.transport.grpcclient import GatewayChannel
from palyra.transport.proxy import Proxy, proxy_from
from palyra.transport.tunnel import MAX_HEAD, TunnelEndpoint
from tests.integration.httpproxy import HttpProxy
from tests.integration.processes import HOST, free_port
from tests.node.awaiting import awaiting
from tests.transport.desks import FakeDesk
from tests.transport.serving import AUTHORITY, device_pair, serve
from tests.transport.test_grpcclient import HELLO, refusal
from tests.transport.test_grpcserver import node_servicer

NAME = "gateway.of.nobody"
PASSWORD = "ana:per%40cent"
Way = Callable[[HostPort, Proxy], Awaitable[object]]


def proxy_of(proxy: HttpProxy, url: str = "") -> Proxy:
    """The proxy as an environment names it."""
    found = proxy_from({"https_proxy": url or proxy.url}, HostPort(NAME, 7444))
    assert found is not None
    return found


async def look(address: HostPort, proxy: Proxy) -> object:
    """As a pairing does first of all."""
    return await fetch_chain(the_reactor(), address, proxy)


async def speak(address: HostPort, proxy: Proxy) -> object:
    """As every session begins."""
    channel = GatewayChannel(address, AUTHORITY.ca_pem, device_pair(), proxy)
    try:
        return await channel.register(HELLO)
    finally:
        await channel.close()


BOTH = pytest.mark.parametrize("way", [look, speak])


@asynccontextmanager
async def behind(monkeypatch: pytest.MonkeyPatch, proxy: HttpProxy) -> AsyncIterator[HostPort]:
    """A gateway at a name that only the proxy knows."""
    listener = await serve(monkeypatch, node_servicer(FakeDesk()), mutual=True)
    proxy.names[NAME] = HOST
    try:
        yield HostPort(NAME, listener.address.port)
    finally:
        await listener.stop(0)


@BOTH
@awaiting
async def test_a_name_that_only_the_proxy_knows(monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    """It is asked for it, and leads there; the gateway's certificate is seen as it is."""
    with HttpProxy() as proxy:
        async with behind(monkeypatch, proxy) as address:
            answer: Any = await way(address, proxy_of(proxy))
            assert proxy.asked == [str(address)]
            if way is look:
                assert answer[-1] == AUTHORITY.ca_der


@BOTH
@awaiting
async def test_a_name_and_password(monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    """They are told, as the URL has them without its escapes; wrong ones and none are named as the
    cause, and never shown."""
    with HttpProxy(password="ana:per@cent") as proxy:
        async with behind(monkeypatch, proxy) as address:
            await way(address, proxy_of(proxy, f"http://{PASSWORD}@{proxy.address}"))
            for known, words in (("eve:hunter2@", "does not take the name"), ("", "it wants a")):
                named = proxy_of(proxy, f"http://{known}{proxy.address}")
                error = await refusal(way(address, named))
                assert isinstance(error, ProxyUnusable)
                assert words in error.sentence and proxy.address in error.sentence
                for shown in (repr(named), str(named), repr(error), error.sentence):
                    assert "hunter2" not in shown and "Basic" not in shown


@BOTH
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", "it refuses to (403)"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", "it does not reach it (502)"),
    ],
)
@awaiting
async def test_a_refusal(way: Way, answer: bytes, words: str) -> None:
    """Is told with the proxy's address, and counts as a gateway that was not heard."""
    with HttpProxy() as proxy:
        proxy.answer = answer
        error = await refusal(way(HostPort(NAME, 7444), proxy_of(proxy)))
    assert isinstance(error, ProxyUnusable)
    assert error.sentence == f"The proxy {proxy.address} does not lead to the gateway: {words}."
    assert error.unreached and not error.cut


@BOTH
@awaiting
async def test_nobody_listens_there(way: Way) -> None:
    """It is the proxy's address that is told, and not the gateway's."""
    port = free_port()
    error = await refusal(way(HostPort(NAME, 7444), Proxy(HostPort(HOST, port))))
    assert isinstance(error, ProxyUnusable)
    assert error.sentence == (
        f"The proxy {HOST}:{port} does not lead to the gateway: connection refused."
    )


async def tunnelled(proxy: HttpProxy, factory: Factory, target: HostPort, **limit: float) -> Any:
    """What the protocol of a target becomes, through that proxy."""
    endpoint = TunnelEndpoint(the_reactor(), proxy_of(proxy), target, **limit)
    assert verifyObject(IStreamClientEndpoint, endpoint)
    return await endpoint.connect(factory)


class Ear(Protocol):
    """A target's protocol that keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.over: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self.over.callback(None)


EARS = Factory.forProtocol(Ear)
TARGET = HostPort(NAME, 7444)


@pytest.mark.parametrize("status", [200, 204])
@awaiting
async def test_what_follows_the_answer(status: int) -> None:
    """Is the target's, also where both come in one piece, and so is the end."""
    with HttpProxy() as proxy:
        proxy.answer = b"HTTP/1.1 %d Fine\r\n\r\nhello" % status
        ear = await tunnelled(proxy, EARS, TARGET)
        await ear.over
        assert ear.heard == b"hello"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "it speaks no HTTP"),
        (b"HTTP/1.1 20000 Fine\r\n\r\n", "it speaks no HTTP"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "it refuses to (302)"),
        (b"HTTP/1.1 200 Fine\r\nX: " + b"x" * MAX_HEAD + b"\r\n\r\n", "its answer has no end"),
        (b"HTTP/1.1 200 Fine\r\n", "it closed the connection"),
    ],
)
@awaiting
async def test_no_answer_of_a_proxy(answer: bytes, words: str) -> None:
    """Only success goes on, as in gRPC, and only a short head is read."""
    with HttpProxy() as proxy:
        proxy.answer = answer
        error = await refusal(tunnelled(proxy, EARS, TARGET))
    assert isinstance(error, ProxyUnusable) and error.cause == words


@awaiting
async def test_a_proxy_that_hangs() -> None:
    """Nobody waits for it without end."""
    with HttpProxy() as proxy:
        proxy.silent = True
        error = await refusal(tunnelled(proxy, EARS, TARGET, timeout_s=0.05))
        assert isinstance(error, ProxyUnusable) and error.cause == "no answer"


@BOTH
@awaiting
async def test_a_name_that_could_end_the_head(way: Way) -> None:
    """No header can be smuggled to a proxy by what a pairing line, or a file, calls its gateway;
    gRPC takes escapes for what they stand for."""
    with HttpProxy() as proxy:
        proxy.answer = b"HTTP/1.1 403 No\r\n\r\n"
        for name in ("gw\r\nX: y", "gw%0d%0aX:y", "gw 1", "gw?", "gw/x", "", "x" * 300):
            error = await refusal(way(HostPort(name, 1), proxy_of(proxy)))
            assert isinstance(error, GatewayUnreachable)
            assert error.cause == "the name is not known"
        assert proxy.asked == []


@awaiting
async def test_the_environment_alone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC reads no variable by itself: without a proxy it takes none."""
    monkeypatch.setenv("https_proxy", f"http://{HOST}:{free_port()}")
    listener = await serve(monkeypatch, node_servicer(FakeDesk()), mutual=True)
    channel = GatewayChannel(listener.address, AUTHORITY.ca_pem, device_pair())
    try:
        assert (await channel.register(HELLO)).session_epoch == 3
    finally:
        await channel.close()
        await listener.stop(0)


@awaiting
async def test_a_program_that_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through what its environment names, and is told of it."""
    dead = f"{HOST}:{free_port()}"
    monkeypatch.setenv("https_proxy", f"http://{dead}")
    caller = Caller(TARGET, AUTHORITY.ca_pem, device_pair())
    error = await refusal(as_deferred(caller.cancel("a job")))
    await as_deferred(caller.close())
    assert isinstance(error, ProxyUnusable) and error.address == dead
