"""The listeners of a gateway: those of devices, which may have to wait, and those of operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from palyra.console.metricsite import MetricsListener
from palyra.console.socket import ConsoleSocket
from palyra.core.identifiers import Entropy
from palyra.gateway.composition import Composition
from palyra.gateway.consoledoor import Behind, ConsoleDoor
from palyra.gateway.settings import Settings
from palyra.pki.keystore import GatewayIdentity
from palyra.transport.asyncbridge import call_soon
from palyra.transport.grpclistener import (
    ENROLMENT_OPTIONS,
    MAX_NODE_MESSAGE,
    MAX_PAIRING_MESSAGE,
    NODE_OPTIONS,
    GrpcListener,
)
from palyra.transport.grpcserver import EnrolmentServicer, NodeServicer
from palyra.transport.quiclistener import QuicListener

SOCKET = "console.sock"
MAX_ENROLMENT_CONNECTIONS = 256
MAX_CONSOLE_CONNECTIONS = 1_024
STREAMS_END_S = 0.2
RESET_KEY = "palyra-quic-stateless-reset-v1"


class IDoor(Protocol):
    """A listener of devices."""

    def bind(self) -> None:
        """Listen now."""

    def open(self) -> Deferred[None]:
        """Listen, while the reactor runs."""

    def stop(self, grace_s: float) -> Awaitable[object]:
        """Listen no more; what is open ends after ``grace_s``."""


class DeviceDoors:
    """The listeners of devices: bound at the start, or opened when an operator has confirmed a
    state that was restored."""

    _log = Logger()

    def __init__(self, *doors: IDoor) -> None:
        self._doors = doors
        self._opening = DeferredLock()
        self.open: list[IDoor] = []

    def bind(self) -> None:
        """Listen, before the reactor runs."""
        for door in self._doors:
            door.bind()
            self.open.append(door)

    @property
    def serving(self) -> bool:
        """Whether all of them are open."""
        return len(self.open) == len(self._doors)

    async def serve(self) -> None:
        """Open those that are not open.

        :raises PortTaken, CannotBind: it is not possible; asked again, it is tried again.
        """
        async with self._opening:
            if self.serving:
                return
            for door in self._doors:
                if door not in self.open:
                    await door.open()
                    self.open.append(door)
            self._log.info("devices are served")


class Listeners:
    """Every listener of one gateway.

    ``running`` says whether the gateway takes jobs, ``max_files`` how many files it may open: what
    strangers can hold open is a part of them.
    """

    def __init__(
        self,
        settings: Settings,
        rooms: Composition,
        identity: GatewayIdentity,
        *,
        reactor: Any,
        entropy: Entropy,
        elapsed_ms: Callable[[], int],
        max_files: int,
        running: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._rooms = rooms
        self._identity = identity
        self._reactor = reactor
        self._entropy = entropy
        self._elapsed_ms = elapsed_ms
        self._max_files = max_files
        self._running = running
        self.enrolment = self._make_enrolment()
        self.node_rpc = self._make_node_rpc()
        self.quic = self._make_quic()
        quic = () if self.quic is None else (self.quic,)
        self.devices = DeviceDoors(self.enrolment, self.node_rpc, *quic)
        self.socket = ConsoleSocket(reactor, settings.state_root / SOCKET, rooms.console.controls)
        self.door = self._make_door()
        self.metrics = self._make_metrics()
        rooms.operators.hangups.append(self.socket.end_streams)
        if self.door is not None:
            rooms.operators.hangups.append(self.door.end_streams)
            rooms.operators.drops.append(self.door.drop)
        for each in quic:
            rooms.meters.count_refusals("quic", each.refused)

    # -- what they are ------------------------------------------------------------------------

    def _make_enrolment(self) -> GrpcListener:
        return GrpcListener(
            name="enrolment",
            address=self._settings.enrolment,
            servicer=EnrolmentServicer(self._rooms.enrolment_desk),
            certificate=self._certificate,
            client_ca_pem=None,
            max_message=MAX_PAIRING_MESSAGE,
            max_connections=min(MAX_ENROLMENT_CONNECTIONS, self._max_files // 4),
            options=ENROLMENT_OPTIONS,
        )

    def _make_node_rpc(self) -> GrpcListener:
        return GrpcListener(
            name="node_rpc",
            address=self._settings.node_rpc,
            servicer=NodeServicer(self._rooms.node_desk, self._entropy, self._now_ms),
            certificate=self._certificate,
            client_ca_pem=lambda: self._identity.ca_bundle_pem,
            max_message=MAX_NODE_MESSAGE,
            max_connections=self._max_files // 2,
            options=NODE_OPTIONS,
        )

    def _make_quic(self) -> QuicListener | None:
        if self._settings.quic is None:
            return None
        return QuicListener(
            name="quic",
            address=self._settings.quic,
            desk=self._rooms.node_desk,
            certificate=self._certificate,
            reactor=self._reactor,
            elapsed_s=lambda: self._elapsed_ms() / 1000,
            soon=call_soon,
            entropy=self._entropy,
            now_ms=self._now_ms,
            max_connections=self._settings.config.listen.max_quic_connections,
            reset_key=self._identity.sealer.derived(RESET_KEY),
        )

    def _make_door(self) -> ConsoleDoor | None:
        where, rooms = self._settings.console, self._rooms
        if where is None:
            return None
        behind = Behind(
            controls=rooms.console.controls,
            admission=rooms.operators.admission(),
            identity=self._identity,
            ready=lambda: self.devices.serving and self._running(),
            elapsed_ms=self._elapsed_ms,
            refused=partial(rooms.meters.turned_away, "console"),
        )
        return ConsoleDoor(
            self._reactor,
            where,
            self._settings.config,
            behind,
            max_connections=min(MAX_CONSOLE_CONNECTIONS, self._max_files // 8),
        )

    def _make_metrics(self) -> MetricsListener | None:
        address = self._settings.metrics
        if address is None:
            return None
        return MetricsListener(self._reactor, address, self._rooms.meters.metrics.exposition)

    def _certificate(self) -> tuple[bytes, bytes]:
        return self._identity.served

    def _now_ms(self) -> int:
        return int(self._reactor.seconds() * 1000)

    # -- their life ---------------------------------------------------------------------------

    def bind(self, *, devices: bool) -> None:
        """Listen; for devices only where ``devices`` says that they are served.

        :raises PortTaken, CannotBind, PalyraError: one of them cannot.
        """
        if devices:
            self.devices.bind()
        self.socket.bind()
        if self.door is not None:
            self.door.bind()
        if self.metrics is not None:
            self.metrics.bind()

    async def give_up(self) -> None:
        """The start failed: let go of what is open."""
        for listener in self.devices.open:
            await listener.stop(0)

    def stops(self) -> list[Callable[[], Awaitable[Any]]]:
        """How each is stopped: operators' first, who would else see devices leave."""
        steps: list[Callable[[], Awaitable[Any]]] = [self.socket.stop]
        steps += [each.stop for each in (self.door, self.metrics) if each is not None]
        return steps + [partial(each.stop, STREAMS_END_S) for each in self.devices.open]

    # -- where they are -----------------------------------------------------------------------

    @property
    def quic_address(self) -> str:
        """The QUIC listener as devices reach it, empty where there is none."""
        return "" if self.quic is None else str(self._settings.reachable(self.quic.address))

    @property
    def console(self) -> str:
        """The console's URL, or its socket where it has none."""
        return self.door.origin if self.door is not None else str(self.socket.path)

    @property
    def nodes(self) -> str:
        """The listeners of nodes, in words."""
        grpc = self.node_rpc.address
        if self.quic is None:
            return f"{grpc} tcp (grpc)"
        quic = self.quic.address
        return f"{grpc} tcp (grpc), {'udp' if quic == grpc else f'{quic} udp'} (quic)"

    def addresses(self) -> dict[str, str]:
        """Every address by the name of its listener."""
        found = {
            "console": self.console,
            "enrolment": str(self.enrolment.address),
            "nodes": str(self.node_rpc.address),
        }
        if self.quic is not None:
            found["quic"] = str(self.quic.address)
        if self.metrics is not None:
            found["metrics"] = str(self.metrics.address)
        return found
