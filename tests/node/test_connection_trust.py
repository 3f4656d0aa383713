"""Tests of :mod:`palyra.node.connection`: certificates, the way back, the CA bundle."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import attrs
import grpc
import pytest

from palyra.core.transports import Preference
from palyra.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateSuperseded,
    CertificateUnknown,
    DiskFull,
    GatewayUnreachable,
    PairingLimited,
    PairingRejected,
    PalyraError,
    RejoinRefused,
    RemoteRefusal,
)
from palyra.node.backoff import FINAL_RETRY_S
from palyra.node.identity import Credential
from palyra.node.registering import CUTS, REJECTED_S
from palyra.transport.statuses import error_of, is_cut
from tests.node.connecting import AWAY, WELCOME, Node, new_node
from tests.node.fakes import NOW_MS, FakeChannel

CUT = GatewayUnreachable("gw.example:7444", "the connection was closed")
EXPIRED = CertificateRefused("expired")


@pytest.fixture(params=[Preference.GRPC, Preference.QUIC])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node on either transport: nothing of this differs between them."""
    yield from new_node(request.param)


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
    """The certificate is tried all the same; what is shown is the first refusal, and the pauses
    are the usual ones."""
    node.rejoin.error = AWAY
    node.expire()
    node.start()
    for _ in range(6):
        node.channel.registered.errback(CUT)
        assert node.seen[-1][1] is AWAY
        node.clock.advance(node.seen[-1][2])
    node.channel.registered.errback(CUT)
    pauses = [retry_s for _, _, retry_s in node.seen]
    assert len(node.rejoin.asked) == len(pauses) == 7
    assert pauses[0] <= 10 and max(pauses) <= 60


@pytest.mark.parametrize(
    "error", [RejoinRefused(), RemoteRefusal("device_revoked", "Revoked.", final=True)]
)
def test_a_refused_rejoin(node: Node, error: PalyraError) -> None:
    """Is shown; the next one comes late."""
    node.rejoin.error = error
    node.expire()
    node.start()
    node.channel.registered.errback(CUT)
    _, shown, retry_s = node.seen[-1]
    assert shown is error
    assert FINAL_RETRY_S <= retry_s <= FINAL_RETRY_S * 1.2


@pytest.mark.parametrize(
    ("error", "low_s"),
    [
        (PairingLimited(300.0), 300),
        (RemoteRefusal("limit_reached", "Too often.", retry_after_s=900.0), 900),
        (RemoteRefusal("limit_reached", "Too often.", retry_after_s=1e9), 3_600),
    ],
)
def test_a_limit_on_rejoins(node: Node, error: PalyraError, low_s: float) -> None:
    """Where only a rejoin can help, the next try comes when the gateway said."""
    node.rejoin.error = error
    node.start()
    node.channel.registered.errback(CertificateUnknown())
    _, shown, retry_s = node.seen[-1]
    assert shown is error
    assert low_s <= retry_s <= low_s * 1.1
    node.rejoin.error = None
    node.clock.advance(retry_s)
    node.channel.registered.errback(CertificateUnknown())
    assert node.channel.identity == (b"new key", b"new cert")


@pytest.mark.parametrize("expired", [False, True])
def test_a_limit_on_rejoins_is_none_on_sessions(node: Node, expired: bool) -> None:
    """A certificate that may be good is tried with the usual pauses, a rejoin when its time has
    come."""
    node.rejoin.error = RemoteRefusal("limit_reached", "Too often.", retry_after_s=900.0)
    if expired:
        node.expire()
    node.start()
    began_s = node.clock.seconds()
    while node.clock.seconds() < began_s + 800:
        assert node.fail(CUT) <= 60
    assert len(node.rejoin.asked) == 1
    node.rejoin.error = None
    while node.clock.seconds() < began_s + 1_200:
        node.fail(CUT)
    assert len(node.rejoin.asked) == 2


def test_an_operator_who_said_no(node: Node) -> None:
    """Is not asked again for a day; the certificate is tried meanwhile."""
    no = node.rejoin.error = PairingRejected("not ours")
    node.expire()
    node.start()
    began_s = node.clock.seconds()
    while node.clock.seconds() < began_s + REJECTED_S - 1_000:
        node.fail(CUT)
        assert node.seen[-1][1] is no
    assert len(node.rejoin.asked) == 1
    assert len(FakeChannel.made) > 100
    node.rejoin.error = None
    while node.clock.seconds() < began_s + REJECTED_S + 1_000:
        node.fail(CUT)
    assert len(node.rejoin.asked) == 2


@pytest.mark.parametrize(
    "obstacle",
    [
        GatewayUnreachable("gw.example:7443", "connection refused"),
        DiskFull("/"),
        OSError(errno.EROFS, "Read-only file system"),
        RejoinRefused(),
    ],
)
def test_a_clock_that_steps(node: Node, obstacle: Exception) -> None:
    """Once it is right it may call a good certificate over; without a rejoin that is tried."""
    if isinstance(obstacle, PalyraError):
        node.rejoin.error = obstacle
    else:
        node.rejoin.surprise = obstacle
    day_ms = 86_400_000
    node.identity.current = Credential("cert", "key", NOW_MS + 3_600_000)
    node.clock.advance((NOW_MS - 2 * day_ms) / 1000)
    node.start()
    node.channel.registered.callback(attrs.evolve(WELCOME, gateway_unix_ms=NOW_MS))
    node.clock.rightNow += 2 * day_ms / 1000
    first = node.channel
    first.streamed.callback(None)
    node.clock.advance(node.seen[-1][2])
    assert node.channel is not first
    assert node.channel.identity == (b"key", b"cert")
    node.channel.registered.callback(attrs.evolve(WELCOME, gateway_unix_ms=NOW_MS))
    assert node.seen[-1][0] == "online"


def test_without_a_way_back(node: Node) -> None:
    """Where the enrolment listener is not known, a certificate that ran out is tried all the
    same: only the gateway's clock counts."""
    node.connection._way._rejoin = None
    node.expire()
    node.start()
    node.channel.registered.errback(CUT)
    assert isinstance(node.seen[-1][1], CertificateExpired)
    node.clock.advance(node.seen[-1][2])
    node.channel.registered.callback(WELCOME)
    assert node.seen[-1][0] == "online"


@pytest.mark.parametrize("cause", ["no answer", "it ended the call"])
def test_a_gateway_that_is_busy(node: Node, cause: str) -> None:
    """Does not refuse a certificate: there is no rejoin, however often it happens."""
    node.start()
    for _ in range(3 * CUTS):
        node.fail(GatewayUnreachable("gw.example:7444", cause))
    assert node.rejoin.asked == []


def test_a_fresh_certificate_is_cut_off(node: Node) -> None:
    """What a rejoin has just brought is not the cause: there is not one rejoin after the other."""
    node.start()
    for _ in range(6 * CUTS):
        node.fail(CUT)
    assert node.rejoin.asked == [False]
    node.channel.registered.callback(WELCOME)
    node.channel.streamed.errback(CUT)
    node.clock.advance(node.seen[-1][2])
    for _ in range(CUTS):
        node.fail(CUT)
    assert node.rejoin.asked == [False, False]


def with_next(node: Node) -> None:
    """A certificate that no session was opened with yet, and shown to the gateway now."""
    node.identity.next = Credential("next cert", "next key", NOW_MS)
    node.start()
    assert node.channel.identity == (b"next key", b"next cert")


def test_a_lost_answer_over_the_next_one(node: Node) -> None:
    """It may have been a yes: the same certificate is shown again, and not the one before it."""
    with_next(node)
    node.fail(GatewayUnreachable("gw.example:7444", "no answer"))
    assert node.channel.identity == (b"next key", b"next cert")
    assert len(FakeChannel.made) == 2
    node.fail(AWAY)
    assert node.channel.identity == (b"next key", b"next cert")


def test_a_yes_that_was_cut_off(node: Node) -> None:
    """The current certificate turns out to be superseded: it is not shown again, the next one is,
    and there is no rejoin."""
    with_next(node)
    node.channel.registered.errback(CUT)
    assert node.channel.identity == (b"key", b"cert")
    node.fail(CertificateSuperseded())
    assert node.seen[-1][1] is CUT
    assert node.channel.identity == (b"next key", b"next cert")
    node.fail(CUT)
    assert len(FakeChannel.made) == 4
    assert node.channel.identity == (b"next key", b"next cert")
    assert node.rejoin.asked == []
    node.channel.registered.errback(CUT)  # three in a row: the next one is of no use either
    assert node.rejoin.asked == [False]


def test_neither_of_both(node: Node) -> None:
    """The gateway says so of each: only a rejoin can help."""
    with_next(node)
    node.channel.registered.errback(CertificateUnknown())
    node.channel.registered.errback(CertificateSuperseded())
    assert node.rejoin.asked == [False]


def test_another_certificate_is_tried(node: Node) -> None:
    """One that is refused is no reason to rejoin while the other one is good."""
    node.identity.next = Credential("next cert", "next key", NOW_MS)
    node.start()
    assert node.channel.identity == (b"next key", b"next cert")
    node.channel.registered.errback(CertificateUnknown())
    assert node.channel.identity == (b"key", b"cert")
    node.channel.registered.callback(WELCOME)
    assert node.rejoin.asked == []


@pytest.mark.parametrize("error", [DiskFull("/"), OSError(errno.EROFS, "Read-only file system")])
def test_a_bundle_that_cannot_be_written(node: Node, error: Exception) -> None:
    """Is no reason to be offline."""
    node.identity.disk = error
    node.start()
    node.channel.registered.callback(attrs.evolve(WELCOME, ca_bundle_pem="ca2"))
    assert node.seen[-1][0] == "online"


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

    def error(details: str, status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> PalyraError:
        none = grpc.aio.Metadata()
        return error_of(grpc.aio.AioRpcError(status, none, none, details), "gw:7444")

    prefix = "failed to connect to all addresses; last error: "
    assert not is_cut(error(f"{prefix}UNKNOWN: ipv4:127.0.0.1:7444: Handshake timed out"))
    assert not is_cut(error("Deadline Exceeded", grpc.StatusCode.DEADLINE_EXCEEDED))
    assert not is_cut(error("CANCELLED", grpc.StatusCode.CANCELLED))
    assert is_cut(error(f"{prefix}UNAVAILABLE: ipv4:127.0.0.1:7444: Socket closed"))
    assert is_cut(error(f"{prefix}UNKNOWN: ipv4:127.0.0.1:7444: Tls handshake failed"))
    assert not is_cut(error(f"{prefix}UNKNOWN: ipv4:127.0.0.1:7444: connection refused (111)"))
    assert not is_cut(error("SSL_ERROR_SSL: CERTIFICATE_VERIFY_FAILED: self signed certificate"))
