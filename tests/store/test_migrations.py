"""Promises of the schema's history."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, NullPool, create_engine, insert, inspect
from sqlalchemy.sql import column, table

from palyra.core.identifiers import DeviceId
from palyra.store import joblog, migrations, opening, tables
from palyra.store.jobrows import (
    ATTEMPT_COLUMNS,
    CALL_COLUMNS,
    STATE_COLUMNS,
    attempt_values,
    call_values,
    state_values,
)
from palyra.store.tables import metadata
from tests.store import schema2
from tests.store.samples import a_job, dispatch, succeed, ulid

NEW = {
    "retry_at_ms",
    "cancel_requested_by",
    "cancel_reason",
    "operator_id",
    "approval_id",
    "mediation",
}
"""Columns of jobs that the first schema did not have."""


def engine(path: Path) -> Engine:
    return create_engine(f"sqlite:///{path}", poolclass=NullPool)  # closes with the connection


def test_the_migrations_make_what_the_tables_say(tmp_path: Path) -> None:
    """The schema after all revisions has no difference to tables.py."""
    with engine(tmp_path / "a").begin() as connection:
        migrations.upgrade(connection, "a")
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert migrations.revision_of(connection) == migrations.HEAD
        migrations.upgrade(connection, "a")


def test_indexes_and_tables_are_made_as_the_tables_make_them(tmp_path: Path) -> None:
    """Also what a comparison does not see: partial indexes, tables without row ids."""
    statement = "SELECT name, sql FROM sqlite_master WHERE sql LIKE '%WHERE%' OR sql LIKE '%ROWID%'"
    found = []
    for name in ("migrated", "made"):
        with engine(tmp_path / name).begin() as connection:
            if name == "migrated":
                migrations.upgrade(connection, name)
            else:
                metadata.create_all(connection)
            found.append({row[0] for row in connection.exec_driver_sql(statement)})
    partial = {"jobs_unfinished", "jobs_by_fanout", "audit_of_devices"}
    without_rowid = {"attempts", "job_notes"}
    without_rowid |= {"idempotency_keys", "journal", "audit", "audit_heads", "call_targets"}
    assert found[0] == found[1] == partial | without_rowid


def test_an_upgrade_keeps_every_job(tmp_path: Path) -> None:
    """A database of the first schema is what a new one is, and has what it had."""
    with engine(tmp_path / "old").begin() as connection:
        command.upgrade(migrations.configuration(connection), "0001")
        connection.exec_driver_sql("PRAGMA foreign_keys=1")
        names = [column.name for column in tables.jobs.columns if column.name not in NEW]
        old = table("jobs", *map(column, names))
        job = succeed(dispatch(a_job("j", DeviceId(ulid("d")))))
        values = dict(zip(CALL_COLUMNS, call_values(job.call), strict=True))
        values |= zip(STATE_COLUMNS, state_values(job), strict=True)
        connection.execute(insert(old).values({name: values[name] for name in names}))
        assert job.attempt is not None
        attempt = attempt_values(job.call.job_id, job.attempt)
        row = dict(zip(ATTEMPT_COLUMNS, attempt, strict=True))
        connection.execute(insert(tables.attempts).values(row))
        migrations.upgrade(connection, "old")
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        assert joblog.job(connection, job.call.job_id) == job
        nullable = {
            each["name"] for each in inspect(connection).get_columns("jobs") if each["nullable"]
        }
        assert "input_json" in nullable and "requested_by" not in nullable


def test_an_upgrade_keeps_every_device(tmp_path: Path) -> None:
    """A database of the second schema, with foreign keys enforced as the store enforces them."""
    connection = opening.connect(tmp_path / "old", "BEGIN IMMEDIATE")
    with connection.begin():
        schema2.fill(connection)
    with connection.begin():
        schema2.check(connection)
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        found = {each["name"] for each in inspect(connection).get_indexes("pairing_requests")}
    connection.close()
    assert found == {
        f"pairing_requests_by_{each}" for each in ("session", "state", "device", "code")
    }


def test_an_upgrade_that_is_cut_leaves_the_old_schema(tmp_path: Path) -> None:
    """It is one transaction: nothing is half-way."""
    connection = opening.connect(tmp_path / "old", "BEGIN IMMEDIATE")
    with connection.begin():
        schema2.fill(connection)
    with connection.begin() as transaction:
        migrations.upgrade(connection, "old")
        transaction.rollback()
    with connection.begin():
        assert migrations.revision_of(connection) == "0002"
        schema2.check(connection)
    connection.close()


def test_head_is_the_newest_revision(tmp_path: Path) -> None:
    """The constant that saves a start from loading Alembic is up to date."""
    with engine(tmp_path / "a").begin() as connection:
        script = ScriptDirectory.from_config(migrations.configuration(connection))
        assert script.get_current_head() == migrations.HEAD
