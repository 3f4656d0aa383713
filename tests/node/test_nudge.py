"""Tests of :mod:`palyra.node.connection` where the network changes, or the machine slept."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from palyra.core.frames import HEARTBEAT, Drained, GatewayFrame
from palyra.core.transports import Preference
from palyra.errors import (
    Cut,
    GatewayUnreachable,
    PalyraError,
    RemoteRefusal,
    TookTooLong,
    Unreached,
)
from palyra.node.backoff import FINAL_RETRY_S, SOON_S
from palyra.node.connection import PROBE_S
from palyra.node.link import Route
from tests.node.connecting import AWAY, WELCOME, Node, new_node
from tests.node.fakes import FakeChannel, FakeQuic

node = pytest.fixture(name="node")(new_node)
FULL = RemoteRefusal("limit_reached", "Too many at once.", retry_after_s=50.0)
REVOKED = RemoteRefusal("device_revoked", "This device was revoked.", final=True)


class AnyCall:
    """Keeps what it is asked for."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self._told.append(name)


@pytest.fixture
def quic() -> Iterator[Node]:
    """A node that knows no other way than QUIC."""
    yield from new_node(Preference.QUIC)


@pytest.fixture
def auto() -> Iterator[Node]:
    """A node that knows both, and tries QUIC first."""
    yield from new_node(Preference.AUTO)


def unreached(cause: str) -> GatewayUnreachable:
    return GatewayUnreachable("gw.example:7444", cause)


def serving(node: Node) -> FakeChannel:
    """It is online."""
    node.start()
    node.channel.registered.callback(WELCOME)
    return node.channel


def said(channel: FakeChannel) -> list[str]:
    return [event.name for event in iter(channel.session.take_event, None)]


def test_a_certificate_grows_old_meanwhile(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its renewal is told: a timer stands still while the machine sleeps."""
    told: list[str] = []
    monkeypatch.setattr(node.connection, "_renewal", AnyCall(told))
    node.connection.nudge()
    assert told == ["woke"]


# -- while it waits -------------------------------------------------------------------------------


def test_a_pause_is_cut_short(node: Node) -> None:
    """It is tried again within two seconds, and the pauses begin anew."""
    node.start()
    for _ in range(8):
        node.fail()
    node.channel.registered.errback(AWAY)
    node.connection._pause._due_s = node.clock.seconds() + 60  # whatever was drawn
    node.connection.nudge()
    left_s = node.connection.retry_in_s
    assert left_s is not None and left_s <= SOON_S
    node.clock.advance(SOON_S)
    assert node.connection.retry_in_s is None and not node.channel.registered.called
    node.channel.registered.errback(AWAY)
    assert node.seen[-1][2] <= 10


@pytest.mark.parametrize(("error", "least_s"), [(FULL, 50), (REVOKED, FINAL_RETRY_S)])
def test_what_the_gateway_asked_for_stands(node: Node, error: PalyraError, least_s: float) -> None:
    """A network that flaps does not make it come sooner."""
    node.start()
    node.channel.registered.errback(error)
    for _ in range(3):
        node.connection.nudge()
        assert (node.connection.retry_in_s or 0) >= least_s


def test_a_drain_stands(node: Node) -> None:
    """Until the time that it named is over."""
    channel = serving(node)
    channel.session.received(GatewayFrame(drain=Drained("stopping", 30_000)))
    channel.streamed.callback(None)
    node.connection.nudge()
    assert (node.connection.retry_in_s or 0) >= 30


@pytest.mark.parametrize("cause", list(Unreached))
def test_a_network_that_comes_in_parts(node: Node, cause: str) -> None:
    """A name that is not known yet, an address that has no route: the next change of the network
    is one more reason to try, and the gateway is there in the end."""
    node.start()
    for _ in range(3):
        node.channel.registered.errback(unreached(cause))
        node.connection.nudge()
        node.clock.advance(SOON_S)
    node.channel.registered.callback(WELCOME)
    assert node.connection.route is not None


# -- while it connects ----------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [*Unreached, *Cut])
def test_an_address_that_vanishes_while_it_connects(node: Node, cause: str) -> None:
    """The try is let end, whatever it comes to, and the next one follows at once."""
    node.start()
    node.fail()
    node.connection.nudge()
    assert not node.channel.registered.called
    node.channel.registered.errback(unreached(cause))
    assert node.seen[-1][2] <= SOON_S
    node.clock.advance(SOON_S)
    node.channel.registered.errback(AWAY)
    assert node.connection._backoff._failures == 1
    node.clock.advance(10)
    node.channel.registered.callback(WELCOME)


def test_an_address_that_vanishes_while_quic_connects(auto: Node) -> None:
    """gRPC is tried as always; where that is not there either it is all tried again at once."""
    auto.start()
    assert isinstance(auto.channel, FakeQuic)
    auto.connection.nudge()
    auto.channel.registered.errback(unreached(Unreached.NO_NETWORK))
    assert not isinstance(auto.channel, FakeQuic)
    auto.channel.registered.errback(unreached(Unreached.NO_NETWORK))
    assert auto.seen[-1][2] <= SOON_S
    auto.clock.advance(SOON_S)
    assert isinstance(auto.channel, FakeQuic)
    auto.channel.registered.callback(WELCOME)


def test_a_try_that_works_all_the_same(node: Node) -> None:
    """Is a session like any other, also in how it is missed."""
    node.start()
    node.connection.nudge()
    node.channel.registered.callback(WELCOME)
    node.channel.session.received(GatewayFrame(answers=1))
    node.channel.streamed.errback(AWAY)
    assert node.connection._backoff._failures == 1


# -- while it is online ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["node", "quic"])
def test_a_session_that_lives_goes_on(name: str, request: pytest.FixtureRequest) -> None:
    """It is asked for a sign of life, and there is one."""
    node: Node = request.getfixturevalue(name)
    channel = serving(node)
    said(channel)
    node.connection.nudge()
    assert said(channel) == [HEARTBEAT]
    channel.session.received(GatewayFrame(answers=1))
    node.clock.advance(PROBE_S[_route(node).transport])
    assert channel.carrier.closed == [] and node.channel is channel


@pytest.mark.parametrize(("name", "within_s"), [("node", 5), ("quic", 10)])
def test_a_session_that_is_dead_is_made_anew(
    name: str, within_s: float, request: pytest.FixtureRequest
) -> None:
    """After five seconds of silence over gRPC; QUIC gets ten, to find another way itself."""
    node: Node = request.getfixturevalue(name)
    channel = serving(node)
    node.connection.nudge()
    node.clock.advance(within_s - 0.1)
    assert channel.carrier.closed == []
    node.clock.advance(0.1)
    (error,) = channel.carrier.closed
    assert isinstance(error, TookTooLong)
    channel.streamed.errback(error)
    assert node.seen[-1][1] is error and node.seen[-1][2] <= SOON_S
    node.clock.advance(SOON_S)
    assert node.channel is not channel


def test_a_session_that_broke_meanwhile(node: Node) -> None:
    """The system may see it before the time is over."""
    channel = serving(node)
    node.connection.nudge()
    channel.streamed.errback(unreached(Cut.CLOSED_OFF))
    assert node.seen[-1][2] <= SOON_S


def test_a_session_that_breaks_later(node: Node) -> None:
    """Once there was a sign of life, it is missed as any other."""
    channel = serving(node)
    node.connection.nudge()
    channel.session.received(GatewayFrame(answers=1))
    channel.streamed.errback(unreached(Cut.CLOSED_OFF))
    assert node.connection._backoff._failures == 1


def test_nothing_is_begun_after_the_stop(node: Node) -> None:
    """A change of the network that comes last changes nothing."""
    node.start()
    node.channel.registered.errback(AWAY)
    node.connection.stop()
    node.connection.nudge()
    assert not node.clock.getDelayedCalls()


def _route(node: Node) -> Route:
    route = node.connection.route
    assert route is not None
    return route
