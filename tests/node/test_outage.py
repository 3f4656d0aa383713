"""An hour without a gateway, by the clock of :mod:`palyra.node.connection`."""

from __future__ import annotations

import gc

import pytest

from palyra.errors import GatewayUnreachable
from palyra.node.backoff import SETTLED_S
from tests.node.connecting import AWAY, WELCOME, Node, new_node
from tests.node.fakes import FakeChannel

node = pytest.fixture(name="node")(new_node)
HOUR_S = 3_600.0
MOST_RETRY_S = 60.0
FEWEST, MOST = 85, 165
"""Tries: 120 by the mean of the pauses, and more than five times their deviation besides."""
FIRST = 20
"""Tries after which everything that is made once is there."""


def missed(node: Node) -> None:
    """One more try that is refused, of which nothing is kept here; then the pause after it."""
    assert len(node.clock.getDelayedCalls()) <= 1
    node.fail(GatewayUnreachable("gw.example:7444", "connection refused"))
    assert all(each.closed for each in FakeChannel.made[:-1])
    del FakeChannel.made[:-1]
    node.seen.clear()


def objects() -> int:
    """How many there are."""
    gc.collect()
    return len(gc.get_objects())


def test_an_hour_of_refused_connections(node: Node) -> None:
    """It tries about twice a minute, leaves nothing behind at any try, and is online within the
    longest pause once the gateway is back."""
    node.start()
    tries = 0
    while tries < FIRST:
        missed(node)
        tries += 1
    before = objects()
    while node.clock.seconds() < HOUR_S:
        missed(node)
        tries += 1
    assert FEWEST < tries < MOST
    assert objects() - before < tries - FIRST

    back_s = node.clock.seconds()
    node.channel.registered.errback(AWAY)
    _, _, retry_s = node.seen[-1]
    assert retry_s <= MOST_RETRY_S
    node.clock.advance(retry_s)
    node.channel.registered.callback(WELCOME)
    assert node.clock.seconds() - back_s <= MOST_RETRY_S
    assert node.connection.route is not None and node.connection.retry_in_s is None
    node.clock.advance(SETTLED_S)
    node.channel.streamed.errback(AWAY)
    assert node.seen[-1][2] <= 10.0, "the next outage begins with a first pause"
