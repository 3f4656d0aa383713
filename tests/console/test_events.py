"""Streams of events: at once, then merged; never faster than they are read; closed once."""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from palyra.console import models
from palyra.console.control import IFollowing
from palyra.console.events import BURST, INTERVAL_S
from palyra.errors import LimitReached, NotFound
from palyra.testing.control import FakeFollowing
from tests.console.asking import END, Console, Reader, item, logged, told


@pytest.fixture
def console() -> Console:
    console = Console()
    console.control.news = [told()]
    return console


def following(console: Console, path: str = "/jobs/JOB1/events") -> tuple[Reader, FakeFollowing]:
    reader = console.connect(path)
    return reader, console.control.followings[-1]


def test_the_fake_is_a_following() -> None:
    """What these tests feed provides the whole interface."""
    assert verifyObject(IFollowing, FakeFollowing())


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/jobs/JOB1/events", ("follow_job", "JOB1")),
        ("/fanouts/FAN1/events", ("follow_fanout", "FAN1")),
    ],
)
def test_the_state_is_told_at_once(console: Console, path: str, asked: tuple[str, str]) -> None:
    """Headers and the first events come before any time passes."""
    reader, _ = following(console, path)
    (event,) = reader.read()
    assert (event.name, event.number, event.data) == ("job", 1, told())
    assert reader.head.startswith(b"HTTP/1.0 200 ")
    head = reader.head.lower()
    assert b"\r\ncontent-type: text/event-stream" in head
    assert b"\r\ncache-control: no-store" in head
    assert console.control.asked == [asked]
    reader.leave()


def test_the_headers_do_not_wait_for_news(console: Console) -> None:
    """A follower with nothing to say yet is answered all the same, with a comment."""
    console.control.news = []
    reader, _ = following(console)
    assert reader.read() == []
    assert (reader.head[:12], reader.comments) == (b"HTTP/1.0 200", 1)
    reader.leave()


def test_every_event_is_numbered(console: Console) -> None:
    """Events come in the order in which they were taken, each with its kind and its number."""
    reader, follower = following(console)
    counts = models.FanoutItem("F", "echo", "", "ana", 1, 2, None, None, {}, False, False)
    follower.feed(told("JOB2", 0.5), models.JobEvent("fanout", fanout=counts), END)
    console.turn()
    assert [(each.name, each.number) for each in reader.read()] == [
        ("job", 1),
        ("job", 2),
        ("fanout", 3),
        ("end", 4),
    ]


@pytest.mark.parametrize("text", ["a\n\nevent: end\n", "a\r\ndata: x", "\x00\x85\u2028é"])
def test_no_text_breaks_out_of_its_event(console: Console, text: str) -> None:
    """A device's words are data, whatever line ends they hold."""
    console.control.news = [models.JobEvent("job", item(note=text), 0.1, text)]
    reader, _ = following(console)
    (event,) = reader.read()
    assert event.data == console.control.news[0]
    reader.leave()


def test_a_reconnect_begins_with_the_state_of_now(console: Console) -> None:
    """Last-Event-ID is not needed: the newest state comes first, and numbers begin anew."""
    reader = console.connect("/jobs/JOB1/events", "Last-Event-ID: 7")
    assert [each.number for each in reader.read()] == [1]
    reader.leave()


def test_the_end(console: Console) -> None:
    """After ``end`` the answer is complete; the follower is closed once and nothing is left."""
    reader, follower = following(console)
    follower.feed(END)
    console.turn()
    assert [each.name for each in reader.read()] == ["job", "end"]
    assert reader.disconnecting
    reader.leave()
    assert follower.closed == 1
    assert console.clock.getDelayedCalls() == []


def test_a_job_that_has_ended(console: Console) -> None:
    """What is over when the stream begins is told and ended in the same breath."""
    console.control.news = [told(), END]
    reader, follower = following(console)
    assert [each.name for each in reader.read()] == ["job", "end"]
    assert reader.disconnecting
    assert follower.closed == 1
    assert console.clock.getDelayedCalls() == []


# -- how often it writes ------------------------------------------------------------------------


def test_a_turn_is_one_write(console: Console) -> None:
    """Whatever happens in one turn of the reactor is taken together and written together."""
    reader, follower = following(console)
    before = reader.writes
    for number in range(100):
        follower.feed(told(f"JOB{number:02}"))
    assert reader.writes == before
    console.turn()
    assert reader.writes == before + 1
    assert len(reader.read()) == 101
    reader.leave()


def test_a_short_job_does_not_wait(console: Console) -> None:
    """The first few writes come in the very turn in which something happened."""
    reader, follower = following(console)
    for number in range(BURST - 1):
        follower.feed(told(progress=number / 10))
        console.turn()
        assert reader.read()[-1].data.progress == number / 10
    reader.leave()


def test_progress_is_told_ten_times_a_second(console: Console) -> None:
    """A handler that reports all the time costs no more writes than a reader can look at."""
    reader, follower = following(console)
    for step in range(1_000):
        follower.feed(told(progress=step / 1_000))
        console.turn(0.01)
    assert reader.writes <= 10 / INTERVAL_S + BURST + 2
    console.turn(INTERVAL_S)
    assert reader.read()[-1].data.progress == 0.999
    reader.leave()


def test_a_clock_that_was_set_back(console: Console) -> None:
    """Time that jumps does not hold a stream up, and is forgotten."""
    reader, follower = following(console)
    console.clock.rightNow -= 1_000_000.0
    for number in range(5):
        follower.feed(told(progress=number / 10))
        console.turn(INTERVAL_S)
        assert reader.read()[-1].data.progress == number / 10
    console.turn(1.0)
    follower.feed(told(progress=0.9))
    console.turn()
    assert reader.read()[-1].data.progress == 0.9
    reader.leave()


def test_news_while_it_takes(console: Console) -> None:
    """What happens during a take is told by the next write."""
    reader, follower = following(console)
    take, late = follower.take, [told("JOB2")]

    def taking() -> list[models.JobEvent]:
        taken = take()
        if late:
            follower.feed(late.pop())
        return taken

    follower.take = taking  # type: ignore[method-assign]
    follower.feed(told())
    console.turn()
    console.turn()
    assert [each.data.job and each.data.job.job_id for each in reader.read()][-1] == "JOB2"
    reader.leave()


def test_a_needless_wake(console: Console) -> None:
    """Woken with nothing to take, it writes nothing."""
    reader, follower = following(console)
    before = reader.writes
    follower.feed()
    console.turn(INTERVAL_S)
    assert reader.writes == before
    reader.leave()


# -- what is no stream --------------------------------------------------------------------------


def test_nothing_to_follow(console: Console) -> None:
    """A refusal is a problem in JSON, before any event."""
    console.control.answers["follow_job"] = NotFound("job", "JOB1")
    status, answer, headers = console.ask("GET", "/jobs/JOB1/events")
    assert (status, answer["code"]) == (404, "not_found")
    assert headers.getRawHeaders("content-type") == ["application/json"]


def test_too_many_follow(console: Console) -> None:
    """429, and when to try again."""
    console.control.answers["follow_fanout"] = LimitReached("open streams of events", 256)
    status, answer, headers = console.ask("GET", "/fanouts/FAN1/events")
    assert (status, answer["code"]) == (429, "limit_reached")
    assert headers.getRawHeaders("retry-after") == ["5"]


@pytest.mark.parametrize("path", ["/jobs/JOB1/events", "/fanouts/FAN1/events"])
@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
def test_only_get(console: Console, method: str, path: str) -> None:
    """Another method is 405 and follows nothing; HEAD too, which would never end."""
    assert console.ask(method, path)[0] == 405
    assert console.control.asked == []


def test_a_follower_that_fails(console: Console) -> None:
    """A fault ends the stream without an ``end`` and is logged; the follower is closed once."""
    reader, follower = following(console)

    def broken() -> list[models.JobEvent]:
        raise RuntimeError("secret")

    follower.take = broken  # type: ignore[method-assign]
    follower.feed(told())
    seen = logged(lambda: console.turn(INTERVAL_S))
    assert [each.name for each in reader.read()] == ["job"]
    assert reader.disconnecting
    assert follower.closed == 1
    assert any("stream of events failed" in str(each.get("log_format")) for each in seen)
