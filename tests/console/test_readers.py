"""Readers of a stream that are slow, that go away, and that a stopping gateway sends away."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel

from palyra.console.events import INTERVAL_S, KEEP_ALIVE_S, PATIENCE_S, PIECE
from palyra.errors import NotFound
from palyra.testing.control import FakeFollowing
from tests.console.asking import END, Console, Reader, logged, told


@pytest.fixture
def console() -> Console:
    console = Console()
    console.control.news = [told()]
    return console


def following(console: Console, path: str = "/jobs/JOB1/events") -> tuple[Reader, FakeFollowing]:
    reader = console.connect(path)
    return reader, console.control.followings[-1]


# -- a reader that reads slowly -----------------------------------------------------------------


def test_ten_thousand_rows(console: Console) -> None:
    """The rows of a great fan-out go out in full pieces, each as soon as the one before is read."""
    console.control.news = [told(f"JOB{number:05}") for number in range(10_000)]
    reader, follower = following(console, "/fanouts/FAN1/events")
    got = reader.read()
    while len(got) < 10_000:
        before = reader.writes
        console.turn()
        assert reader.writes == before + 1
        got += reader.read()
    assert [each.number for each in got] == list(range(1, 10_001))
    assert reader.writes < 100
    assert follower.taken == 1
    reader.leave()


def test_a_slow_reader_costs_nothing(console: Console) -> None:
    """While it does not read nothing is taken and nothing is written; then it finds the newest."""
    console.control.news = [told(f"JOB{number:03}") for number in range(500)]
    reader, follower = following(console, "/fanouts/FAN1/events")
    full, taken = reader.waiting, follower.taken
    assert full < 2 * PIECE
    for step in range(200):
        follower.feed(*[told(f"JOB{number:03}", step / 200) for number in range(500)])
        console.turn(0.05)
    assert (reader.waiting, follower.taken) == (full, taken)
    last: dict[str, float | None] = {}
    for _ in range(30):
        for event in reader.read():
            assert event.data.job is not None
            last[event.data.job.job_id] = event.data.progress
        console.turn(INTERVAL_S)
    assert follower.taken == taken + 1
    assert set(last.values()) == {199 / 200}
    reader.leave()


def test_full_before_the_next_write(console: Console) -> None:
    """A write that was planned when the connection filled up waits until it is read."""
    reader, follower = following(console)
    follower.feed(told(progress=0.5))
    assert reader.producer is not None
    reader.producer.pauseProducing()
    before = reader.writes
    console.turn(INTERVAL_S)
    assert reader.writes == before
    reader.producer.resumeProducing()
    console.turn(INTERVAL_S)
    assert reader.read()[-1].data.progress == 0.5
    reader.leave()


def test_a_reader_that_stopped(console: Console) -> None:
    """One that takes nothing for a minute is cut, and gives its place back."""
    console.control.news = [told(f"JOB{number}") for number in range(500)]
    reader, follower = following(console)
    full = reader.waiting
    for _ in range(int(PATIENCE_S / KEEP_ALIVE_S) - 1):
        console.turn(KEEP_ALIVE_S)
    assert (reader.waiting, reader.disconnected, follower.closed) == (full, False, 0)
    console.turn(KEEP_ALIVE_S)
    assert (reader.disconnected, follower.closed) == (True, 1)
    reader.leave()
    assert follower.closed == 1
    assert console.clock.getDelayedCalls() == []


def test_a_reader_that_is_only_slow(console: Console) -> None:
    """One that reads within the minute, again and again, is not cut."""
    console.control.news = [told(f"JOB{number}") for number in range(500)]
    reader, follower = following(console)
    for _ in range(10):
        for _ in range(int(PATIENCE_S / KEEP_ALIVE_S) - 1):
            console.turn(KEEP_ALIVE_S)
        reader.read()
        follower.feed(*console.control.news)
        console.turn(INTERVAL_S)
    assert not reader.disconnected
    reader.leave()


def test_silence_is_kept_alive(console: Console) -> None:
    """Fifteen seconds after the last write a comment comes, and again after as many."""
    reader, follower = following(console)
    console.turn(KEEP_ALIVE_S - 1)
    follower.feed(told())
    console.turn()
    console.turn(KEEP_ALIVE_S - 1)
    reader.read()
    assert reader.comments == 0
    for number in (1, 2):
        console.turn(1 if number == 1 else KEEP_ALIVE_S)
        reader.read()
        assert reader.comments == number
    reader.leave()


# -- a reader that goes away, and a gateway that stops ------------------------------------------


@pytest.mark.parametrize("events", [1, 500])
def test_a_reader_that_went_away(console: Console, events: int) -> None:
    """Also in the middle of a piece: the follower is closed once, nothing is left, no fault."""
    console.control.news = [told(f"JOB{number}") for number in range(events)]
    reader, follower = following(console)
    follower.feed(told())
    seen = logged(reader.leave)
    follower.feed(told())
    console.turn(KEEP_ALIVE_S)
    assert follower.closed == 1
    assert console.clock.getDelayedCalls() == []
    assert [each for each in seen if each["log_level"] >= LogLevel.warn] == []


def test_nothing_of_a_stream_is_kept(console: Console) -> None:
    """When it is over the console forgets it, connection and all."""
    for end in (END, told()):
        reader, follower = following(console)
        follower.feed(end)
        console.turn()
        reader.leave()
        gone = weakref.ref(reader)
        console.control.followings.clear()
        del reader, follower
        gc.collect()
        assert gone() is None


def test_gone_before_there_is_a_follower(console: Console) -> None:
    """A follower that comes too late is closed at once."""
    waiting: Deferred[Any] = Deferred()
    console.control.answers["follow_job"] = waiting
    reader = console.connect("/jobs/JOB1/events")
    reader.leave()
    late = FakeFollowing()
    waiting.callback(late)
    assert (late.closed, late.taken) == (1, 0)
    assert console.clock.getDelayedCalls() == []


def test_gone_before_it_is_refused(console: Console) -> None:
    """Nobody hears of a refusal then, and it is no fault of the gateway."""
    waiting: Deferred[Any] = Deferred()
    console.control.answers["follow_job"] = waiting
    console.connect("/jobs/JOB1/events").leave()
    seen = logged(lambda: waiting.errback(NotFound("job", "JOB1")))
    unhandled: list[Any] = []
    waiting.addErrback(unhandled.append)
    assert unhandled == []
    assert [each for each in seen if each["log_level"] >= LogLevel.warn] == []


def test_the_gateway_stops(console: Console) -> None:
    """Streams end without an ``end``: who reads them knows that more may come, and reconnects."""
    reader, follower = following(console)
    console.app.stop()
    assert [each.name for each in reader.read()] == ["job"]
    assert (reader.disconnecting, reader.disconnected) == (True, False)
    assert follower.closed == 1
    console.app.stop()
    assert console.clock.getDelayedCalls() == []


def test_the_gateway_stops_and_nobody_reads(console: Console) -> None:
    """A stop does not wait for a reader that does not read."""
    console.control.news = [told(f"JOB{number}") for number in range(500)]
    reader, follower = following(console)
    console.app.stop()
    assert (reader.disconnected, follower.closed) == (True, 1)
    reader.leave()


def test_the_gateway_stops_before_there_is_a_follower(console: Console) -> None:
    """Then it is a 503, as for whoever asks after that."""
    waiting: Deferred[Any] = Deferred()
    console.control.answers["follow_job"] = waiting
    reader = console.connect("/jobs/JOB1/events")
    console.app.stop()
    assert reader.received().startswith(b"HTTP/1.0 503 ")
    late = FakeFollowing()
    waiting.callback(late)
    assert late.closed == 1
    status, answer, headers = console.ask("GET", "/fanouts/FAN1/events")
    assert (status, answer["code"]) == (503, "draining")
    assert headers.getRawHeaders("retry-after") == ["5"]
