"""Promises of the schema's history."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, NullPool, create_engine

from palyra.store import migrations
from palyra.store.tables import metadata


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
    assert found[0] == found[1] == {"jobs_unfinished", "attempts", "job_notes"}


def test_head_is_the_newest_revision(tmp_path: Path) -> None:
    """The constant that saves a start from loading Alembic is up to date."""
    with engine(tmp_path / "a").begin() as connection:
        script = ScriptDirectory.from_config(migrations.configuration(connection))
        assert script.get_current_head() == migrations.HEAD
