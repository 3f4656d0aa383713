"""Tests of :mod:`palyra.node.moving`: back to QUIC beside a living session, under full work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from palyra.core.frames import GatewayFrame, Renew
from palyra.core.jobs import Standing
from palyra.core.transports import HANDSHAKE_S, HOLD_S, SOON_S, Preference
from palyra.errors import CertificateRefused, GatewayUnreachable, PalyraError
from palyra.node.connection import GOODBYE_S, HANDOVER_S
from palyra.node.moving import BUSY_S
from palyra.node.routes import Memory
from tests.node.busynode import Node
from tests.node.fakes import FakeChannel, FakeQuic, attempt

QUIC = "gw.example:9444"
SILENT = GatewayUnreachable(QUIC, "no answer")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that had to fall back before its last stop; its clock is empty at the end."""
    made = Node(tmp_path, Preference.AUTO, memory=Memory(QUIC, "grpc"))
    made.connection.start()
    yield made
    made.connection.stop()
    made.clock.advance(GOODBYE_S)
    assert not made.clock.getDelayedCalls()
    assert all(each.closed for each in FakeChannel.made)
    made.memory.stop()


@pytest.fixture
def first(node: Node) -> FakeChannel:
    """The session over gRPC, with two jobs at work."""
    node.welcome(node.channel, quic_address=QUIC)
    assert node.on == "grpc gw.example:7444"
    for number in (1, 2):
        node.work(node.channel, number)
    return node.channel


def live(node: Node, channel: FakeChannel, seconds: float) -> None:
    """So much time passes on a session whose heartbeats are answered."""
    while seconds > 0:
        node.clock.advance(min(seconds, 20))
        seconds -= 20
        channel.session.received(GatewayFrame(answers=1))


def due(node: Node, first: FakeChannel, after_s: float = HOLD_S) -> FakeQuic:
    """The time has come: the connection over QUIC that is tried."""
    live(node, first, after_s)
    assert isinstance(node.channel, FakeQuic)
    return node.channel


def test_no_job_notices(node: Node, first: FakeChannel) -> None:
    """It registers with the same certificate, and work goes on over QUIC; the old session ends in
    peace."""
    second = due(node, first)
    assert (second.identity, second.handshake_s) == (first.identity, HANDSHAKE_S)
    second.reached.callback(None)
    assert second.hello is not None
    assert second.hello.attempts == dict.fromkeys((attempt(1), attempt(2)), Standing.RUNNING)
    node.work(first, 3)  # sent before the gateway saw the new registration
    node.welcome(second, quic_address=QUIC)
    assert node.on == "quic gw.example:9444"
    node.end(0)
    assert (node.reports(first), node.reports(second)) == ([], [attempt(1)])
    assert len(node.runner.runs) == 2  # the third was not in the hello: it is sent again
    node.work(second, 3)
    node.end(1)
    node.end(2)
    assert node.reports(second) == [attempt(2), attempt(3)]
    node.acknowledge(second, attempt(1), attempt(2), attempt(3))
    live(node, second, HANDOVER_S)
    assert first.closed and not second.closed
    assert node.memory.unacknowledged() == []
    assert node.seen == [("online", 1), ("online", 2)]
    assert node.kept == [Memory(QUIC, "quic")]
    live(node, second, 2 * HOLD_S)
    assert node.channel is second


def test_no_dispatch_waits_for_a_silent_network(node: Node, first: FakeChannel) -> None:
    """Only from the gateway's answer to the end of the registration are they held."""
    second = due(node, first)
    node.work(first, 3)
    assert len(node.runner.runs) == 3
    second.reached.callback(None)
    node.work(first, 4)
    assert len(node.runner.runs) == 3
    second.registered.errback(SILENT)
    assert len(node.runner.runs) == 4
    assert second.closed and not first.closed


@pytest.mark.parametrize("error", [SILENT, CertificateRefused("wrong_role"), ValueError("a bug")])
def test_where_quic_is_still_not_there(node: Node, first: FakeChannel, error: Exception) -> None:
    """The session is left as it is; the pauses double."""
    second = due(node, first)
    second.reached.errback(error)
    assert second.closed and not first.closed
    live(node, first, 2 * HOLD_S - 20)
    assert node.channel is second
    third = due(node, first, 20)
    assert third is not second
    assert [kind for kind, _ in node.seen] == ["online"]
    node.end(0)
    assert node.reports(first) == [attempt(1)]


def test_a_renewal_goes_first(node: Node, first: FakeChannel) -> None:
    """A move that is under way is given up, and made when the renewal is over: with the new
    certificate, from the session that has it."""
    second = due(node, first)
    second.reached.callback(None)
    renewed = node.renew(first)
    assert second.closed
    assert not isinstance(renewed, FakeQuic)
    assert renewed.identity != first.identity
    node.work(first, 3)
    node.welcome(renewed, quic_address=QUIC)
    assert [each[0] for each in node.seen] == ["online", "renewed", "online"]
    assert len(node.runner.runs) == 2  # it was held for the newest session, which lists it not
    live(node, renewed, 1)
    third = node.channel
    assert isinstance(third, FakeQuic)
    assert third.identity == renewed.identity
    third.reached.callback(None)
    node.welcome(third, quic_address=QUIC)
    assert node.on == "quic gw.example:9444"


def test_a_move_that_takes_time_to_close(
    node: Node, first: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it held begins when it is given up; its end does not undo what the renewal holds."""
    second = due(node, first)
    closed: Deferred[None] = Deferred()
    monkeypatch.setattr(second, "close", lambda: closed)
    second.reached.callback(None)
    node.work(first, 3)
    assert len(node.runner.runs) == 2
    renewed = node.renew(first)
    assert len(node.runner.runs) == 3
    node.work(first, 4)
    second.closed = True
    closed.callback(None)
    assert len(node.runner.runs) == 3
    node.welcome(renewed)
    node.work(renewed, 4)
    assert len(node.runner.runs) == 4


def test_a_renewal_that_is_under_way(node: Node, first: FakeChannel) -> None:
    """Is not disturbed; the move looks again a little later."""
    live(node, first, HOLD_S - 20)
    first.session.received(GatewayFrame(renew=Renew("rotate", 0)))
    node.clock.advance(0)
    assert len(first.asked) == 1
    live(node, first, 40)
    assert FakeChannel.made == [first]
    _, answer = first.asked[0]
    answer.errback(PalyraError())
    due(node, first, BUSY_S)


def test_a_renewal_that_fails_meanwhile(node: Node, first: FakeChannel) -> None:
    """The move that gave way is made again, and both sessions are at peace."""
    second = due(node, first)
    first.session.received(GatewayFrame(renew=Renew("rotate", 0)))
    node.clock.advance(0)
    assert second.closed
    first.asked[-1][1].errback(PalyraError())
    third = due(node, first, BUSY_S)
    third.reached.callback(None)
    node.welcome(third, quic_address=QUIC)
    assert node.on == "quic gw.example:9444"


def test_a_renewal_over_quic_stays_there(node: Node, first: FakeChannel) -> None:
    """A handover keeps the transport of the session."""
    second = due(node, first)
    second.reached.callback(None)
    node.welcome(second, quic_address=QUIC)
    third = node.renew()
    assert isinstance(third, FakeQuic)
    node.welcome(third, quic_address=QUIC)
    assert node.on == "quic gw.example:9444"


def test_the_session_ends_meanwhile(node: Node, first: FakeChannel) -> None:
    """The move is given up with it; the next attempt begins with QUIC, whose time has come."""
    second = due(node, first)
    first.streamed.errback(SILENT)
    assert second.closed
    node.clock.advance(1)
    third = node.channel
    assert isinstance(third, FakeQuic) and third is not second
    node.welcome(third, quic_address=QUIC)
    assert [kind for kind, _ in node.seen] == ["online", "offline", "online"]


def test_stop_during_a_move(node: Node, first: FakeChannel) -> None:
    """It is given up; the gateway is told, and ends the session.  Nothing is left after that."""
    second = due(node, first)
    second.closing = Deferred()
    stopped: list[object] = []
    assert node.connection._running is not None
    node.connection._running.addBoth(stopped.append)
    node.connection.stop()
    assert second.closed and not first.closed
    first.streamed.callback(None)
    assert first.closed and not stopped
    second.closing.callback(None)
    assert stopped


def test_a_gateway_that_has_quic_now(tmp_path: Path) -> None:
    """A node that knew of none moves there within a minute; one that asked for gRPC does not."""
    for preference in (Preference.AUTO, Preference.GRPC):
        made = Node(tmp_path / preference.value, preference)
        made.connection.start()
        first = made.channel
        made.welcome(first, quic_address=QUIC)
        assert made.kept == [Memory(QUIC)]
        live(made, first, SOON_S)
        assert isinstance(made.channel, FakeQuic) is (preference is Preference.AUTO)
        made.connection.stop()
        made.clock.advance(GOODBYE_S)
        assert not made.clock.getDelayedCalls()
        made.memory.stop()
