"""Callers that leave, outages, repetitions, and clients that want everything for themselves."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from palyra.config.jobs import JobsSection
from palyra.console import models
from palyra.core.auditlog import AuditQuery
from palyra.core.devices import INVOKE_OTHERS, ClientKind, DeviceChange
from palyra.core.frames import Wanted
from palyra.core.interfaces import JobQuery
from palyra.core.jobs import JobState, Outcome
from palyra.core.policy import Effect, Rule, Rules
from palyra.errors import (
    DeviceOffline,
    DiskFull,
    JobStillRunning,
    LimitReached,
    NotFound,
    QueueFull,
    RuleDenies,
)
from palyra.gateway.desk import MAX_REFUSALS
from palyra.gateway.dispatch import CANCEL_WAIT_MS
from palyra.gateway.orders import CALLER_MARGIN_MS, MEDIATION_MS, patience_ms
from palyra.gateway.records import MAX_PAUSE_S
from tests.callers import ANA
from tests.gateway.enrolling import Gateway
from tests.gateway.house import House, attempt_of, result_of
from tests.gateway.test_fanouts import finish, fleet, rows, running, submit, submitted, view

S = JobState


def quiet(answer: Deferred[Any]) -> Deferred[Any]:
    """A Deferred whose failure nobody minds."""
    return answer.addErrback(lambda _: None)


# -- callers that leave ---------------------------------------------------------------------------


def test_a_caller_that_leaves_while_its_call_is_made(gateway: Gateway) -> None:
    """The call is made, runs, and answers whoever repeats it with its key."""
    device, node = gateway.online()
    wanted = Wanted(device.device_id, "echo", b"{}", idempotency_key="k")
    gateway.store.holding = True
    quiet(gateway.node_desk.run(node.peer, wanted)).cancel()
    gateway.store.release()
    gateway.store.holding = False
    again = gateway.node_desk.run(node.peer, wanted)
    node.take()
    assert len(node.running) == 1
    finish(node)
    assert result_of(again).state is S.SUCCEEDED


def test_an_operator_that_leaves(house: House) -> None:
    """Neither the acceptance of a call nor that of a fan-out can be cancelled."""
    devices, nodes = fleet(house, 2)
    house.store.holding = True
    quiet(house.dispatcher.submit(house.order(devices[0]))).cancel()
    quiet(submitted(house, devices)).cancel()
    while house.store.waiting:
        house.store.release()
    assert sum(len(node.running) for node in running(nodes)) == 3


# -- outages --------------------------------------------------------------------------------------


def test_rows_after_an_outage(house: House) -> None:
    """Rows whose turn comes before their devices are back wait for them, as other jobs do."""
    devices, nodes = fleet(house, 4)
    fanout = submit(house, devices, batch=1)
    (first,) = running(nodes)
    result_of(house.store.heard(house.board.take_heard()))
    house.end()
    house.clock.advance(600)
    house.begin()
    for node in nodes:
        node.sessions = house.sessions
    result_of(first.connect())
    finish(first)
    house.pass_time(5)
    for node in nodes:
        if node is not first:
            result_of(node.connect())
    while busy := running(nodes):
        finish(busy[0])
    assert view(house, fanout).tally.counts == {S.SUCCEEDED: 4}


def test_an_idempotent_job_outlives_its_time_to_live(house: House) -> None:
    """Once it was sent that time is over with: a lost attempt is followed by another."""
    device = house.device()
    job = house.submit(device, "safe", ttl_ms=5_000)
    node = house.node(device)
    result_of(node.connect())
    node.take()
    house.pass_time(6)
    node.finish(attempt_of(job), Outcome.DIED)
    house.pass_time(2)
    node.take()
    finish(node)
    assert house.kept(job).state is S.SUCCEEDED and job.attempts == 2


def test_a_full_disk_fills_no_log(house: House) -> None:
    """All that waits for the store is tried together, less and less often."""
    device, node = house.online()
    jobs = [house.submit(device) for _ in range(20)]
    node.take()
    house.store.trouble = DiskFull("/srv")
    for job in jobs:
        node.finish(attempt_of(job))
    tries = house.store.tries
    house.pass_time(30)
    assert house.store.tries - tries <= 20 * 9
    house.store.trouble = None
    house.pass_time(MAX_PAUSE_S + 1)
    assert all(house.kept(job).state is S.SUCCEEDED for job in jobs)


def test_a_second_cancel_while_the_store_cannot_write(house: House) -> None:
    """It is not waited for without end."""
    job = house.submit(house.device(), ttl_ms=600_000)
    house.store.trouble = DiskFull("/srv")
    with pytest.raises(DiskFull):
        result_of(house.dispatcher.cancel(job.call.job_id))
    again = house.dispatcher.cancel(job.call.job_id)
    house.pass_time(CANCEL_WAIT_MS / 1000 + 0.5)
    with pytest.raises(JobStillRunning):
        result_of(again)


# -- repetitions ----------------------------------------------------------------------------------


def test_a_client_with_a_new_name(gateway: Gateway) -> None:
    """Its keys and its jobs are its own, whatever it is called."""
    device, node = gateway.online()
    wanted = Wanted(device.device_id, "echo", b"{}", idempotency_key="k")
    first = gateway.node_desk.run(node.peer, wanted)
    (job,) = result_of(gateway.store.jobs(JobQuery()))
    renamed = result_of(gateway.store.change(DeviceChange(device.device_id, "new-name")))
    gateway.inventory.put(renamed)
    again = gateway.node_desk.run(node.peer, wanted)
    assert result_of(gateway.node_desk.cancel(node.peer, job.call.job_id))
    (dispatch,) = node.take().dispatches
    assert dispatch.requested_by.startswith("pi (")
    finish(node, Outcome.CANCELLED)
    assert {result_of(answer).call.job_id for answer in (first, again)} == {job.call.job_id}


def test_the_same_words_are_the_same_call(gateway: Gateway) -> None:
    """What they mean may have changed: more devices match, and a name is gone."""
    fleet(gateway, 2)
    many = models.SubmitJobs("echo", where="all", batch="50%", idempotency_key="k")
    first = result_of(gateway.control.submit(many, ANA))
    one = models.Invoke("echo", wait_ms=0, idempotency_key="k")
    job = result_of(gateway.control.invoke("pi-0", one, ANA))
    for number in range(2, 6):
        gateway.online(f"pi-{number}")
    label = models.LabelNode(name="other")
    result_of(gateway.control.label("pi-0", label, ANA))
    assert result_of(gateway.control.submit(many, ANA)).fanout.fanout_id == (first.fanout.fanout_id)
    assert result_of(gateway.control.invoke("pi-0", one, ANA)).job_id == job.job_id


# -- shares ---------------------------------------------------------------------------------------


def a_client(gateway: Gateway, name: str) -> Any:
    grants = frozenset({INVOKE_OTHERS})
    return gateway.peer(gateway.device(name, kind=ClientKind.CLI, grants=grants).device_id)


def test_clients_leave_room_for_operators() -> None:
    """One has its share, all of them half; operators find room in the other half."""
    gateway = Gateway(jobs=JobsSection(max_waiting=8, max_waiting_per_client=3))
    away = gateway.device("away")
    wanted = Wanted(away.device_id, "echo", b"{}", ttl_ms=60_000)
    one, other = a_client(gateway, "one"), a_client(gateway, "other")
    for _ in range(3):
        quiet(gateway.node_desk.run(one, wanted))
    with pytest.raises(QueueFull, match="This client has 3"):
        gateway.node_desk.run(one, wanted)
    quiet(gateway.node_desk.run(other, wanted))
    with pytest.raises(QueueFull, match="for its clients, has 4"):
        gateway.node_desk.run(other, wanted)
    for _ in range(4):
        gateway.submit(away, ttl_ms=60_000)
    node = gateway.node(away)
    result_of(node.connect())
    node.take()
    assert len(node.running) == 8 and not gateway.dispatcher.queued(None)
    gateway.end()


def test_a_client_that_only_asks_what_is_offline(gateway: Gateway) -> None:
    """Each refusal is a record: so many in a minute, and no more."""
    away = gateway.device("away")
    client = a_client(gateway, "client")
    wanted = Wanted(away.device_id, "echo", b"{}")
    for _ in range(MAX_REFUSALS):
        with pytest.raises(DeviceOffline):
            result_of(gateway.node_desk.run(client, wanted))
    with pytest.raises(LimitReached):
        gateway.node_desk.run(client, wanted)
    assert len(result_of(gateway.store.jobs(JobQuery(limit=1_000)))) == MAX_REFUSALS
    gateway.pass_time(61)
    with pytest.raises(DeviceOffline):
        result_of(gateway.node_desk.run(client, wanted))


def test_a_client_that_only_asks_what_is_denied(gateway: Gateway) -> None:
    """Each refusal is a row of the audit chain: so many in a minute, and no more."""
    device, _ = gateway.online()
    gateway.policing.rules = Rules((Rule(rule_id="no", number=1, effect=Effect.DENY),))
    client = a_client(gateway, "client")
    keys = ("", "k")
    for number in range(MAX_REFUSALS):
        wanted = Wanted(device.device_id, "echo", b"{}", idempotency_key=keys[number % 2])
        with pytest.raises(RuleDenies):
            result_of(gateway.node_desk.run(client, wanted))
    with pytest.raises(LimitReached):
        gateway.node_desk.run(client, Wanted(device.device_id, "echo", b"{}"))
    rows = result_of(gateway.store.audit_rows(AuditQuery(limit=1_000)))
    assert sum(row.line.result.startswith("denied") for row in rows.rows) == MAX_REFUSALS


def test_a_client_that_follows_everything(gateway: Gateway) -> None:
    """It has its share of the streams; operators still follow."""
    device, node = gateway.online()
    quiet(gateway.node_desk.run(node.peer, Wanted(device.device_id, "echo", b"{}")))
    (job,) = result_of(gateway.store.jobs(JobQuery()))
    job_id = job.call.job_id
    share = gateway.limits.max_followers // 8
    streams = [
        result_of(gateway.node_desk.follow(node.peer, job_id, lambda: None)) for _ in range(share)
    ]
    with pytest.raises(LimitReached):
        result_of(gateway.node_desk.follow(node.peer, job_id, lambda: None))
    result_of(gateway.control.follow_job(job_id, lambda: None))
    streams[0].close()
    result_of(gateway.node_desk.follow(node.peer, job_id, lambda: None))


# -- fan-outs -------------------------------------------------------------------------------------


def test_too_many_failures_without_a_batch(house: House) -> None:
    """Rows that were never sent will not be: those of busy devices, and of devices away."""
    devices, nodes = fleet(house, 2)
    busy, busy_node = house.online("busy", max_in_flight=1)
    house.submit(busy)
    away = house.device("away")
    fanout = submit(house, [*devices, busy, away], ttl_ms=600_000, max_failures=1)
    for node in running(nodes):
        finish(node, Outcome.FAILED)
    house.clock.advance(0)
    ended = view(house, fanout)
    assert ended.tally.counts == {S.FAILED: 2, S.CANCELLED: 2} and ended.finished
    busy_node.take()
    finish(busy_node)
    busy_node.take()
    assert len(busy_node.started) == 1


def test_a_row_is_known_as_soon_as_it_is_on_record(house: House) -> None:
    """Whoever reads of it can cancel it, while the acceptance is still being told."""
    devices, nodes = fleet(house, 3)
    house.store.holding = True
    answer = submitted(house, devices, batch=1)
    house.store.holding = False
    house.store.release(1)
    fanout = result_of(answer)
    for job in rows(house, fanout).values():
        if not job.attempts:
            quiet(house.dispatcher.cancel(job.call.job_id))
    while busy := running(nodes):
        finish(busy[0])
    assert sum(view(house, fanout).tally.counts.values()) == 3
    assert view(house, fanout).finished


def test_fan_outs_at_the_same_time() -> None:
    """Room is kept from the check on: together they do not make more wait than may."""
    house = House(limits=JobsSection(max_waiting=10))
    device, _ = house.online(max_in_flight=1)
    house.store.holding = True
    answers = [submitted(house, [device] * 4, batch=1) for _ in range(5)]
    while house.store.waiting:
        house.store.release()
    refused = [answer for answer in answers if isinstance(answer.result, Failure)]
    for answer in refused:
        with pytest.raises(QueueFull):
            result_of(answer)
    assert len(refused) == 3 and len(house.dispatcher.queued(None)) <= 10
    house.end()


def test_a_long_capability_is_waited_for(gateway: Gateway) -> None:
    """As long as it may run, and as long as a person may be asked."""
    device, node = gateway.online()
    answers = [
        gateway.node_desk.run(node.peer, Wanted(device.device_id, capability, b"{}", ttl_ms=1_000))
        for capability in ("ask", "slow")
    ]
    (ask, slow) = (job.call for job in result_of(gateway.store.jobs(JobQuery()))[::-1])
    assert patience_ms(slow) == 5_000 + 1_000 + CALLER_MARGIN_MS
    assert patience_ms(ask) == patience_ms(slow) + MEDIATION_MS
    node.take()
    for _ in answers:
        finish(node)
    assert {result_of(answer).state for answer in answers} == {S.SUCCEEDED}


def test_what_is_not_on_record_yet(house: House) -> None:
    """Nobody can purge or cancel it; refused, it never was, and its room is free."""
    devices, _ = fleet(house, 3)
    house.store.holding = True
    answer = submitted(house, devices, batch=1)
    (live, *_) = [each for each in house.dispatcher._unfinished.all() if not each.accepted]
    assert house.dispatcher.queued(None) == []
    with pytest.raises(NotFound):
        result_of(house.dispatcher.cancel(live.job.call.job_id))
    house.store.trouble = DiskFull("/srv")
    house.store.release()
    house.store.holding, house.store.trouble = False, None
    with pytest.raises(DiskFull):
        result_of(answer)
    assert house.dispatcher.running(devices[0].device_id) == 0
    submit(house, devices * (house.limits.max_waiting // 3), batch=1)


def test_a_row_that_waits_for_its_device(house: House) -> None:
    """It is listed as that, and no longer as waiting for its batch."""
    away = house.device("away")
    devices, _ = fleet(house, 1)
    fanout = submit(house, [away, *devices], batch=1, ttl_ms=60_000)
    waiting = {name: job.waiting_for for name, job in rows(house, fanout).items()}
    assert waiting == {"away": "", "pi-0": "batch"}


def test_a_row_that_ends_after_the_stop(house: House) -> None:
    """No other row starts in its place."""
    devices, nodes = fleet(house, 3)
    submit(house, devices, batch=1)
    (busy,) = running(nodes)
    house.fanouts.stop()
    finish(busy)
    house.pass_time(1)
    assert running(nodes) == []


def test_a_client_while_the_store_is_busy() -> None:
    """What is on its way to the record counts for its share."""
    house = House(limits=JobsSection(max_waiting_per_client=2))
    devices = [house.device(f"away-{number}") for number in range(4)]
    house.store.holding = True
    for device in devices[:2]:
        house.dispatcher.submit(house.order(device, ttl_ms=60_000, requested_by="device:a"))
    with pytest.raises(QueueFull):
        house.dispatcher.submit(house.order(devices[2], ttl_ms=60_000, requested_by="device:a"))
    house.store.release()
    assert len(house.dispatcher.queued(None)) == 2
    house.end()
