"""GET events: what a page asks to watch, and how it is told."""

from __future__ import annotations

import attrs
import msgspec
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.app import ConsoleApp
from palyra.console.control import FeedQuery, IFeed, IFeedControl
from palyra.errors import LimitReached
from palyra.testing.feed import FakeFeed, FakeFeedControl
from tests.console.asking import ANA, Console, Everybody
from tests.store.samples import ulid

COUNTS = models.FeedEvent("counts", counts=models.Counts(3, 1, 1, 1, 2, 1, 4))


class Live(Console):
    """A console whose feed a test feeds."""

    def __init__(self) -> None:
        super().__init__()
        self.feed = FakeFeedControl()
        self.feed.news = [COUNTS]
        self.clock = Clock()
        controls = attrs.evolve(self.controls, feed=self.feed)
        self.app = ConsoleApp(controls, Everybody(), self.clock)
        self._resource = self.app.resource()


def told(data: bytes) -> list[tuple[str, models.FeedEvent]]:
    """The events of a stream: their names and data."""
    _, _, body = data.partition(b"\r\n\r\n")
    blocks = [block.split(b"\n") for block in body.split(b"\n\n") if block.startswith(b"event:")]
    return [
        (
            lines[0].removeprefix(b"event: ").decode(),
            msgspec.json.decode(lines[2].removeprefix(b"data: "), type=models.FeedEvent),
        )
        for lines in blocks
    ]


def test_the_fakes_are_whole() -> None:
    """They provide what the console asks for."""
    assert verifyObject(IFeedControl, FakeFeedControl()) and verifyObject(IFeed, FakeFeed())


def test_what_is_asked_for_is_watched() -> None:
    """Devices, jobs and topics, each given several times; the counts come first."""
    live = Live()
    a, b, job = ulid("a"), ulid("b"), ulid("job")
    reader = live.connect(f"/events?device={a}&device={b}&job={job}&topic=jobs&topic=devices")
    ((which, by),) = live.feed.asked
    assert by == ANA
    assert which == FeedQuery(
        frozenset({a, b}), frozenset({job}), frozenset({"jobs", "devices"}), resumed=False
    )
    assert told(reader.value()) == [("counts", COUNTS)]
    live.feed.feeds[0].say(models.FeedEvent("node", device_id=a))
    live.turn(1)
    assert [name for name, _ in told(reader.value())] == ["counts", "node"]
    live.app.stop()
    assert live.feed.feeds[0].closed == 1


def test_a_page_that_comes_back_says_so() -> None:
    """With ``Last-Event-ID``, whatever it is."""
    live = Live()
    live.connect("/events", "Last-Event-ID: 17")
    assert live.feed.asked == [(FeedQuery(resumed=True), ANA)]
    live.app.stop()


def test_a_stream_ends_when_its_caller_may_not_watch() -> None:
    """As soon as that is known; others go on."""
    live = Live()
    live.connect("/events")
    live.app.end_streams(lambda caller: caller.name == "bo")
    assert live.feed.feeds[0].closed == 0
    live.app.end_streams(lambda caller: caller.name == "ana")
    assert live.feed.feeds[0].closed == 1


def test_too_many_are_refused_with_a_problem() -> None:
    """Before anything of a stream was written."""
    live = Live()
    live.feed.refusal = LimitReached("open streams of what is live", 512)
    answer = live.connect("/events").value()
    assert answer.startswith(b"HTTP/1.0 429") and b'"limit_reached"' in answer


def test_a_query_that_is_too_long() -> None:
    """A page may name 200 devices and as many jobs."""
    live = Live()
    many = "&".join(f"job={number}" for number in range(201))
    assert live.connect(f"/events?{many}").value().startswith(b"HTTP/1.0 400")
    assert not live.feed.asked
