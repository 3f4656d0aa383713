"""Tests of :mod:`palyra.node.session`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from palyra.core.devices import AnnouncedCapability
from palyra.core.frames import (
    HEARTBEAT,
    STARTED,
    STOPPING,
    CatalogAnswer,
    Drained,
    GatewayFrame,
    NodeEvent,
    Progress,
    Renew,
    Waiting,
    Welcome,
)
from palyra.core.jobs import Outcome, Report
from palyra.core.transfers import Incoming, Outgoing
from palyra.errors import Malformed, TookTooLong
from palyra.node.session import SILENCE_S, NodeSession
from palyra.transport.interfaces import INodeSession
from tests.node.fakes import DEVICE_ID, NOW_MS, FakeCarrier, attempt, dispatch

WELCOME = Welcome(DEVICE_ID, "e", 7, 15_000, NOW_MS, "", (), "pi", "1")


class FakeRuns:
    """Keeps what a session hands over."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def attach(self, speaker: object) -> None:
        self.calls.append(("attach", speaker))

    def detach(self, speaker: object) -> None:
        self.calls.append(("detach", speaker))

    def acknowledged(self, attempt_id: str) -> None:
        self.calls.append(("acknowledged", attempt_id))

    def cancel(self, attempt_id: str, reason: str) -> None:
        self.calls.append(("cancel", attempt_id, reason))

    def dispatched(self, what: object) -> None:
        self.calls.append(("dispatched", what))


class Held:
    """A session with a clock."""

    def __init__(self, *unknown: str) -> None:
        self.granted: list[tuple[str, ...]] = []
        self.clock = Clock()
        self.carrier = FakeCarrier()
        self.runs = FakeRuns()
        self.drained: list[int] = []
        self.directed: list[Renew] = []
        self.heard = 0
        self.slept_s = 0.0
        self.session = NodeSession(
            clock=self.clock,
            elapsed_s=lambda: self.clock.seconds() + self.slept_s,
            jitter=random.uniform,
            carrier=self.carrier,
            welcome=attrs.evolve(WELCOME, unknown_digests=unknown),
            runs=self.runs,  # type: ignore[arg-type]
            drained=self.drained.append,
            directed=self.directed.append,
            heard=self._heard,
            descriptor={"d1": b"one", "d2": b"two"}.get,
            granted=self.granted.append,
        )
        self.session.start()

    def _heard(self) -> None:
        self.heard += 1

    def events(self) -> list[NodeEvent]:
        """What is waiting to be written."""
        return list(iter(self.session.take_event, None))

    def names(self) -> list[str]:
        """The names of what is waiting to be written."""
        names = []
        while (event := self.session.take_event()) is not None:
            names.append(event.name)
        return names

    def advance(self, seconds: float) -> None:
        """In small steps, as a reactor's time goes."""
        until = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= until:
            self.clock.advance(max(0.0, calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(until - self.clock.seconds())


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.session.stop()
    assert not made.clock.getDelayedCalls()


def report(number: int, size: int = 2) -> Report:
    return Report(attempt(number), Outcome.SUCCEEDED, b"x" * size)


def test_it_is_a_session(held: Held) -> None:
    """It keeps the carrier's contract."""
    assert verifyObject(INodeSession, held.session)


def test_it_says_hello_first(held: Held) -> None:
    """And hands itself to the runs; with nothing to say it says nothing."""
    assert held.runs.calls == [("attach", held.session)]
    assert held.carrier.woken
    assert held.session.take_event() == NodeEvent(name=STARTED, session_epoch=7)
    assert held.session.take_event() is None


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_heartbeats_are_jittered(_: int) -> None:
    """Each comes within the last 15 % of the interval."""
    held = Held()
    held.names()
    before_s = held.clock.seconds()
    due_s = held.clock.getDelayedCalls()[0].getTime()
    assert 15 * 0.85 <= due_s - before_s <= 15
    held.advance(15)
    assert held.names() == [HEARTBEAT]
    held.session.stop()


def test_silence_closes(held: Held) -> None:
    """At 40 seconds without a word the link is half-open, and the reason says so."""
    held.advance(SILENCE_S - 0.1)
    assert held.carrier.closed == []
    held.advance(0.2)
    (error,) = held.carrier.closed
    assert isinstance(error, TookTooLong)
    assert error.sentence == "The gateway answered no heartbeat within 40 s."


def test_a_session_that_was_slept_over(held: Held) -> None:
    """The gateway has given it up by then: so does this end, at the next beat."""
    held.advance(10)
    held.slept_s = 3600
    held.advance(15)
    assert len(held.carrier.closed) == 1


def test_a_nap(held: Held) -> None:
    """Is no reason."""
    held.session.received(GatewayFrame(answers=1))
    held.slept_s = 20
    held.advance(15)
    assert held.carrier.closed == [] and HEARTBEAT in held.names()


def test_what_was_held_over_a_sleep(held: Held) -> None:
    """Has what is left of its time, which is not much."""
    let_go = held.session.hold_dispatches()
    held.session.received(GatewayFrame(dispatches=[dispatch(remaining_ms=30_000)]))
    held.slept_s = 3600
    let_go()
    (_, held_back) = held.runs.calls[-1]
    assert held_back.remaining_ms == 1


def test_an_answer_keeps_it_open(held: Held) -> None:
    """Any frame is a sign of life."""
    for _ in range(5):
        held.advance(30)
        held.session.received(GatewayFrame(answers=1))
    assert held.heard == 5
    assert held.carrier.closed == []
    held.advance(SILENCE_S + 1)
    assert len(held.carrier.closed) == 1


def test_a_sign_of_life_is_asked_for(held: Held) -> None:
    """At once; any frame is one, and the session goes on."""
    held.names()
    held.session.probe(5)
    assert held.names() == [HEARTBEAT]
    held.advance(4)
    held.session.received(GatewayFrame(answers=1))
    held.advance(10)
    assert held.carrier.closed == []


def test_no_sign_of_life(held: Held) -> None:
    """It is closed after that time, once, however often that is asked."""
    held.session.probe(5)
    held.advance(4)
    held.session.probe(5)
    held.advance(1)
    (error,) = held.carrier.closed
    assert isinstance(error, TookTooLong)
    assert error.sentence == "The gateway answered no heartbeat within 5 s."
    held.advance(100)
    assert len(held.carrier.closed) == 1


def test_a_session_that_ends_is_asked_nothing_more(held: Held) -> None:
    """No timer of the question is left."""
    held.session.probe(5)
    held.session.stop()
    held.advance(10)
    assert held.carrier.closed == []


def test_a_stopped_session_beats_no_more(held: Held) -> None:
    """And lets go of the runs."""
    held.session.stop()
    held.names()
    held.advance(100)
    assert held.names() == []
    assert held.runs.calls[-1] == ("detach", held.session)


def test_frames_reach_the_runs(held: Held) -> None:
    """Acknowledgements, cancels and dispatches, a drain with its pause, and an order to renew."""
    order = dispatch()
    held.session.received(
        GatewayFrame(
            dispatches=[order],
            acknowledged=[attempt(1)],
            cancels=[(attempt(2), "why")],
            drain=Drained("bye", 2_000),
            renew=Renew("rotate", 60_000),
        )
    )
    assert held.runs.calls[1:] == [
        ("acknowledged", attempt(1)),
        ("cancel", attempt(2), "why"),
        ("dispatched", order),
    ]
    assert held.drained == [2_000]
    assert held.directed == [Renew("rotate", 60_000)]


def test_what_gathers_goes_out_together(held: Held) -> None:
    """Only the last progress of an attempt, and none of one that ended."""
    held.names()
    held.session.progress(Progress(attempt(1), 0.1, ""))
    held.session.progress(Progress(attempt(2), 0.1, ""))
    held.session.progress(Progress(attempt(2), 0.2, ""))
    held.session.waiting(Waiting(attempt(3), False, 9))
    held.session.report(report(1))
    event = held.session.take_event()
    assert event == NodeEvent(
        session_epoch=7,
        reports=(report(1),),
        progress=(Progress(attempt(2), 0.2, ""),),
        waiting=(Waiting(attempt(3), False, 9),),
    )


def test_large_reports_are_parted(held: Held) -> None:
    """What fits goes together, in order; the carrier is woken for the rest."""
    held.names()
    for number in range(4):
        held.session.report(report(number, 150_000 if number == 1 else 60_000))
    woken = held.carrier.woken
    seen = []
    while (event := held.session.take_event()) is not None:
        seen.append([each.attempt_id for each in event.reports])
    assert seen == [[attempt(0)], [attempt(1)], [attempt(2), attempt(3)]]
    assert held.carrier.woken == woken + 2


def test_a_large_report_comes_in_pieces(held: Held) -> None:
    """The carrier is woken for each message; the report follows its last piece."""
    held.names()
    held.session.report(report(1, 300_000))
    incoming, woken = Incoming(), held.carrier.woken
    events = []
    while (event := held.session.take_event()) is not None:
        events.append(event)
        for chunk in event.chunks:
            incoming.add(chunk)
    assert [bool(each.transferred) for each in events] == [False, False, True]
    ((bare, transfer_id),) = events[-1].transferred
    assert bare == report(1, 0) and incoming.claim(transfer_id) == report(1, 300_000).output_json
    assert held.carrier.woken == woken + 2


def test_a_large_input_is_put_together(held: Held) -> None:
    """Nothing of it starts before the dispatch that names the transfer."""
    order = dispatch(input_json=b"x" * 300_000)
    outgoing = Outgoing()
    outgoing.start(order.input_json)
    ended: list[int] = []
    while outgoing.busy:
        assert held.runs.calls[1:] == []
        chunks, ended = outgoing.take()
        bare = attrs.evolve(order, input_json=b"")
        transferred = [(bare, each) for each in ended]
        held.session.received(GatewayFrame(chunks=chunks, transferred=transferred))
    assert held.runs.calls[1:] == [("dispatched", order)]


def test_a_gateway_that_breaks_the_rules(held: Held) -> None:
    """The session ends with the sentence, and what comes afterwards changes nothing."""
    held.session.received(GatewayFrame(transferred=[(dispatch(), 1)]))
    assert isinstance(held.carrier.closed[0], Malformed)
    held.session.received(GatewayFrame(dispatches=[dispatch()]))
    assert held.runs.calls[1:] == []


def test_a_cancel_of_what_is_held(held: Held) -> None:
    """A dispatch that waits for the next session waits with its cancel."""
    let_go = held.session.hold_dispatches()
    held.session.received(GatewayFrame(dispatches=[dispatch(1)]))
    held.session.received(GatewayFrame(cancels=[(attempt(1), "why"), (attempt(2), "why")]))
    assert held.runs.calls[1:] == [("cancel", attempt(2), "why")]
    let_go()
    assert held.runs.calls[2:] == [("dispatched", dispatch(1)), ("cancel", attempt(1), "why")]


def test_each_holds_for_itself(held: Held) -> None:
    """A registration that was given up lets go late, and twice: nothing starts before the last one
    has ended, and nothing at all once the session is over."""
    first = held.session.hold_dispatches()
    second = held.session.hold_dispatches()
    held.session.received(GatewayFrame(dispatches=[dispatch(1)]))
    for _ in range(2):
        first()
    assert held.runs.calls[1:] == []
    second()
    assert held.runs.calls[1:] == [("dispatched", dispatch(1))]
    third = held.session.hold_dispatches()
    held.session.received(GatewayFrame(dispatches=[dispatch(2)]))
    held.session.stop()
    third()
    assert ("dispatched", dispatch(2)) not in held.runs.calls


def test_stopping_is_the_last_word(held: Held) -> None:
    """Everything else is written before it."""
    held.session.say_stopping()
    held.session.report(report(1))
    events = [held.session.take_event() for _ in range(3)]
    assert [each and each.name for each in events] == [STARTED, STOPPING, None]
    assert events[0] is not None and events[0].reports == (report(1),)


def test_descriptors_are_sent_to_whoever_asks() -> None:
    """At the registration; what this node does not have is passed over."""
    held = Held("d2", "unknown", "d1")
    started, described = held.events()
    assert started.name == STARTED
    assert described.descriptors == (b"two", b"one")
    held.session.stop()


def test_a_catalog_and_its_answer(held: Held) -> None:
    """What is granted now is told on, and what the gateway asks for is sent."""
    held.names()
    catalog = (AnnouncedCapability("a.b", digest="d1"),)
    held.session.announce(catalog)
    (said,) = held.events()
    assert (said.catalog, said.session_epoch) == (catalog, 7)
    woken = held.carrier.woken
    held.session.received(GatewayFrame(catalog=CatalogAnswer(("a.b",), ("d1", "d3"))))
    assert held.granted == [("a.b",)]
    assert held.carrier.woken > woken
    (described,) = held.events()
    assert described.descriptors == (b"one",)
