"""Followers: the newest state and progress of what they follow, as it happens."""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from palyra.console.control import IFollowing
from palyra.core.frames import NodeEvent, Progress
from palyra.core.jobs import Job, JobState
from palyra.errors import LimitReached
from palyra.gateway.following import Followers, Following
from palyra.gateway.streams import FanoutStream, JobStream
from palyra.transport.interfaces import IJobFollowing
from tests.gateway.enrolling import Gateway
from tests.gateway.house import House, attempt_of, result_of
from tests.gateway.test_fanouts import finish, fleet, running, submit

S = JobState


def follow(house: House, job: Job) -> tuple[Following, list[int]]:
    """A follower of a job, and how often it was told to look."""
    woken: list[int] = []
    following = house.followers.follow(job.call.job_id, lambda: woken.append(1))
    return following, woken


def test_what_happens_is_told(house: House) -> None:
    """Each state on record and each word of progress, until the end."""
    device, node = house.online()
    job = house.submit(device)
    following, woken = follow(house, job)
    assert verifyObject(IJobFollowing, following)
    node.take()
    for fraction in (0.25, 0.5):
        node.say(NodeEvent("", progress=(Progress(attempt_of(job), fraction, "reading"),)))
    assert len(woken) == 1, "one look for both"
    (update,) = following.take()
    assert update.progress == Progress(attempt_of(job), 0.5, "reading")
    node.finish(attempt_of(job))
    (update,) = following.take()
    assert update.job.state is S.SUCCEEDED and following.finished
    following.close()


def test_only_its_own(house: House) -> None:
    """Other jobs are not told, and nothing after it left."""
    device, node = house.online()
    job, other = house.submit(device), house.submit(device)
    following, woken = follow(house, job)
    node.take()
    node.finish(attempt_of(other))
    assert not woken and following.take() == []
    following.close()
    node.finish(attempt_of(job))
    assert not woken and following.take() == []


def test_the_limit() -> None:
    """So many may follow; one that leaves makes room."""
    followers = Followers(1)
    first = followers.follow("a", lambda: None)  # type: ignore[arg-type]
    with pytest.raises(LimitReached):
        followers.follow("b", lambda: None)  # type: ignore[arg-type]
    first.close()
    first.close()
    followers.follow("b", lambda: None)  # type: ignore[arg-type]
    with pytest.raises(LimitReached):
        followers.follow("b", lambda: None)  # type: ignore[arg-type]


def test_a_job_as_events(gateway: Gateway) -> None:
    """Its state is there at once; the end comes last, and only once."""
    device, node = gateway.online()
    job = gateway.submit(device)
    node.take()
    stream = result_of(gateway.control.follow_job(job.call.job_id[10:16], lambda: None))
    assert verifyObject(IFollowing, stream)
    assert [(each.kind, each.job and each.job.state) for each in stream.take()] == [
        ("job", "dispatched")
    ]
    node.say(NodeEvent("", progress=(Progress(attempt_of(job), None, "half way"),)))
    (event,) = stream.take()
    assert (event.progress, event.progress_text) == (None, "half way")
    node.finish(attempt_of(job))
    assert [each.kind for each in stream.take()] == ["job", "end"]
    assert stream.finished and stream.take() == []


def test_a_job_that_has_ended(gateway: Gateway) -> None:
    """Following it gives its end."""
    device, node = gateway.online()
    job = gateway.submit(device)
    node.take()
    node.finish(attempt_of(job))
    stream = result_of(gateway.control.follow_job(job.call.job_id, lambda: None))
    assert isinstance(stream, JobStream)
    assert [each.kind for each in stream.take()] == ["job", "end"]


def test_a_fan_out_as_events(gateway: Gateway) -> None:
    """The counts at once, then each row that changes with the counts after it, then the end."""
    devices, nodes = fleet(gateway, 2)
    fanout = submit(gateway, devices, batch=1)
    fanout_id = fanout.fanout.fanout_id
    woken: list[int] = []
    stream = result_of(gateway.control.follow_fanout(fanout_id, lambda: woken.append(1)))
    assert isinstance(stream, FanoutStream) and verifyObject(IFollowing, stream)
    (event,) = stream.take()
    assert event.kind == "fanout" and event.fanout is not None
    assert event.fanout.counts == {"queued": 1, "dispatched": 1}
    assert stream.take() == []
    finish(running(nodes)[0])
    assert woken
    events = stream.take()
    assert {each.job.state for each in events if each.job is not None} == {
        "succeeded",
        "dispatched",
    }
    assert events[-1].fanout is not None
    assert events[-1].fanout.counts == {"succeeded": 1, "dispatched": 1}
    finish(running(nodes)[0])
    assert [each.kind for each in stream.take()] == ["job", "fanout", "end"]
    assert stream.finished and stream.take() == []


def test_a_fan_out_that_has_ended(gateway: Gateway) -> None:
    """Following it gives its counts and its end."""
    fanout = submit(gateway, [gateway.device()])
    stream = result_of(gateway.control.follow_fanout(fanout.fanout.fanout_id, lambda: None))
    assert [each.kind for each in stream.take()] == ["fanout", "end"]
