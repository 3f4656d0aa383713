"""Promises of the prepared statements that jobs are written with."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql

from palyra.core.identifiers import DeviceId
from palyra.store.joblog import JobBatch, JobWrite
from tests.store.samples import a_job, dispatch, ulid


class NamedParameters:
    """A connection and its cursor, of a driver that takes parameters by name."""

    def __init__(self) -> None:
        self.connection = self
        self.asked: list[Any] = []
        self.written: list[tuple[str, Any]] = []
        self.rowcount = 1

    def cursor(self) -> NamedParameters:
        return self

    def close(self) -> None:
        pass

    def execute(self, text: str, values: Any) -> None:
        self.asked.append(values)

    def fetchone(self) -> tuple[str, int]:
        return "G", 1

    def executemany(self, text: str, values: Any) -> None:
        self.written.append((text.split()[2], values))


def test_the_statements_are_compiled_for_the_dialect() -> None:
    """A driver with named parameters gets names, in the dialect's own text."""
    connection = NamedParameters()
    job = dispatch(a_job("j", DeviceId(ulid("d"))))
    items = [JobWrite.of(job, new=True)]
    batch = JobBatch(postgresql.dialect())  # type: ignore[no-untyped-call]
    assert batch(cast(Connection, connection), items) == [None]
    (into_jobs, [row]), (into_attempts, [attempt]) = connection.written
    assert (into_jobs, into_attempts) == ("jobs", "attempts")
    assert (row["job_id"], row["state"]) == (job.call.job_id, "dispatched")
    assert attempt["session_epoch"] == 1
    assert connection.asked == [{"key": job.call.device_id, "paired": "paired"}]
