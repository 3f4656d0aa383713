"""Promises of when the snapshot is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from palyra.errors import DiskFull
from palyra.store.snapshotwriter import SnapshotWriter

PATH = Path("node-runtime.v1.json")


class SlowStore:
    """A store whose writes the test ends."""

    def __init__(self) -> None:
        self.begun = 0
        self.writing: Deferred[None] | None = None

    def write_snapshot(self, path: Path) -> Deferred[None]:
        assert path == PATH and self.writing is None, "one write at a time"
        self.begun += 1
        self.writing = Deferred()
        return self.writing

    def end(self, error: Exception | None = None) -> None:
        writing, self.writing = self.writing, None
        assert writing is not None, "nothing is being written"
        if error is None:
            writing.callback(None)
        else:
            writing.errback(error)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def writer(store: SlowStore, clock: Clock) -> SnapshotWriter:
    return SnapshotWriter(store, PATH, clock)


def test_many_changes_are_one_write(writer: SnapshotWriter, store: SlowStore, clock: Clock) -> None:
    """Changes before the write begins are in it."""
    for _ in range(10):
        writer.touch()
    clock.advance(0)
    assert store.begun == 1
    store.end()
    clock.advance(100)
    assert store.begun == 1


def test_a_change_during_a_write_is_written_a_second_later(
    writer: SnapshotWriter, store: SlowStore, clock: Clock
) -> None:
    """The pause after a fast write is one second."""
    writer.touch()
    clock.advance(0)
    writer.touch()
    store.end()
    clock.advance(0.99)
    assert store.begun == 1
    clock.advance(0.02)
    assert store.begun == 2
    store.end()


def test_a_slow_write_is_followed_by_a_long_pause(
    writer: SnapshotWriter, store: SlowStore, clock: Clock
) -> None:
    """The pause is fifty times as long as the write took."""
    writer.touch()
    clock.advance(0)
    clock.advance(0.5)
    store.end()
    writer.touch()
    clock.advance(24.9)
    assert store.begun == 1
    clock.advance(0.2)
    assert store.begun == 2
    store.end()


def test_force_writes_at_once(writer: SnapshotWriter, store: SlowStore, clock: Clock) -> None:
    """Also in a pause; it fires when that write has ended."""
    writer.touch()
    clock.advance(0)
    store.end()
    writer.touch()
    forced = writer.force()
    assert store.begun == 2
    assert not forced.called
    store.end()
    assert forced.called
    clock.advance(100)
    assert store.begun == 2


def test_force_during_a_write_waits_for_the_next(
    writer: SnapshotWriter, store: SlowStore, clock: Clock
) -> None:
    """A write that had begun before may lack the change."""
    writer.touch()
    clock.advance(0)
    forced = [writer.force(), writer.force()]
    store.end()
    assert store.begun == 2
    assert not any(each.called for each in forced)
    store.end()
    assert all(each.called for each in forced)


def test_a_failed_write_is_logged_and_remembered(writer: SnapshotWriter, store: SlowStore) -> None:
    """The next good write clears it; whoever forced the write is told that it is over."""
    error = DiskFull("/srv")
    with capturedLogs() as events:
        forced = writer.force()
        store.end(error)
    assert forced.called
    assert writer.last_error is error
    assert [event["log_level"] for event in events] == [LogLevel.critical]
    writer.force()
    store.end()
    assert writer.last_error is None


def test_stop_writes_what_is_not_written(
    writer: SnapshotWriter, store: SlowStore, clock: Clock
) -> None:
    """And leaves no delayed call; later changes are not written."""
    writer.touch()
    stopped = writer.stop()
    assert store.begun == 1
    store.end()
    assert stopped.called
    writer.touch()
    assert clock.getDelayedCalls() == []


def test_stop_with_nothing_to_write_is_immediate(writer: SnapshotWriter, store: SlowStore) -> None:
    """There is no needless write."""
    assert writer.stop().called
    assert store.begun == 0
