"""The schema's history, run by the store when it opens; no alembic.ini is needed.

A new revision is written with ``alembic.command.revision`` on :func:`configuration`; HEAD then
names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select
from sqlalchemy.sql import column, table

from palyra.errors import StoreTooNew

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0006"
"""The newest revision, so that a start on a current schema need not load Alembic."""


def upgrade(connection: Connection, file: str) -> None:
    """Bring the schema to HEAD in the connection's transaction; StoreTooNew if it is beyond."""
    revision = revision_of(connection)
    if revision == HEAD:
        return
    from alembic import command
    from alembic.script import ScriptDirectory

    config = configuration(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise StoreTooNew(file, revision)
    command.upgrade(config, HEAD)


def revision_of(connection: Connection) -> str | None:
    """The revision of the schema; None where there is none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(select(column("version_num")).select_from(table("alembic_version")))


def configuration(connection: Connection) -> Config:
    """Alembic's configuration for this package and that connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "palyra.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
