"""Promises of the store on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, text
from twisted.internet.defer import Deferred

from palyra.core.identifiers import DeviceId
from palyra.core.journal import JournalEntry
from palyra.errors import (
    DiskFull,
    Malformed,
    StoreDriverMissing,
    StoreEmpty,
    StoreInUse,
    StoreTooNew,
    StoreUnavailable,
)
from palyra.store import directory, migrations, postgres, writer
from palyra.store.postgres import PostgresStore, database_name
from palyra.store.snapshot import import_snapshot
from palyra.store.tables import metadata
from tests.contract.store import StoreContract
from tests.store import schema2
from tests.store.conftest import engine
from tests.store.postgresql import TEMPLATE, Server
from tests.store.reactorless import Calls
from tests.store.samples import NOW_MS, a_code, a_device, a_job, a_request, ulid

T = TypeVar("T")
DEVICE = DeviceId(ulid("d"))


class OnPostgres:
    """A store on a database of its own, with the schema made."""

    store: PostgresStore

    @pytest.fixture(autouse=True)
    def _store(self, postgres: Server) -> Iterator[None]:
        self.server = postgres
        self.calls = Calls()
        self.database = postgres.make(TEMPLATE)
        self.store = self.open()
        yield
        self.calls.wait(self.store.close())
        postgres.drop(self.database)

    def open(self, **changes: Any) -> PostgresStore:
        return PostgresStore.open(
            self.server.url(self.database),
            call_from_thread=self.calls.from_thread,
            now_ms=lambda: self.calls.now_ms,
            **changes,
        )

    def wait(self, result: Awaitable[T]) -> T:
        return self.calls.wait(result)

    def now_is(self, now_ms: int) -> None:
        self.calls.now_ms = now_ms


class TestPostgresStore(OnPostgres, StoreContract):
    """The contract, on a server."""


class TestWhatIsItsOwn(OnPostgres):
    """What only PostgreSQL can do, or do wrong."""

    def end_sessions(self) -> None:
        """End every session of the store, as a restart of the server does."""
        self.server.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname = '{self.database}'"
        )

    def submit(self, work: Callable[[Connection], T]) -> Deferred[T]:
        return self.store._writer.submit(work)

    def occupied(self) -> tuple[Deferred[bool], threading.Event]:
        """An operation that occupies the writer until the event is set."""
        begun, busy = threading.Event(), threading.Event()

        def work(connection: Connection) -> bool:
            begun.set()
            return busy.wait(30)

        first = self.submit(work)
        assert begun.wait(30)
        return first, busy

    def test_a_restored_state_is_to_be_confirmed(self) -> None:
        """Over every start until an operator has confirmed it, and not after that."""
        note = "INSERT INTO meta (key, value) VALUES ('unconfirmed_since_ms', '7')"
        self.wait(self.store.close())
        self.server.run(note, self.database)
        self.store = self.open()
        assert self.store.unconfirmed_since_ms == 7
        self.wait(self.store.confirm())
        assert self.store.unconfirmed_since_ms is None
        self.wait(self.store.close())
        self.store = self.open()
        assert self.store.unconfirmed_since_ms is None

    def test_everything_is_there_again(self) -> None:
        """A store that was closed and opened again has what it had, and the same identity."""
        job = queued("j")
        self.wait(self.store.accept(job))
        self.wait(self.store.close())
        before, self.store = self.store, self.open(may_make=False)
        assert self.store.gateway_id == before.gateway_id
        assert self.store.store_epoch == before.store_epoch
        assert not self.store.imported
        assert self.wait(self.store.unfinished()) == [job]

    def test_a_group_is_one_commit_and_one_call(self) -> None:
        """What gathers while the writer is busy is answered by one call into the reactor."""
        first, busy = self.occupied()
        accepted = [self.store.accept(queued(f"j{n}")) for n in range(50)]
        busy.set()
        assert self.wait(first)
        made = self.calls.made
        for each in accepted:
            if not each.called:
                self.wait(each)
        assert self.calls.made == made + 1

    def test_an_operation_that_breaks_harms_no_neighbour(self) -> None:
        """A statement that the server refuses is its own; those beside it are committed."""
        first, busy = self.occupied()
        good = self.store.accept(queued("a"))
        bad = self.submit(lambda connection: connection.execute(text("SELECT nothing")))
        last = self.store.accept(queued("b"))
        busy.set()
        self.wait(first)
        self.wait(good)
        with pytest.raises(Exception, match="nothing"):
            self.wait(bad)
        self.wait(last)
        assert len(self.wait(self.store.unfinished())) == 2

    def test_a_second_gateway_is_refused(self) -> None:
        """Two gateways on one database would dispatch the same jobs; the second may not start."""
        with pytest.raises(StoreInUse, match=f"Another gateway uses .*{self.database}"):
            self.open()
        self.wait(self.store.accept(queued("j")))

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_a_restart_of_the_server_is_survived(self, mode: str) -> None:
        """A gateway goes on after its server was restarted, and nobody is refused."""
        job, later = queued("j"), queued("later")
        self.wait(self.store.accept(job))
        self.server.restart(mode)
        self.wait(self.store.accept(later))
        assert len(self.wait(self.store.unfinished())) == 2
        with pytest.raises(StoreInUse):
            self.open()

    def test_a_group_that_was_cut_off_is_written_on_a_new_connection(self) -> None:
        """What had not begun to commit is done again, and its neighbours with it."""
        tries = []

        def cut(connection: Connection) -> int:
            tries.append(1)
            if len(tries) == 1:
                self.end_sessions()
            connection.execute(text("SELECT 1"))
            return len(tries)

        _, busy = self.occupied()
        before, cut_off = self.store.accept(queued("a")), self.submit(cut)
        busy.set()
        assert self.wait(cut_off) == 2
        self.wait(before)
        assert len(self.wait(self.store.unfinished())) == 1

    def test_a_server_that_stays_away_fails_the_group(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without a connection a call is refused at once; with one everything works again."""
        self.server.run(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self.end_sessions()
        with pytest.raises(StoreUnavailable):
            self.wait(self.store.accept(queued("j")))
        with pytest.raises(StoreUnavailable):
            self.wait(self.store.unfinished())
        self.server.run(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")
        self.wait(self.store.accept(queued("j")))
        assert len(self.wait(self.store.unfinished())) == 1

    @pytest.mark.parametrize("kept", [True, False])
    def test_a_commit_in_doubt_is_looked_up(self, kept: bool) -> None:
        """A connection lost while committing: what happened is asked, and nothing done twice."""
        self.lose_the_next_commit(happened=kept)
        job = queued("j")
        self.wait(self.store.accept(job))
        assert self.wait(self.store.unfinished()) == [job]

    @pytest.mark.parametrize("kept", [True, False])
    def test_a_journal_outlives_a_lost_connection(self, kept: bool) -> None:
        """Whether or not the commit happened: no number twice, none left out, and it is told."""
        device = a_device(a_request("lab-7", a_code()))
        self.wait(self.submit(partial(directory.keep_device, kept=device)))
        entry, grown = JournalEntry(device.device_id, NOW_MS, "said"), list[DeviceId]()
        self.wait(self.store.note([entry]))
        self.store.watch({device.device_id}, grown.append)
        self.lose_the_next_commit(happened=kept)
        self.wait(self.store.note([entry]))
        self.wait(self.store.note([entry]))
        page = self.wait(self.store.journal(device.device_id, 0, 9))
        assert [each.seq for each in page.events] == [1, 2, 3]
        assert grown == [device.device_id] * 2

    def test_a_commit_that_stays_in_doubt_fails_the_group(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where nobody can tell whether it was kept, nobody is told that it was."""
        monkeypatch.setattr(writer, "DOUBT_PAUSES_S", (0.0, 0.0))
        self.server.run(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self.lose_the_next_commit(happened=True)
        with pytest.raises(StoreUnavailable):
            self.wait(self.store.accept(queued("j")))
        self.server.run(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")
        assert len(self.wait(self.store.unfinished())) == 1

    def lose_the_next_commit(self, *, happened: bool) -> None:
        """Cut the writer's connection off at its next commit: just before it, or just after."""
        left = [1]
        writing: Any = self.store._writer._database

        def cut(connection: Connection) -> None:
            if left.pop() if left else 0:
                raw: Any = connection.connection.driver_connection
                if happened:
                    raw.commit()
                self.end_sessions()
                raw.execute("SELECT 1")

        event.listen(writing.engine, "commit", cut)

    def test_a_transaction_that_is_not_over_stays_in_doubt(self) -> None:
        """The answer is given only when it is certain; one that wrote nothing is no question."""
        database: Any = self.store._writer._database

        def ask(connection: Connection) -> str:
            connection.execute(text("CREATE TABLE something (x int)"))
            mark = str(database.mark(connection))
            with pytest.raises(StoreUnavailable, match="still in progress"):
                database.committed(connection, mark)
            assert database.committed(connection, "")
            return mark

        assert self.wait(self.submit(ask))

    def test_a_gateway_that_was_replaced_writes_no_more(self) -> None:
        """Another gateway had the database while this one had no connection: what this one holds
        in memory is out of date, so it is refused for good."""
        self.server.run(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self.end_sessions()
        with pytest.raises(StoreUnavailable):
            self.wait(self.store.accept(queued("j")))
        self.server.run(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")
        other = self.open()
        for _ in range(2):
            with pytest.raises(StoreInUse):
                self.wait(self.store.accept(queued("j")))
            self.wait(other.close())
        assert self.wait(self.store.unfinished()) == []

    def test_a_full_disk_fails_the_group_and_not_the_store(self) -> None:
        """The server's word for no room is ours; afterwards everything works again."""

        def full(connection: Connection) -> None:
            raise_in_server(connection, "53100")

        with pytest.raises(DiskFull, match="No space left on the server of PostgreSQL"):
            self.wait(self.submit(full))
        self.wait(self.store.accept(queued("j")))

    @pytest.mark.parametrize("state", ["40001", "40P01", "42501", "25006", "57014", "58030"])
    def test_trouble_is_told_as_unavailable(self, state: str) -> None:
        """Deadlocks, conflicts, cancelled statements, lost rights: the caller may try again."""

        def trouble(connection: Connection) -> None:
            raise_in_server(connection, state)

        with pytest.raises(StoreUnavailable, match="made up") as refused:
            self.wait(self.submit(trouble))
        assert refused.value.retryable
        self.wait(self.store.accept(queued("j")))

    def test_a_read_sees_one_moment_and_writes_nothing(self) -> None:
        """A snapshot of several statements is of one moment; the reader cannot write."""

        def twice(connection: Connection) -> tuple[int, int]:
            count = text("SELECT count(*) FROM jobs")
            before = connection.scalar(count)
            writer.append(self.store.accept(queued("j")))
            assert committed.wait(30)
            return before or 0, connection.scalar(count) or 0

        def commit_early(connection: Connection) -> None:
            raw: Any = connection.connection.driver_connection
            raw.commit()
            committed.set()

        committed, writer = threading.Event(), list[Deferred[None]]()
        database: Any = self.store._writer._database
        event.listen(database.engine, "commit", commit_early)
        assert self.wait(self.store._reader.submit(twice)) == (0, 0)
        assert len(self.wait(self.store.unfinished())) == 1
        with pytest.raises(StoreUnavailable, match="read-only"):
            self.wait(self.store._reader.submit(lambda c: c.execute(text("DELETE FROM jobs"))))

    def test_text_that_the_server_cannot_keep_is_kept_almost(self) -> None:
        """A zero character in a device's words does not keep its job from ending."""
        job = queued("j")
        job.error = "what\0ever"
        self.wait(self.store.accept(job))
        kept = self.wait(self.store.job(job.call.job_id))
        assert kept is not None and kept.error == "what\ufffdever"

    def test_what_is_promised_is_on(self) -> None:
        """A commit is on the disk when it is answered, even where the database says otherwise."""
        self.wait(self.store.close())
        self.server.run(f"ALTER DATABASE {self.database} SET synchronous_commit = off")
        self.store = self.open()

        def shown(connection: Connection) -> str:
            return str(connection.scalar(text("SHOW synchronous_commit")))

        assert self.wait(self.submit(shown)) == "on"
        self.wait(self.store.close())
        self.server.run(f"ALTER DATABASE {self.database} SET synchronous_commit = remote_apply")
        self.store = self.open()
        assert self.wait(self.submit(shown)) == "remote_apply"

    def test_it_writes_a_snapshot(self, tmp_path: Path) -> None:
        """The readable picture is the same as with SQLite."""
        self.wait(self.store.accept(queued("q")))
        path = tmp_path / "node-runtime.v1.json"
        self.wait(self.store.write_snapshot(path))
        state = import_snapshot(path.read_bytes(), now_ms=NOW_MS)
        assert state.gateway_id == self.store.gateway_id
        assert len(state.jobs) == 1

    def test_nothing_shows_how_to_get_in(self) -> None:
        """The store and its parts print no URL."""
        for each in (self.store, self.store._writer, self.store._writer._database):
            assert "://" not in repr(each)


class TestOpening:
    """What is refused before anything is served."""

    @pytest.fixture(autouse=True)
    def _calls(self) -> None:
        self.calls = Calls()

    def open(self, url: str, **changes: Any) -> PostgresStore:
        return PostgresStore.open(
            url, call_from_thread=self.calls.from_thread, now_ms=lambda: NOW_MS, **changes
        )

    def test_an_empty_database_is_made_into_a_store(self, postgres: Server) -> None:
        """The schema is made, and it is what tables.py says."""
        database = postgres.make()
        store = self.open(postgres.url(database))
        assert self.calls.wait(store.devices()) == []
        with engine(postgres.url(database)).connect() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, metadata) == []
            assert migrations.revision_of(connection) == migrations.HEAD
        self.calls.wait(store.close())
        postgres.drop(database)

    def test_the_migrations_make_the_indexes_that_the_tables_make(self, postgres: Server) -> None:
        """Also what a comparison does not see: the conditions of partial indexes."""
        made = postgres.make()
        with engine(postgres.url(made)).begin() as connection:
            metadata.create_all(connection)
        question = (
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
            " AND tablename != 'alembic_version' ORDER BY indexname"
        )
        found = postgres.run(question, TEMPLATE)
        assert found == postgres.run(question, made)
        assert "WHERE" in str(found)
        postgres.drop(made)

    def test_an_upgrade_keeps_every_device(self, postgres: Server) -> None:
        """A database of the second schema is what a new one is, and has what it had."""
        database = postgres.make()
        with engine(postgres.url(database)).begin() as connection:
            schema2.fill(connection)
        with engine(postgres.url(database)).begin() as connection:
            schema2.check(connection)
        postgres.drop(database)

    def test_an_empty_database_is_not_taken_for_a_full_one(self, postgres: Server) -> None:
        """Where there was a store before, nothing is made, not even a table."""
        database = postgres.make()
        with pytest.raises(StoreEmpty, match="nothing was made"):
            self.open(postgres.url(database), may_make=False)
        tables = postgres.run(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database
        )
        assert tables == [(0,)]
        postgres.drop(database)

    def test_a_newer_schema_is_refused(self, postgres: Server) -> None:
        """A database of a newer version is left alone."""
        database = postgres.make(TEMPLATE)
        postgres.run("UPDATE alembic_version SET version_num = '9999'", database)
        with pytest.raises(StoreTooNew, match="9999"):
            self.open(postgres.url(database))
        postgres.drop(database)

    def test_a_reader_that_cannot_connect_ends_the_writer_too(self, postgres: Server) -> None:
        """A start that fails half-way leaves no session that would hold the lock."""
        database = postgres.make(TEMPLATE)
        postgres.run("CREATE ROLE single LOGIN CONNECTION LIMIT 1")
        postgres.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO single", database)
        with pytest.raises(StoreUnavailable, match="too many connections"):
            self.open(postgres.url(database, "single"))
        self.calls.wait(self.open(postgres.url(database)).close())
        postgres.drop(database)

    def test_a_wrong_password_is_not_repeated(self, postgres: Server) -> None:
        """The sentence says what is wrong and where, and has no secret in it."""
        postgres.run("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        with pytest.raises(StoreUnavailable) as refused:
            self.open(postgres.url(TEMPLATE, "guarded:hunter2"))
        said = refused.value.sentence
        assert f"PostgreSQL database {TEMPLATE} on {postgres.folder}" in said
        assert "password authentication failed" in said
        seen = [repr(each) + str(each) for each in chain(refused.value)]
        assert "hunter2" not in " ".join(seen)

    def test_no_server_is_said_in_a_sentence(self, tmp_path: Path) -> None:
        """A gateway whose server is down does not start."""
        with pytest.raises(StoreUnavailable, match="PostgreSQL database palyra on /"):
            self.open(f"postgresql:///palyra?host={tmp_path}")

    @pytest.mark.parametrize(
        "url",
        ["mysql://me:hunter2@db/palyra", "nonsense hunter2", "postgresql://me@db:hunter2/palyra"],
    )
    def test_a_wrong_url_is_not_repeated(self, url: str) -> None:
        """It says what a URL looks like, not what was given."""
        with pytest.raises(Malformed, match="postgresql://") as refused:
            self.open(url)
        seen = [repr(each) + str(each) for each in chain(refused.value)]
        assert "hunter2" not in " ".join(seen)

    def test_a_driver_that_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """psycopg is an extra: who has not installed it is told how."""
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(StoreDriverMissing) as refused:
            self.open("postgresql://db/palyra")
        assert "palyra[postgres]" in refused.value.hint

    @pytest.mark.parametrize(
        ("settings", "version", "problem"),
        [
            ({"server_encoding": "LATIN1"}, 150_000, "server_encoding is LATIN1"),
            ({"synchronous_commit": "off"}, 150_000, "synchronous_commit is off"),
            ({}, 120_000, "PostgreSQL 13"),
        ],
    )
    def test_too_little_is_refused(
        self, settings: dict[str, str], version: int, problem: str
    ) -> None:
        """Durability, text and what a lost commit needs are asked for at every connection."""
        with pytest.raises(StoreUnavailable, match=problem):
            postgres.settle(FakeSession(settings, version), "it", postgres.WRITING)

    def test_what_a_server_has_by_default_is_enough(self) -> None:
        """A session that promises everything is taken, and no transaction is left open in it."""
        session = FakeSession({}, 150_000)
        postgres.settle(session, "it", postgres.READING)
        assert not session.autocommit


class FakeSession:
    """A session whose settings do not change, whatever is set."""

    def __init__(self, settings: dict[str, str], version: int) -> None:
        self.settings = {"server_encoding": "UTF8", "synchronous_commit": "on", "fsync": "on"}
        self.settings |= settings
        self.server_version = version
        self.info = self
        self.adapters = self
        self.autocommit = False

    def register_dumper(self, kind: type, dumper: type) -> None:
        """Takes everything."""

    def execute(self, statement: str) -> FakeSession:
        self.asked = statement.removeprefix("SHOW ")
        return self

    def fetchone(self) -> tuple[str]:
        return (self.settings[self.asked],)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:x@db:5433/palyra?password=y", "PostgreSQL database palyra on db:5433"),
        ("postgresql+psycopg:///palyra?host=/run/pg", "PostgreSQL database palyra on /run/pg"),
        ("postgresql:///palyra?host=a&host=b", "PostgreSQL database palyra on a, b"),
        ("postgresql://", "PostgreSQL database (default) on this machine"),
    ],
)
def test_a_database_is_named_without_its_secrets(url: str, name: str) -> None:
    """Its name and its host, and nothing that helps to get in."""
    assert database_name(url) == name


def test_nobody_else_imports_the_driver() -> None:
    """A gateway on SQLite does not load psycopg, whether or not it is installed."""
    code = "import sys, palyra.gateway.service; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def queued(name: str) -> Any:
    """A queued job."""
    return a_job(name, DEVICE)


def raise_in_server(connection: Connection, state: str) -> None:
    """Let the server itself fail a statement with that code."""
    connection.exec_driver_sql(
        f"DO $$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '{state}'; END $$"
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, as a traceback shows it."""
    found: BaseException | None = error
    while found is not None:
        yield found
        hidden = found.__suppress_context__
        found = found.__cause__ or (None if hidden else found.__context__)
