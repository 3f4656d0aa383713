"""The ways of a device to its gateways, composed of its pairing, its configuration and its
environment: addresses, transports, and the proxy that leads there."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from palyra.config.addresses import HostPort
from palyra.config.node import NodeSection
from palyra.core.transports import GrpcFallback, Preference, TransportChoice
from palyra.errors import ProxyUnusable
from palyra.node.files import HostFile, KeptRoute, NodeFiles
from palyra.node.gateways import Gateways
from palyra.node.routes import Memory, Routes
from palyra.node.whereabouts import gateways_of, learnt_of, with_learnt
from palyra.transport.chain import fetch_chain
from palyra.transport.grpcclient import GatewayChannel
from palyra.transport.proxy import ProxyFor
from palyra.transport.quicclient import QuicChannel

CONNECT_S = 5.0
"""How long a gateway's address may be silent, while another gateway is left."""


@attrs.frozen(kw_only=True)
class Ways:
    """How one device reaches its gateways.  What it opens, whoever asked for it closes."""

    reactor: Any
    elapsed_s: Callable[[], float]
    files: NodeFiles
    host: HostFile
    config: NodeSection
    proxies: ProxyFor
    told: Callable[[str], object] = lambda _: None
    """Is given a line for the person who watches."""

    _log = Logger()

    def gateways(self) -> Gateways:
        """Every gateway, as its routes were left.

        :raises Malformed: what is on disk is no list of addresses.
        """
        routes = [self._routes(each) for each in gateways_of(self.host)]
        return Gateways(routes, elapsed_s=self.elapsed_s, told=self.told)

    def enrolment(self, address: HostPort, root_pem: bytes) -> GatewayChannel:
        """A connection to an enrolment listener, verified under that one root."""
        return GatewayChannel(address, root_pem, None, self.proxies(address))

    def look(self, address: HostPort) -> Deferred[list[bytes]]:
        """The chain that a gateway shows; nothing of it is verified."""
        try:
            proxy = self.proxies(address)
        except ProxyUnusable as error:
            return fail(error)
        return fetch_chain(self.reactor, address, proxy)

    def _routes(self, address: HostPort) -> Routes:
        config, learnt = self.config, learnt_of(self.host, address)
        memory = Memory(learnt.quic_address, learnt.last_transport)
        return Routes(
            grpc=address,
            open_grpc=self._open_grpc,
            open_quic=self._open_quic,
            elapsed_s=self.elapsed_s,
            choice=TransportChoice(
                self._preference(address),
                config.grpc_fallback,
                quic_known=memory.quic is not None,
                last=memory.last,
                now_s=self.elapsed_s(),
                jitter=random.uniform,
                hold_s=config.quic_retry_s,
            ),
            memory=memory,
            keep=lambda new: self._keep(address, new),
            told=self.told,
            pin=config.pin,
        )

    def _keep(self, address: HostPort, memory: Memory) -> None:
        host = self.files.host()
        if host is not None:
            learnt = KeptRoute(memory.quic_address, memory.last_transport)
            self.files.keep_host(with_learnt(host, address, learnt))

    def _preference(self, address: HostPort) -> Preference:
        """A proxy carries no datagrams: where one leads there, ``auto`` means gRPC.  Whoever wants
        QUIC and nothing else is not given anything else."""
        config = self.config
        if config.transport is not Preference.AUTO or config.grpc_fallback is GrpcFallback.NEVER:
            return config.transport
        try:
            proxy = self.proxies(address)
        except ProxyUnusable:
            return Preference.GRPC  # which says so whenever it is tried
        if proxy is None:
            return Preference.AUTO
        self._log.info(
            "{address} is reached by the proxy {proxy}, so by grpc and not by quic",
            address=address,
            proxy=proxy,
        )
        return Preference.GRPC

    @property
    def _connect_s(self) -> float | None:
        """How long a connection may take, where there is another gateway to try."""
        return CONNECT_S if len(self.host.gateway_urls) > 1 else None

    def _open_grpc(
        self, address: HostPort, ca_pem: bytes, identity: tuple[bytes, bytes]
    ) -> GatewayChannel:
        return GatewayChannel(address, ca_pem, identity, self.proxies(address), self._connect_s)

    def _open_quic(
        self,
        address: HostPort,
        ca_pem: bytes,
        identity: tuple[bytes, bytes],
        pin: bytes | None,
        handshake_s: float,
    ) -> QuicChannel:
        return QuicChannel(
            self.reactor,
            address,
            ca_pem,
            identity,
            pin=pin,
            handshake_timeout_s=min(handshake_s, self._connect_s or handshake_s),
        )
