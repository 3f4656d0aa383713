"""One link of a node host to its gateway: a channel, and the session that it carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from palyra.config.addresses import HostPort
from palyra.core.frames import Hello, Welcome
from palyra.node.identity import Credential
from palyra.node.session import NodeSession
from palyra.transport.interfaces import ICarrier
from palyra.wire.pairing import RenewalAsked, Renewed


class Channel(Protocol):
    """A connection to the gateway, made when its first call is."""

    def register(self, hello: Hello) -> Deferred[Welcome]:
        """RegisterNode."""

    def stream(self, make_session: Callable[[ICarrier], Any], device_id: str) -> Deferred[None]:
        """Carry a session until either side ends it; cancelling ends it here."""

    def renew(self, asked: RenewalAsked) -> Deferred[Renewed]:
        """RotateDeviceCertificate."""

    def close(self) -> Deferred[None]:
        """Close it, if there is one."""


OpenChannel = Callable[[HostPort, bytes, tuple[bytes, bytes]], Channel]
"""Address, CA bundle and identity (key and certificate chain, PEM);
:class:`palyra.transport.grpcclient.GatewayChannel` in production."""


class Link:
    """A registered channel, under one certificate, and its session once it is open."""

    def __init__(self, channel: Channel, credential: Credential, welcome: Welcome) -> None:
        self.channel = channel
        self.credential = credential
        self.welcome = welcome
        self.session: NodeSession | None = None

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
