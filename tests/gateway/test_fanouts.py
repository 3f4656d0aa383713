"""Fan-outs: a row for every target, in batches, until too many fail; whatever restarts."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from palyra.capability.registry import load_here, own_points
from palyra.config.jobs import JobsSection
from palyra.core.devices import AnnouncedCapability, Device
from palyra.core.identifiers import AttemptId
from palyra.core.interfaces import JobQuery
from palyra.core.jobs import Job, JobState, Outcome
from palyra.errors import (
    DiskFull,
    Draining,
    InputInvalid,
    Malformed,
    NoTargets,
    NotFound,
    QueueFull,
    TooManyTargets,
)
from palyra.gateway.fanouts import FanoutView
from palyra.gateway.orders import FanoutOrder
from palyra.testing.carrier import ScriptedNode
from tests.gateway.described import announced
from tests.gateway.house import House, fired, result_of

S = JobState


def order(devices: list[Device], **changes: Any) -> FanoutOrder:
    given: dict[str, Any] = {
        "capability": "echo",
        "input_json": b"{}",
        "requested_by": "ana",
        **changes,
    }
    return FanoutOrder(devices=tuple(devices), **given)


def submitted(house: House, devices: list[Device], **changes: Any) -> Deferred[FanoutView]:
    return house.fanouts.submit(order(devices, **changes))


def submit(house: House, devices: list[Device], **changes: Any) -> FanoutView:
    answer = submitted(house, devices, **changes)
    for _ in range(len(devices) // 250 + 1):
        house.clock.advance(0)
    return result_of(answer)


def view(house: House, fanout: FanoutView) -> FanoutView:
    return result_of(Deferred.fromCoroutine(house.fanouts.view(fanout.fanout.fanout_id)))


def rows(house: House, fanout: FanoutView) -> dict[str, Job]:
    """The rows on record, by the name of their device."""
    query = JobQuery(limit=20_000, fanout_id=fanout.fanout.fanout_id)
    return {job.call.device_name: job for job in result_of(house.store.jobs(query))}


def fleet(house: House, count: int) -> tuple[list[Device], list[ScriptedNode]]:
    """Devices that are connected: pi-0, pi-1, ..."""
    made = [house.online(f"pi-{number}") for number in range(count)]
    return [device for device, _ in made], [node for _, node in made]


def running(nodes: list[ScriptedNode]) -> list[ScriptedNode]:
    """The nodes that have something to do."""
    for node in nodes:
        node.take()
    return [node for node in nodes if node.running]


def finish(node: ScriptedNode, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    node.finish(AttemptId(next(iter(node.running))), outcome)


def test_every_target_has_its_row(house: House) -> None:
    """Those that answer, those that are away, and those that cannot or may not."""
    device, node = house.online("well")
    lacks = house.device("lacks", capabilities=(AnnouncedCapability("other"),))
    fanout = submit(house, [device, house.device("away"), lacks])
    assert fanout.tally.counts == {S.QUEUED: 1, S.REJECTED: 2}
    found = rows(house, fanout)
    assert {name: job.error_code for name, job in found.items()} == {
        "well": "",
        "away": "device_offline",
        "lacks": "capability_unknown",
    }
    node.take()
    finish(node)
    ended = view(house, fanout)
    assert ended.finished and ended.tally.counts == {S.SUCCEEDED: 1, S.REJECTED: 2}
    assert ended.tally.failures == 0 and house.fanouts.running(fanout.fanout.fanout_id) is None


def test_what_is_wrong_with_an_input_is_one_line_of_a_row(house: House) -> None:
    """However many fields it is; the line ends where the row does."""
    offer = next(each for each in load_here(own_points())[0] if each.name == "desktop.open_url")
    device = house.device(capabilities=(announced(offer.descriptor),))
    other = house.device("nas", (announced(offer.descriptor, digest=""),))
    ask = {"capability": offer.name, "input_json": b'{"a":1}', "ttl_ms": 5_000}
    fanout = submit(house, [device, other], **ask)
    row = rows(house, fanout)["pi"]
    assert (row.state, row.error_code) == (S.REJECTED, "input_invalid")
    assert row.error == "input.url: is required. input.a: is not a known field."
    with pytest.raises(InputInvalid) as caught:
        submit(house, [device], **ask)
    assert len(caught.value.each) == 2


def test_the_rows_are_on_record_before_anything_is_sent(house: House) -> None:
    """Fan-out and rows in one commit; nothing before it, and nothing when it fails."""
    devices, nodes = fleet(house, 2)
    house.store.holding = True
    answer = submitted(house, devices)
    assert not fired(answer) and running(nodes) == []
    house.store.release(1)
    fanout = result_of(answer)
    assert running(nodes) == [] and len(rows(house, fanout)) == 2
    house.store.release()
    assert len(running(nodes)) == 2
    house.store.holding = False
    house.store.trouble = DiskFull("/srv")
    with pytest.raises(DiskFull):
        submit(house, devices)
    assert len(result_of(house.store.jobs(JobQuery()))) == 2


def test_a_batch(house: House) -> None:
    """So many run at a time; each that ends makes room for the next."""
    devices, nodes = fleet(house, 5)
    fanout = submit(house, devices, batch=2)
    seen = 0
    while busy := running(nodes):
        assert len(busy) <= 2
        waiting = [job for job in rows(house, fanout).values() if job.waiting_for == "batch"]
        assert len(waiting) == max(0, 5 - seen - 2)
        finish(busy[0])
        seen += 1
    assert seen == 5 and view(house, fanout).tally.counts == {S.SUCCEEDED: 5}


def test_too_many_failures(house: House) -> None:
    """More than the limit: what was not started is cancelled and says why."""
    devices, nodes = fleet(house, 6)
    fanout = submit(house, devices, batch=2, max_failures=1)
    for node in running(nodes):
        finish(node, Outcome.FAILED)
    (last,) = running(nodes)
    assert view(house, fanout).stopped and not view(house, fanout).finished
    finish(last)
    assert running(nodes) == []
    ended = view(house, fanout)
    assert ended.tally.counts == {S.FAILED: 2, S.SUCCEEDED: 1, S.CANCELLED: 3}
    assert ended.stopped and ended.finished
    cancelled = [job for job in rows(house, fanout).values() if job.state is S.CANCELLED]
    assert {job.error_code for job in cancelled} == {"max_failures"}
    assert cancelled[0].error == "Not sent: 2 others failed before; the limit is 1."


def test_devices_that_were_not_asked_are_no_failures(house: House) -> None:
    """An offline device says nothing about the next one."""
    devices, nodes = fleet(house, 1)
    away = [house.device(f"away-{number}") for number in range(3)]
    submit(house, [*away, *devices], batch=1, max_failures=0)
    assert len(running(nodes)) == 1


def test_a_restart_goes_on(house: House) -> None:
    """What ran is found out, what waited starts, and failures are counted on."""
    devices, nodes = fleet(house, 4)
    fanout = submit(house, devices, batch=1, max_failures=1)
    finish(running(nodes)[0], Outcome.FAILED)
    house.restart()
    for node in nodes:
        result_of(node.connect())
    (busy,) = running(nodes)
    finish(busy, Outcome.FAILED)
    assert running(nodes) == []
    ended = view(house, fanout)
    assert ended.tally.counts == {S.FAILED: 2, S.CANCELLED: 2} and ended.stopped


def test_a_restart_between_commit_and_start(house: House) -> None:
    """Rows that were accepted and not sent are sent by the next life of the gateway."""
    devices, nodes = fleet(house, 3)
    house.store.holding = True
    answers = [submitted(house, devices, batch=batch) for batch in (None, 2)]
    house.store.release(2)
    house.store.holding = False
    assert all(map(fired, answers))
    house.store.drop()
    house.restart()
    for node in nodes:
        result_of(node.connect())
    while busy := running(nodes):
        finish(busy[0])
    for answer in answers:
        assert view(house, result_of(answer)).tally.counts == {S.SUCCEEDED: 3}


def test_a_row_with_a_time_to_live(house: House) -> None:
    """A device that is away has a row that waits, and expires by itself."""
    devices, nodes = fleet(house, 1)
    late, never = house.device("late"), house.device("never")
    fanout = submit(house, [*devices, late, never], ttl_ms=60_000)
    finish(running(nodes)[0])
    house.pass_time(30)
    node = house.node(late)
    result_of(node.connect())
    node.take()
    finish(node)
    house.pass_time(31)
    assert view(house, fanout).tally.counts == {S.SUCCEEDED: 2, S.EXPIRED: 1}


def test_a_device_that_left_before_its_turn(house: House) -> None:
    """Its row is rejected when its turn comes, and the next one starts."""
    devices, nodes = fleet(house, 3)
    fanout = submit(house, devices, batch=1)
    first = running(nodes)[0]
    gone = next(node for node in nodes if node is not first)
    gone.disconnect()
    house.pass_time(15)
    finish(first)
    house.clock.advance(0)
    last = next(node for node in nodes if node not in (first, gone))
    assert running([last]) == [last]
    finish(last)
    assert view(house, fanout).tally.counts == {S.SUCCEEDED: 2, S.REJECTED: 1}


def test_a_device_revoked_before_its_turn(house: House) -> None:
    """Its row ends with it."""
    devices, nodes = fleet(house, 2)
    fanout = submit(house, devices, batch=1)
    (first,) = running(nodes)
    other = next(device for device in devices if device.device_id != first.peer.device_id)
    result_of(house.store.revoke(other.device_id, "ana", "stolen", house.now_ms()))
    ended = Deferred.fromCoroutine(house.dispatcher.device_ended(other.device_id))
    result_of(ended)
    finish(first)
    assert view(house, fanout).tally.counts == {S.SUCCEEDED: 1, S.REJECTED: 1}


def test_cancelled_rows_do_not_start_others_late(house: House) -> None:
    """Rows may be cancelled one by one while they wait, and the rest goes on."""
    devices, nodes = fleet(house, 3)
    fanout = submit(house, devices, batch=1)
    (first,) = running(nodes)
    for job_id in house.fanouts.unfinished(fanout.fanout.fanout_id)[::-1][:2]:
        result_of(house.dispatcher.cancel(job_id))
    finish(first)
    assert view(house, fanout).tally.counts == {S.SUCCEEDED: 1, S.CANCELLED: 2}


def test_many_rows_leave_time_for_others(house: House) -> None:
    """Rows are made and started some at a time, with turns of the reactor between."""
    device, node = house.online(max_in_flight=1_000)
    copies = [device] * 600
    answer = submitted(house, copies)
    assert not fired(answer)
    for _ in range(10):
        house.clock.advance(0)
    assert result_of(answer).tally.counts == {S.QUEUED: 600}
    started = 0
    for _ in range(20):
        house.clock.advance(0)
        while node.take().dispatches:
            pass
        for attempt_id in list(node.running):
            started += 1
            node.finish(attempt_id)
    assert started == 600


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"batch": 0}, Malformed),
        ({"max_failures": -1}, Malformed),
        ({"input_json": b"{"}, InputInvalid),
        ({"ttl_ms": 0}, Malformed),
        ({"timeout_ms": 1}, Malformed),
    ],
)
def test_a_call_that_no_device_could_be_asked(
    house: House, changes: dict[str, Any], error: type[Exception]
) -> None:
    """It is refused as a whole, and nothing is written."""
    device, _ = house.online()
    with pytest.raises(error):
        submit(house, [device], **changes)
    assert result_of(house.store.jobs(JobQuery())) == []


def test_bounds() -> None:
    """No target, too many targets, more than may wait, and a gateway that stops: all refused."""
    house = House(limits=JobsSection(max_targets=3, max_waiting=2))
    devices, _ = fleet(house, 4)
    with pytest.raises(NoTargets):
        submit(house, [], expression="name = nobody")
    with pytest.raises(TooManyTargets):
        submit(house, devices)
    with pytest.raises(QueueFull):
        submit(house, devices[:3], batch=1)
    submit(house, devices[:3])
    house.dispatcher.drain()
    with pytest.raises(Draining):
        submit(house, devices[:1])
    with pytest.raises(NotFound):
        result_of(Deferred.fromCoroutine(house.fanouts.view("01J0000000000000000000000A")))  # type: ignore[arg-type]
    house.end()


def test_a_limit_hit_by_one_row_is_that_row() -> None:
    """A device with a full queue has a rejected row; the others run."""
    house = House(limits=JobsSection(max_waiting_per_device=1, in_flight_per_device=1))
    devices, _ = fleet(house, 2)
    for _ in range(2):
        house.submit(devices[0])
    fanout = submit(house, devices)
    found = rows(house, fanout)
    assert (found["pi-0"].state, found["pi-0"].error_code) == (S.REJECTED, "queue_full")
    assert found["pi-1"].state is S.DISPATCHED
    house.end()
