"""QUIC as a simulated device has it: the calls of gRPC, where datagrams get through."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from palyra.config.addresses import HostPort
from palyra.core.frames import Hello, Welcome
from palyra.core.transports import Preference, TransportChoice
from palyra.node.gateways import Gateways
from palyra.node.routes import Memory, Routes
from palyra.testing.simulation.channel import Channel
from palyra.testing.simulation.clock import HostClock
from palyra.testing.simulation.network import Link, away

GRPC_ADDRESS = HostPort("gateway.sim", 7444)
QUIC_ADDRESS = HostPort("gateway.sim", 7445)
PASSING = 0.6
"""How many connections get their datagrams through; the others never hear anything."""
HOLD_S = 5.0


class DatagramChannel(Channel):
    """A channel over QUIC; without ``passes`` it is silent for ``patience_s`` seconds, and over."""

    def __init__(
        self,
        link: Link,
        clock: HostClock,
        identity: tuple[bytes, bytes],
        *,
        passes: bool,
        patience_s: float,
    ) -> None:
        super().__init__(link, clock, identity)
        self._passes = passes
        self._patience_s = patience_s

    def connect(self) -> Deferred[None]:
        return super().connect() if self._passes else self._silence()

    def register(self, hello: Hello) -> Deferred[Welcome]:
        return super().register(hello) if self._passes else self._silence()

    def _silence(self) -> Deferred[Any]:
        def give_up(_: None) -> None:
            raise away("no answer")

        return self._clock.sleep(self._patience_s).addCallback(give_up)


def routes(link: Link, clock: HostClock, random: Random) -> Gateways:
    """The routes of a node on ``auto``, which falls back and moves back all the time."""
    only = Routes(
        grpc=GRPC_ADDRESS,
        open_grpc=lambda address, ca_pem, identity: Channel(link, clock, identity),
        open_quic=lambda address, ca_pem, identity, pin, handshake_s: DatagramChannel(
            link, clock, identity, passes=random.random() < PASSING, patience_s=handshake_s
        ),
        elapsed_s=clock.elapsed_s,
        choice=TransportChoice(
            Preference.AUTO,
            quic_known=True,
            last=None,
            now_s=clock.elapsed_s(),
            jitter=random.uniform,
            hold_s=HOLD_S,
        ),
        memory=Memory(str(QUIC_ADDRESS)),
    )
    return Gateways([only], elapsed_s=clock.elapsed_s)
