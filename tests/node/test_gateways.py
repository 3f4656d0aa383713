"""Tests of :mod:`palyra.node.gateways`: several addresses, tried in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from palyra.config.addresses import HostPort
from palyra.core.frames import Drained, GatewayFrame
from palyra.core.transports import Preference
from palyra.errors import (
    CertificateRefused,
    Cut,
    GatewayUnreachable,
    PalyraError,
    PinMismatch,
    ProxyUnusable,
    RemoteRefusal,
)
from palyra.node.connection import GOODBYE_S
from palyra.node.gateways import is_elsewhere
from palyra.transport.statuses import OUT_OF_DATE, STRANGE
from tests.node.connecting import AWAY, WELCOME, Node
from tests.node.fakes import FakeChannel

A, B, C = (HostPort(f"{name}.example", 7444) for name in "abc")
FULL = RemoteRefusal("limit_reached", "Too many.", transient=True, retry_after_s=50.0)
STOPPING = RemoteRefusal("draining", "It stops.", transient=True)
REVOKED = RemoteRefusal("device_revoked", "Revoked.", final=True)
BROKEN = RemoteRefusal("internal", "It failed.", transient=True)
PROXY = ProxyUnusable("proxy:3128", "it refuses to (403)")
CUT = GatewayUnreachable("a", Cut.CLOSED_OFF)
OTHER = GatewayUnreachable("a", STRANGE)
OLD = GatewayUnreachable("a", OUT_OF_DATE)
PIN = PinMismatch("a")


@pytest.fixture
def make() -> Iterator[Callable[..., Node]]:
    """Nodes that know the gateways given, and are connecting."""
    made: list[Node] = []

    def new(*addresses: HostPort, preference: Preference = Preference.GRPC) -> Node:
        made.append(Node(preference, addresses))
        made[-1].start()
        return made[-1]

    yield new
    for each in made:
        each.connection.stop()
        each.clock.advance(GOODBYE_S)
        assert not each.clock.getDelayedCalls()
    assert all(each.closed for each in FakeChannel.made)


def tried() -> list[HostPort]:
    """Where connections were opened, in their order."""
    return [each.address for each in FakeChannel.made]


def last_of(node: Node) -> tuple[str, Any, float]:
    """What the node last said."""
    return node.seen[-1]


@pytest.mark.parametrize("error", [AWAY, FULL, STOPPING, BROKEN, PROXY, CUT, OTHER, OLD, PIN])
def test_the_next_one(make: Callable[..., Node], error: PalyraError) -> None:
    """Where nobody serves at the one before, whoever listens there, or it cannot decide now; in the
    same attempt."""
    node = make(A, B, C)
    node.channel.registered.errback(error)
    node.channel.registered.errback(AWAY)
    node.channel.registered.callback(WELCOME)
    assert tried() == [A, B, C]
    assert "offline" not in [each[0] for each in node.seen]
    assert node.connection.route is not None and node.connection.route.address == C


@pytest.mark.parametrize(
    "error",
    [
        REVOKED,
        CertificateRefused("wrong_role"),
        RemoteRefusal("invalid", "It cannot be read."),
    ],
)
def test_what_is_no_reason(make: Callable[..., Node], error: PalyraError) -> None:
    """What a gateway decided of this device holds for all of them."""
    node = make(A, B)
    node.channel.registered.errback(error)
    assert tried() == [A]
    assert last_of(node)[:2] == ("offline", error)
    assert not is_elsewhere(error)


def test_the_first_one_at_each_attempt(make: Callable[..., Node]) -> None:
    """A session on a later one goes on until it ends; then the first is looked at again."""
    node = make(A, B)
    node.channel.registered.errback(AWAY)
    node.channel.registered.callback(WELCOME)
    node.clock.advance(30)
    assert tried() == [A, B]
    node.channel.streamed.callback(None)
    node.clock.advance(last_of(node)[2])
    assert tried() == [A, B, A]
    node.channel.registered.callback(WELCOME)
    assert node.connection.route is not None and node.connection.route.address == A


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (AWAY, PROXY, AWAY),
        (AWAY, FULL, FULL),
        (FULL, AWAY, FULL),
        (FULL, STOPPING, STOPPING),
        (AWAY, OTHER, OTHER),
        (OTHER, CUT, CUT),
        (CUT, BROKEN, BROKEN),
    ],
)
def test_all_of_them_are_away(
    make: Callable[..., Node], first: PalyraError, second: PalyraError, told: PalyraError
) -> None:
    """A gateway's own word tells more than silence, and what it asks for is honoured; then the
    usual pause.  A connection that is closed may be for want of a certificate."""
    node = make(A, B)
    node.channel.registered.errback(first)
    node.channel.registered.errback(second)
    _, error, retry_s = last_of(node)
    assert error is told
    assert retry_s >= (50.0 if told is FULL else 0.0)
    node.clock.advance(retry_s)
    left_alone = first is FULL and retry_s < 50
    assert tried() == [A, B, B if left_alone else A]


def test_one_that_asked_to_be_left_alone(make: Callable[..., Node]) -> None:
    """Is passed over until then, also where the session at another one is lost sooner."""
    node = make(A, B)
    node.channel.registered.errback(FULL)
    node.channel.registered.callback(WELCOME)
    node.channel.streamed.errback(AWAY)
    node.clock.advance(last_of(node)[2])
    assert tried() == [A, B, B]
    node.channel.registered.errback(AWAY)
    node.clock.advance(50)
    assert A in tried()[3:]


def drain(node: Node, retry_after_ms: int) -> float:
    """The gateway of the session stops; how long until the next try."""
    node.channel.registered.callback(WELCOME)
    node.channel.session.received(GatewayFrame(drain=Drained("stopping", retry_after_ms)))
    node.channel.streamed.callback(None)
    return last_of(node)[2]


def test_one_that_drains_leads_to_the_next(make: Callable[..., Node]) -> None:
    """Soon, and not when the one that stops is back; which is left alone until then.  Where all
    of them drain, the first that is back is waited for."""
    node = make(A, B)
    pause_s = drain(node, 300_000)
    assert pause_s <= 10
    node.clock.advance(pause_s)
    assert tried() == [A, B]
    again_s = drain(node, 900_000)
    assert 300 - pause_s <= again_s <= 302
    node.clock.advance(again_s)
    assert tried() == [A, B, A]


def test_each_has_its_own_transports(make: Callable[..., Node]) -> None:
    """QUIC and then gRPC at the first, before the second is tried; what one learns is its own."""
    node = make(A, B, preference=Preference.AUTO)
    for _ in range(2):
        node.channel.registered.errback(AWAY)
    node.channel.registered.callback(WELCOME)
    assert tried() == [A, A, B]
    route = node.connection.route
    assert route is not None and str(route) == "quic b.example:7444"


def test_a_line_for_the_person_who_watches(make: Callable[..., Node]) -> None:
    """Says which one is passed over, and why, when the session is registered."""
    for error, why in (
        (AWAY, "does not answer"),
        (FULL, "has no room"),
        (STOPPING, "cannot serve now"),
        (CUT, "is of no use (the connection was closed)"),
        (PIN, "is of no use (not the one of server_pin)"),
    ):
        node = make(A, B)
        said: list[str] = []
        node.connection._gateways._told = said.append
        node.channel.registered.errback(error)
        assert said == []
        node.channel.registered.callback(WELCOME)
        assert said == [f"a.example:7444 {why}, using b.example:7444 for now"]


def test_the_dates_of_the_one_that_was_tried(make: Callable[..., Node]) -> None:
    """A clock that is off is explained by the certificate that TLS refused."""
    node = make(A, B)
    looked: list[HostPort] = []
    look = node.connection._look
    assert look is not None
    node.connection._look = lambda address: looked.append(address) or look(address)  # type: ignore[func-returns-value]
    node.channel.registered.errback(AWAY)
    node.channel.registered.errback(OLD)
    node.clock.advance(last_of(node)[2])
    node.channel.registered.errback(OLD)
    node.channel.registered.errback(AWAY)
    assert looked == [B, A]
