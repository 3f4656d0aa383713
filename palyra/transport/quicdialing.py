"""How a device reaches a UDP listener: names, the race of addresses, and connected sockets.

IPv6 and IPv4 are raced as RFC 8305 has it, with whole handshakes instead of TCP connections.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, Generic, TypeVar

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.interfaces import IDelayedCall, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from palyra.config.addresses import HostPort
from palyra.core.transports import Transport
from palyra.errors import GatewayUnreachable, Unreached
from palyra.transport.quicconnection import Address

STAGGER_S = 0.25
"""How long an address is tried alone before the next one joins (RFC 8305, section 5)."""
MAX_ADDRESSES = 8

T = TypeVar("T")


def unreachable(target: HostPort, cause: str) -> GatewayUnreachable:
    """That gateway could not be reached over QUIC, or was lost there."""
    return GatewayUnreachable(str(target), cause, Transport.QUIC.value)


def resolve(reactor: Any, target: HostPort) -> Deferred[list[Address]]:
    """The addresses of a host, in the order in which they are to be tried, at most eight.

    Fails with :class:`GatewayUnreachable` where the name is not known.  Cancelling ends the wait;
    Twisted's resolver cannot be called off, and is not: what it finds then is dropped.
    """
    if isIPAddress(target.host) or isIPv6Address(target.host):
        return succeed([(target.host, target.port)])
    try:
        target.host.encode("idna")
    except UnicodeError:  # of which the resolver would never tell
        return fail(unreachable(target, Unreached.NO_NAME))
    receiver = _Receiver(target)
    resolver = reactor.nameResolver
    resolver.resolveHostName(receiver, target.host, target.port, transportSemantics="UDP")
    return receiver.resolved


def in_turns(addresses: Sequence[Address]) -> list[Address]:
    """The same addresses, families taking turns, the first one's first (RFC 8305, section 4)."""
    first_is_6 = ":" in addresses[0][0] if addresses else False
    first = [each for each in addresses if (":" in each[0]) is first_is_6]
    second = [each for each in addresses if (":" in each[0]) is not first_is_6]
    turns = chain.from_iterable(zip_longest(first, second))
    return list(dict.fromkeys(each for each in turns if each is not None))[:MAX_ADDRESSES]


@implementer(IResolutionReceiver)
class _Receiver:
    """Gathers what a name resolves to."""

    def __init__(self, target: HostPort) -> None:
        self._target = target
        self._found: list[Address] = []
        self.resolved: Deferred[list[Address]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        if isinstance(address, (IPv4Address, IPv6Address)):
            self._found.append((address.host, self._target.port))

    def resolutionComplete(self) -> None:
        if self.resolved.called:
            return
        if self._found:
            self.resolved.callback(in_turns(self._found))
        else:
            self.resolved.errback(unreachable(self._target, Unreached.NO_NAME))


class Race(Generic[T]):
    """Tries addresses, each a while after the last one or as soon as that has failed.

    ``attempt`` begins a try; cancelling what it gives must end that try.  :attr:`won` fires with
    what the first one to succeed gave, the others being cancelled, or fails once all have failed,
    with the :attr:`telling` failure or else the first; cancelling it cancels them all.
    """

    def __init__(
        self,
        reactor: Any,
        addresses: Sequence[Address],
        attempt: Callable[[Address], Deferred[T]],
    ) -> None:
        self._reactor = reactor
        self._left = list(addresses)
        self._attempt = attempt
        self._running: list[Deferred[T]] = []
        self._failures: list[Failure] = []
        self._next: IDelayedCall | None = None
        self.won: Deferred[T] = Deferred(lambda _: self._stop())

    def run(self) -> Deferred[T]:
        """Begin; gives :attr:`won`."""
        self._try_next()
        return self.won

    @property
    def telling(self) -> Failure | None:
        """Of the failures so far the first that says more than that nobody was reached."""
        for failure in self._failures:
            if not (isinstance(failure.value, GatewayUnreachable) and failure.value.unreached):
                return failure
        return None

    def _try_next(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        address = self._left.pop(0)
        if self._left:
            self._next = self._reactor.callLater(STAGGER_S, self._try_next)
        trying = self._attempt(address)
        self._running.append(trying)
        trying.addCallbacks(
            self._succeeded, self._failed, callbackArgs=(trying,), errbackArgs=(trying,)
        )

    def _succeeded(self, result: T, trying: Deferred[T]) -> None:
        self._running.remove(trying)
        self._stop()
        self.won.callback(result)

    def _failed(self, failure: Failure, trying: Deferred[T]) -> None:
        if trying not in self._running:
            return  # it was cancelled
        self._running.remove(trying)
        self._failures.append(failure)
        if self._left:
            self._try_next()
        elif not self._running:
            self._stop()
            self.won.errback(self.telling or self._failures[0])

    def _stop(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._left.clear()
        running, self._running = self._running, []
        for trying in running:
            trying.cancel()


class ConnectedSocket(DatagramProtocol):
    """A UDP socket that speaks to one address only, so that the system tells of its absence.

    ``received`` takes each datagram, ``refused`` is called where nobody listens there, ``broken``
    with a cause where the network is gone.  None of them is called after :meth:`close`.
    """

    noisy = False

    def __init__(
        self,
        *,
        received: Callable[[bytes], object],
        refused: Callable[[], object],
        broken: Callable[[str], object],
    ) -> None:
        self._received = received
        self._refused = refused
        self._broken = broken
        self._port: Any = None

    def open(self, reactor: Any, address: Address) -> None:
        """Bind it and connect it.

        :raises OSError: there is no way to that address.
        """
        interface = "::" if ":" in address[0] else "0.0.0.0"
        try:
            port = reactor.listenUDP(0, self, interface=interface)
        except CannotListenError as error:
            raise error.socketError from error
        self._port = port
        try:
            port.connect(*address)
        except BaseException:
            self.close()
            raise

    def send(self, datagram: bytes) -> None:
        """Send one datagram, or lose it: that is the network's right too."""
        if self._port is None:
            return
        try:
            self._port.write(datagram)
        except MessageLengthError:
            pass
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS):
                self._broken(cause_of(error))

    def close(self) -> Deferred[None]:
        """Stop listening; fires when the socket is closed.  Again: nothing."""
        port, self._port = self._port, None
        closed = port.stopListening() if port is not None else None
        return closed if closed is not None else succeed(None)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self._port is not None:
            self._received(datagram)

    def connectionRefused(self) -> None:
        if self._port is not None:
            self._refused()

    def stopProtocol(self) -> None:
        # Not asked for: reading failed, as where an ICMP message says that a host is unreachable.
        if self._port is not None:
            self._port = None
            self._broken(Unreached.NO_ROUTE)


def cause_of(error: OSError) -> str:
    """What an error of a socket means, in the words of :class:`GatewayUnreachable`."""
    if error.errno == errno.ECONNREFUSED:
        return Unreached.REFUSED
    if error.errno == errno.EHOSTUNREACH:
        return Unreached.NO_ROUTE
    return Unreached.NO_NETWORK
