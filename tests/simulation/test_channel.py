"""Tests of :mod:`palyra.testing.simulation.channel`."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from palyra.core.identifiers import DeviceId
from palyra.errors import GatewayUnreachable
from palyra.testing.simulation.channel import CALL_TIMEOUT_S, Channel
from palyra.testing.simulation.clock import HostClock, Timeline
from palyra.testing.simulation.disk import at_once
from palyra.testing.simulation.network import CUT, Link
from palyra.wire.pairing import RenewalAsked, Renewed

ASKED = RenewalAsked(DeviceId("01M80NKQCNX4K7QM2ZT9B30001"), b"csr", b"signature")
ANSWER = Renewed("certificate", "ca", 0, 0)


class Gateway:
    """A gateway that counts what it is asked; ``valid``: certificates are taken."""

    def __init__(self, timeline: Timeline) -> None:
        self.clock = HostClock(timeline, lambda: 0.0)
        self.valid = True
        self.asked = 0

    def shakes_hands(self, pem: bytes) -> bool:
        return self.valid

    def renew(self, device: str, pem: bytes, asked: RenewalAsked) -> Deferred[Renewed]:
        assert (device, pem, asked) == ("pi", b"chain", ASKED)
        self.asked += 1
        return succeed(ANSWER)


class Network:
    """A gateway, a device, and the way between them."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.gateway: Any = Gateway(self.timeline)
        self.link = Link("pi", Random(7), self.timeline, lambda: self.gateway)
        self.clock = HostClock(self.timeline, lambda: 0.0)
        self.channel = Channel(self.link, self.clock, (b"key", b"chain"))

    def renew(self) -> Deferred[Renewed]:
        answered = self.channel.renew(ASKED)
        self.timeline.advance(CALL_TIMEOUT_S + 1)
        return answered


def test_a_call_is_answered() -> None:
    """With what the gateway said, to whom the certificate of the connection belongs."""
    assert at_once(Network().renew()) == ANSWER


def test_connecting_takes_its_time() -> None:
    """To the gateway and back; it is asked nothing, and the handshake is not made again."""
    network = Network()
    connected = network.channel.connect()
    network.timeline.advance(network.link.delay_s)
    assert not connected.called
    network.timeline.advance(5 * network.link.delay_s)
    assert at_once(connected) is None
    network.gateway.valid = False
    assert at_once(network.renew()) == ANSWER
    assert network.gateway.asked == 1


def test_connecting_may_fail() -> None:
    """Where the certificate is not taken, and in fifteen seconds where nobody answers."""
    network = Network()
    network.gateway.valid = False
    refused = network.channel.connect()
    network.timeline.advance(1)
    with pytest.raises(GatewayUnreachable, match=CUT):
        at_once(refused)
    network.link.cut(silent=True)
    silent, given_up = network.channel.connect(), network.channel.connect()
    given_up.cancel()
    network.timeline.advance(CALL_TIMEOUT_S - 1)
    assert not silent.called
    network.timeline.advance(1)
    with pytest.raises(GatewayUnreachable, match="no answer"):
        at_once(silent)
    with pytest.raises(CancelledError):
        at_once(given_up)


def test_an_answer_is_lost_once() -> None:
    """The gateway has done it; the device hears nothing, and may ask again."""
    network = Network()
    network.link.to_lose.add("renew")
    with pytest.raises(GatewayUnreachable, match="no answer"):
        at_once(network.renew())
    assert network.gateway.asked == 1
    assert at_once(network.renew()) == ANSWER


def test_a_handshake_ends_without_a_word() -> None:
    """Where the certificate's dates are not the gateway's; nobody is asked anything then."""
    network = Network()
    network.gateway.valid = False
    with pytest.raises(GatewayUnreachable, match=CUT):
        at_once(network.renew())
    assert network.gateway.asked == 0


def test_a_connection_that_is_open_makes_no_handshake() -> None:
    """Until the gateway's next life."""
    network = Network()
    assert at_once(network.renew()) == ANSWER
    network.gateway.valid = False
    assert at_once(network.renew()) == ANSWER
    network.gateway = Gateway(network.timeline)
    network.gateway.valid = False
    with pytest.raises(GatewayUnreachable, match=CUT):
        at_once(network.renew())


def test_a_dead_host_asks_nothing() -> None:
    """And is told nothing."""
    network = Network()
    network.clock.kill()
    assert not network.renew().called
    assert network.gateway.asked == 0
