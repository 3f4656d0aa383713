"""Promises of the store on SQLite."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import pytest
from sqlalchemy import Connection, bindparam, select
from twisted.internet.defer import Deferred

from palyra.core.approval import ApprovalState
from palyra.core.identifiers import DeviceId, FanoutId, JobId
from palyra.core.interfaces import JobQuery
from palyra.core.jobs import UNFINISHED, JobState
from palyra.errors import DiskFull, Draining, StoreUnavailable
from palyra.store import joblog, retention, writer
from palyra.store.snapshot import import_snapshot
from palyra.store.sqlite import SqliteStore
from palyra.store.statements import Binds, updating
from palyra.store.tables import approvals, jobs, metadata, pairing_requests
from tests.contract.store import StoreContract
from tests.store.reactorless import Calls
from tests.store.samples import NOW_MS, a_certificate, a_job, approved, dispatch, succeed, ulid

T = TypeVar("T")


class TestSqliteStore(StoreContract):
    """The contract, on a file."""

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> Iterator[None]:
        self.calls = Calls()
        self.path = tmp_path / "palyra.sqlite3"
        self.store: SqliteStore = self.calls.open(self.path)
        yield
        self.calls.wait(self.store.close())

    def wait(self, result: Awaitable[T]) -> T:
        return self.calls.wait(result)

    def now_is(self, now_ms: int) -> None:
        self.calls.now_ms = now_ms

    def occupied(self) -> tuple[Deferred[bool], threading.Event]:
        """An operation that occupies the writer until the event is set."""
        begun, busy = threading.Event(), threading.Event()

        def work(connection: Connection) -> bool:
            begun.set()
            return busy.wait(30)

        first = self.store._writer.submit(work)
        assert begun.wait(30)
        return first, busy

    def pragma(self, text: str) -> int:
        """Run a PRAGMA on the writer's connection."""

        def run(connection: Connection) -> int:
            result = connection.exec_driver_sql(f"PRAGMA {text}")
            return int(result.scalar_one()) if result.returns_rows else 0

        return self.wait(self.store._writer.submit(run))

    def test_everything_is_there_again(self) -> None:
        """A store that was closed and opened again has what it had, and the same identity."""
        device = self.registered()
        job = dispatch(a_job("j", device.device_id))
        self.wait(self.store.accept(job))
        self.wait(self.store.close())
        again = self.calls.open(self.path)
        assert (again.gateway_id, again.store_epoch) == (
            self.store.gateway_id,
            self.store.store_epoch,
        )
        self.store = again
        assert self.wait(again.devices()) == [device]
        assert self.wait(again.unfinished()) == [job]

    def test_what_was_answered_survives_a_kill(self, tmp_path: Path) -> None:
        """The files as they are after a commit, without a close, hold that commit."""
        job = a_job("j", DeviceId(ulid("d")))
        self.wait(self.store.accept(job))
        copy = tmp_path / "killed"
        copy.mkdir()
        for name in ("palyra.sqlite3", "palyra.sqlite3-wal", "store_epoch"):
            shutil.copy(tmp_path / name, copy / name)
        killed = self.calls.open(copy / "palyra.sqlite3")
        assert self.wait(killed.unfinished()) == [job]
        self.wait(killed.close())

    def test_a_group_is_one_commit_and_one_call(self) -> None:
        """What gathers while the writer is busy is answered by one call into the reactor."""
        first, busy = self.occupied()
        accepted = [self.store.accept(a_job(f"j{n}", DeviceId(ulid("d")))) for n in range(50)]
        busy.set()
        assert self.wait(first)
        made = self.calls.made
        for each in accepted:
            if not each.called:
                self.wait(each)
        assert self.calls.made == made + 1

    def test_an_operation_that_breaks_harms_no_neighbour(self) -> None:
        """A programming error is its own; the operations beside it are committed."""
        first, busy = self.occupied()
        good = self.store.accept(a_job("a", DeviceId(ulid("d"))))
        bad = self.store._writer.submit(lambda connection: 1 // 0)
        worse = self.store._writer.submit(
            lambda connection: connection.exec_driver_sql("SELECT ?", ([],))
        )
        last = self.store.accept(a_job("b", DeviceId(ulid("d"))))
        busy.set()
        self.wait(first)
        self.wait(good)
        with pytest.raises(ZeroDivisionError):
            self.wait(bad)
        with pytest.raises(Exception, match="binding"):
            self.wait(worse)
        self.wait(last)
        assert len(self.wait(self.store.unfinished())) == 2

    def test_a_full_disk_fails_the_group_and_not_the_store(self) -> None:
        """Nothing is accepted while there is no room; afterwards everything works again."""
        pages = self.pragma("page_count")
        self.pragma(f"max_page_count={pages + 1}")
        big = a_job("big", DeviceId(ulid("d")), input_json=bytes(200_000))
        with pytest.raises(DiskFull):
            self.wait(self.store.accept(big))
        with pytest.raises(DiskFull):
            self.wait(self.store._writer.submit(_fill))
        assert self.wait(self.store.unfinished()) == []
        self.pragma("max_page_count=1000000")
        self.wait(self.store.accept(big))
        assert self.wait(self.store.unfinished()) == [big]

    def test_a_store_that_became_read_only_says_so(self) -> None:
        """A write that the database refuses is a typed error; reading goes on."""
        self.pragma("query_only=1")
        with pytest.raises(StoreUnavailable, match="readonly"):
            self.wait(self.store.accept(a_job("j", DeviceId(ulid("d")))))
        assert self.wait(self.store.unfinished()) == []

    def test_a_read_that_breaks_is_answered(self) -> None:
        """The reader lives on after an error."""
        with pytest.raises(ZeroDivisionError):
            self.wait(self.store._reader.submit(lambda connection: 1 // 0))
        assert self.wait(self.store.devices()) == []

    def test_an_idle_writer_empties_its_log(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After enough writes, or an idle second, the WAL is moved into the database."""
        monkeypatch.setattr(writer, "IDLE_S", 0.01)
        seen = threading.Event()
        writing = self.store._writer
        writing._checkpoint = lambda mode: seen.set()  # type: ignore[method-assign]
        self.wait(self.store.accept(a_job("j", DeviceId(ulid("d")))))
        assert seen.wait(30)

    def test_a_checkpoint_that_fails_is_logged_only(self) -> None:
        """The WAL then holds what it held; the writer goes on."""
        self.store._writer._checkpoint("NO SUCH MODE)")
        self.wait(self.store.accept(a_job("j", DeviceId(ulid("d")))))

    def test_after_close_nothing_is_taken(self) -> None:
        """Close does what was submitted; later calls are refused; closing again is harmless."""
        accepted = self.store.accept(a_job("j", DeviceId(ulid("d"))))
        self.wait(self.store.close())
        self.wait(accepted)
        with pytest.raises(Draining):
            self.wait(self.store.unfinished())
        self.wait(self.store.close())
        assert not [each for each in threading.enumerate() if each.name.startswith("palyra-")]
        assert not self.path.with_name("palyra.sqlite3-wal").exists()

    def test_an_approval_follows_its_request(self) -> None:
        """Approved with the request, consumed at pick-up, with who decided and why."""
        request = self.opened()

        def kept(connection: Connection) -> tuple[str, str, str]:
            columns = approvals.c
            row = connection.execute(select(columns.state, columns.decided_by, columns.reason))
            state, by, reason = row.one()
            return state, by, reason

        assert self.wait(self.store._reader.submit(kept))[0] == ApprovalState.PENDING.value
        self.approve(request)
        state, by, reason = self.wait(self.store._reader.submit(kept))
        assert (state, by, reason) == (ApprovalState.APPROVED.value, "operator:ana", "mine")
        self.wait(self.store.add_certificate(approved(request), a_certificate(request)))
        assert self.wait(self.store._reader.submit(kept))[0] == ApprovalState.CONSUMED.value

    def test_no_table_has_a_session_or_a_token(self) -> None:
        """Both are kept as digests only."""
        columns = {column.name for table in metadata.sorted_tables for column in table.columns}
        assert not columns & {"session_id", "token", "pin", "session"}
        assert "session_digest" in pairing_requests.columns

    def test_hot_queries_use_their_indexes(self) -> None:
        """No hot query walks through the history."""
        plans = {
            "SELECT 1 FROM jobs WHERE finished_at_ms IS NULL": "jobs_unfinished",
            "SELECT 1 FROM jobs WHERE device_id = ? ORDER BY job_id DESC": "jobs_by_device",
            "SELECT 1 FROM jobs WHERE fanout_id = ? ORDER BY job_id DESC": "jobs_by_fanout",
            "SELECT 1 FROM jobs WHERE job_id = ?": "sqlite_autoindex_jobs_1",
            "SELECT 1 FROM attempts WHERE attempt_id = ?": "PRIMARY KEY",
            "SELECT 1 FROM attempts WHERE job_id = ?": "attempts_by_job",
            "SELECT 1 FROM pairing_requests WHERE session_digest = ?": "_by_session",
            "SELECT 1 FROM pairing_codes WHERE digest = ?": "pairing_codes_by_digest",
        }
        for text, index in plans.items():
            (found,) = self.plans(partial(_run, text=text))
            assert index in found, found

    def plans(self, read: Callable[[Connection], object]) -> list[str]:
        """How SQLite answers the statements of a read, one by one."""

        def planned(connection: Connection) -> list[str]:
            raw = connection.connection.driver_connection
            assert raw is not None
            run: list[str] = []
            raw.set_trace_callback(run.append)
            read(connection)
            raw.set_trace_callback(None)
            return [
                " | ".join(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {text}"))
                for text in run
            ]

        return self.wait(self.store._reader.submit(planned))

    def test_lists_of_jobs_use_their_indexes(self) -> None:
        """Each filter, the search for an id, and retention: none scans or sorts the history."""
        device, fanout = DeviceId(ulid("d")), FanoutId(ulid("f"))
        queries = (
            JobQuery(),
            JobQuery(capability="echo"),
            JobQuery(states=frozenset({JobState.FAILED}), requested_by="ana"),
            JobQuery(states=UNFINISHED),
            JobQuery(states=frozenset({JobState.QUEUED})),
            JobQuery(device_id=device, before=JobId(ulid("j"))),
            JobQuery(device_id=device, capability="echo"),
            JobQuery(fanout_id=fanout, states=frozenset({JobState.FAILED})),
        )
        reads: list[Callable[[Connection], object]] = [
            joblog.unfinished,
            joblog.list_unfinished,
            partial(joblog.find_jobs, prefix="ABCD"),
            partial(retention.forgettable, before_ms=9, keep=1, limit=1, now_ms=NOW_MS),
            *(partial(joblog.list_jobs, query=query) for query in queries),
        ]
        for read in reads:
            for plan in self.plans(read):
                steps = [step for step in plan.split(" | ") if step.startswith("SCAN jobs")]
                assert all("INDEX" in step for step in steps), (read, plan)
                sorts = "TEMP B-TREE FOR ORDER BY" in plan
                bounded = "jobs_unfinished" in plan or "SCAN anon_1" in plan
                assert not sorts or bounded, (read, plan)

    def test_an_update_finds_its_rows_by_their_key(self) -> None:
        """A group of changes does not walk through the table."""
        statement = updating(jobs, [jobs.c.state], jobs.c.finished_at_ms.is_(None))
        binds: list[Binds] = [
            [bindparam(f"state_{n}", "x"), bindparam(f"key_{n}", "x")] for n in range(8)
        ]
        (plan,) = self.plans(lambda connection: connection.execute(statement(binds)))
        assert "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1" in plan, plan

    def test_a_rare_value_is_searched_among_the_newest(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is older than those looked through is not found; without a filter it is listed."""
        monkeypatch.setattr(joblog, "LOOKED_THROUGH", 3)
        every = [a_job(f"j{n}", DeviceId(ulid("d")), NOW_MS + n) for n in range(5)]
        for each in every:
            self.wait(self.store.accept(each))
        assert self.listed(JobQuery()) == every[::-1]
        echo = JobQuery(capability="echo")
        assert self.listed(echo) == every[:1:-1]
        before = attrs.evolve(echo, before=every[2].call.job_id)
        assert self.listed(before) == every[1::-1]
        oldest, newest = (each.call.job_id[10:16] for each in (every[0], every[-1]))
        assert self.wait(self.store.find_jobs(oldest)) == []
        assert self.wait(self.store.find_jobs(newest)) == [every[-1].call.job_id]

    def test_it_writes_a_snapshot(self) -> None:
        """The picture has devices, live certificates, revocations and jobs, and can be imported."""
        device, lost = self.registered(), self.registered("lab-8", "c2")
        revocation = self.wait(self.store.revoke(lost.device_id, "ana", "lost", NOW_MS))
        self.wait(self.store.accept(a_job("q", device.device_id)))
        self.wait(self.store.accept(succeed(dispatch(a_job("d", device.device_id)))))
        path = self.path.with_name("node-runtime.v1.json")
        self.wait(self.store.write_snapshot(path))
        state = import_snapshot(path.read_bytes(), now_ms=NOW_MS)
        assert list(state.devices) == self.wait(self.store.devices())
        assert state.revocations == (revocation,)
        assert [each.device_id for each in state.certificates] == [device.device_id]
        assert len(state.jobs) == 2
        assert state.gateway_id == self.store.gateway_id


def _fill(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE filler (x)")
    connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1000000))")


def _run(connection: Connection, text: str) -> None:
    connection.exec_driver_sql(text, ("x",) * text.count("?")).all()
