"""Rows of fan-outs, one by one: whose turn comes, in which order they end, and what stops them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

import palyra.gateway.fanouts
from palyra.console import models
from palyra.core.devices import DeviceState
from palyra.core.fanouts import Tally
from palyra.core.jobs import JobState, Outcome
from palyra.gateway.fanouts import RunningFanout
from tests.callers import ANA
from tests.gateway.enrolling import Gateway
from tests.gateway.house import House, result_of
from tests.gateway.lives import NAS, PI
from tests.gateway.test_fanouts import finish, fleet, rows, running, submit, submitted, view
from tests.store.samples import a_fanout, a_job, dispatch, succeed

S = JobState


def a_rollout_that_waits(gateway: Gateway) -> tuple[models.FanoutItem, list[Any]]:
    """One row at a time; the first one waits for its device, those of the others for it."""
    gateway.device("away")
    _, nodes = fleet(gateway, 3)
    body = models.SubmitJobs(capability="echo", where="all", batch="1", ttl_ms=60_000)
    answer = result_of(gateway.control.submit(body, ANA))
    gateway.clock.advance(0)
    states = {
        row.device_name: result_of(gateway.control.job(row.job_id, 0)).job for row in answer.rows
    }
    assert {row.state for row in states.values()} == {"queued"}
    assert [name for name, row in states.items() if row.waiting_for != "batch"] == ["away"]
    assert running(nodes) == []
    return answer.fanout, nodes


def test_a_cancelled_fan_out_starts_nothing(gateway: Gateway) -> None:
    """The end of a row that waits for its device is not the turn of the next one."""
    fanout, nodes = a_rollout_that_waits(gateway)
    cancel = gateway.control.cancel_fanout
    ended = result_of(cancel(fanout.fanout_id, models.CancelJob(), ANA))
    gateway.pass_time(1)
    assert ended.fanout.counts == {"cancelled": 4} and ended.fanout.finished
    assert running(nodes) == [] and not any(node.started for node in nodes)


def test_a_purge_starts_nothing(gateway: Gateway) -> None:
    """All that waits is cancelled, and nothing of it starts meanwhile."""
    fanout, nodes = a_rollout_that_waits(gateway)
    assert result_of(gateway.control.purge(models.PurgeJobs(), ANA)).cancelled == 4
    gateway.pass_time(1)
    assert running(nodes) == [] and not any(node.started for node in nodes)
    answer = result_of(gateway.control.fanout(fanout.fanout_id, 10, None))
    assert answer.fanout.counts == {"cancelled": 4}


def test_a_device_that_may_not_be_used_by_then(house: House) -> None:
    """Its row is rejected when its turn comes, for that reason, and the next one starts."""
    devices, nodes = fleet(house, 3)
    fanout = submit(house, devices, batch=1)
    (first,) = running(nodes)
    gone, last = (node for node in nodes if node is not first)
    device = house.inventory.device(gone.peer.device_id)
    assert device is not None
    house.inventory.put(attrs.evolve(device, state=DeviceState.REVOKED))
    finish(first)
    house.clock.advance(0)
    assert running(nodes) == [last] and gone.started == []
    row = rows(house, fanout)[device.name]
    assert (row.state, row.error_code, row.attempts) == (S.REJECTED, "device_revoked", 0)
    finish(last)
    assert view(house, fanout).tally.counts == {S.SUCCEEDED: 2, S.REJECTED: 1}
    assert view(house, fanout).tally.failures == 0


def test_as_many_failures_as_may_be(house: House) -> None:
    """The limit itself stops nothing: only one more failure does."""
    devices, nodes = fleet(house, 4)
    fanout = submit(house, devices, batch=1, max_failures=1)
    finish(running(nodes)[0], Outcome.FAILED)
    seen = view(house, fanout)
    assert (seen.tally.failures, seen.stopped, seen.finished) == (1, False, False)
    finish(running(nodes)[0], Outcome.FAILED)
    seen = view(house, fanout)
    assert (seen.tally.failures, seen.stopped, seen.finished) == (2, True, True)


def test_a_row_counts_once() -> None:
    """However often its end is told; and a row of another fan-out not at all."""
    fanout, (row, other) = a_fanout(PI, NAS)
    running_one = RunningFanout(fanout, Tally({S.QUEUED: 2}, 0))
    running_one.states.update({each.call.job_id: each.state for each in (row, other)})
    assert not running_one.moved(row)
    stranger = succeed(dispatch(a_job("stranger", PI)))
    ended = succeed(dispatch(row))
    assert [running_one.moved(job) for job in (stranger, ended, ended)] == [False, True, False]
    assert running_one.view().tally.counts == {S.QUEUED: 1, S.SUCCEEDED: 1}


def test_after_the_stop(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row starts any more, whatever ends; the next life of the gateway starts them all."""
    monkeypatch.setattr(palyra.gateway.fanouts, "SLICE", 2)
    devices, nodes = fleet(house, 6)
    stopped_with: list[int] = []

    def stop_when_some_run() -> None:
        """Between two turns of the reactor, as long as not all rows are started."""
        if busy := running(nodes):
            stopped_with.append(len(busy))
            house.fanouts.stop()
        else:
            house.clock.callLater(0, stop_when_some_run)

    answer = submitted(house, devices)
    stop_when_some_run()
    house.pass_time(1)
    assert len(running(nodes)) == stopped_with[0] == 2
    finish(running(nodes)[0])
    house.pass_time(1)
    assert len(running(nodes)) == 1 and sum(len(node.started) for node in nodes) == 2
    house.restart()
    for node in nodes:
        result_of(node.connect())
    for _ in range(4):
        house.clock.advance(0)
    while busy := running(nodes):
        finish(busy[0])
    assert view(house, result_of(answer)).tally.counts == {S.SUCCEEDED: 6}
