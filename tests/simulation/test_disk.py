"""Tests of :mod:`palyra.testing.simulation.disk`."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from palyra.core.devices import Device
from palyra.core.identifiers import AttemptId
from palyra.core.jobs import Job, Outcome, Report, Standing
from palyra.errors import DiskFull
from palyra.node.attemptfile import IAttemptFile
from palyra.node.attempts import AttemptMemory
from palyra.store.memory import MemoryStore
from palyra.testing.simulation.clock import HostClock, Timeline
from palyra.testing.simulation.disk import (
    AttemptDisk,
    AttemptsOnDisk,
    GatewayDisk,
    StoreOnDisk,
    at_once,
)
from tests.store.samples import a_code, a_device, a_job, a_request

ATTEMPT = AttemptId("01M80NKQCNX4K7QM2ZT9B30001")


class GatewaysDisk:
    """A disk with one life of a gateway on it."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.clock = HostClock(self.timeline, lambda: 0.0)
        random = Random(7)
        self.kept = MemoryStore(now_ms=self.clock.now_ms, entropy=random.randbytes)
        self.disk = GatewayDisk(random, self.kept)
        self.store = StoreOnDisk(self.disk, self.clock)
        self.store.opened = True
        self.device: Device = a_device(a_request("pi", a_code()))

    def accept(self, name: str) -> tuple[Job, Deferred[Any]]:
        job = a_job(name, self.device.device_id)
        return job, self.store.accept(job, None)

    def durable(self, job: Job) -> bool:
        return at_once(self.kept.job(job.call.job_id)) is not None


def test_a_commit_takes_time_and_is_told_after_it_is_durable() -> None:
    """And a group of writes becomes durable together."""
    gateway = GatewaysDisk()
    first, told = gateway.accept("first")
    second, also_told = gateway.accept("second")
    seen: list[tuple[bool, bool]] = []
    gateway.disk.committing = lambda durable: seen.append(
        (gateway.durable(first), gateway.durable(second))
    )
    assert not told.called
    gateway.timeline.advance(1.0)
    assert told.called and also_told.called
    assert seen == [(False, False), (True, True)]


@pytest.mark.parametrize("durable", [False, True])
def test_a_crash_in_a_commit_leaves_all_of_it_or_nothing(durable: bool) -> None:
    """Nobody is told of it either way."""
    gateway = GatewaysDisk()
    job, told = gateway.accept("job")
    gateway.disk.committing = lambda now: gateway.clock.kill() if now is durable else None
    gateway.timeline.advance(1.0)
    assert not told.called
    assert gateway.durable(job) is durable


def test_a_full_disk_refuses_the_whole_group() -> None:
    """And keeps nothing of it."""
    gateway = GatewaysDisk()
    gateway.disk.trouble = DiskFull
    made = [gateway.accept(name) for name in ("first", "second")]
    gateway.timeline.advance(1.0)
    for job, told in made:
        with pytest.raises(DiskFull):
            at_once(told)
        assert not gateway.durable(job)


def test_values_are_read_before_a_call_returns() -> None:
    """What the caller changes meanwhile is not written."""
    gateway = GatewaysDisk()
    job, _ = gateway.accept("job")
    job.waiting_for = "changed"
    gateway.timeline.advance(1.0)
    assert at_once(gateway.kept.job(job.call.job_id)).waiting_for == ""


class NodesDisk:
    """A disk on which node hosts live one after the other."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.disk = AttemptDisk(Random(7))
        self.start()

    def start(self) -> AttemptMemory:
        self.clock = HostClock(self.timeline, lambda: 0.0)
        self.memory = AttemptMemory(AttemptsOnDisk(self.disk, self.clock))
        return self.memory

    def accept(self) -> Deferred[None]:
        now_ms = self.clock.now_ms()
        return self.memory.accepted(ATTEMPT, durable=True, now_ms=now_ms, remaining_ms=1_000)


def test_it_is_an_attempt_file() -> None:
    """With the interface of the one on SQLite."""
    node = NodesDisk()
    assert verifyObject(IAttemptFile, AttemptsOnDisk(node.disk, node.clock))


def test_an_unsynced_write_is_lost_in_a_crash() -> None:
    """What was not told as written may be gone."""
    node = NodesDisk()
    node.accept()
    node.clock.kill()
    node.timeline.advance(1.0)
    assert not node.start().knows(ATTEMPT)


def test_a_synced_write_survives_a_crash() -> None:
    """The production's rules make of it what they make of a row in the file."""
    node = NodesDisk()
    accepted = node.accept()
    node.timeline.advance(1.0)
    assert accepted.called
    node.clock.kill()
    assert node.start().standings() == {ATTEMPT: Standing.DIED}
    node.memory.acknowledged(ATTEMPT, node.clock.now_ms())
    node.timeline.advance(1.0)
    assert node.start().standings() == {}
    assert node.memory.knows(ATTEMPT)


def test_a_lost_memory_is_another_one() -> None:
    """With a new id, and nothing in it."""
    node = NodesDisk()
    node.accept()
    node.timeline.advance(1.0)
    before = node.memory.memory_id
    node.disk.lose()
    assert node.start().memory_id != before
    assert not node.memory.knows(ATTEMPT)


def test_a_stop_writes_what_was_asked_for() -> None:
    """As a host that ends its thread does."""
    node = NodesDisk()
    node.accept()
    report = Report(ATTEMPT, Outcome.SUCCEEDED, b"{}")
    node.memory.finished(report, durable=True)
    node.memory.stop()
    assert node.start().unacknowledged() == [report]
