"""A connection of a node host, with a clock and a gateway that the test plays."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from palyra.config.addresses import HostPort
from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import Hello, Welcome
from palyra.core.transports import Preference, TransportChoice
from palyra.errors import (
    GatewayUnreachable,
    PalyraError,
    VerificationFailed,
)
from palyra.node.connection import GOODBYE_S, Connection
from palyra.node.gateways import Gateways
from palyra.node.gatewaytime import GatewayTime
from palyra.node.identity import ClientFile, Credential
from palyra.node.link import Route
from palyra.node.routes import Routes
from tests.node.fakes import DEVICE_ID, NOW_MS, FakeChannel, FakeQuic

ADDRESS = HostPort("gw.example", 7444)
AWAY = GatewayUnreachable("gw.example:7444", "connection refused")
WELCOME = Welcome(DEVICE_ID, "epoch", 1, 15_000, NOW_MS, "", (), "pi", "1")


@attrs.define
class FakeIdentity:
    """A device with, or without, a certificate."""

    current: Credential | None = attrs.Factory(lambda: Credential("cert", "key", NOW_MS))
    next: Credential | None = None
    bundle: str = "ca"
    disk: Exception | None = None

    def client(self) -> ClientFile:
        return ClientFile(1, self.bundle, self.current, self.next)

    def trust(self, bundle: str) -> None:
        if bundle == "strangers":
            raise VerificationFailed("the CA bundle has no CA that this device trusts")
        if self.disk is not None:
            raise self.disk
        self.bundle = bundle


@attrs.define(eq=False)
class FakeRejoin:
    """The way back, as the test has it end."""

    identity: FakeIdentity
    asked: list[bool] = attrs.Factory(list)
    error: PalyraError | None = None
    gateway_ms: int = 0
    renews: bool = True
    surprise: Exception | None = None

    async def run(self, time: GatewayTime, *, expired: bool) -> None:
        self.asked.append(expired)
        time.heard(self.gateway_ms)
        failed = self.error or self.surprise
        if failed is not None:
            raise failed
        if self.renews:
            self.identity.current = Credential("new cert", "new key", NOW_MS * 2)


@attrs.define
class FakeOffers:
    """What a node offers, as the test has it."""

    now: tuple[AnnouncedCapability, ...] = ()

    def announced(self) -> tuple[AnnouncedCapability, ...]:
        return self.now

    def descriptor(self, digest: str) -> bytes | None:
        return b"bytes of " + digest.encode()


class NoRuns:
    """Runs that have nothing to do."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Node:
    """A connection with a clock and a gateway that the test plays."""

    def __init__(
        self, preference: Preference = Preference.GRPC, addresses: Sequence[HostPort] = (ADDRESS,)
    ) -> None:
        FakeChannel.made = []
        self.clock = Clock()
        self.identity = FakeIdentity()
        self.offers = FakeOffers()
        self.rejoin = FakeRejoin(self.identity)
        self.seen: list[tuple[str, Any, float]] = []
        self.chain: list[bytes] = []
        self.connection = Connection(
            reactor=self.clock,
            elapsed_s=self.clock.seconds,
            routes=Gateways(
                [self.routes(each, preference) for each in addresses], elapsed_s=self.clock.seconds
            ),
            jitter=random.uniform,
            identity=self.identity,  # type: ignore[arg-type]
            hello=lambda epoch: Hello(DEVICE_ID, "linux", self.offers.now, store_epoch=epoch),
            runs=NoRuns(),  # type: ignore[arg-type]
            witness=self,
            first_retry_s=10.0,
            max_retry_s=60.0,
            rejoin=self.rejoin,  # type: ignore[arg-type]
            look=self.look,
            offers=self.offers,
        )

    def routes(self, address: HostPort, preference: Preference) -> Routes:
        """The routes to the gateway there."""
        return Routes(
            grpc=address,
            open_grpc=FakeChannel,
            open_quic=FakeQuic,
            elapsed_s=self.clock.seconds,
            choice=TransportChoice(
                preference, quic_known=True, last=None, now_s=0.0, jitter=random.uniform
            ),
        )

    def look(self, address: HostPort) -> Deferred[list[bytes]]:
        """The chain that the gateway shows."""
        return succeed(self.chain) if self.chain else fail(AWAY)

    def online(self, welcome: Welcome, route: Route) -> None:
        self.seen.append(("online", welcome, 0))

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        self.seen.append(("offline", error, retry_s))

    def renewed(self, ends_ms: int) -> None:
        raise AssertionError("there is no next certificate here")

    def usable(self, capabilities: int) -> None:
        """Nobody counts them here."""

    def clock_differs(self, ahead_ms: int) -> None:
        self.seen.append(("clock", ahead_ms, 0))

    @property
    def channel(self) -> FakeChannel:
        """The newest."""
        return FakeChannel.made[-1]

    def start(self) -> Deferred[None]:
        self.ended = self.connection.start()
        return self.ended

    def expire(self) -> None:
        """The certificate runs out, by this clock."""
        self.clock.advance(NOW_MS / 1000)

    def fail(self, error: BaseException = AWAY) -> float:
        """The gateway cannot be reached; how long until the next try, which is then made."""
        self.channel.registered.errback(error)
        retry_s = self.seen[-1][2]
        self.clock.advance(retry_s)
        return retry_s


def new_node(preference: Preference = Preference.GRPC) -> Iterator[Node]:
    """A node whose clock is empty at the end, and whose connections are all closed."""
    made = Node(preference)
    yield made
    made.connection.stop()
    made.clock.advance(GOODBYE_S)
    assert not made.clock.getDelayedCalls()
    assert all(each.closed for each in FakeChannel.made)
