"""Tests of :mod:`palyra.node.outbox`: the order and the size of what the gateway is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palyra.core.descriptors import MAX_BYTES as MAX_DESCRIPTOR
from palyra.core.devices import MAX_CAPABILITIES, AnnouncedCapability
from palyra.core.frames import HEARTBEAT, STOPPING, NodeEvent, Progress, Waiting
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Outcome, Report
from palyra.core.transfers import PIECES_OVER, Incoming
from palyra.node.outbox import MAX_DESCRIPTORS, MAX_WAITING, Outbox
from palyra.wire.session import MAX_IN_MESSAGE, write_event
from tests.node.fakes import DEVICE_ID, attempt

QUIC_FRAME = 512 * 1024


def report(number: int, size: int = 2) -> Report:
    return Report(attempt(number), Outcome.SUCCEEDED, b"x" * size)


def events_of(outbox: Outbox) -> list[NodeEvent]:
    """Everything, message by message."""
    events = []
    while outbox.waiting:
        events.append(outbox.take())
        assert len(events) < 2_000, "it never ends"
    return events


def test_small_things_pass_a_large_output() -> None:
    """A heartbeat and another report go out between the pieces; the last word comes last."""
    outbox = Outbox(7, 64)
    outbox.report(report(1, 640))
    outbox.stop()
    assert len(outbox.take().chunks) == 2
    outbox.say(HEARTBEAT)
    outbox.report(report(2))
    second = outbox.take()
    assert (second.name, second.reports, len(second.chunks)) == (HEARTBEAT, (report(2),), 2)
    rest = events_of(outbox)
    assert rest[-2].transferred == ((report(1, 0), 1),)
    assert rest[-1] == NodeEvent(name=STOPPING, session_epoch=7)
    assert not outbox.waiting


def test_nothing_of_an_ended_attempt_but_its_report() -> None:
    """However its output travels, its progress is of no interest any more."""
    outbox = Outbox(7, 64)
    for number in (1, 2, 3):
        outbox.progress(Progress(attempt(number), 0.1, ""))
    outbox.report(report(1, 640))
    outbox.report(report(2))
    assert [each.attempt_id for each in outbox.take().progress] == [attempt(3)]


@given(st.lists(st.integers(0, 400), max_size=12), st.lists(st.booleans(), max_size=12))
@settings(max_examples=100, deadline=None)
def test_every_report_comes_once(sizes: list[int], takes: list[bool]) -> None:
    """Large and small, whenever the carrier takes them."""
    outbox, incoming = Outbox(7, 64), Incoming()
    came: dict[str, bytes] = {}

    def hear(event: NodeEvent) -> None:
        for chunk in event.chunks:
            incoming.add(chunk)
        came.update((each.attempt_id, each.output_json) for each in event.reports)
        came.update((each.attempt_id, incoming.claim(id_)) for each, id_ in event.transferred)

    for number, size in enumerate(sizes):
        outbox.report(report(number, size))
        if number < len(takes) and takes[number] and outbox.waiting:
            hear(outbox.take())
    for event in events_of(outbox):
        hear(event)
    assert came == {attempt(number): b"x" * size for number, size in enumerate(sizes)}


@pytest.mark.parametrize("size", [2, 40_000, PIECES_OVER])
def test_no_message_is_too_large(size: int) -> None:
    """With everything there can be, at its longest, it stays below what QUIC takes."""
    outbox = Outbox(2**63)
    text = "\N{GRINNING FACE}" * 1_024
    for number in range(600):
        attempt_id = AttemptId(f"{number:064}")
        large = PIECES_OVER + 1 if number < 8 else 2
        for length in (large, size):
            outbox.report(Report(attempt_id, Outcome.FAILED, b"x" * length, text, text * 3))
        outbox.progress(Progress(AttemptId(f"p{number:063}"), 0.123, text * 3))
        outbox.ask(Waiting(attempt_id, True, 2**32 - 1))
        outbox.say(HEARTBEAT)
    events = events_of(outbox)
    for event in events:
        message = write_event(event, DEVICE_ID)
        assert message.ByteSize() < QUIC_FRAME
        assert len(message.reports) <= MAX_IN_MESSAGE and len(message.waiting) <= MAX_WAITING
    assert sum(len(event.progress) for event in events) == 600
    assert sum(len(event.waiting) for event in events) == 600
    assert sum(len(event.reports) + len(event.transferred) for event in events) == 1_200


# -- what is offered ------------------------------------------------------------------------------


def test_a_catalog_comes_before_its_descriptors() -> None:
    """In a message of its own, after the events that have names; only the last one is sent."""
    outbox = Outbox(7)
    old, new = (AnnouncedCapability("a.b"),), (AnnouncedCapability("a.c"),)
    outbox.describe("d", b"descriptor")
    outbox.catalog(old)
    outbox.catalog(new)
    outbox.say(HEARTBEAT)
    outbox.report(report(1))
    events = events_of(outbox)
    assert [each.catalog for each in events if each.catalog is not None] == [new]
    assert events[0].name == HEARTBEAT
    assert events[1].catalog is not None
    assert events[2].descriptors == (b"descriptor",)


def test_descriptors_and_reports_take_turns() -> None:
    """A flood of one does not keep back the other."""
    outbox = Outbox(7)
    for number in range(8):
        outbox.describe(str(number), b"x" * MAX_DESCRIPTOR)
        outbox.report(report(number, PIECES_OVER))
    kinds = ["d" if each.descriptors else "r" for each in events_of(outbox)]
    assert kinds[:6] == ["d", "r", "d", "r", "d", "r"]
    assert kinds.count("r") == 8


def test_a_descriptor_is_sent_once_while_it_waits() -> None:
    """Whoever asks for it twice meanwhile gets it once; no more wait than a device has."""
    outbox = Outbox(7)
    for _ in range(2):
        for number in range(MAX_DESCRIPTORS + 9):
            outbox.describe(str(number), b"%d" % number)
    sent = [each for event in events_of(outbox) for each in event.descriptors]
    assert sent == [b"%d" % number for number in range(MAX_DESCRIPTORS)]


def test_no_offer_is_too_large() -> None:
    """The largest descriptors, and the longest catalog, stay below half of what QUIC takes."""
    outbox = Outbox(2**63)
    for number in range(MAX_DESCRIPTORS):
        outbox.describe(str(number), b"x" * MAX_DESCRIPTOR)
    text = "\N{GRINNING FACE}" * 64
    said = {"digest": text, "version": text, "fault": text * 3, "contract": text}
    outbox.catalog(tuple(AnnouncedCapability(f"{n:064}", **said) for n in range(MAX_CAPABILITIES)))
    events = events_of(outbox)
    sizes = [write_event(event, DEVICE_ID).ByteSize() for event in events if event.descriptors]
    assert max(sizes) < QUIC_FRAME // 2
    assert write_event(events[0], DEVICE_ID).ByteSize() < QUIC_FRAME
    assert sum(len(event.descriptors) for event in events) == MAX_DESCRIPTORS
