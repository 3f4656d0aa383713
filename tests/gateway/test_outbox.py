"""Tests of :mod:`palyra.gateway.outbox`: the order and the size of what a node is told."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from palyra.core.frames import CatalogAnswer, Dispatch, Drained, GatewayFrame, Renew
from palyra.core.identifiers import AttemptId
from palyra.core.transfers import PIECES_OVER, Incoming
from palyra.gateway.outbox import MAX_ACKNOWLEDGED, MAX_CANCELS, Outbox
from palyra.wire.session import write_frame

QUIC_FRAME = 512 * 1024
ULID = "01M80NKQCNX4K7QM2ZT9B30000"


def dispatch(number: int, size: int = 2, **given: Any) -> Dispatch:
    """A dispatch with an input of so many bytes."""
    values: dict[str, Any] = {
        "attempt_id": AttemptId(f"attempt {number}"),
        "job_id": ULID,
        "number": 1,
        "capability": "echo",
        "input_json": b"x" * size,
        "max_payload_bytes": 9,
        "remaining_ms": 30_000,
        "requested_by": "ana",
    }
    return Dispatch(**values | given)


def frames_of(outbox: Outbox) -> list[GatewayFrame]:
    """Everything, message by message."""
    frames = []
    while outbox.waiting:
        frames.append(outbox.take())
        assert len(frames) < 1_000, "it never ends"
    return frames


def test_small_things_pass_a_large_input() -> None:
    """An acknowledgement, an answer and a small dispatch go out between the pieces."""
    outbox = Outbox(Clock().seconds, 64)
    outbox.push(dispatch(1, 640))
    first = outbox.take()
    assert len(first.chunks) == 2 and not first.transferred
    outbox.acknowledge("a")
    outbox.answer()
    outbox.push(dispatch(2))
    second = outbox.take()
    assert (second.acknowledged, second.answers, len(second.chunks)) == (["a"], 1, 2)
    assert second.dispatches == [dispatch(2)]
    rest = frames_of(outbox)
    assert rest[-1].transferred == [(dispatch(1, 0), 1)]
    assert sum(len(frame.chunks) for frame in rest) == 640 // 16 - 4


def test_the_time_that_waiting_took() -> None:
    """A dispatch says what is left when it is sent; a clock that is set back gives no more."""
    clock = Clock()
    outbox = Outbox(clock.seconds, 64)
    outbox.push(dispatch(1, 65))
    outbox.push(dispatch(2))
    outbox.push(dispatch(3, 65, remaining_ms=10))
    clock.advance(2)
    frames = frames_of(outbox)
    assert frames[0].dispatches[0].remaining_ms == 28_000
    sent = {item.attempt_id: item.remaining_ms for frame in frames for item, _ in frame.transferred}
    assert sent == {"attempt 1": 28_000, "attempt 3": 1}
    outbox.push(dispatch(4))
    clock.rightNow -= 60
    assert outbox.take().dispatches[0].remaining_ms == 30_000


def test_the_last_answer_to_a_catalog_is_sent() -> None:
    """It is true of every catalog before."""
    outbox = Outbox(lambda: 0.0, 1_000)
    outbox.answer_catalog(CatalogAnswer(("a",), ()))
    outbox.answer_catalog(CatalogAnswer(("b",), ("c",)))
    assert outbox.waiting
    assert outbox.take().catalog == CatalogAnswer(("b",), ("c",))
    assert not outbox.waiting and outbox.take().catalog is None


def test_a_cancel_never_overtakes() -> None:
    """It waits for its dispatch and comes in a later message; those of others do not wait."""
    outbox = Outbox(Clock().seconds, 64)
    outbox.push(dispatch(1, 300))
    outbox.push(dispatch(2))
    for number in (1, 2, 3):
        outbox.cancel(f"attempt {number}", "why")
    frames = frames_of(outbox)
    assert frames[0].cancels == [("attempt 3", "why")]
    assert frames[1].cancels == [("attempt 2", "why")]
    assert frames[-2].transferred[0][0].attempt_id == "attempt 1"
    assert frames[-1].cancels == [("attempt 1", "why")]


def test_an_old_node_gets_everything_whole() -> None:
    """A version-1 node takes no pieces."""
    outbox = Outbox(Clock().seconds, None)
    outbox.push(dispatch(1, 1024 * 1024))
    outbox.push(dispatch(2, 1024 * 1024))
    assert [[len(each.input_json) for each in frame.dispatches] for frame in frames_of(outbox)] == [
        [1024 * 1024],
        [1024 * 1024],
    ]


@given(
    st.lists(st.sampled_from(["push", "large", "cancel", "acknowledge", "take"]), max_size=60),
    st.integers(1, 2_000),
)
@settings(max_examples=100, deadline=None)
def test_everything_is_said_once_and_in_order(said: list[str], size: int) -> None:
    """Whatever is said when: each dispatch comes whole and once, and no cancel before it."""
    outbox, incoming, numbers = Outbox(Clock().seconds, 64), Incoming(), itertools.count()
    pushed: dict[str, Dispatch] = {}
    came: dict[str, bytes] = {}
    cancelled: list[str] = []

    def hear(frame: GatewayFrame) -> None:
        for attempt_id, _ in frame.cancels:
            assert attempt_id in came
            cancelled.append(attempt_id)
        for chunk in frame.chunks:
            incoming.add(chunk)
        for each in frame.dispatches:
            came[each.attempt_id] = each.input_json
        for each, transfer_id in frame.transferred:
            came[each.attempt_id] = incoming.claim(transfer_id)

    wanted = []
    for word in said:
        if word in ("push", "large"):
            sent = dispatch(next(numbers), size if word == "large" else 2)
            pushed[sent.attempt_id] = sent
            outbox.push(sent)
        elif word == "cancel" and pushed:
            wanted.append(list(pushed)[-1])
            outbox.cancel(wanted[-1], "why")
        elif word == "take" and outbox.waiting:
            hear(outbox.take())
    for frame in frames_of(outbox):
        hear(frame)
    assert came == {each.attempt_id: each.input_json for each in pushed.values()}
    assert sorted(cancelled) == sorted(wanted)


@pytest.mark.parametrize("size", [2, 40_000, PIECES_OVER])
def test_no_message_is_too_large(size: int) -> None:
    """With everything there can be, at its longest, it stays below what QUIC takes."""
    outbox = Outbox(Clock().seconds, PIECES_OVER)
    text = "\N{GRINNING FACE}" * 1_000
    for number in range(300):
        sent = {"requested_by": text, "capability": text[:64], "attempt_id": f"{number:064}"}
        outbox.push(dispatch(number, size, **sent))
        outbox.push(dispatch(number, PIECES_OVER + 1 if number < 8 else 2, **sent))
    for number in range(5 * MAX_CANCELS):
        outbox.cancel(f"other {number:058}", text)
    for number in range(3 * MAX_ACKNOWLEDGED):
        outbox.acknowledge(f"{number:064}")
    outbox.drain(Drained(text, 2**32 - 1))
    outbox.renew(Renew(text, 2**32 - 1))
    frames = frames_of(outbox)
    sizes = [write_frame(frame, ULID, 2**63).ByteSize() for frame in frames]
    assert max(sizes) < QUIC_FRAME
    assert sum(len(frame.acknowledged) for frame in frames) == 3 * MAX_ACKNOWLEDGED
    assert sum(len(frame.cancels) for frame in frames) == 5 * MAX_CANCELS
