"""Tests of :mod:`palyra.node.connection`."""

from __future__ import annotations

import attrs
import pytest
from twisted.internet.defer import CancelledError

from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import CatalogAnswer, Drained, GatewayFrame
from palyra.errors import (
    CertificateRefused,
    ClockSkew,
    GatewayUnreachable,
    RemoteRefusal,
)
from palyra.node import connection
from palyra.node.backoff import FINAL_RETRY_S, SETTLED_S
from palyra.node.connection import GOODBYE_S
from palyra.transport.statuses import OUT_OF_DATE
from tests.gateway.enrolling import wall_ms
from tests.node.connecting import AWAY, WELCOME, Node, new_node
from tests.node.fakes import FakeChannel
from tests.transport.serving import AUTHORITY, KEY

node = pytest.fixture(name="node")(new_node)
LEAF = AUTHORITY.issue_gateway(KEY.public_key(), "g1", [], wall_ms())


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


def test_a_session_that_was_made_ends_the_growth(node: Node) -> None:
    """The next pause is a first one again, once it has lasted."""
    node.start()
    for _ in range(8):
        node.fail()
    node.channel.registered.callback(WELCOME)
    node.clock.advance(SETTLED_S)
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


def test_a_clock_that_is_off_is_named(node: Node) -> None:
    """With the time here and the time the gateway's certificate begins; and tried again."""
    refused = GatewayUnreachable("gw.example:7444", OUT_OF_DATE)
    node.chain = [LEAF.der]
    node.start()
    node.fail(refused)
    error = node.seen[-1][1]
    assert isinstance(error, ClockSkew) and "before the gateway's certificate" in error.sentence
    node.chain = []  # it is gone meanwhile: the first word stands
    node.fail(refused)
    assert node.seen[-1][1] is refused


def test_a_final_refusal_waits_long(node: Node) -> None:
    """A revoked device looks now and then whether a person changed that; a fleet does not look
    all at once."""
    node.start()
    refusal = RemoteRefusal("device_revoked", "This device was revoked.", final=True)
    assert FINAL_RETRY_S <= node.fail(refusal) <= FINAL_RETRY_S * 1.2
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


def test_a_witness_that_fails(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is gone, or a disk, keeps no node from its gateway: neither from the next
    try nor from the session."""

    def broken(*_: object) -> None:
        raise UnicodeEncodeError("ascii", "ž", 0, 1, "not here")

    with monkeypatch.context() as patched:
        for name in ("online", "offline", "usable", "clock_differs"):
            patched.setattr(Node, name, broken)
        node.start()
        node.channel.registered.errback(AWAY)
        node.clock.advance(60)
        assert len(FakeChannel.made) == 2
        node.channel.registered.callback(WELCOME)
        assert node.connection.route is not None


def test_a_chain_that_no_clock_shows(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is verified: anybody may show a certificate that lasts until the year 9999,
    which is no date any more where the sun rises earlier."""

    def check_dates(_: bytes, __: int) -> None:
        raise OverflowError("date value out of range")

    monkeypatch.setattr(connection, "check_dates", check_dates)
    node.chain = [LEAF.der]
    node.start()
    refused = GatewayUnreachable("gw.example:7444", OUT_OF_DATE)
    node.fail(refused)
    assert node.seen[-1][1] is refused and len(FakeChannel.made) == 2


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


# -- what it offers -------------------------------------------------------------------------------

OLD, NEW = (AnnouncedCapability("a.b"),), (AnnouncedCapability("a.c"),)


def catalogs(node: Node) -> list[object]:
    """What was said of it over the newest session."""
    events = iter(node.channel.session.take_event, None)
    return [each.catalog for each in events if each.catalog is not None]


def test_a_change_is_told_at_once(node: Node) -> None:
    """Once; what a registration has said is not said again."""
    node.offers.now = OLD
    node.start()
    node.channel.registered.callback(WELCOME)
    node.connection.offer()
    assert catalogs(node) == []
    node.offers.now = NEW
    node.connection.offer()
    node.connection.offer()
    assert catalogs(node) == [NEW]


def test_a_change_without_a_session_is_in_the_next_registration(node: Node) -> None:
    """And one that comes while the gateway answers is told right after."""
    node.start()
    node.offers.now = OLD
    node.connection.offer()
    node.channel.registered.callback(WELCOME)
    assert catalogs(node) == [OLD]
    node.channel.streamed.callback(None)
    node.offers.now = NEW
    node.connection.offer()
    node.clock.advance(node.seen[-1][2])
    assert node.channel.hello is not None and node.channel.hello.capabilities == NEW
    node.channel.registered.callback(WELCOME)
    assert catalogs(node) == []


def test_what_is_granted_is_known(node: Node) -> None:
    """As the gateway said it last; and it gets the descriptors that it asks for."""
    node.start()
    node.channel.registered.callback(
        attrs.evolve(WELCOME, granted=("a.b",), unknown_digests=("d1",))
    )
    assert node.connection.granted == ("a.b",)
    events = list(iter(node.channel.session.take_event, None))
    assert [each.descriptors for each in events if each.descriptors] == [(b"bytes of d1",)]
    node.channel.session.received(GatewayFrame(catalog=CatalogAnswer((), ())))
    assert node.connection.granted == ()
