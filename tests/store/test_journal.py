"""Promises of the journals on SQLite: numbers over restarts and undone groups; whom it tells."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection
from twisted.internet.defer import Deferred

from palyra.core.identifiers import DeviceId
from palyra.core.journal import JournalEntry
from palyra.errors import DiskFull
from palyra.store import journal
from palyra.store.sqlite import SqliteStore
from tests.contract.ways import Ways
from tests.store.reactorless import Calls
from tests.store.samples import NOW_MS

T = TypeVar("T")


class TestJournals(Ways):
    """On a store with one device, whose journal has three events."""

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> Iterator[None]:
        self.calls = Calls()
        self.path = tmp_path / "palyra.sqlite3"
        self.store: SqliteStore = self.calls.open(self.path)
        self.device_id = self.registered().device_id
        self.grown: list[DeviceId] = []
        yield
        self.calls.wait(self.store.close())

    def wait(self, result: Awaitable[T]) -> T:
        return self.calls.wait(result)

    def note(self, word: str = "w") -> Deferred[None]:
        return self.store.note([JournalEntry(self.device_id, NOW_MS, "said", {"word": word})])

    def seqs(self) -> list[int]:
        page = self.wait(self.store.journal(self.device_id, 0, 1_000))
        return [each.seq for each in page.events]

    def watch(self) -> None:
        self.store.watch({self.device_id}, self.grown.append)

    def fail(self, connection: Connection) -> None:
        """Write an event, then break."""
        journal.append(connection, JournalEntry(self.device_id, NOW_MS, "lost"))
        raise ZeroDivisionError

    def occupied(self) -> threading.Event:
        """The writer waits in a transaction until the event is set."""
        begun, busy = threading.Event(), threading.Event()

        def work(connection: Connection) -> None:
            begun.set()
            busy.wait(30)

        self.store._writer.submit(work)
        assert begun.wait(30)
        return busy

    def test_numbers_go_on_after_a_restart(self) -> None:
        """The first event after it has the next number."""
        self.wait(self.note())
        self.wait(self.store.close())
        self.store = self.calls.open(self.path)
        self.wait(self.note())
        assert self.seqs() == [1, 2, 3, 4, 5]

    def test_an_operation_that_breaks_takes_no_number(self) -> None:
        """Alone or in a group: what it had written is gone, and its neighbours have no hole."""
        with pytest.raises(ZeroDivisionError):
            self.wait(self.store._writer.submit(self.fail))
        self.wait(self.note())
        busy = self.occupied()
        before, broken, after = self.note(), self.store._writer.submit(self.fail), self.note()
        busy.set()
        self.wait(before)
        with pytest.raises(ZeroDivisionError):
            self.wait(broken)
        self.wait(after)
        assert self.seqs() == [1, 2, 3, 4, 5, 6]

    def test_a_group_that_is_undone_takes_no_number(self) -> None:
        """After a full disk the next event has the number that was not used; nobody was told."""
        self.watch()
        self.pragma("max_page_count=1")
        with pytest.raises(DiskFull):
            self.wait(self.note("x" * 200_000))
        assert self.grown == []
        self.pragma("max_page_count=1000000")
        self.wait(self.note())
        assert self.seqs() == [1, 2, 3, 4]
        assert self.grown == [self.device_id]

    def pragma(self, text: str) -> None:
        run = partial(_run, text=f"PRAGMA {text}")
        self.wait(self.store._writer.submit(run))

    def test_it_tells_after_the_commit(self) -> None:
        """While the group is written nobody is told; whoever is told reads the event."""
        read: list[Deferred[list[int]]] = []

        def look(device_id: DeviceId) -> None:
            page = self.store.journal(device_id, 3, 10)
            read.append(page.addCallback(lambda it: [each.seq for each in it.events]))

        self.store.watch({self.device_id}, look)
        written, busy = threading.Event(), threading.Event()

        def work(connection: Connection) -> None:
            journal.append(connection, JournalEntry(self.device_id, NOW_MS, "said"))
            written.set()
            busy.wait(30)

        done = self.store._writer.submit(work)
        assert written.wait(30)
        assert self.seqs() == [1, 2, 3]
        assert not read
        busy.set()
        self.wait(done)
        assert self.wait(read[0]) == [4]

    def test_what_breaks_is_told_to_nobody(self) -> None:
        """An event that was written and undone wakes no follower."""
        self.watch()
        with pytest.raises(ZeroDivisionError):
            self.wait(self.store._writer.submit(self.fail))
        self.wait(self.store.heard({self.device_id: NOW_MS + 1}))
        assert self.grown == []

    def test_a_neighbour_that_breaks_keeps_nobody_from_being_told(self) -> None:
        """What was written before it in the same group is committed, and told."""
        self.watch()
        busy = self.occupied()
        kept, broken = self.note(), self.store._writer.submit(self.fail)
        busy.set()
        self.wait(kept)
        with pytest.raises(ZeroDivisionError):
            self.wait(broken)
        self.wait(self.store.journal(self.device_id, 0, 1))
        assert self.grown == [self.device_id]

    def test_reading_and_pruning_look_at_one_device(self) -> None:
        """Every statement finds its rows by the primary key: cost does not grow with history."""

        def planned(connection: Connection) -> list[str]:
            raw = connection.connection.driver_connection
            assert raw is not None
            run: list[str] = []
            raw.set_trace_callback(run.append)
            journal.page(connection, self.device_id, 1, 10)
            many = [JournalEntry(self.device_id, NOW_MS, "said")] * 1_300
            journal.append(connection, *many)
            journal.forget(connection, self.device_id)
            raw.set_trace_callback(None)
            return [
                row[3]
                for text in run
                for row in raw.execute(f"EXPLAIN QUERY PLAN {text}")
                if "journal" in row[3]
            ]

        steps = self.wait(self.store._writer.submit(planned))
        assert len(steps) >= 6
        assert all(each.startswith("SEARCH journal USING PRIMARY KEY") for each in steps), steps


def _run(connection: Connection, text: str) -> None:
    connection.exec_driver_sql(text)
