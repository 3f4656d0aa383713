"""What the tests of the store share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, NullPool, create_engine

from palyra.store import migrations
from tests.store import postgresql


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Server]:
    """A PostgreSQL server with a template database that has the schema."""
    bin_ = postgresql.programs()
    if bin_ is None:
        pytest.skip(postgresql.INSTALL)
    with postgresql.running(bin_) as server:
        server.run(f"CREATE DATABASE {postgresql.TEMPLATE} TEMPLATE template0")
        with engine(server.url(postgresql.TEMPLATE)).begin() as connection:
            migrations.upgrade(connection, postgresql.TEMPLATE)
        yield server


def engine(url: str) -> Engine:
    """An engine whose connections end when they are closed."""
    return create_engine(url, poolclass=NullPool)
