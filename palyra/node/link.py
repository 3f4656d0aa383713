"""One link of a node host to its gateway: a channel on some route, and the session it carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

from palyra.config.addresses import HostPort
from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import Hello, Welcome
from palyra.core.identifiers import DeviceId
from palyra.core.transports import Transport
from palyra.node.identity import Credential
from palyra.node.session import NodeSession
from palyra.transport.interfaces import ICarrier
from palyra.wire.pairing import RenewalAsked, Renewed


class Channel(Protocol):
    """A connection to the gateway, made when its first call is."""

    def connect(self) -> Deferred[None]:
        """Make it, and say nothing yet: fires when the gateway has answered there.

        Fails with PalyraError where it does not answer, and over QUIC where it refuses this device;
        over gRPC the call that follows is told that.  Cancelling ends the wait.
        """

    def register(self, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode."""

    def stream(self, make_session: Callable[[ICarrier], Any], device_id: str) -> Deferred[None]:
        """Carry a session until either side ends it; cancelling ends it here."""

    def renew(self, asked: RenewalAsked) -> Deferred[Renewed]:
        """RotateDeviceCertificate."""

    def revoke(self, device_id: DeviceId, reason: str) -> Deferred[None]:
        """RevokeDevicePairing: this device takes its own trust away."""

    def close(self) -> Deferred[None]:
        """Close it, if there is one."""


OpenChannel = Callable[[HostPort, bytes, tuple[bytes, bytes]], Channel]
"""Address, CA bundle and identity (key and certificate chain, PEM);
:class:`palyra.transport.grpcclient.GatewayChannel` in production."""
OpenQuic = Callable[[HostPort, bytes, tuple[bytes, bytes], bytes | None, float], Channel]
"""The same, the server pin if there is one, and how many seconds the handshake may take;
:class:`palyra.transport.quicclient.QuicChannel` in production."""


@attrs.frozen
class Route:
    """One way to reach a gateway."""

    transport: Transport
    address: HostPort

    def __str__(self) -> str:
        return f"{self.transport.value} {self.address}"


class Link:
    """A registered channel, under one certificate, and its session once it is open."""

    def __init__(
        self,
        route: Route,
        channel: Channel,
        credential: Credential,
        welcome: Welcome,
        began_s: float,
        said: tuple[AnnouncedCapability, ...] = (),
    ) -> None:
        """``began_s`` is when it was registered, in elapsed time; ``said`` what this node offered
        then."""
        self.route = route
        self.began_s = began_s
        self.said = said
        self.channel = channel
        self.credential = credential
        self.welcome = welcome
        self.session: NodeSession | None = None

    def hold(self) -> Callable[[], None]:
        """Begin nothing that is dispatched on it from now on; what this gives ends that."""
        return self.session.hold_dispatches() if self.session is not None else lambda: None

    async def carry(self, make_session: Callable[[ICarrier], NodeSession], device_id: str) -> None:
        """Carry its session until either side ends it; everything of it is closed then.

        Fails with what ended the session; cancelling ends it.
        """

        def begin(carrier: ICarrier) -> NodeSession:
            session = self.session = make_session(carrier)
            session.start()
            return session

        try:
            await self.channel.stream(begin, device_id)
        finally:
            session, self.session = self.session, None
            if session is not None:
                session.stop()
            await self.channel.close()
