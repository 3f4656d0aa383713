"""What has passed costs no memory: keys, followers and streams are forgotten with their use."""

from __future__ import annotations

import weakref
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from palyra.core.identifiers import DeviceId, Fingerprint, JobId
from palyra.core.interfaces import IdempotencyKey, IJobLog, KeyUse
from palyra.errors import DiskFull, Draining, LimitReached
from palyra.gateway.callstreams import CallStreams
from palyra.gateway.following import Followers
from palyra.gateway.keys import Keys, key_for
from palyra.transport.interfaces import ICallStream, Peer
from tests.gateway.house import House, attempt_of, fired, result_of
from tests.gateway.lives import Name, kept


class Log:
    """A log of keys that answers when a test says so, and keeps nothing."""

    def __init__(self) -> None:
        self.asked: list[Deferred[KeyUse | None]] = []

    def key_use(self, scope: str, key: str) -> Deferred[KeyUse | None]:
        answer: Deferred[KeyUse | None] = Deferred()
        self.asked.append(answer)
        return answer


async def made(key: IdempotencyKey) -> str:
    return "made"


async def not_made(key: IdempotencyKey) -> str:
    raise DiskFull("/srv")


async def found(use: KeyUse) -> str:
    return "found"


def once(keys: Keys, text: str, make: Any = made) -> Deferred[str]:
    return Deferred.fromCoroutine(keys.once(key_for("ana", text, ()), make, found))


@pytest.mark.parametrize("make", [made, not_made])
def test_a_key_that_was_used(make: Any) -> None:
    """Nothing of it stays in memory, whether the call was made or not."""
    log = Log()
    keys = Keys(cast(IJobLog, log))
    text = Name("a key")
    watched = weakref.ref(text)
    calls = [once(keys, text, make) for _ in range(3)]
    del text
    assert kept(watched) == 1
    for number in range(3):
        assert len(log.asked) == number + 1, "each waits for the one before it"
        log.asked[number].callback(None)
    assert all(map(fired, calls))
    for call in calls:
        call.addErrback(lambda failure: failure.trap(DiskFull))
    log.asked.clear()
    calls.clear()
    assert kept(watched) == 0


def test_a_key_in_use_stays() -> None:
    """One that comes when the first is done, and another still waits, waits for that one too."""
    log = Log()
    keys = Keys(cast(IJobLog, log))
    calls = [once(keys, "k") for _ in range(2)]
    log.asked[0].callback(None)
    calls.append(once(keys, "k"))
    assert [fired(call) for call in calls] == [True, False, False] and len(log.asked) == 2
    log.asked[1].callback(KeyUse(key_for("ana", "k", ()).digest))
    assert len(log.asked) == 3
    log.asked[2].callback(KeyUse(key_for("ana", "k", ()).digest))
    assert [result_of(call) for call in calls] == ["made", "found", "found"]


def test_a_store_that_cannot_be_asked() -> None:
    """The next one with the key asks again: no key is locked for ever."""
    log = Log()
    keys = Keys(cast(IJobLog, log))
    first, second = once(keys, "k"), once(keys, "k")
    log.asked[0].errback(DiskFull("/srv"))
    with pytest.raises(DiskFull):
        result_of(first)
    log.asked[1].callback(None)
    assert result_of(second) == "made"


def test_different_keys_do_not_wait_for_each_other() -> None:
    """Nor the same key of different callers."""
    log = Log()
    keys = Keys(cast(IJobLog, log))
    for scope, text in (("ana", "k"), ("ana", "l"), ("bo", "k")):
        Deferred.fromCoroutine(keys.once(key_for(scope, text, ()), made, found))
    assert len(log.asked) == 3


# -- followers ------------------------------------------------------------------------------------


def test_what_nobody_follows_any_more() -> None:
    """It is forgotten with its last follower, not before."""
    followers = Followers(10)
    subject = Name("a job")
    watched = weakref.ref(subject)
    following = [followers.follow(JobId(subject), lambda: None) for _ in range(2)]
    del subject
    following.pop().close()
    assert kept(watched) == 1
    following.pop().close()
    assert kept(watched) == 0


def test_a_follower_that_saw_the_end(house: House) -> None:
    """It gives its place back by itself: the next one may follow, also while it is still open."""
    device, node = house.online()
    house.followers = Followers(1)
    house.dispatcher.watchers.append(house.followers)
    job, other = house.submit(device), house.submit(device)
    node.take()
    following = house.followers.follow(job.call.job_id, lambda: None)
    node.finish(attempt_of(job))
    with pytest.raises(LimitReached):
        house.followers.follow(other.call.job_id, lambda: None)
    assert len(following.take()) == 1 and following.finished
    house.followers.follow(other.call.job_id, lambda: None)
    following.close()
    with pytest.raises(LimitReached):
        house.followers.follow(other.call.job_id, lambda: None)


@pytest.mark.parametrize("clients", [("",), ("device:a",), ("device:a", "device:b", "")])
def test_a_client_that_follows_no_more(clients: tuple[str, ...]) -> None:
    """However often it followed: it has its whole share again, and its name is forgotten."""
    followers = Followers(16)
    names = [Name(client) for client in clients]
    watched = [weakref.ref(name) for name in names]
    for _ in range(20):
        open_ones = [followers.follow(JobId("j"), lambda: None, name) for name in names]
        for following in open_ones * 2:
            following.close()
    names.clear()
    open_ones.clear()
    del following
    assert kept(*watched) == 0


def test_one_client_leaves_room_for_others() -> None:
    """A paired client has an eighth of all streams, each of them; operators have what is left."""
    followers = Followers(16)
    mine = [followers.follow(JobId("j"), lambda: None, "device:a") for _ in range(2)]
    for _ in range(2):
        with pytest.raises(LimitReached, match="one client"):
            followers.follow(JobId("j"), lambda: None, "device:a")
        mine.pop().close()
        followers.follow(JobId("j"), lambda: None, "device:a")
    followers.follow(JobId("j"), lambda: None, "device:b")
    for _ in range(13):
        followers.follow(JobId("j"), lambda: None)
    with pytest.raises(LimitReached, match="16"):
        followers.follow(JobId("j"), lambda: None)
    few = Followers(3)
    few.follow(JobId("j"), lambda: None, "device:a")
    with pytest.raises(LimitReached):
        few.follow(JobId("j"), lambda: None, "device:a")


# -- streams of callers ---------------------------------------------------------------------------


class Stream:
    """A stream that ends when it is told to."""

    def close(self, error: object) -> None:
        """Nothing: the test says when it is closed."""


def test_a_device_without_streams() -> None:
    """It is forgotten with its last stream, with what would have ended it."""
    clock = Clock()
    streams = CallStreams(clock)
    name = Name("pi")
    watched = weakref.ref(name)
    peers = [Peer(DeviceId(name), Fingerprint("f"), 60_000, "address", "grpc")]
    opened = [cast(ICallStream, Stream()) for _ in range(2)]
    for stream in opened:
        streams.opened(peers[0], stream)
    del name
    streams.closed(peers[0], opened[0])
    assert streams.count() == 1
    streams.expel(peers[0].device_id, Draining())
    streams.closed(peers[0], opened[1])
    streams.closed(peers[0], opened[1])
    peers.clear()
    assert streams.count() == 0 and kept(watched) == 0 and not clock.getDelayedCalls()
