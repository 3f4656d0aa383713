"""Promises of the statements that groups of jobs are written with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg

from palyra.core.identifiers import DeviceId
from palyra.core.interfaces import IdempotencyKey
from palyra.core.jobs import Job
from palyra.store.jobbatch import JobBatch, JobWrite
from tests.store.samples import a_job, dispatch, succeed, ulid

SQLITE: Dialect = sqlite.dialect()
PSYCOPG: Dialect = psycopg.dialect()  # type: ignore[no-untyped-call]


class Recorder:
    """A connection and its cursor that answers look-ups in turn and finds all rows to change."""

    def __init__(self, *answers: Any) -> None:
        self.connection = self
        self.info: dict[str, Any] = {}
        self.answers = list(answers)
        self.texts: list[str] = []
        self.values: list[Any] = []
        self.rowcount = 0

    def cursor(self) -> Recorder:
        return self

    def close(self) -> None:
        pass

    def execute(self, text: str, values: Any) -> None:
        self.texts.append(text)
        self.values.append(values)
        self.rowcount = text.count("), (") + 1

    def executemany(self, text: str, rows: Sequence[Any]) -> None:
        self.execute(text, rows)
        self.rowcount = len(rows)

    def fetchone(self) -> Any:
        return self.answers.pop(0)

    def fetchall(self) -> list[tuple[str | None]]:
        return [(self.answers.pop(0),)]

    @property
    def verbs(self) -> list[str]:
        """How each statement begins."""
        return [" ".join(text.split()[:3]) for text in self.texts]

    def write(self, dialect: Dialect, *items: JobWrite) -> list[Any]:
        self.dialect = dialect
        return list(JobBatch(dialect)(cast(Connection, self), items))


def jobs(count: int) -> list[Job]:
    return [dispatch(a_job(f"j{number}", DeviceId(ulid("d")))) for number in range(count)]


def test_the_statements_are_compiled_for_the_dialect() -> None:
    """A driver with named parameters gets names, in the dialect's own text, row by row."""
    many = jobs(2)
    made = Recorder(f"{many[0].call.device_id} 1 G")
    assert made.write(PSYCOPG, *(JobWrite.of(job, new=True) for job in many)) == [None] * 2
    assert made.verbs[1:] == ["INSERT INTO jobs", "INSERT INTO attempts"]
    assert "string_agg" in made.texts[0]
    asked, rows, attempts = made.values
    assert asked == {"device_id_0": many[0].call.device_id}
    assert [row["job_id_0"] for row in rows] == [job.call.job_id for job in many]
    assert [row["session_epoch_0"] for row in attempts] == [1, 1]


def test_a_group_takes_few_statements() -> None:
    """300 new jobs are 256 + 32 + 8 + 4 in one statement each, and their attempts too."""
    many = jobs(300)
    made = Recorder(f"{many[0].call.device_id} 1 G")
    made.write(SQLITE, *(JobWrite.of(job, new=True) for job in many))
    assert made.verbs[1:] == ["INSERT INTO jobs"] * 4 + ["INSERT INTO attempts"] * 4
    sizes = [text.count("), (") + 1 for text in made.texts[1:]]
    assert sizes == [256, 32, 8, 4] * 2
    columns = len(made.values[1]) // 256
    written = [job_id for values in made.values[1:5] for job_id in values[::columns]]
    assert written == [job.call.job_id for job in many]


def test_changes_of_a_group_take_few_statements() -> None:
    """The attempts of 259 jobs are looked up in two answers, the second one padded, and so are
    those that have ended: the one that has is neither changed nor an event again."""
    many = [succeed(job) for job in jobs(259)]
    attempts = [job.attempt.attempt_id for job in many if job.attempt]
    kept = ",".join(attempts[:256]), ",".join(attempts[256:])
    over = many[258].call.job_id
    made = Recorder(*kept, None, over, f"{many[0].call.device_id} 7")
    made.write(SQLITE, *(JobWrite.of(job, new=False) for job in many))
    assert [len(values) for values in made.values[:4]] == [256, 4, 256, 4]
    assert made.verbs[4:6] == ["UPDATE jobs SET"] * 2
    assert ["VALUES" in text for text in made.texts[4:6]] == [True, True]
    assert made.verbs[7:9] == ["INSERT INTO journal"] * 2
    numbers = [seq for values in made.values[7:9] for seq in values[1::5]]
    assert numbers == [*range(8, 8 + 258)]
    assert made.verbs[9:] == []


@pytest.mark.parametrize("dialect", [SQLITE, PSYCOPG])
def test_a_job_that_comes_alone_has_its_own_statements(dialect: Dialect) -> None:
    """No list of keys, no answer to take apart, and only what is new is written."""
    (job,) = jobs(1)
    key = IdempotencyKey("ana invoke", "k", "0" * 64)
    made = Recorder(("G", 1))
    assert made.write(dialect, JobWrite.of(job, new=True, key=key)) == [None]
    assert made.verbs[1:] == [
        "INSERT INTO jobs",
        "INSERT INTO attempts",
        "INSERT INTO idempotency_keys",
    ]
    made = Recorder((job.call.job_id,), f"{job.call.device_id} 0")
    assert made.write(dialect, JobWrite.of(succeed(job), new=False)) == [None]
    asked, changed, _, event = made.verbs
    assert (asked, changed) == ("SELECT attempts.job_id FROM", "UPDATE jobs SET")
    assert event == "INSERT INTO journal"
    assert not any(" IN " in text or "VALUES" in text for text in made.texts[:2])


def test_an_attempt_that_is_not_kept_yet_is_checked() -> None:
    """An update that dispatches asks who owns the device; nobody: it is refused."""
    (job,) = jobs(1)
    made = Recorder(None, None)
    (refusal,) = made.write(SQLITE, JobWrite.of(job, new=False))
    assert refusal.code == "not_registered"
    assert [verb.split()[0] for verb in made.verbs] == ["SELECT", "SELECT"]
