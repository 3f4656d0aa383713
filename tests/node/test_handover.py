"""Tests of the handover of :mod:`palyra.node.connection`: a new certificate under full work."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from palyra import _versioned
from palyra.core.frames import Drained, GatewayFrame, Renew
from palyra.core.jobs import Standing
from palyra.errors import CertificateSuperseded, Cut, DeviceRevoked, DiskFull, GatewayUnreachable
from palyra.node.connection import GOODBYE_S, HANDOVER_S
from palyra.node.identity import IdentityStore
from palyra.node.renewal import CUTS, FIRST_RETRY_S, MAX_RETRY_S
from tests.node.busynode import Node
from tests.node.fakes import DEVICE_ID, FakeChannel, attempt

AWAY = GatewayUnreachable("gw.example:7444", "no answer")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node whose clock is empty at the end, and whose connections are all closed."""
    made = Node(tmp_path)
    made.connection.start()
    yield made
    made.connection.stop()
    made.clock.advance(GOODBYE_S)
    assert not made.clock.getDelayedCalls()
    assert all(each.closed for each in FakeChannel.made)
    made.memory.stop()


@pytest.fixture
def first(node: Node) -> FakeChannel:
    """The session over the first certificate, with two jobs at work."""
    node.welcome(node.channel)
    for number in (1, 2):
        node.work(node.channel, number)
    return node.channel


def test_no_job_notices(node: Node, first: FakeChannel) -> None:
    """Jobs run on, each report arrives, and the node is online all the time."""
    node.clock.advance(3_600)
    second = node.renew()
    assert second.identity[1].decode() != first.identity[1].decode()
    assert second.hello is not None
    assert second.hello.attempts == dict.fromkeys((attempt(1), attempt(2)), Standing.RUNNING)
    node.work(first, 3)  # sent before the gateway saw the new registration
    node.welcome(second)
    first.session.received(GatewayFrame(drain=Drained("this device has registered again")))
    node.end(0)
    node.runner.runs[1].context.progress(0.5)
    assert node.reports(first) == []
    assert node.reports(second) == [attempt(1)]
    node.acknowledge(second, attempt(1))
    node.work(first, 4)  # it was on its way
    assert len(node.runner.runs) == 2  # neither was in the hello: the gateway sends them again
    node.work(second, 3)
    node.work(second, 4)
    assert len(node.runner.runs) == 4
    for run in (1, 2, 3):
        node.end(run)
    assert node.reports(second) == [attempt(2), attempt(3), attempt(4)]
    node.acknowledge(first, attempt(2))
    node.acknowledge(second, attempt(3), attempt(4))
    first.streamed.callback(None)
    assert first.closed and not second.closed
    assert node.memory.unacknowledged() == []
    assert node.seen == [("online", 1), ("renewed", 25), ("online", 2)]
    client = node.device.store.client()
    assert client.next is None and client.current is not None
    assert client.current.certificate_pem.encode() == second.identity[1]


def test_a_report_that_was_not_acknowledged(node: Node, first: FakeChannel) -> None:
    """Is sent again over the new session, at once."""
    node.end(0)
    assert node.reports(first) == [attempt(1)]
    second = node.renew()
    assert second.hello is not None
    assert second.hello.attempts[attempt(1)] is Standing.FINISHED
    node.welcome(second)
    assert node.reports(second) == [attempt(1)]
    node.acknowledge(first, attempt(1))
    assert node.memory.unacknowledged() == []


def test_an_old_session_that_does_not_end(node: Node, first: FakeChannel) -> None:
    """Half a minute is enough; the new one is not touched."""
    second = node.renew()
    node.welcome(second)
    node.clock.advance(HANDOVER_S - 1)
    first.session.received(GatewayFrame(answers=1))
    second.session.received(GatewayFrame(answers=1))
    assert not first.closed
    node.clock.advance(1)
    assert first.closed and not second.closed
    assert node.seen[-1] == ("online", 2)


def test_no_dispatch_waits_for_a_connection(node: Node, first: FakeChannel) -> None:
    """Only from the gateway's answer there to the end of the registration are they held."""
    second = node.connect_renewed()
    node.work(first, 3)
    node.clock.advance(5)
    assert len(node.runner.runs) == 3
    assert second.hello is None
    second.reached.callback(None)
    assert second.hello is not None
    assert attempt(3) in second.hello.attempts
    node.work(first, 4)
    assert len(node.runner.runs) == 3
    node.welcome(second)
    assert len(node.runner.runs) == 3  # it was not in the hello: the gateway sends it again
    node.work(second, 4)
    assert len(node.runner.runs) == 4


@pytest.mark.parametrize("error", [AWAY, DeviceRevoked(DEVICE_ID), ValueError("a bug")])
def test_a_connection_that_is_not_made(
    node: Node, first: FakeChannel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The old session was never touched; the same certificate is tried again with backoff."""
    touched: list[str] = []
    monkeypatch.setattr(first.session, "hold_dispatches", lambda: touched.append("held"))
    second = node.connect_renewed()
    node.clock.advance(10)
    first.session.received(GatewayFrame(answers=1))
    second.reached.errback(error)
    assert second.closed and not first.closed
    assert (second.hello, touched) == (None, [])
    node.work(first, 3)
    assert len(node.runner.runs) == 3
    monkeypatch.undo()
    node.clock.advance(FIRST_RETRY_S * 2)
    third = node.channel
    assert third is not second
    assert third.identity == second.identity
    assert len(first.asked) == 1
    third.reached.callback(None)
    node.welcome(third)
    assert node.seen[-1] == ("online", 2)


def test_a_connection_that_is_cut_off_each_time(node: Node, first: FakeChannel) -> None:
    """Is held against the certificate, which the gateway may not take: another one is asked for."""
    node.connect_renewed()
    for _ in range(CUTS):
        assert node.device.store.client().next is not None
        node.channel.reached.errback(GatewayUnreachable("gw:1", Cut.CLOSED_OFF))
        node.clock.advance(MAX_RETRY_S)
        first.session.received(GatewayFrame(answers=1))
    assert len(first.asked) == 2
    assert first.asked[0][0].csr_der != first.asked[1][0].csr_der


def test_a_connection_that_takes_time_to_close(
    node: Node, first: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for that: what was held begins as soon as the registration has failed."""
    second = node.renew()
    closed: Deferred[None] = Deferred()
    monkeypatch.setattr(second, "close", lambda: closed)
    node.work(first, 3)
    assert len(node.runner.runs) == 2
    second.registered.errback(AWAY)
    assert len(node.runner.runs) == 3
    second.closed = True
    closed.callback(None)


def test_a_registration_that_fails(node: Node, first: FakeChannel) -> None:
    """The old session works on; the same certificate is tried again with backoff."""
    second = node.renew()
    node.work(first, 3)
    node.clock.advance(2)
    assert len(node.runner.runs) == 2  # had it begun, the gateway would take it for never started
    second.registered.errback(AWAY)
    assert second.closed and not first.closed
    assert node.runner.runs[2].context.remaining_s() <= 28  # of 30, two were waited for
    node.end(0)
    assert node.reports(first) == [attempt(1)]
    node.clock.advance(FIRST_RETRY_S * 2)
    first.session.received(GatewayFrame(answers=1))
    third = node.channel
    assert third.identity == second.identity
    assert len(first.asked) == 1
    third.reached.callback(None)
    node.welcome(third)
    assert node.seen[-1] == ("online", 2)


def test_a_certificate_that_is_not_taken(node: Node, first: FakeChannel) -> None:
    """The old session works on, and asks for another one."""
    second = node.renew()
    second.registered.errback(CertificateSuperseded())
    assert node.device.store.client().next is None
    assert not first.closed
    node.clock.advance(FIRST_RETRY_S * 2)
    assert len(first.asked) == 2
    assert first.asked[0][0].csr_der != first.asked[1][0].csr_der


def test_the_old_session_ends_meanwhile(node: Node, first: FakeChannel) -> None:
    """The registration is given up, and made again with the same certificate."""
    second = node.renew()
    first.streamed.errback(AWAY)
    assert second.closed
    node.clock.advance(1)
    third = node.channel
    assert third.identity == second.identity
    node.welcome(third)
    assert node.seen[-2:] == [("renewed", 24), ("online", 2)]


def test_the_old_session_ends_before_the_new_connection(node: Node, first: FakeChannel) -> None:
    """Connecting is given up; the next session is registered over the same certificate."""
    second = node.connect_renewed()
    first.streamed.errback(AWAY)
    assert second.closed
    node.clock.advance(1)
    third = node.channel
    assert third is not second and third.identity == second.identity
    node.welcome(third)
    assert node.seen[-2:] == [("renewed", 24), ("online", 2)]


def test_a_new_session_that_breaks(node: Node, first: FakeChannel) -> None:
    """The node connects again, with the new certificate; nothing of a job is lost."""
    second = node.renew()
    node.welcome(second)
    node.end(0)
    second.streamed.errback(AWAY)
    assert first.closed
    node.clock.advance(1)
    third = node.channel
    assert third.identity == second.identity
    node.welcome(third)
    assert node.reports(third) == [attempt(1)]


def test_a_new_session_that_breaks_at_once(
    node: Node, first: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, where the stream cannot even be opened."""
    second = node.renew()
    monkeypatch.setattr(second, "stream", lambda *_: second.streamed)
    second.streamed.errback(AWAY)
    node.welcome(second)
    assert first.closed and second.closed
    assert node.seen[-1] == ("offline", AWAY)


def test_the_next_directive_is_the_new_sessions(node: Node, first: FakeChannel) -> None:
    """What the old one still says of renewal and of coming back is over."""
    second = node.renew()
    node.welcome(second)
    first.session.received(GatewayFrame(renew=Renew("rotate", 0), drain=Drained("bye", 60_000)))
    node.clock.advance(0)
    assert second.asked == []
    second.session.received(GatewayFrame(renew=Renew("rotate", 0)))
    node.clock.advance(0)
    assert len(second.asked) == 1
    second.streamed.callback(None)
    node.clock.advance(1)
    assert node.channel is not second


def test_stop_during_a_handover(node: Node, first: FakeChannel) -> None:
    """The handover is given up; the gateway is told, and ends the session."""
    second = node.renew()
    node.connection.stop()
    assert second.closed and not first.closed
    first.streamed.callback(None)
    assert first.closed


def test_stop_after_a_handover(node: Node, first: FakeChannel) -> None:
    """The new session says goodbye; the old one is closed with it."""
    second = node.renew()
    node.welcome(second)
    node.connection.stop()
    second.streamed.callback(None)
    assert first.closed and second.closed


def test_a_start_between_the_two(tmp_path: Path) -> None:
    """A host that stopped before the handover tries the next certificate first."""
    made = Node(tmp_path)
    credential = made.device.make_next()
    made.connection.start()
    assert made.channel.identity[1].decode() == credential.certificate_pem
    made.channel.registered.errback(GatewayUnreachable("gw:1", "the connection was closed"))
    assert made.channel.identity[1].decode() == made.device.first.certificate_pem
    made.welcome(made.channel)
    assert made.device.store.client().next == credential
    made.clock.advance(FIRST_RETRY_S * 2)
    made.channel.reached.callback(None)
    made.welcome(made.channel)
    assert made.channel.identity[1].decode() == credential.certificate_pem
    assert made.device.store.client().current == credential
    made.connection.stop()
    made.clock.advance(GOODBYE_S)
    assert not made.clock.getDelayedCalls()
    made.memory.stop()


@pytest.mark.parametrize("error", [DiskFull("/"), OSError(errno.EROFS, "Read-only file system")])
def test_a_disk_that_cannot_be_written(
    node: Node, first: FakeChannel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The node serves over the new certificate, and the next write has what is missing."""

    def refuse(*_: object) -> None:
        raise error

    second = node.renew()
    with monkeypatch.context() as patch:
        patch.setattr(_versioned, "write_atomic", refuse)
        node.welcome(second)
    assert node.seen[-2:] == [("renewed", 24), ("online", 2)]
    node.clock.advance(HANDOVER_S)
    assert first.closed and not second.closed
    assert IdentityStore(node.device.store.path).client().next is not None
    held = node.device.store.client()
    assert held.next is None and held.current is not None
    assert held.current.certificate_pem.encode() == second.identity[1]
    second.session.received(GatewayFrame(renew=Renew("rotate", 0)))
    node.clock.advance(0)
    on_disk = IdentityStore(node.device.store.path).client()
    assert (on_disk.current, on_disk.next) == (held.current, None)
    assert on_disk.pending is not None
