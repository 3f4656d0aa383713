"""A name with two addresses, of which one swallows everything: the other one is reached soon, by
whatever goes there, in each of the two families."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer

from palyra._reactor import TimeOfDay, the_reactor
from palyra.config.addresses import HostPort
from palyra.transport.asyncbridge import call_soon
from palyra.transport.chain import fetch_chain
from palyra.transport.grpcclient import GatewayChannel
from palyra.transport.quicclient import QuicChannel
from palyra.transport.quiclistener import QuicListener
from tests.gateway.enrolling import wall_ms
from tests.node.awaiting import awaiting
from tests.transport.desks import FakeDesk
from tests.transport.serving import AUTHORITY, device_pair, gateway_pair, serve
from tests.transport.test_grpcclient import HELLO
from tests.transport.test_grpcserver import node_servicer
from tests.transport.test_quicserver import Desk
from tests.transport.udp import Resolution

NAME = "gw.test"
IPV4, IPV6 = "127.0.0.1", "::1"
FULL = 4
"""So many connections that nobody takes fill the queue of a listener that wants none."""


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind((IPV6, 0))
        return True
    return False


BOTH = pytest.mark.parametrize(("dead", "alive"), [(IPV6, IPV4), (IPV4, IPV6)])
pytestmark = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@contextlib.contextmanager
def swallowing(host: str, port: int) -> Iterator[None]:
    """An address where packets arrive, and nothing ever comes back."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as open_:
        datagrams = open_.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        datagrams.bind((host, port))
        listener = open_.enter_context(socket.socket(family))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(FULL):
            waiting = open_.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        yield


@implementer(IHostnameResolver)
class Names:
    """One name, and its addresses in their order."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Resolution:
        resolution = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        for each in self._addresses if hostName == NAME else ():
            kind = IPv6Address if ":" in each else IPv4Address
            resolutionReceiver.addressResolved(kind(transportSemantics, each, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@contextlib.contextmanager
def named(*addresses: str) -> Iterator[None]:
    """What the reactor is told that the name stands for."""
    before = the_reactor().installNameResolver(Names(*addresses))
    try:
        yield
    finally:
        the_reactor().installNameResolver(before)


@BOTH
@awaiting
async def test_looking_at_a_gateway(monkeypatch: pytest.MonkeyPatch, dead: str, alive: str) -> None:
    """The chain is fetched by the family that works (RFC 8305)."""
    address = HostPort(alive, 0)
    listener = await serve(monkeypatch, node_servicer(FakeDesk()), mutual=True, address=address)
    port = listener.address.port
    try:
        with swallowing(dead, port), named(dead, alive):
            chain = await fetch_chain(the_reactor(), HostPort(NAME, port))
        assert chain[-1] == AUTHORITY.ca_der
    finally:
        await listener.stop(0)


@BOTH
@awaiting
async def test_quic(dead: str, alive: str) -> None:
    """A registration by the family that works, over real sockets."""
    listener = QuicListener(
        name="quic",
        address=HostPort(alive, 0),
        desk=Desk(),
        certificate=gateway_pair,
        reactor=the_reactor(),
        elapsed_s=time.monotonic,
        soon=call_soon,
        entropy=os.urandom,
        now_ms=wall_ms,
    )
    listener.bind()
    port = listener.address.port
    address = HostPort(NAME, port)
    channel = QuicChannel(TimeOfDay(the_reactor()), address, AUTHORITY.ca_pem, device_pair())
    try:
        with swallowing(dead, port), named(dead, alive):
            assert (await channel.register(HELLO)).session_epoch == 3
    finally:
        await channel.close()
        await listener.stop(0)


class NameServer:
    """A DNS server for one name, which has one address in each family."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((IPV4, 0))
        self.address = f"{IPV4}:{self._socket.getsockname()[1]}"
        self.asked: set[int] = set()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(512)
            if not query:
                return
            self._socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035, 4.1: the question again, and what is known of its name."""
        ends = query.index(b"\0", 12) + 5
        kind = int.from_bytes(query[ends - 4 : ends - 2], "big")
        self.asked.add(kind)
        known = {1: socket.inet_pton(socket.AF_INET, IPV4)}
        known[28] = socket.inet_pton(socket.AF_INET6, IPV6)
        found = known.get(kind, b"")
        head = query[:2] + b"\x81\x80\0\x01" + bytes([0, bool(found)]) + b"\0\0\0\0"
        if not found:
            return head + query[12:ends]
        record = b"\xc0\x0c" + query[ends - 4 : ends] + b"\0\0\0\x3c" + bytes([0, len(found)])
        return head + query[12:ends] + record + found


class AskedOf(HostPort):
    """The name, as a certain server knows it, in gRPC's spelling."""

    server = ""

    def __str__(self) -> str:
        return f"dns://{self.server}/{self.host}:{self.port}"


@BOTH
@awaiting
async def test_grpc(monkeypatch: pytest.MonkeyPatch, dead: str, alive: str) -> None:
    """gRPC's core races them by itself; what this rests on is seen here."""
    address = HostPort(alive, 0)
    listener = await serve(monkeypatch, node_servicer(FakeDesk()), mutual=True, address=address)
    port = listener.address.port
    with NameServer() as names:
        monkeypatch.setattr(AskedOf, "server", names.address)
        channel = GatewayChannel(AskedOf(NAME, port), AUTHORITY.ca_pem, device_pair())
        try:
            with swallowing(dead, port):
                assert (await channel.register(HELLO)).session_epoch == 3
            assert names.asked >= {1, 28}
        finally:
            await channel.close()
            await listener.stop(0)
