"""The routes from a device to its gateway: gRPC, and QUIC where the gateway has it.

A connection is opened here, under the certificates that may be trusted on that route.  What a
gateway tells of its QUIC, and which route carried a session last, is kept for the next start.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.logger import Logger

from palyra.config.addresses import HostPort
from palyra.core.transports import (
    HANDSHAKE_S,
    SETTLED_S,
    GrpcFallback,
    Preference,
    Transport,
    TransportChoice,
)
from palyra.errors import GatewayUnreachable, Malformed, PalyraError, Unreached
from palyra.node.link import Channel, OpenChannel, OpenQuic, Route
from palyra.node.roots import Roots

LOST = 3
"""So often in a row QUIC does not answer, where it is the only way, before the port is doubted."""


def is_unreached(error: BaseException) -> bool:
    """Whether nobody was heard there, so that another way may be tried."""
    return isinstance(error, GatewayUnreachable) and error.unreached


@attrs.frozen
class Memory:
    """What is kept of the routes: where QUIC is (HOST:PORT, or empty), and how the device came to
    its gateway last: ``quic``, ``grpc`` where QUIC could not be reached, or empty."""

    quic_address: str = ""
    last_transport: str = ""

    @property
    def quic(self) -> HostPort | None:
        """Where QUIC is, as far as that is an address."""
        try:
            return HostPort.parse(self.quic_address) if self.quic_address else None
        except Malformed:
            return None

    @property
    def last(self) -> Transport | None:
        """The transport that ``auto`` was on last, as far as that is known."""
        known = {each.value: each for each in Transport}
        return known.get(self.last_transport)


class Routes:
    """The routes to one gateway, and which of them is next."""

    _log = Logger()

    def __init__(
        self,
        *,
        grpc: HostPort,
        open_grpc: OpenChannel,
        open_quic: OpenQuic | None = None,
        elapsed_s: Callable[[], float],
        choice: TransportChoice | None = None,
        memory: Memory = Memory(),
        keep: Callable[[Memory], object] = lambda _: None,
        told: Callable[[str], object] = lambda _: None,
        pin: bytes | None = None,
    ) -> None:
        """Without ``choice`` it is gRPC alone.  ``pin`` is the SHA-256 of the DER of a CA, or of
        the gateway's own certificate, which only QUIC can check.  ``told`` is given a line for the
        person who watches."""
        assert choice is None or open_quic is not None, "there is something to choose"
        self.grpc = Route(Transport.GRPC, grpc)
        self._open_grpc = open_grpc
        self._open_quic = open_quic
        self._elapsed_s = elapsed_s
        self._choice = choice or TransportChoice(
            Preference.GRPC,
            GrpcFallback.NEVER,
            quic_known=False,
            last=None,
            now_s=elapsed_s(),
            jitter=lambda low, high: high,
        )
        self._memory = memory
        self._keep = keep
        self._told = told
        self._pin = pin
        self._lost = 0

    @property
    def quic(self) -> Route:
        """Over QUIC: where the gateway told, else the port of gRPC, but UDP.

        That port also each second time where nobody answers at the other one any more: a gateway
        that has moved cannot tell a device which has no other way to it.
        """
        told = None if self._lost >= LOST and self._lost % 2 else self._memory.quic
        return Route(Transport.QUIC, told or self.grpc.address)

    def order(self) -> tuple[Route, ...]:
        """What is tried, the second one only where the first one cannot be reached."""
        order = self._choice.order(self._elapsed_s())
        return tuple(self.grpc if each is Transport.GRPC else self.quic for each in order)

    def open(
        self,
        route: Route,
        ca_bundle_pem: str,
        identity: tuple[bytes, bytes],
        *,
        beside: bool = False,
    ) -> Channel:
        """A connection on that route; it is made by its first call.

        ``beside``: beside a living session, so that there is time.

        :raises PinNotChecked: gRPC cannot know whether the pin holds.
        """
        if route.transport is Transport.QUIC:
            handshake_s = HANDSHAKE_S if beside else self._choice.handshake_s()
            return self._quic(route, ca_bundle_pem, identity, handshake_s)
        roots_pem = ca_bundle_pem
        if self._pin is not None:
            roots_pem = Roots.read(ca_bundle_pem).pinned(self._pin).pem
        return self._open_grpc(route.address, roots_pem.encode(), identity)

    def _quic(
        self, route: Route, ca_bundle_pem: str, identity: tuple[bytes, bytes], handshake_s: float
    ) -> Channel:
        assert self._open_quic is not None, "only a choice has this route"
        ca_pem = ca_bundle_pem.encode()
        return self._open_quic(route.address, ca_pem, identity, self._pin, handshake_s)

    def move_in_s(self) -> float | None:
        """For a session over gRPC: in how many seconds to try QUIC beside it; None: not at all."""
        return self._choice.move_in_s(self._elapsed_s())

    # -- what became of it --------------------------------------------------------------------

    def registered(self, route: Route, quic_address: str) -> None:
        """A registration went through on that route; the gateway tells where its QUIC is."""
        self._choice.worked(route.transport)
        self._lost = 0
        memory = self._memory
        told = Memory(quic_address).quic
        if told != memory.quic and (told or route.transport is Transport.GRPC):
            memory = Memory(str(told or ""))
            self._choice.told(told is not None, self._elapsed_s())
        if route.transport is Transport.QUIC or self._choice.fell_back:
            memory = attrs.evolve(memory, last_transport=route.transport.value)
        self._remember(memory)

    def _remember(self, memory: Memory) -> None:
        if memory == self._memory:
            return
        self._memory = memory
        try:
            self._keep(self._memory)
        except PalyraError as error:
            self._log.error("the route to the gateway is not on disk: {e}", e=error.sentence)
        except OSError as error:
            self._log.error("the route to the gateway is not on disk: {e}", e=error.strerror)

    def fell_back(self, missed: Route) -> None:
        """QUIC could not be reached on that route, and gRPC could."""
        line = f"{missed} does not answer, using grpc for now"
        self._log.warn("{line}", line=line)
        self._told(line)
        if missed == self.quic:  # else the gateway has just told that it is elsewhere
            self._missed()

    def not_moved(self, error: BaseException) -> None:
        """A session over gRPC stays there."""
        self._missed()
        self._log.info("{route} is not used yet: {e}", route=self.quic, e=error)

    def _missed(self) -> None:
        self._choice.missed(self._elapsed_s())
        self._remember(attrs.evolve(self._memory, last_transport=Transport.GRPC.value))

    def lost(self, route: Route) -> None:
        """Nobody answered on that route, and there is no other one."""
        if route.transport is Transport.QUIC:
            self._lost += 1

    def ended(self, route: Route, error: BaseException | None, lived_s: float) -> None:
        """A session on that route is over; ``error`` where it did not end in peace."""
        if route.transport is not Transport.QUIC:
            return
        if lived_s >= SETTLED_S:
            self._choice.settled()
        elif isinstance(error, GatewayUnreachable) and error.cause == Unreached.NO_ANSWER:
            self._choice.missed(self._elapsed_s())
