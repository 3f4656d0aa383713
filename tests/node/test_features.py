"""A gateway of another version: what it does not understand is not sent to it."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from palyra.core.devices import AnnouncedCapability
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Outcome, Report
from palyra.core.transfers import PIECES_OVER
from palyra.core.versions import FEATURES
from tests.node.connecting import WELCOME, Node, new_node

ATTEMPT = AttemptId("01M80NKQCNX4K7QM2ZT9B30009")
PLAIN = attrs.evolve(WELCOME, features=frozenset())


@pytest.fixture
def node() -> Iterator[Node]:
    yield from new_node()


def test_a_change_of_what_is_offered_ends_the_session(node: Node) -> None:
    """The next registration says it, where a catalog would not be understood."""
    node.start()
    node.channel.registered.callback(PLAIN)
    node.offers.now = (AnnouncedCapability("a.b"),)
    node.connection.offer()
    assert node.channel.carrier.closed == [None]
    events = iter(node.channel.session.take_event, None)
    assert not [each for each in events if each.catalog is not None]
    node.channel.streamed.callback(None)
    node.clock.advance(node.seen[-1][2])
    assert node.channel.hello is not None and node.channel.hello.capabilities == node.offers.now


@pytest.mark.parametrize("features", [FEATURES, frozenset[str]()])
def test_long_outputs(node: Node, features: frozenset[str]) -> None:
    """They travel in pieces to a gateway that takes pieces, and whole to any other."""
    node.start()
    node.channel.registered.callback(attrs.evolve(WELCOME, features=features))
    session = node.channel.session
    session.report(Report(ATTEMPT, Outcome.SUCCEEDED, b'"' + b"x" * PIECES_OVER + b'"'))
    events = list(iter(session.take_event, None))
    assert any(each.chunks for each in events) == bool(features)
    assert any(each.reports for each in events) != bool(features)
