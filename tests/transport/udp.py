"""A network of memory: UDP between hosts that share a Clock, with delay, loss and moves."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IReactorPluggableNameResolver,
    IReactorTime,
    IReactorUDP,
    IResolutionReceiver,
    IUDPTransport,
)
from twisted.internet.task import Clock
from zope.interface import implementer

Address = tuple[str, int]
FIRST_PORT = 49_152


class Network:
    """Carries datagrams from host to host.

    ``fate`` says of each datagram (bytes, from, to) in how many seconds it arrives: once for every
    number, never for none.  ``silent`` are hosts that swallow everything; ``names`` is what host
    names resolve to, and ``slow`` are those on which the resolver hangs, with who waits for it.
    """

    def __init__(self, now_s: float = 0.0, delay_s: float = 0.001) -> None:
        self.clock = Clock()
        self.clock.advance(now_s)
        self.delay_s = delay_s
        self.fate: Callable[[bytes, Address, Address], list[float]] = lambda *_: [self.delay_s]
        self.silent: set[str] = set()
        self.names: dict[str, list[str]] = {}
        self.slow: dict[str, list[IResolutionReceiver]] = {}
        self.carried = 0
        self._ports: dict[Address, FakePort] = {}
        self._hosts: set[str] = set()
        self._next_port = FIRST_PORT

    def host(self, *addresses: str) -> Host:
        """A machine with these addresses, as a reactor."""
        self._hosts.update(addresses)
        return Host(self, addresses)

    def run(self, duration_s: float, until: Callable[[], object] = lambda: False) -> None:
        """Let time pass, from one delayed call to the next, or until something holds."""
        end_s = self.clock.seconds() + duration_s
        while not until():
            times = [call.getTime() for call in self.clock.getDelayedCalls()]
            if not times or min(times) > end_s:
                break
            self._reach(min(times))
        else:
            return
        self._reach(end_s)

    def _reach(self, moment_s: float) -> None:
        # Clock.advance adds, and a rounding error would leave a call forever just ahead.
        self.clock.rightNow = max(self.clock.rightNow, moment_s)
        self.clock.advance(0)

    # -- what ports and hosts use -------------------------------------------------------------

    def bind(self, port: FakePort, wanted: Address) -> Address:
        host, number = wanted
        if number == 0:
            number, self._next_port = self._next_port, self._next_port + 1
        if (host, number) in self._ports:
            raise CannotListenError(host, number, OSError(errno.EADDRINUSE, "in use"))
        self._ports[(host, number)] = port
        return (host, number)

    def unbind(self, address: Address) -> None:
        del self._ports[address]

    def carry(self, datagram: bytes, source: Address, target: Address) -> None:
        if target[0] in self.silent:
            return
        for delay_s in self.fate(datagram, source, target):
            self.clock.callLater(delay_s, self._arrive, datagram, source, target)

    def _arrive(self, datagram: bytes, source: Address, target: Address) -> None:
        port = self._ports.get(target)
        if port is not None:
            self.carried += 1
            port.take(datagram, source)
        elif target[0] in self._hosts and (sender := self._ports.get(source)) is not None:
            self.clock.callLater(self.delay_s, sender.unreachable, target)


@implementer(IReactorTime, IReactorUDP, IReactorPluggableNameResolver)
class Host:
    """One machine on the network: the part of a reactor that UDP needs."""

    def __init__(self, network: Network, addresses: tuple[str, ...]) -> None:
        self._network = network
        self.addresses = addresses
        self.nameResolver = Names(network)
        self.seconds = network.clock.seconds
        self.callLater = network.clock.callLater
        self.getDelayedCalls = network.clock.getDelayedCalls
        self.ports: list[FakePort] = []

    def listenUDP(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192
    ) -> FakePort:
        made = FakePort(self._network, self, protocol, interface, port)
        self.ports.append(made)
        protocol.makeConnection(made)
        return made

    def installNameResolver(self, resolver: Any) -> Any:
        before, self.nameResolver = self.nameResolver, resolver
        return before

    def move(self, *addresses: str) -> None:
        """Another network: what was bound to an address of the old one cannot send any more."""
        self._network._hosts.update(addresses)
        self.addresses = addresses

    def own(self, family_of: str) -> str | None:
        """This host's address of the same family."""
        version = ipaddress.ip_address(family_of).version
        for each in self.addresses:
            if ipaddress.ip_address(each).version == version:
                return each
        return None


@implementer(IListeningPort, IUDPTransport)
class FakePort:
    """A UDP port, as Twisted's."""

    def __init__(
        self, network: Network, host: Host, protocol: Any, interface: str, number: int
    ) -> None:
        self._network = network
        self._host = host
        self._protocol = protocol
        self._peer: Address | None = None
        self.open = True
        self._reading = True
        wildcard = interface in ("", "0.0.0.0", "::")
        own = host.own(interface or "0.0.0.0") if wildcard else interface
        if own is None:
            raise CannotListenError(
                interface, number, OSError(errno.EAFNOSUPPORT, "no such family here")
            )
        self.address = network.bind(self, (own, number))

    def connect(self, host: str, port: int) -> None:
        if self.address[0] not in self._host.addresses:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        self._peer = (host, port)

    def write(self, packet: bytes, addr: Address | None = None) -> None:
        target = addr or self._peer
        assert target is not None and self.open and addr in (None, target)
        if self.address[0] not in self._host.addresses:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        self._network.carry(bytes(packet), self.address, target)

    def take(self, datagram: bytes, source: Address) -> None:
        here = self.address[0] in self._host.addresses
        if here and self._reading and self._peer in (None, source):
            self._protocol.datagramReceived(datagram, source)

    def unreachable(self, target: Address) -> None:
        if self._reading and self._peer == target:
            self._protocol.connectionRefused()

    def fail(self) -> None:
        """Reading failed: the reactor closes the port."""
        self._close()

    def getHost(self) -> IPv4Address | IPv6Address:
        if ":" in self.address[0]:
            return IPv6Address("UDP", *self.address)
        return IPv4Address("UDP", *self.address)

    def setBroadcastAllowed(self, enabled: bool) -> None:
        raise NotImplementedError("QUIC never broadcasts")

    def getBroadcastAllowed(self) -> bool:
        return False

    def startListening(self) -> None:
        pass

    def stopListening(self) -> Deferred[None] | None:
        if not self._reading:
            return None
        self._reading = False
        closed: Deferred[None] = Deferred()

        def close() -> None:
            self._close()
            closed.callback(None)

        self._network.clock.callLater(0, close)
        return closed

    def _close(self) -> None:
        if self.open:
            self.open = self._reading = False
            self._network.unbind(self.address)
            self._host.ports.remove(self)
            self._protocol.doStop()


@implementer(IHostResolution)
class Resolution:
    """A name that is being looked up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError("as Twisted's own: nothing ends a thread")


@implementer(IHostnameResolver)
class Names:
    """Resolves the network's names: at once, or never."""

    def __init__(self, network: Network) -> None:
        self._network = network

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
        if hostName in self._network.slow:
            self._network.slow[hostName].append(resolutionReceiver)
            return resolution
        for each in self._network.names.get(hostName, []):
            kind = IPv6Address if ":" in each else IPv4Address
            resolutionReceiver.addressResolved(kind("UDP", each, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution
