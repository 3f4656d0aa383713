"""Tests of :mod:`palyra.node.attempts`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from palyra.core.jobs import MediationAnswer, Outcome, Report, Standing
from palyra.errors import DiskFull, StoreCorrupt, StoreUnavailable
from palyra.node import attempts
from palyra.node.attempts import REMEMBER_MS, AttemptMemory
from tests.node.fakes import NOW_MS, Turns, attempt

RUN_MS = 30_000


class Disk:
    """A memory's file, opened again as a node host that starts again does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.turns = Turns()
        self.memory = self.turns.memory(path)

    def restart(self, now_ms: int = NOW_MS) -> AttemptMemory:
        """Stop and open again."""
        self.memory.stop()
        self.memory = self.turns.memory(self.path, now_ms)
        return self.memory

    def accept(self, number: int, *, durable: bool = True, now_ms: int = NOW_MS) -> None:
        """Accept an attempt and wait for the disk."""
        accepted = self.memory.accepted(
            attempt(number), durable=durable, now_ms=now_ms, remaining_ms=RUN_MS
        )
        self.turns.wait(accepted)

    def finish(self, number: int, *, durable: bool = True) -> Report:
        """Finish an attempt and wait for the disk."""
        report = done(number)
        self.turns.wait(self.memory.finished(report, durable=durable))
        return report

    def acknowledge(self, number: int, now_ms: int = NOW_MS) -> None:
        """Acknowledge a report and wait for the disk."""
        self.turns.wait(self.memory.acknowledged(attempt(number), now_ms))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A new memory."""
    made = Disk(tmp_path / "attempts.sqlite3")
    yield made
    made.memory.stop()


def done(number: int) -> Report:
    return Report(attempt(number), Outcome.SUCCEEDED, b'{"x":1}', "", "", True, 12)


def test_a_new_memory_is_empty_and_private(disk: Disk) -> None:
    """Only its owner may read it; its id stays over restarts."""
    assert disk.path.stat().st_mode & 0o777 == 0o600
    assert disk.memory.standings() == {}
    assert not disk.memory.knows(attempt(1))
    first = disk.memory.memory_id
    assert disk.restart().memory_id == first == b"m".hex() * 16


def test_what_ran_when_the_host_died_is_reported_as_died(disk: Disk) -> None:
    """With a report to send and no second run."""
    disk.accept(1)
    assert disk.memory.standings() == {attempt(1): Standing.RUNNING}
    memory = disk.restart()
    assert memory.standings() == {attempt(1): Standing.DIED}
    assert memory.knows(attempt(1))
    assert [(r.outcome, r.error_code) for r in memory.unacknowledged()] == [
        (Outcome.DIED, "node_died")
    ]


def test_a_finished_report_survives_until_it_is_acknowledged(disk: Disk) -> None:
    """Unchanged, and then only the id is remembered."""
    disk.accept(1)
    report = disk.finish(1)
    memory = disk.restart()
    assert memory.standings() == {attempt(1): Standing.FINISHED}
    assert memory.unacknowledged() == [report]
    disk.acknowledge(1)
    memory = disk.restart()
    assert memory.unacknowledged() == []
    assert memory.standings() == {}
    assert memory.knows(attempt(1))


def test_what_was_said_at_the_device_survives_with_the_report(disk: Disk) -> None:
    """Who decided, and what; also in a file of the time before."""
    disk.memory.stop()
    with sqlite3.connect(disk.path) as old:
        old.execute("ALTER TABLE attempts DROP COLUMN decided_by")
        old.execute("ALTER TABLE attempts DROP COLUMN choice")
    old.close()
    disk.memory = disk.turns.memory(disk.path)
    disk.accept(1)
    said = MediationAnswer("ana at the terminal", "always")
    report = attrs.evolve(done(1), mediation=said)
    disk.turns.wait(disk.memory.finished(report, durable=True))
    disk.accept(2)
    plain = disk.finish(2)
    assert list(disk.restart().unacknowledged()) == [report, plain]


def test_a_death_is_told_until_it_is_acknowledged(disk: Disk) -> None:
    """Also over two restarts."""
    disk.accept(1)
    disk.restart()
    assert disk.restart().standings() == {attempt(1): Standing.DIED}
    disk.acknowledge(1)
    memory = disk.restart()
    assert memory.standings() == {}
    assert memory.knows(attempt(1))


def test_reports_are_sent_again_in_their_order(disk: Disk) -> None:
    """The oldest first, after a restart too."""
    for number in (3, 1, 2):
        disk.accept(number)
        disk.finish(number)
    order = [attempt(number) for number in (3, 1, 2)]
    assert [report.attempt_id for report in disk.memory.unacknowledged()] == order
    assert [report.attempt_id for report in disk.restart().unacknowledged()] == order


def test_a_report_that_is_not_on_disk_yet_is_not_sent(disk: Disk) -> None:
    """A session that begins meanwhile finds the attempt running."""
    disk.accept(1)
    written = disk.memory.finished(done(1), durable=True)
    assert disk.memory.unacknowledged() == []
    assert disk.memory.standings() == {attempt(1): Standing.RUNNING}
    disk.turns.wait(written)
    assert disk.memory.unacknowledged() == [done(1)]


def test_an_idempotent_attempt_is_kept_in_memory_only(disk: Disk) -> None:
    """Nothing of it is on disk; until acknowledged it is not run again."""
    disk.accept(1, durable=False)
    disk.finish(1, durable=False)
    assert disk.memory.knows(attempt(1))
    assert disk.memory.standings() == {attempt(1): Standing.FINISHED}
    disk.acknowledge(1)
    assert not disk.memory.knows(attempt(1))
    disk.accept(2, durable=False)
    assert not disk.restart().knows(attempt(2))


def test_an_attempt_is_forgotten_a_day_after_its_deadline(disk: Disk) -> None:
    """Not a millisecond before, and only if acknowledged."""
    for number in (1, 2):
        disk.accept(number)
        disk.finish(number)
    disk.acknowledge(1)
    forget_ms = NOW_MS + RUN_MS + REMEMBER_MS
    assert disk.restart(forget_ms).knows(attempt(1))
    memory = disk.restart(forget_ms + 1)
    assert not memory.knows(attempt(1))
    assert memory.unacknowledged() == [done(2)]
    disk.acknowledge(2, forget_ms + 1)
    assert not memory.knows(attempt(2))
    assert not disk.restart(NOW_MS).knows(attempt(2))


def test_a_full_memory_refuses_until_time_has_passed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never forgets early, and does not stay full when a day has gone by."""
    monkeypatch.setattr(attempts, "MAX_REMEMBERED", 2)
    for number in (1, 2):
        disk.accept(number)
        disk.finish(number)
        disk.acknowledge(number)
    assert disk.memory.is_full(NOW_MS + REMEMBER_MS)
    assert not disk.memory.is_full(NOW_MS + RUN_MS + REMEMBER_MS + 1)


def test_too_many_unacknowledged_reports_refuse_work(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes the reports, so nothing more is taken on."""
    monkeypatch.setattr(attempts, "MAX_UNACKNOWLEDGED", 1)
    assert not disk.memory.is_full(NOW_MS)
    disk.finish(1, durable=False)
    assert disk.memory.is_full(NOW_MS)


def test_a_full_disk_refuses_the_attempt(disk: Disk) -> None:
    """It cannot be remembered, so nothing of it stays and it may come again."""
    disk.memory._file._database.execute("PRAGMA max_page_count = 1")
    filler = "INSERT INTO meta VALUES (hex(randomblob(9)), hex(zeroblob(4000)))"
    with pytest.raises(sqlite3.OperationalError, match="full"):
        disk.memory._file._database.execute(filler)
    accepted = disk.memory._file._write(filler, ())
    with pytest.raises(DiskFull):
        disk.turns.wait(accepted)


def test_an_attempt_that_cannot_be_written_is_not_running(disk: Disk) -> None:
    """A write that fails leaves no trace of the attempt."""
    disk.memory._file._database.execute("DROP TABLE attempts")
    with pytest.raises(StoreUnavailable):
        disk.accept(1)
    assert not disk.memory.knows(attempt(1))
    assert disk.memory.standings() == {}


def test_who_asks_hears_of_the_disk(disk: Disk) -> None:
    """When an attempt could not be remembered, each time, and when the first one can again: also
    the first one of all, for the trouble of an earlier life of the node host is over then."""
    heard: list[BaseException | None] = []
    disk.memory.stored = heard.append
    disk.accept(1)
    assert heard == [None]
    heard.clear()
    disk.memory._file._database.execute("ALTER TABLE attempts RENAME TO away")
    for number in (2, 3):
        with pytest.raises(StoreUnavailable):
            disk.accept(number)
    disk.memory._file._database.execute("ALTER TABLE away RENAME TO attempts")
    disk.accept(4)
    disk.accept(5)
    assert [type(each) for each in heard] == [StoreUnavailable, StoreUnavailable, type(None)]


def test_a_report_that_cannot_be_written_is_kept_in_memory(disk: Disk) -> None:
    """It is still told to the gateway."""
    disk.accept(1)
    disk.memory._file._database.execute("DROP TABLE attempts")
    with pytest.raises(StoreUnavailable):
        disk.finish(1)
    assert disk.memory.unacknowledged() == [done(1)]


def test_a_report_is_written_when_the_disk_can_again(disk: Disk) -> None:
    """Who asks hears that it could not be, and a later life of the node host has it."""
    heard: list[BaseException | None] = []
    disk.accept(1)
    disk.memory.stored = heard.append
    disk.memory._file._database.execute("ALTER TABLE attempts RENAME TO away")
    with pytest.raises(StoreUnavailable):
        disk.finish(1)
    disk.memory._file._database.execute("ALTER TABLE away RENAME TO attempts")
    disk.accept(2)
    disk.finish(2)
    assert [type(each) for each in heard] == [StoreUnavailable, type(None)]
    assert list(disk.restart().unacknowledged()) == [done(1), done(2)]


def test_an_attempt_of_a_clock_that_was_ahead(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is remembered for years, and does not keep those that came after it."""
    monkeypatch.setattr(attempts, "MAX_REMEMBERED", 2)
    for number, now_ms in ((1, NOW_MS * 2), (2, NOW_MS)):
        disk.accept(number, now_ms=now_ms)
        disk.finish(number)
        disk.acknowledge(number)
    assert disk.memory.is_full(NOW_MS)
    assert not disk.memory.is_full(NOW_MS + RUN_MS + REMEMBER_MS + 1)
    assert disk.memory.knows(attempt(1)) and not disk.memory.knows(attempt(2))


@pytest.mark.parametrize("damage", ["not a database at all" * 100, "outcome"])
def test_a_damaged_file_is_named_and_left(tmp_path: Path, damage: str) -> None:
    """The node host does not start, and nothing is written over."""
    path = tmp_path / "attempts.sqlite3"
    if damage == "outcome":
        disk = Disk(path)
        disk.accept(1)
        disk.memory._file._database.execute("UPDATE attempts SET outcome = 'nonsense'")
        disk.memory.stop()
    else:
        path.write_text(damage)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt) as refused:
        Turns().memory(path)
    assert str(path) in refused.value.sentence
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_opened_is_no_damage(tmp_path: Path) -> None:
    """A directory in its place can be put right by a person."""
    path = tmp_path / "attempts.sqlite3"
    path.mkdir()
    with pytest.raises(StoreUnavailable) as refused:
        Turns().memory(path)
    assert str(path) in refused.value.sentence


def test_an_acknowledgement_of_something_unknown_is_nothing(disk: Disk) -> None:
    """The gateway may acknowledge twice."""
    disk.acknowledge(7)
    disk.accept(1)
    report = disk.finish(1)
    disk.acknowledge(1)
    disk.acknowledge(1)
    assert attrs.asdict(report)["attempt_id"] == attempt(1)
    assert disk.memory.unacknowledged() == []
