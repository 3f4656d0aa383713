"""The backlog by itself: the order in which jobs wait, and how many may."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from palyra.config.jobs import JobsSection
from palyra.core.fanouts import BATCH
from palyra.core.identifiers import DeviceId
from palyra.core.jobs import Call
from palyra.errors import QueueFull
from palyra.gateway.backlog import Backlog
from palyra.gateway.unfinished import Live
from tests.gateway.lives import LAMP, NAS, PI, Name, a_live, kept


def a_backlog(in_all: int = 100, of_device: int = 100) -> Backlog:
    return Backlog(JobsSection(max_waiting=in_all, max_waiting_per_device=of_device))


def a_call(device_id: DeviceId, **changes: Any) -> Call:
    """A call to a device."""
    return a_live("call", device_id, **changes).job.call


def a_row(name: str) -> Live:
    """The row of a fan-out that waits for its batch."""
    live = a_live(name)
    live.job.waiting_for = BATCH
    return live


def has_room(backlog: Backlog, live: Live) -> bool:
    """Whether one more may wait."""
    try:
        backlog.check(live)
    except QueueFull:
        return False
    return True


def test_the_order() -> None:
    """The first that came is sent first; one that had its turn goes before the others."""
    backlog = a_backlog()
    one, two, three = (a_live(name) for name in ("one", "two", "three"))
    other = a_live("other", NAS)
    for live in (one, two, other):
        backlog.append(live)
    backlog.append(three, first=True)
    assert (backlog.size(PI), backlog.size(NAS), backlog.size(LAMP)) == (3, 1, 0)
    assert [backlog.take(PI) for _ in range(4)] == [three, one, two, None]
    assert (backlog.size(PI), backlog.size(NAS)) == (0, 1)
    assert backlog.take(NAS) is other and backlog.take(LAMP) is None


def test_a_job_that_is_appended_again() -> None:
    """It waits once, where it was; or before the others, if it is to be the first."""
    backlog = a_backlog(in_all=3)
    one, two = a_live("one"), a_live("two")
    for live in (one, two, one):
        backlog.append(live)
    assert backlog.size(PI) == 2 and has_room(backlog, a_live("three"))
    backlog.append(two, first=True)
    assert [backlog.take(PI) for _ in range(3)] == [two, one, None]


def test_a_job_that_leaves() -> None:
    """From the middle, and twice: its place is free once."""
    backlog = a_backlog(in_all=3, of_device=3)
    one, two, three, never = (a_live(name) for name in ("one", "two", "three", "never"))
    for live in (one, two, three):
        backlog.append(live)
    assert not has_room(backlog, never)
    for _ in range(2):
        backlog.leave(two)
        backlog.leave(never)
    assert has_room(backlog, never)
    backlog.append(never)
    assert not has_room(backlog, two) and not has_room(backlog, a_live("other", NAS))
    assert [backlog.take(PI) for _ in range(4)] == [one, three, never, None]


def test_the_bound_of_a_device() -> None:
    """So many wait for one device, and no more; the refusal names the device and the number."""
    backlog = a_backlog(of_device=2)
    backlog.append(a_live("one"))
    assert has_room(backlog, a_live("two"))
    backlog.append(a_live("two"))
    with pytest.raises(QueueFull, match="pi has 2"):
        backlog.check(a_live("three"))
    assert has_room(backlog, a_live("other", NAS))


def test_the_bound_in_all() -> None:
    """So many wait for all devices together, and no more."""
    backlog = a_backlog(in_all=2)
    for name, device_id in (("one", PI), ("two", NAS)):
        assert has_room(backlog, a_live(name, device_id))
        backlog.append(a_live(name, device_id))
    with pytest.raises(QueueFull, match="The gateway has 2"):
        backlog.check(a_live("three", LAMP))
    backlog.take(PI)
    assert has_room(backlog, a_live("three", LAMP))


def test_jobs_that_are_being_committed_count_for_their_device() -> None:
    """Between the check and the commit nobody else takes the place."""
    backlog = a_backlog(of_device=2)
    backlog.append(a_live("one"))
    backlog.enters(a_call(PI))
    assert not has_room(backlog, a_live("two")) and has_room(backlog, a_live("other", NAS))
    backlog.entered(a_call(PI))
    assert has_room(backlog, a_live("two"))
    backlog.enters(a_call(PI))
    backlog.enters(a_call(PI))
    backlog.entered(a_call(PI))
    assert not has_room(backlog, a_live("two"))


def test_jobs_that_are_being_committed_count_in_all() -> None:
    """The same for the bound of the gateway."""
    backlog = a_backlog(in_all=2)
    for device_id in (PI, NAS):
        assert has_room(backlog, a_live("one", LAMP))
        backlog.enters(a_call(device_id))
    with pytest.raises(QueueFull, match="The gateway has 2"):
        backlog.check(a_live("one", LAMP))
    backlog.entered(a_call(NAS))
    assert has_room(backlog, a_live("one", LAMP))


def test_held_rows_count_in_all() -> None:
    """A row that may not start yet waits as any other job does, until it leaves; each once."""
    backlog = a_backlog(in_all=2, of_device=1)
    one, two = a_row("one"), a_row("two")
    for _ in range(2):
        backlog.hold(one)
    assert one.held and backlog.size(PI) == 0 and backlog.take(PI) is None
    assert has_room(backlog, a_live("three")), "it is not this device's turn that it waits for"
    backlog.hold(two)
    with pytest.raises(QueueFull, match="The gateway has 2"):
        backlog.check(a_live("three", NAS))
    for _ in range(2):
        backlog.leave(one)
    assert not one.held and has_room(backlog, a_live("three", NAS))
    backlog.append(one)
    assert not has_room(backlog, a_live("three", NAS))


def test_room_for_many_at_once() -> None:
    """Exactly what is left may come: whatever waits, is being committed or is held counts."""
    backlog = a_backlog(in_all=10)
    backlog.append(a_live("one"))
    backlog.append(a_live("two", NAS))
    backlog.enters(a_call(LAMP))
    backlog.hold(a_row("three"))
    backlog.hold(a_live("four"))  # is let go as soon as it is on record
    backlog.check_room(0)
    backlog.check_room(6)
    with pytest.raises(QueueFull):
        backlog.check_room(7)


def test_reserved_room_is_taken() -> None:
    """What is about to come counts as if it were there, until it is; more than fits is refused."""
    backlog = a_backlog(in_all=3)
    backlog.reserve(2)
    backlog.append(a_live("one"))
    assert not has_room(backlog, a_live("two"))
    for rows in (1, 2):
        with pytest.raises(QueueFull):
            backlog.reserve(rows)
    backlog.free(2)
    backlog.check_room(2)
    backlog.reserve(1)
    backlog.check_room(1)
    with pytest.raises(QueueFull):
        backlog.check_room(2)


def test_the_bound_of_a_client() -> None:
    """So many calls of one paired client wait, to whichever devices; operators have no bound."""
    limits = JobsSection(max_waiting_per_client=2)
    backlog = Backlog(limits)
    calls = [
        a_live(str(device_id), device_id, requested_by="device:a") for device_id in (PI, NAS, LAMP)
    ]
    for live in calls[:2]:
        backlog.check(live)
        backlog.append(live)
        backlog.append(live)
    with pytest.raises(QueueFull, match="This client has 2"):
        backlog.check(calls[2])
    for number in range(4):
        live = a_live(str(number), requested_by="ana")
        backlog.check(live)
        backlog.append(live)
    backlog.check(a_live("theirs", requested_by="device:b"))
    for _ in range(2):
        backlog.leave(calls[0])
    backlog.check(calls[2])
    backlog.append(calls[2])
    with pytest.raises(QueueFull):
        backlog.check(calls[0])


def test_clients_leave_room_for_operators() -> None:
    """All clients together have half of what may wait; what operators made does not count."""
    backlog = a_backlog(in_all=6)
    for number in range(2):
        backlog.append(a_live(f"operator's {number}", requested_by="ana"))
    for number in range(3):
        live = a_live(str(number), requested_by=f"device:{number}")
        backlog.check(live)
        backlog.append(live)
    with pytest.raises(QueueFull, match="clients, has 3"):
        backlog.check(a_live("more", requested_by="device:more"))
    assert has_room(backlog, a_live("more", requested_by="ana"))
    backlog.leave(live)
    assert has_room(backlog, a_live("more", requested_by="device:more"))


def test_a_device_that_nothing_waits_for() -> None:
    """It is forgotten with its last job, whether that was sent, left, or was never committed."""
    backlog = a_backlog()
    name = Name("pi")
    watched = weakref.ref(name)
    lives = [a_live(str(number), DeviceId(name)) for number in range(2)]
    backlog.enters(a_call(DeviceId(name)))
    for live in lives:
        backlog.append(live)
    backlog.entered(a_call(DeviceId(name)))
    backlog.leave(lives[1])
    assert backlog.take(DeviceId(name)) is lives[0]
    del live, name
    lives.clear()
    assert kept(watched) == 0


def test_a_client_that_waits_for_nothing() -> None:
    """Its name is forgotten with its last job."""
    backlog = a_backlog()
    name = Name("device:a")
    watched = weakref.ref(name)
    lives = [a_live(str(number), requested_by=name) for number in range(2)]
    del name
    for live in lives:
        backlog.check(live)
        backlog.append(live)
    backlog.take(PI)
    backlog.leave(lives[1])
    del live
    lives.clear()
    assert kept(watched) == 0
