"""Tests of :mod:`palyra.node.connection`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from palyra.config.addresses import HostPort
from palyra.core.frames import Drained, GatewayFrame, Hello, Welcome
from palyra.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    GatewayUnreachable,
    PairingLimited,
    PalyraError,
    RejoinRefused,
    RemoteRefusal,
    VerificationFailed,
)
from palyra.node.connection import CUTS, FINAL_RETRY_S, GOODBYE_S, Connection, is_cut
from palyra.node.gatewaytime import GatewayTime
from palyra.node.identity import ClientFile, Credential
from palyra.transport.statuses import error_of
from tests.node.fakes import DEVICE_ID, NOW_MS, FakeChannel

ADDRESS = HostPort("gw.example", 7444)
AWAY = GatewayUnreachable("gw.example:7444", "connection refused")
CUT = GatewayUnreachable("gw.example:7444", "the connection was closed")
EXPIRED = CertificateRefused("expired")
WELCOME = Welcome(DEVICE_ID, "epoch", 1, 15_000, NOW_MS, "", (), "pi", "1")


@attrs.define
class FakeIdentity:
    """A device with, or without, a certificate."""

    current: Credential | None = attrs.Factory(lambda: Credential("cert", "key", NOW_MS))
    next: Credential | None = None
    bundle: str = "ca"

    def client(self) -> ClientFile:
        return ClientFile(1, self.bundle, self.current, self.next)

    def trust(self, bundle: str) -> None:
        if bundle == "strangers":
            raise VerificationFailed("the CA bundle has no CA that this device trusts")
        self.bundle = bundle


@attrs.define(eq=False)
class FakeRejoin:
    """The way back, as the test has it end."""

    identity: FakeIdentity
    asked: list[bool] = attrs.Factory(list)
    error: PalyraError | None = None
    gateway_ms: int = 0
    renews: bool = True

    async def run(self, time: GatewayTime, *, expired: bool) -> None:
        self.asked.append(expired)
        time.heard(self.gateway_ms)
        if self.error is not None:
            raise self.error
        if self.renews:
            self.identity.current = Credential("new cert", "new key", NOW_MS * 2)


class NoRuns:
    """Runs that have nothing to do."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Node:
    """A connection with a clock and a gateway that the test plays."""

    def __init__(self) -> None:
        FakeChannel.made = []
        self.clock = Clock()
        self.identity = FakeIdentity()
        self.rejoin = FakeRejoin(self.identity)
        self.seen: list[tuple[str, Any, float]] = []
        self.connection = Connection(
            reactor=self.clock,
            elapsed_s=self.clock.seconds,
            address=ADDRESS,
            channel=FakeChannel,
            jitter=random.uniform,
            identity=self.identity,  # type: ignore[arg-type]
            hello=lambda epoch: Hello(DEVICE_ID, "linux", (), store_epoch=epoch),
            runs=NoRuns(),  # type: ignore[arg-type]
            witness=self,
            first_retry_s=10.0,
            max_retry_s=60.0,
            rejoin=self.rejoin,  # type: ignore[arg-type]
        )

    def online(self, welcome: Welcome, address: HostPort) -> None:
        self.seen.append(("online", welcome, 0))

    def offline(self, error: PalyraError | None, retry_s: float) -> None:
        self.seen.append(("offline", error, retry_s))

    def renewed(self, ends_ms: int) -> None:
        raise AssertionError("there is no next certificate here")

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


@pytest.fixture
def node() -> Iterator[Node]:
    """A node whose clock is empty at the end, and whose connections are all closed."""
    made = Node()
    yield made
    made.connection.stop()
    made.clock.advance(GOODBYE_S)
    assert not made.clock.getDelayedCalls()
    assert all(each.closed for each in FakeChannel.made)


def test_it_registers_and_serves(node: Node) -> None:
    """With its certificate; what the gateway said last is told the next time."""
    node.start()
    assert node.channel.identity == (b"key", b"cert")
    assert node.channel.hello is not None and node.channel.hello.store_epoch == ""
    node.channel.registered.callback(WELCOME)
    assert node.seen[-1] == ("online", WELCOME, 0)
    first = node.channel
    first.streamed.callback(None)
    assert first.closed
    assert node.seen[-1][:2] == ("offline", None)
    node.clock.advance(node.seen[-1][2])
    assert node.channel is not first
    assert node.channel.hello is not None and node.channel.hello.store_epoch == "epoch"


@given(st.integers(1, 12), st.floats(0.1, 600), st.floats(1, 3600))
@settings(max_examples=60, deadline=None)
def test_pauses_stay_in_their_bounds(failures: int, first_s: float, cap_s: float) -> None:
    """The first is spread over the whole first pause, later ones grow, jittered, to the cap."""
    node = Node()
    node.connection._first_retry_s, node.connection._max_retry_s = first_s, cap_s
    pauses = [node.connection._pause(AWAY) for _ in range(failures)]
    assert 0 <= pauses[0] <= first_s
    for count, pause_s in enumerate(pauses[1:], start=2):
        ceiling_s = min(cap_s, 2**count)
        assert ceiling_s / 4 <= pause_s <= ceiling_s


def test_a_session_that_was_made_ends_the_growth(node: Node) -> None:
    """The next pause is a first one again."""
    node.start()
    for _ in range(8):
        node.fail()
    node.channel.registered.callback(WELCOME)
    node.channel.streamed.errback(AWAY)
    assert node.seen[-1][1] is AWAY
    assert node.seen[-1][2] <= 10.0


def test_a_drain_says_when_to_come_back(node: Node) -> None:
    """Once; spread over as long again."""
    node.start()
    node.channel.registered.callback(WELCOME)
    node.channel.session.received(GatewayFrame(drain=Drained("stopping", 2_000)))
    node.channel.streamed.callback(None)
    assert 2 <= node.seen[-1][2] <= 4
    node.clock.advance(node.seen[-1][2])
    node.fail()
    assert node.seen[-1][2] <= 10


def test_a_final_refusal_waits_long(node: Node) -> None:
    """A revoked device looks now and then whether a person changed that."""
    node.start()
    refusal = RemoteRefusal("device_revoked", "This device was revoked.", final=True)
    assert node.fail(refusal) == FINAL_RETRY_S
    assert node.seen[-1][1] is refusal
    assert len(FakeChannel.made) == 2


def test_without_a_certificate_nothing_is_sent(node: Node) -> None:
    """It is refused here, and tried again."""
    node.identity.current = None
    node.start()
    assert FakeChannel.made == []
    assert isinstance(node.seen[-1][1], CertificateRefused)


@pytest.mark.parametrize("surprise", [ValueError("a bug"), CancelledError()])
def test_a_surprise_does_not_end_the_node(node: Node, surprise: Exception) -> None:
    """A node that does not come back could not be helped from afar."""
    node.start()
    node.fail(surprise)
    assert node.seen[-1][1] is None
    assert len(FakeChannel.made) == 2


def test_stop_before_the_start(node: Node) -> None:
    """It never connects."""
    node.connection.stop()
    assert node.start().called
    assert FakeChannel.made == []


def test_stop_while_connecting(node: Node) -> None:
    """The call is given up."""
    ended = node.start()
    node.connection.stop()
    assert ended.called
    assert node.channel.closed
    assert node.seen == []


def test_stop_while_it_waits_for_the_next_try(node: Node) -> None:
    """The pause ends."""
    ended = node.start()
    node.channel.registered.errback(AWAY)
    node.connection.stop()
    assert ended.called
    assert not node.clock.getDelayedCalls()


def test_stop_while_serving(node: Node) -> None:
    """The gateway is told, ends the session, and nobody is told of an offline node."""
    ended = node.start()
    node.channel.registered.callback(WELCOME)
    node.connection.stop()
    node.connection.stop()
    names = []
    while (event := node.channel.session.take_event()) is not None:
        names.append(event.name)
    assert names == ["node.started", "node.stopping"]
    assert not ended.called
    node.channel.streamed.callback(None)
    assert ended.called
    assert [kind for kind, _, _ in node.seen] == ["clock", "online"]
    assert not node.clock.getDelayedCalls()


def test_a_gateway_that_does_not_say_goodbye(node: Node) -> None:
    """It gets a second."""
    ended = node.start()
    node.channel.registered.callback(WELCOME)
    node.connection.stop()
    node.clock.advance(GOODBYE_S)
    assert ended.called
    assert node.channel.streamed.called
    assert node.channel.closed


def test_a_certificate_that_ran_out(node: Node) -> None:
    """The device comes back by its identity key and connects at once."""
    node.expire()
    node.start()
    assert node.rejoin.asked == [True]
    assert node.channel.identity == (b"new key", b"new cert")
    node.channel.registered.callback(WELCOME)
    assert [kind for kind, _, _ in node.seen] == ["online"]


def test_a_clock_that_is_far_ahead(node: Node) -> None:
    """The gateway says that the certificate is good: it is used, and the clock is told of."""
    node.expire()
    node.clock.advance(3_600)
    node.rejoin.gateway_ms, node.rejoin.renews = NOW_MS // 2, False
    node.start()
    assert node.channel.identity == (b"key", b"cert")
    node.channel.registered.callback(attrs.evolve(WELCOME, gateway_unix_ms=NOW_MS // 2))
    assert [kind for kind, _, _ in node.seen] == ["clock", "online"]
    node.channel.streamed.callback(None)
    node.clock.advance(node.seen[-1][2])
    assert len(FakeChannel.made) == 2
    assert node.rejoin.asked == [True]


@pytest.mark.parametrize("refusal", [EXPIRED, CertificateUnknown(), CertificateSuperseded()])
def test_a_certificate_that_the_gateway_does_not_take(node: Node, refusal: PalyraError) -> None:
    """The same; by the gateway's word."""
    node.start()
    node.channel.registered.errback(refusal)
    assert node.rejoin.asked == [False]
    assert node.channel.identity == (b"new key", b"new cert")


def test_a_certificate_that_was_cut_off(node: Node) -> None:
    """Three times in a row: a gateway that refuses a certificate does not say so."""
    node.start()
    for _ in range(CUTS - 1):
        node.fail(CUT)
    assert node.rejoin.asked == []
    node.channel.registered.errback(CUT)
    assert node.rejoin.asked == [False]
    assert node.channel.identity == (b"new key", b"new cert")
    node.fail(CUT)
    assert node.rejoin.asked == [False]


def test_a_gateway_that_is_away_is_not_asked(node: Node) -> None:
    """Only what looks like a refused certificate counts, and only in a row."""
    node.start()
    for error in (CUT, CUT, AWAY, CUT, CUT, RemoteRefusal("internal", ""), CUT, CUT):
        node.fail(error)
    assert node.rejoin.asked == []


def test_cut_off_and_nobody_answers(node: Node) -> None:
    """The enrolment listener does not answer either: the gateway is away, and is shown as that."""
    node.rejoin.error = GatewayUnreachable("gw.example:7443", "connection refused")
    node.start()
    for _ in range(CUTS):
        node.fail(CUT)
    assert node.rejoin.asked == [False]
    assert node.seen[-1][1] is CUT


def test_nobody_answers_where_it_must_rejoin(node: Node) -> None:
    """That is shown, and tried again with the usual pauses."""
    node.rejoin.error = AWAY
    node.expire()
    node.start()
    for _ in range(6):
        assert node.seen[-1][1] is AWAY
        node.clock.advance(node.seen[-1][2])
    pauses = [retry_s for _, _, retry_s in node.seen]
    assert len(node.rejoin.asked) == len(pauses) == 7
    assert pauses[-1] >= 15


@pytest.mark.parametrize(
    ("error", "low_s", "high_s"),
    [
        (RejoinRefused(), FINAL_RETRY_S, FINAL_RETRY_S),
        (RemoteRefusal("device_revoked", "Revoked.", final=True), FINAL_RETRY_S, FINAL_RETRY_S),
        (PairingLimited(300.0), 300, 330),
        (RemoteRefusal("limit_reached", "Too often.", retry_after_s=900.0), 900, 990),
        (RemoteRefusal("limit_reached", "Too often.", retry_after_s=1e9), 3_600, 3_960),
    ],
)
def test_a_refused_rejoin(node: Node, error: PalyraError, low_s: float, high_s: float) -> None:
    """Is shown; the next one comes late, or when the gateway said."""
    node.rejoin.error = error
    node.expire()
    node.start()
    _, shown, retry_s = node.seen[-1]
    assert shown is error
    assert low_s <= retry_s <= high_s


def test_without_a_way_back(node: Node) -> None:
    """Where the enrolment listener is not known, the certificate's end is the end."""
    node.connection._rejoin = None
    node.expire()
    node.start()
    assert isinstance(node.seen[-1][1], CertificateExpired)
    assert FakeChannel.made == []


def test_another_certificate_is_tried(node: Node) -> None:
    """One that is refused is no reason to rejoin while the other one is good."""
    node.identity.next = Credential("next cert", "next key", NOW_MS)
    node.start()
    assert node.channel.identity == (b"next key", b"next cert")
    node.channel.registered.errback(CertificateUnknown())
    assert node.channel.identity == (b"key", b"cert")
    node.channel.registered.callback(WELCOME)
    assert node.rejoin.asked == []


@pytest.mark.parametrize(("told", "kept"), [("ca2", "ca2"), ("strangers", "ca"), ("", "ca")])
def test_the_bundle_that_the_gateway_tells_of(node: Node, told: str, kept: str) -> None:
    """Is kept for the next connection, unless trust may not move to it."""
    node.start()
    node.channel.registered.callback(attrs.evolve(WELCOME, ca_bundle_pem=told))
    assert node.seen[-1][0] == "online"
    assert node.identity.bundle == kept
    node.channel.streamed.callback(None)
    node.clock.advance(node.seen[-1][2])
    assert node.channel.ca_pem == kept.encode()


def test_what_grpc_says_of_a_refused_certificate() -> None:
    """In TLS 1.3 nothing of a handshake; other failures are no such sign."""

    def error(details: str) -> PalyraError:
        none = grpc.aio.Metadata()
        unavailable = grpc.StatusCode.UNAVAILABLE
        return error_of(grpc.aio.AioRpcError(unavailable, none, none, details), "gw:7444")

    prefix = "failed to connect to all addresses; last error: "
    assert is_cut(error(f"{prefix}UNAVAILABLE: ipv4:127.0.0.1:7444: Socket closed"))
    assert is_cut(error(f"{prefix}UNKNOWN: ipv4:127.0.0.1:7444: Tls handshake failed"))
    assert not is_cut(error(f"{prefix}UNKNOWN: ipv4:127.0.0.1:7444: connection refused (111)"))
    assert not is_cut(error("SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: self signed certificate"))
