"""Tests of :mod:`palyra.testing.simulation.datagrams`."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from palyra.core.frames import Hello, Welcome
from palyra.core.identifiers import DeviceId
from palyra.core.transports import Transport
from palyra.errors import GatewayUnreachable
from palyra.testing.simulation.clock import HostClock, Timeline
from palyra.testing.simulation.datagrams import DatagramChannel, routes
from palyra.testing.simulation.disk import at_once
from palyra.testing.simulation.network import Link

HELLO = Hello(DeviceId("01M80NKQCNX4K7QM2ZT9B30001"), "linux", ())
WELCOME = Welcome(HELLO.device_id, "e", 1, 15_000, 0, "", (), "pi", "1")
PATIENCE_S = 3.0


class Gateway:
    """A gateway that registers everybody."""

    def __init__(self, timeline: Timeline) -> None:
        self.clock = HostClock(timeline, lambda: 0.0)

    def shakes_hands(self, pem: bytes) -> bool:
        return True

    def register(self, device: str, pem: bytes, hello: Hello) -> Deferred[Welcome]:
        return succeed(WELCOME)


class Network:
    """A gateway, a device, and the way between them."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        gateway: Any = Gateway(self.timeline)
        self.link = Link("pi", Random(7), self.timeline, lambda: gateway)
        self.clock = HostClock(self.timeline, lambda: 0.0)

    def channel(self, passes: bool) -> DatagramChannel:
        identity = (b"key", b"chain")
        return DatagramChannel(
            self.link, self.clock, identity, passes=passes, patience_s=PATIENCE_S
        )


def test_where_datagrams_get_through() -> None:
    """It is a channel as any other."""
    network = Network()
    channel = network.channel(passes=True)
    answers = channel.connect(), channel.register(HELLO)
    network.timeline.advance(1)
    assert [at_once(each) for each in answers] == [None, WELCOME]


def test_where_they_do_not() -> None:
    """Nobody answers, for as long as is waited; unless that is given up."""
    network = Network()
    channel = network.channel(passes=False)
    answers = channel.connect(), channel.register(HELLO)
    given_up = channel.connect()
    network.timeline.advance(PATIENCE_S - 0.1)
    assert not answers[0].called
    given_up.cancel()
    network.timeline.advance(1)
    for each in answers:
        with pytest.raises(GatewayUnreachable, match="no answer"):
            at_once(each)
    with pytest.raises(CancelledError):
        at_once(given_up)


def test_a_node_has_both() -> None:
    """QUIC first, and gRPC where nobody answers there."""
    network = Network()
    order = routes(network.link, network.clock, Random(1)).now.order()
    assert [each.transport for each in order] == [Transport.QUIC, Transport.GRPC]
