"""Tests of :mod:`palyra.transport.quicdialing` on a network of memory."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHostnameResolver, IUDPTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from palyra.config.addresses import HostPort
from palyra.errors import GatewayUnreachable, Unreached
from palyra.transport.quicconnection import Address
from palyra.transport.quicdialing import (
    ConnectedSocket,
    Race,
    cause_of,
    in_turns,
    resolve,
)
from tests.transport.udp import Host, Names, Network

HERE, THERE = "192.0.2.1", "192.0.2.2"
PLACES: list[Address] = [("192.0.2.2", 1), ("192.0.2.3", 1), ("192.0.2.4", 1)]


class Ear:
    """A connected socket, and what it was told."""

    def __init__(self, host: Host, target: Address) -> None:
        self.told: list[Any] = []
        self.socket = ConnectedSocket(
            received=self.told.append,
            refused=lambda: self.told.append("refused"),
            broken=lambda cause: self.told.append(cause),
        )
        self.socket.open(host, target)


class Tries:
    """Attempts that a test ends as it likes."""

    def __init__(self) -> None:
        self.begun: list[Address] = []
        self.cancelled: list[Address] = []
        self.running: dict[Address, Deferred[str]] = {}

    def __call__(self, address: Address) -> Deferred[str]:
        self.begun.append(address)
        trying: Deferred[str] = Deferred(lambda _: self.cancelled.append(address))
        self.running[address] = trying
        return trying

    def fail(self, address: Address, cause: str = Unreached.REFUSED) -> None:
        self.running[address].errback(GatewayUnreachable(str(address), cause))


def result_of(deferred: Deferred[Any]) -> Any:
    """What a Deferred has fired with; its error as a value."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "it has not fired"
    return results[0].value if isinstance(results[0], Failure) else results[0]


# -- names ------------------------------------------------------------------------------------


def test_an_address_is_not_looked_up() -> None:
    """What is a number already goes to no resolver."""
    network = Network()
    for host in ("192.0.2.9", "2001:db8::9"):
        assert result_of(resolve(network.host(HERE), HostPort(host, 7))) == [(host, 7)]


def test_a_name() -> None:
    """Both families come, in turns, with the port asked for; an unknown name is told as such."""
    network = Network()
    network.names["gw"] = ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.1"]
    found = result_of(resolve(network.host(HERE), HostPort("gw", 7)))
    assert found == [("2001:db8::1", 7), ("192.0.2.1", 7), ("2001:db8::2", 7)]
    error = result_of(resolve(network.host(HERE), HostPort("nobody", 7)))
    assert isinstance(error, GatewayUnreachable) and error.cause == Unreached.NO_NAME


def test_a_resolver_that_hangs() -> None:
    """Nobody has to wait for it; Twisted's cannot be called off, and what it finds then is late."""
    network = Network()
    network.slow["gw"] = []
    resolving = resolve(network.host(HERE), HostPort("gw", 7))
    resolving.cancel()
    assert isinstance(result_of(resolving), CancelledError)
    (receiver,) = network.slow["gw"]
    receiver.addressResolved(IPv4Address("UDP", "192.0.2.1", 7))
    receiver.resolutionComplete()


@pytest.mark.parametrize("name", ["a..b", "x" * 64])
def test_what_is_no_name(name: str) -> None:
    """Twisted's resolver never answers then."""
    network = Network()
    network.slow[name] = []
    error = result_of(resolve(network.host(HERE), HostPort(name, 7)))
    assert isinstance(error, GatewayUnreachable) and error.cause == Unreached.NO_NAME


def test_turns_begin_with_the_first_family() -> None:
    """The resolver's order says which family is tried first; eight addresses are enough."""
    assert in_turns([]) == []
    assert in_turns([("192.0.2.1", 1), ("192.0.2.2", 1), ("::1", 1)]) == [
        ("192.0.2.1", 1),
        ("::1", 1),
        ("192.0.2.2", 1),
    ]
    assert len(in_turns([(f"192.0.2.{number}", 1) for number in range(20)])) == 8


# -- the race ---------------------------------------------------------------------------------


def test_the_next_address_joins_after_a_quarter_of_a_second() -> None:
    """The first to succeed wins; every other try is ended, and none begins any more."""
    network, tries = Network(), Tries()
    won = Race(network.clock, PLACES, tries).run()
    network.run(0.24)
    assert tries.begun == PLACES[:1]
    network.run(0.02)
    assert tries.begun == PLACES[:2]
    tries.running[PLACES[1]].callback("second")
    assert result_of(won) == "second"
    assert tries.cancelled == PLACES[:1]
    network.run(5.0)
    assert tries.begun == PLACES[:2]
    assert network.clock.getDelayedCalls() == []


def test_a_failure_brings_the_next_one_at_once() -> None:
    """Nobody waits for an address that is known to be of no use; all have failed at the end."""
    network, tries = Network(), Tries()
    won = Race(network.clock, PLACES, tries).run()
    tries.fail(PLACES[0], Unreached.NO_ANSWER)
    assert tries.begun == PLACES[:2]
    tries.fail(PLACES[1], "its certificate is strange")
    tries.fail(PLACES[2], Unreached.NO_ROUTE)
    assert result_of(won).cause == "its certificate is strange"
    assert network.clock.getDelayedCalls() == []


def test_where_nobody_was_reached_the_first_failure_is_told() -> None:
    """It is the address that the resolver preferred."""
    network, tries = Network(), Tries()
    won = Race(network.clock, PLACES[:2], tries).run()
    tries.fail(PLACES[0], Unreached.NO_ROUTE)
    tries.fail(PLACES[1], Unreached.REFUSED)
    assert result_of(won).cause == Unreached.NO_ROUTE


def test_a_race_is_called_off() -> None:
    """Cancelling ends every try, and the waiting for the next one."""
    network, tries = Network(), Tries()
    won = Race(network.clock, PLACES, tries).run()
    network.run(0.3)
    won.cancel()
    result_of(won)
    assert tries.cancelled == PLACES[:2]
    assert network.clock.getDelayedCalls() == []


# -- sockets ----------------------------------------------------------------------------------


def test_two_sockets() -> None:
    """What one sends the other receives, and only from the address that it is connected to."""
    network = Network()
    here, there, elsewhere = network.host(HERE), network.host(THERE), network.host("192.0.2.3")
    heard: list[tuple[bytes, Address]] = []

    class Server(ConnectedSocket):
        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            heard.append((datagram, addr))
            self.transport.write(b"re: " + datagram, addr)  # type: ignore[union-attr]

    server = Server(received=heard.append, refused=heard.clear, broken=heard.append)  # type: ignore[arg-type]
    port = there.listenUDP(443, server)
    assert verifyObject(IUDPTransport, port)
    assert verifyObject(IHostnameResolver, Names(network))
    ear = Ear(here, (THERE, 443))
    ear.socket.send(b"hello")
    stray = Ear(elsewhere, here.ports[0].address)
    stray.socket.send(b"stray")
    network.run(1.0)
    assert heard == [(b"hello", here.ports[0].address)]
    assert ear.told == [b"re: hello"]


def test_nobody_listens() -> None:
    """The system says so, and it is told; not after the socket was closed."""
    network = Network()
    here, _ = network.host(HERE), network.host(THERE)
    ear = Ear(here, (THERE, 443))
    ear.socket.send(b"hello")
    network.run(1.0)
    assert ear.told == ["refused"]
    ear.socket.send(b"again")
    ear.socket.close()
    network.run(1.0)
    assert ear.told == ["refused"]
    assert here.ports == []


def test_the_network_is_gone() -> None:
    """Sending says so; so does a socket whose reading failed; a full buffer is only a loss."""
    network = Network()
    here = network.host(HERE)
    ear = Ear(here, (THERE, 443))
    here.move("198.51.100.1")
    ear.socket.send(b"hello")
    assert ear.told == [Unreached.NO_NETWORK]
    other = Ear(here, (THERE, 443))
    here.ports[-1].fail()
    assert other.told == [Unreached.NO_ROUTE]
    other.socket.send(b"nobody is there to send it")
    result_of(other.socket.close())
    full = Ear(here, (THERE, 443))

    def write(_: bytes) -> None:
        raise BlockingIOError(errno.EAGAIN, "try again")

    full.socket._port.write = write
    full.socket.send(b"lost")
    assert full.told == []


def test_no_socket_of_that_family() -> None:
    """Where there is no IPv6, the attempt fails and nothing is left open."""
    network = Network()
    here = network.host(HERE)
    ear = ConnectedSocket(received=print, refused=print, broken=print)
    with pytest.raises(OSError):
        ear.open(here, ("2001:db8::1", 443))
    assert here.ports == []


def test_causes() -> None:
    """In the words that gRPC's errors are given too."""
    assert cause_of(OSError(errno.ECONNREFUSED, "")) == Unreached.REFUSED
    assert cause_of(OSError(errno.EHOSTUNREACH, "")) == Unreached.NO_ROUTE
    assert cause_of(OSError(errno.EINVAL, "")) == Unreached.NO_NETWORK
