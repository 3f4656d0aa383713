"""Tests of :mod:`palyra.node.connection`: certificates, the way back, the CA bundle."""

from __future__ import annotations

import attrs
import grpc
import pytest

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
)
from palyra.node.connection import CUTS, FINAL_RETRY_S, is_cut
from palyra.node.identity import Credential
from palyra.transport.statuses import error_of
from tests.node.connecting import AWAY, WELCOME, Node, new_node
from tests.node.fakes import NOW_MS, FakeChannel

CUT = GatewayUnreachable("gw.example:7444", "the connection was closed")
EXPIRED = CertificateRefused("expired")

node = pytest.fixture(name="node")(new_node)


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
