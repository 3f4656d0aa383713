"""Tests of :mod:`palyra.transport.quicstreams`: sessions and journals, on a network of memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock

from palyra.core.frames import HEARTBEAT, STOPPING, GatewayFrame, NodeEvent
from palyra.core.journal import JournalEvent, JournalGap
from palyra.errors import (
    CertificateSuperseded,
    CertificateUnknown,
    DeviceRevoked,
    LimitReached,
    Malformed,
    NotRegistered,
    RemoteRefusal,
)
from palyra.transport.quicframes import Event, Gap, encode_frame, write_error
from palyra.transport.quicstreams import Outgoing
from tests.transport.quicworld import (
    ADDRESS,
    Over,
    Session,
    World,
    large,
    unreachable,
)
from tests.transport.serving import DEVICE


@pytest.fixture
def world() -> Any:
    made = World()
    yield made
    made.end()


# -- sessions ---------------------------------------------------------------------------------


def test_a_session(world: World) -> None:
    """What either side says arrives, in its order; the gateway's normal end is one here."""
    session, over = world.carry(world.channel())
    served = world.served
    session.say(NodeEvent(HEARTBEAT, 3), NodeEvent(HEARTBEAT, 3))
    served.say(GatewayFrame(acknowledged=["A"]))
    world.network.run(0.5)
    assert [each.name for each in served.received_events] == [HEARTBEAT, HEARTBEAT]
    assert [frame.acknowledged for frame in session.frames] == [["A"]]
    served.carrier.close(None)
    world.network.run(0.5)
    assert over.error is None
    assert served.reasons == ["closed by the gateway"]


def test_what_gathers_goes_out_together(world: World) -> None:
    """However often it is woken in a turn, the session is asked once."""
    session, _ = world.carry(world.channel())
    before = session.taken
    asked: list[None] = []
    take = session.take_event

    def counted() -> NodeEvent | None:
        asked.append(None)
        return take()

    session.take_event = counted  # type: ignore[method-assign]
    session.events.append(NodeEvent(HEARTBEAT, 3))
    for _ in range(50):
        session.carrier.wake()
    world.network.run(0.5)
    assert (len(asked), session.taken - before) == (1, 1)


def test_a_stream_without_a_registration(world: World) -> None:
    """It is refused here."""
    assert isinstance(world.ask(world.channel().stream(Session, DEVICE)), NotRegistered)  # type: ignore[arg-type]


def test_a_session_that_the_gateway_refuses(world: World) -> None:
    """Its reason is what the stream fails with."""
    _, over = world.carry(world.channel())
    world.served.carrier.close(CertificateSuperseded())
    world.network.run(1.0)
    assert isinstance(over.error, CertificateSuperseded)


def test_a_revocation_closes_the_connection(world: World) -> None:
    """The stream is told why, and so is every call after it."""
    channel = world.channel()
    _, over = world.carry(channel)
    for stream in world.desk.streams:
        stream.close(DeviceRevoked(DEVICE))
    world.network.run(2.0)
    assert isinstance(over.error, RemoteRefusal) and over.error.final
    error = world.ask(channel.health())
    assert isinstance(error, RemoteRefusal) and error.final


def test_the_last_word(world: World) -> None:
    """After it the node says nothing more, and the gateway ends the session."""
    session, over = world.carry(world.channel())
    session.say(NodeEvent(STOPPING, 3), NodeEvent(HEARTBEAT, 3))
    world.network.run(1.0)
    served = world.served
    assert [event.name for event in served.received_events] == [STOPPING]
    assert over.error is None


def test_a_session_is_cancelled(world: World) -> None:
    """The gateway hears of it; the connection goes on."""
    channel = world.channel()
    _, over = world.carry(channel)
    over.stream.cancel()
    world.network.run(1.0)
    assert isinstance(over.error, CancelledError)
    assert world.served.reasons == ["given up by the node"]
    assert world.ask(channel.health()).ok


@pytest.mark.parametrize("error", [None, LimitReached("patience", 1)])
def test_a_session_ends_itself(world: World, error: Any) -> None:
    """With its error, or normally; nothing that arrives later reaches it."""
    session, over = world.carry(world.channel())
    session.carrier.close(error)
    session.carrier.close(CertificateUnknown())
    assert over.error is error
    world.served.say(GatewayFrame(acknowledged=["A"]))
    world.network.run(1.0)
    assert session.frames == []


@pytest.mark.parametrize("fault", [Malformed("frame", "is odd"), ZeroDivisionError()])
def test_a_session_that_fails(world: World, fault: Exception) -> None:
    """It is over, whether it cannot hear or cannot speak; the connection is not."""
    for speaks in (True, False):
        world.desk.attached = Deferred()
        channel = world.channel()
        session, over = world.carry(channel)
        session.fault = fault
        if speaks:
            session.carrier.wake()
        else:
            world.served.say(GatewayFrame(acknowledged=["A"]))
        world.network.run(1.0)
        assert over.error is fault
        assert world.ask(channel.health()).ok


def test_closing_sends_what_was_said(world: World) -> None:
    """The last word of a session is not lost where the channel is closed right after it."""
    channel = world.channel()
    session, over = world.carry(channel)
    session.say(NodeEvent(STOPPING, 3))
    world.ask(channel.close())
    world.network.run(1.0)
    served = world.served
    assert [event.name for event in served.received_events] == [STOPPING]
    assert unreachable(over.error) == "the connection was closed"


def test_a_network_that_carries_nothing(world: World) -> None:
    """What it cannot carry yet is not taken from the session: that would only wait elsewhere."""
    session, _ = world.carry(world.channel())
    before, carries = session.taken, world.network.fate
    world.network.fate = lambda *_: []
    session.say(*(large(number) for number in range(12)))
    world.network.run(2.0)
    assert session.taken - before <= 3  # 64 KiB, and what is on its way
    world.network.fate = carries
    world.network.run(20.0, lambda: len(world.served.received_events) == 12)
    assert [len(event.reports) for event in world.served.received_events] == [1] * 12


def test_loss_and_disorder(world: World) -> None:
    """One datagram in ten is lost, others come late or twice: nothing of the session is."""
    session, over = world.carry(world.channel())
    served = world.served
    fates = iter(
        ([], [0.01], [0.02, 0.03], [0.005], [0.05], [0.01], [0.01], [0.01], [0.1], [0.01]) * 10_000
    )
    world.network.fate = lambda *_: next(fates)
    for number in range(50):
        session.say(NodeEvent(f"event {number}", 3))
        served.say(GatewayFrame(acknowledged=[str(number)]))
        world.network.run(0.2)
    world.network.run(10.0)
    assert [event.name for event in served.received_events] == [f"event {n}" for n in range(50)]
    assert [frame.acknowledged for frame in session.frames] == [[str(n)] for n in range(50)]
    assert not over.called


# -- the journal ------------------------------------------------------------------------------


def test_events(world: World) -> None:
    """What was, what is missing, and then what comes, until it is called off."""
    heard: list[Event | Gap] = []
    following = Over(world.channel().events(7, heard.append))
    world.network.run(0.5)
    assert world.desk.asked == [7]
    world.desk.events.say(JournalGap(10), JournalEvent(DEVICE, 10, 5, "paired", {"by": "me"}))
    world.network.run(0.5)
    assert heard[0] == Gap(seq=9)
    assert heard[1:] == [Event(seq=10, event="paired", at_unix_ms=5, details={"by": "me"})]
    following.stream.cancel()
    world.network.run(0.5)
    assert isinstance(following.error, CancelledError)
    assert world.desk.events.closed == 1


def test_events_that_are_refused(world: World) -> None:
    """As any other call; a listener that fails ends them."""
    channel = world.channel()
    refusal = Malformed("resume_from", "is of another store")
    world.desk.follow_events = lambda *_: fail(refusal)  # type: ignore[method-assign]
    error = world.ask(channel.events(9, print))
    assert isinstance(error, RemoteRefusal) and error.remote_code == Malformed.code
    del world.desk.follow_events

    def broken(_: Any) -> None:
        raise ZeroDivisionError

    following = Over(channel.events(None, broken))
    world.network.run(0.5)
    world.desk.events.say(JournalGap(10))
    world.network.run(0.5)
    assert isinstance(following.error, ZeroDivisionError)
    assert world.desk.events.closed == 1


# -- a gateway that errs ----------------------------------------------------------------------


class Wire:
    """A connection, its link and its engine: one stream, and what becomes of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.link = self.engine = self
        self.over = False
        self.done: list[str] = []

    def open_stream(self, handler: Any, first: bytes, *, end: bool) -> int:
        return 4

    def forget(self, stream_id: int) -> None:
        self.done.append("forgotten")

    def is_open(self, stream_id: int) -> bool:
        return True

    def stop_reading(self, stream_id: int) -> None:
        self.done.append("not read")

    def reset_stream(self, stream_id: int, code: int) -> None:
        self.done.append("reset")

    def touch(self) -> None:
        pass


def asked(wire: Wire, *, end: bool = False) -> Outgoing:
    """A request on it."""
    return Outgoing(wire, wire.clock, ADDRESS, b"", end=end)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sent, ended",
    [
        (b"\0\0\0\0", False),
        (b"\xff\xff\xff\xff", False),
        (encode_frame(b'{"kind": "odd"}'), False),
        (encode_frame(b"{"), False),
        (encode_frame(b"cut")[:-1], True),
    ],
    ids=["empty", "too long", "unknown", "no JSON", "cut"],
)
def test_frames_that_are_none(sent: bytes, ended: bool) -> None:
    """The stream is over; what came before them was heard."""
    wire = Wire()
    heard: list[bytes] = []
    stream = asked(wire)
    over = Over(stream.follow(heard.append))
    stream.arrived(encode_frame(b"good") + sent, ended)
    assert isinstance(over.error, Malformed)
    assert heard == [b"good"]
    assert wire.done == ["reset", "forgotten"] if ended else ["not read", "reset", "forgotten"]


def test_an_end_instead_of_an_answer() -> None:
    """A gateway that stops has not answered."""
    stream = asked(Wire(), end=True)
    over = Over(stream.answer())  # type: ignore[arg-type]
    stream.arrived(b"", True)
    assert unreachable(over.error) == "it ended the call"


def test_what_came_before_somebody_took_it() -> None:
    """It waits, in its order; the refusal at the end of it too."""
    wire = Wire()
    heard: list[bytes] = []
    stream = asked(wire)
    answer = Over(stream.answer())  # type: ignore[arg-type]
    frames = [encode_frame(each) for each in (b"1", b"2", b"3")]
    stream.arrived(b"".join(frames) + write_error(CertificateUnknown()), True)
    assert answer.results == [b"1"]
    over = Over(stream.follow(heard.append))
    assert heard == [b"2", b"3"]
    assert isinstance(over.error, CertificateUnknown)


def test_a_stream_that_the_gateway_gave_up() -> None:
    """Its reason may still be on its way; without one the stream is cut off after a second."""
    for reason in (None, CertificateUnknown()):
        wire = Wire()
        stream = asked(wire)
        over = Over(stream.follow(print))
        stream.given_up()
        stream.given_up()
        assert not stream.room
        if reason is not None:
            stream.arrived(write_error(reason), True)
            assert over.error is not None and type(over.error) is CertificateUnknown
        wire.clock.advance(1.0)
        if reason is None:
            assert unreachable(over.error) == "it ended the call"
        assert wire.clock.getDelayedCalls() == []
