"""What carries a node session over the loopback, in the tests of its contract: gRPC and QUIC."""

from __future__ import annotations

import random
import time

from palyra._reactor import the_reactor
from palyra.config.addresses import HostPort
from palyra.node.link import Channel
from palyra.transport.asyncbridge import call_soon
from palyra.transport.grpcclient import GatewayChannel
from palyra.transport.grpclistener import MAX_NODE_MESSAGE, NODE_OPTIONS, GrpcListener
from palyra.transport.grpcserver import NodeServicer
from palyra.transport.quicclient import QuicChannel
from palyra.transport.quiclistener import QuicListener
from tests.contract.sessionends import SessionGateway
from tests.integration.relay import DOWN, UP, Relay
from tests.integration.udprelay import UdpRelay
from tests.transport.serving import AUTHORITY, LOOPBACK, gateway_pair

ENTROPY = random.Random(5).randbytes
MAX_CONNECTIONS = 64
LONG_ENOUGH = 1_200
"""Bytes of a datagram that a stateless reset may answer."""


class OverGrpc:
    """A listener on the loopback, behind a wire that can be held and cut."""

    async def open(self, gateway: SessionGateway) -> None:
        self._listener = GrpcListener(
            name="node RPC",
            address=LOOPBACK,
            servicer=NodeServicer(gateway.node_desk, ENTROPY, gateway.now_ms),
            certificate=gateway_pair,
            client_ca_pem=lambda: AUTHORITY.ca_pem,
            max_message=MAX_NODE_MESSAGE,
            max_connections=MAX_CONNECTIONS,
            options=NODE_OPTIONS,
        )
        await self._listener.open()
        self._relay = Relay(str(self._listener.address))

    def channel(self, identity: tuple[bytes, bytes]) -> Channel:
        return GatewayChannel(HostPort.parse(self._relay.address), AUTHORITY.ca_pem, identity)

    def stall(self) -> None:
        for direction in (UP, DOWN):
            self._relay.hold(direction)

    def flow(self) -> None:
        self._relay.mend()

    def cut(self) -> None:
        self._relay.cut()
        self._relay.accept()

    async def close(self) -> None:
        self._relay.close()
        await self._listener.stop(0)


class OverQuic:
    """The QUIC listener on the loopback, behind a network that can lose everything."""

    async def open(self, gateway: SessionGateway) -> None:
        self._listener = QuicListener(
            name="QUIC",
            address=LOOPBACK,
            desk=gateway.node_desk,
            certificate=gateway_pair,
            reactor=the_reactor(),
            elapsed_s=time.monotonic,
            soon=call_soon,
            entropy=ENTROPY,
            now_ms=gateway.now_ms,
        )
        await self._listener.open()
        self._relay = UdpRelay(str(self._listener.address))

    def channel(self, identity: tuple[bytes, bytes]) -> Channel:
        address = HostPort.parse(self._relay.address)
        return QuicChannel(the_reactor(), address, AUTHORITY.ca_pem, identity)

    def stall(self) -> None:
        self._relay.cut()

    def flow(self) -> None:
        self._relay.mend()

    def cut(self) -> None:
        """The gateway's host has lost them, and says so to who asks (RFC 9000, 10.3)."""
        listener = self._listener
        for routed in set(listener._routes.values()):
            address, cids = routed.link.engine.get_peer_address(), list(routed.cids)
            routed.link.abandon()
            if address is not None:
                for cid in cids:
                    listener._reset(cid, LONG_ENOUGH, address)

    async def close(self) -> None:
        await self._listener.stop(0)
        self._relay.close()
