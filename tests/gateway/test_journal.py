"""Journals of devices as their followers get them: what is kept, then what happens."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from zope.interface.verify import verifyObject

from palyra.core import journal as kinds
from palyra.core.devices import Device
from palyra.core.identifiers import DeviceId
from palyra.core.journal import KEPT, JournalEntry, JournalEvent, JournalGap, JournalPage
from palyra.errors import DeviceRevoked, LimitReached, Malformed, PalyraError, StoreUnavailable
from palyra.gateway import journal as following_room
from palyra.gateway.journal import Journal
from palyra.store.memory import MemoryStore
from palyra.transport.interfaces import IEventFollowing
from tests.gateway.enrolling import Gateway
from tests.gateway.house import attempt_of, result_of
from tests.store.samples import NOW_MS


class Follower:
    """Follows a device's journal and counts how often it was told to look."""

    def __init__(self, gateway: Gateway, device: Device, resume_from: int | None = None) -> None:
        self.woken = 0
        peer = gateway.peer(device.device_id)
        following = gateway.node_desk.follow_events(peer, resume_from, self.wake)
        self.following: Any = result_of(following)

    def wake(self) -> None:
        self.woken += 1

    def take(self, limit: int = 256) -> list[Any]:
        taken: list[Any] = result_of(self.following.take(limit))
        return taken

    def kinds(self) -> list[str]:
        return [each.kind for each in self.take()]


def say(gateway: Gateway, device: Device, count: int = 1) -> None:
    """Events of a device."""
    entry = JournalEntry(device.device_id, NOW_MS, "said")
    result_of(gateway.store.note([entry] * count))


def test_what_is_kept_comes_first_then_what_happens(gateway: Gateway) -> None:
    """Approval, certificate, registration; a job's end and the session's as they are kept."""
    device, node = gateway.online()
    follower = Follower(gateway, device)
    assert verifyObject(IEventFollowing, follower.following)
    assert follower.kinds() == [kinds.APPROVED, kinds.ISSUED, kinds.REGISTERED]
    assert follower.take() == [] and follower.woken == 0
    job = gateway.submit(device)
    node.take()
    assert follower.woken == 0, "a job that begins is no event"
    node.finish(attempt_of(job))
    assert follower.woken == 1
    (ended,) = follower.take()
    assert (ended.seq, ended.kind, ended.details["job_id"]) == (4, kinds.JOB_ENDED, job.call.job_id)
    node.hang_up()
    assert follower.woken == 2
    (over,) = follower.take()
    assert (over.seq, over.kind) == (5, kinds.SESSION_ENDED)
    assert over.details["reason"]
    assert over.at_ms == gateway.now_ms()


def test_it_is_told_once_until_it_looks(gateway: Gateway) -> None:
    """However much happens; a look that finds nothing arms it again."""
    device = gateway.device()
    follower = Follower(gateway, device, 2)
    say(gateway, device)
    say(gateway, device)
    assert follower.woken == 1
    assert [each.seq for each in follower.take()] == [3, 4]
    say(gateway, device)
    assert follower.woken == 2


def test_pages_come_in_their_order(gateway: Gateway) -> None:
    """At most as many as are asked for, and never more than a page."""
    device = gateway.device()
    say(gateway, device, 300)
    follower = Follower(gateway, device)
    sizes, seqs = [], []
    for limit in (3, 10_000, 256, 256):
        taken = follower.take(limit)
        sizes.append(len(taken))
        seqs += [each.seq for each in taken]
    assert sizes == [3, 256, 43, 0]
    assert seqs == [*range(1, 303)]


def test_it_resumes_behind_a_number(gateway: Gateway) -> None:
    """The next event is the one after it; also where that is still to come."""
    device = gateway.device()
    say(gateway, device, 3)
    assert [each.seq for each in Follower(gateway, device, 3).take()] == [4, 5]
    follower = Follower(gateway, device, 5)
    assert follower.take() == []
    say(gateway, device)
    assert follower.woken == 1
    assert [each.seq for each in follower.take()] == [6]
    assert Follower(gateway, device, 0).take()[0].seq == 1


def test_a_gap_is_told(gateway: Gateway) -> None:
    """Where events that should follow are deleted, their place has one marker, and alone."""
    device = gateway.device()
    early = Follower(gateway, device, 1)
    say(gateway, device, KEPT + 100)
    for follower in (early, Follower(gateway, device, 0)):
        (gap,) = follower.take()
        assert gap == JournalGap(25)
        assert [each.seq for each in follower.take(2)] == [25, 26]
    assert Follower(gateway, device).take(1)[0].seq == 25, "who asks for all gets all there is"
    assert Follower(gateway, device, 24).take(1)[0].seq == 25, "nothing is missing here"


@pytest.mark.parametrize("number", [-1, 3, 2**70])
def test_a_number_that_was_never_given(gateway: Gateway, number: int) -> None:
    """Resuming there would miss what is to come, so it is refused, and holds no place."""
    device = gateway.device()
    for _ in range(following_room.MAX_OF_DEVICE + 1):
        with pytest.raises(Malformed, match="resume_from: must be between 0 and 2"):
            Follower(gateway, device, number)


def test_others_are_not_told(gateway: Gateway) -> None:
    """An event of one device wakes nobody who follows another."""
    one, two = gateway.device(), gateway.device("other")
    follower = Follower(gateway, one)
    follower.take()
    say(gateway, two)
    assert follower.woken == 0 and follower.take() == []


def test_whoever_closes_hears_nothing_more(gateway: Gateway) -> None:
    """Neither told nor given anything; closing again is nothing, the others go on."""
    device = gateway.device()
    gone, stays = Follower(gateway, device), Follower(gateway, device)
    for _ in range(2):
        gone.following.close()
    say(gateway, device)
    assert (gone.woken, stays.woken) == (0, 1)
    assert gone.take() == [] and len(stays.take()) == 3


def test_the_limits(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many of one device, so many in all; who leaves makes room."""
    one, two = gateway.device(), gateway.device("other")
    followers = [Follower(gateway, one) for _ in range(following_room.MAX_OF_DEVICE)]
    with pytest.raises(LimitReached, match="4 open streams of events of one device"):
        Follower(gateway, one)
    monkeypatch.setattr(following_room, "MAX_FOLLOWERS", 5)
    Follower(gateway, two)
    with pytest.raises(LimitReached, match="5 open streams of events;"):
        Follower(gateway, two)
    followers[0].following.close()
    Follower(gateway, one)


def test_a_revoked_device_follows_nothing(gateway: Gateway) -> None:
    """Its journal is for devices that are trusted."""
    device = gateway.device()
    peer = gateway.peer(device.device_id)
    result_of(Deferred.fromCoroutine(gateway.revoker.revoke(device, "ana", "lost")))
    with pytest.raises(DeviceRevoked):
        result_of(gateway.node_desk.follow_events(peer, None, lambda: None))


class SlowLog:
    """A journal whose pages come when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[JournalPage]] = []
        self.trouble: PalyraError | None = None

    def watch(self, followed: Any, grown: Any) -> None:
        self.followed, self.grown = followed, grown

    def journal(self, device_id: DeviceId, after_seq: int, limit: int) -> Deferred[JournalPage]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def note(self, entries: Any) -> Deferred[None]:
        return fail(self.trouble)


PI = DeviceId("01HZZZZZZZZZZZZZZZZZZZZZZZ")
NOTHING = JournalPage((), 0, 0)


def test_what_happens_while_it_reads_is_told() -> None:
    """From before the first page on: nothing falls between the record and what is new."""
    log: Any = SlowLog()
    journal, woken = Journal(log=log, now_ms=lambda: NOW_MS), list[int]()
    begun = journal.follow(PI, None, lambda: woken.append(1))
    assert PI in log.followed
    log.grown(PI)
    log.asked.pop().callback(NOTHING)
    following = result_of(begun)
    assert woken == [1]
    taking = following.take()
    log.grown(PI)
    assert woken == [1, 1], "told while it reads: it has to look again"
    log.asked.pop().callback(JournalPage((JournalEvent(PI, 1, NOW_MS, "said"),), 1, 1))
    assert len(result_of(taking)) == 1


def test_a_follower_that_closes_while_it_reads_gets_nothing() -> None:
    """And one that gives up before the first page leaves no trace."""
    log: Any = SlowLog()
    journal = Journal(log=log, now_ms=lambda: NOW_MS)
    begun = journal.follow(PI, None, lambda: None)
    log.asked.pop().callback(NOTHING)
    following = result_of(begun)
    taking = following.take()
    following.close()
    log.asked.pop().callback(JournalPage((JournalEvent(PI, 1, NOW_MS, "said"),), 1, 1))
    assert result_of(taking) == []
    given_up = journal.follow(PI, None, lambda: None)
    given_up.addErrback(lambda failure: None)
    given_up.cancel()
    assert PI not in log.followed and not log.followed


def test_an_event_that_is_not_kept_is_logged_only() -> None:
    """A store in trouble does not keep a session from ending."""
    log: Any = SlowLog()
    log.trouble = StoreUnavailable("it", "away")
    Journal(log=log, now_ms=lambda: NOW_MS).noted(PI, kinds.SESSION_ENDED, {"reason": "closed"})


def test_a_long_reason_is_cut(gateway: Gateway) -> None:
    """What a peer says of its end is kept safe to show, and short."""
    device, _ = gateway.online()
    follower = Follower(gateway, device, 3)
    session = gateway.sessions.owner(device.device_id)
    assert session is not None
    session.ended("\x1b" + "x" * 1_000)
    (over,) = follower.take()
    assert len(over.details["reason"]) == 240 and over.details["reason"].isprintable()


def test_a_store_that_is_watched_needs_no_device() -> None:
    """A store in memory that nobody watches keeps its journals all the same."""
    store = MemoryStore(now_ms=lambda: NOW_MS)
    result_of(store.note([JournalEntry(PI, NOW_MS, "said")]))
    assert result_of(store.journal(PI, 0, 1)) == NOTHING
