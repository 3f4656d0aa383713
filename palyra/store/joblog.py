"""Jobs and attempts in SQL (:class:`palyra.core.interfaces.IJobLog`).

Accepting and updating jobs is the hot path: :class:`JobBatch` writes a whole group with one
statement each, in text that SQLAlchemy compiled once for the dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from sqlalchemy import (
    BindParameter,
    Connection,
    Dialect,
    Select,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.sql.dml import Insert, Update

from palyra.core.devices import DeviceState
from palyra.core.identifiers import DeviceId, JobId
from palyra.core.interfaces import JobQuery
from palyra.core.jobs import UNFINISHED, Job, Report
from palyra.errors import NotFound, NotRegistered, PalyraError
from palyra.store.jobrows import (
    ATTEMPT_COLUMNS,
    CALL_COLUMNS,
    MAX_NOTES,
    STATE_COLUMNS,
    attempt_values,
    call_values,
    job_of,
    note_of,
    note_row,
    state_values,
)
from palyra.store.tables import attempts, devices, job_notes, jobs

FOUND_AT_MOST = 10
_PAIRED = DeviceState.PAIRED.value
_CHUNK = 500
"""Ids in one IN list; SQLite and PostgreSQL both take more."""

_with_attempt = select(*jobs.columns, *attempts.columns).select_from(
    jobs.outerjoin(attempts, attempts.c.attempt_id == jobs.c.attempt_id)
)


@attrs.frozen(eq=False)
class JobWrite:
    """A job as it was when it was handed in: rows, nothing shared with the caller."""

    new: bool
    job_id: JobId
    device_id: DeviceId
    row: tuple[Any, ...]
    attempt_id: str | None
    attempt: tuple[Any, ...]
    notes: tuple[Report, ...]

    @classmethod
    def of(cls, job: Job, new: bool) -> JobWrite:
        """Read a job: all of it where it is new, else what can change."""
        call, attempt = job.call, job.attempt
        job_id = call.job_id
        state = state_values(job)
        return cls(
            new,
            job_id,
            call.device_id,
            call_values(call) + state if new else (*state, job_id),
            None if attempt is None else attempt.attempt_id,
            () if attempt is None else attempt_values(job_id, attempt),
            tuple(job.notes[:MAX_NOTES]) if job.notes else (),
        )

    @property
    def session(self) -> tuple[str, int]:
        """Gateway and session epoch that dispatched the attempt."""
        return self.attempt[3], self.attempt[4]


class _Prepared:
    """A statement compiled once, run for many rows given in the order of ``names``."""

    def __init__(
        self,
        statement: Insert | Update | Select[Any],
        names: Sequence[str],
        dialect: Dialect,
        keys: Sequence[str] | None = None,
    ) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=keys)
        self._text = str(compiled)
        self._names = names
        self._positional = compiled.positional
        if self._positional:
            assert compiled.positiontup == list(names), "rows must be built in the table's order"

    def run(self, cursor: DBAPICursor, rows: list[tuple[Any, ...]]) -> int:
        """Run it for every row; how many rows of the table it touched."""
        if not rows:
            return 0
        values: Any = rows
        if not self._positional:
            values = [dict(zip(self._names, row, strict=True)) for row in rows]
        cursor.executemany(self._text, values)
        return cursor.rowcount

    def look_up(self, cursor: DBAPICursor, row: tuple[Any, ...]) -> Any:
        """The first row it finds, or None."""
        values: Any = row if self._positional else dict(zip(self._names, row, strict=True))
        cursor.execute(self._text, values)
        return cursor.fetchone()


class JobBatch:
    """Writes a group of new and changed jobs (:class:`palyra.store.threads.IBatch`)."""

    def __init__(self, dialect: Dialect) -> None:
        names = CALL_COLUMNS + STATE_COLUMNS
        self._insert = _Prepared(insert(jobs), names, dialect, names)
        self._attempt = _Prepared(insert(attempts), ATTEMPT_COLUMNS, dialect, ATTEMPT_COLUMNS)
        key: BindParameter[str] = bindparam("key")
        change = update(jobs).where(jobs.c.job_id == key, jobs.c.finished_at_ms.is_(None))
        self._update = _Prepared(change, (*STATE_COLUMNS, "key"), dialect, STATE_COLUMNS)
        known = select(attempts.c.attempt_id).where(attempts.c.attempt_id == key)
        self._known = _Prepared(known, ("key",), dialect)
        owner = select(devices.c.gateway_id, devices.c.session_epoch).where(
            devices.c.device_id == key, devices.c.state == bindparam("paired")
        )
        self._owner = _Prepared(owner, ("key", "paired"), dialect)

    def __call__(
        self, connection: Connection, items: Sequence[JobWrite]
    ) -> list[PalyraError | None]:
        """Insert, then update; a final state that is kept already stays.

        On the driver's cursor: SQLAlchemy's way costs more than the statements.
        """
        cursor = connection.connection.cursor()
        fresh, stale = self._dispatches(cursor, items)
        kept = [item for item in items if item.attempt_id not in stale]
        changes = [item.row for item in kept if not item.new]
        self._insert.run(cursor, [item.row for item in kept if item.new])
        touched = self._update.run(cursor, changes)
        missing = _missing(connection, kept) if touched != len(changes) else frozenset()
        present = [item for item in kept if item.job_id not in missing]
        dispatched = [item.attempt for item in present if fresh.get(item.attempt_id) is item]
        self._attempt.run(cursor, dispatched)
        cursor.close()
        for item in present:
            if item.notes:
                _append_notes(connection, item)
        return [_refusal(item, stale, missing) for item in items]

    def _dispatches(
        self, cursor: DBAPICursor, items: Sequence[JobWrite]
    ) -> tuple[dict[str | None, JobWrite], frozenset[str | None]]:
        """The attempts that are not kept yet, each with the first item that brings it, and those
        of them whose session does not own dispatch to their device.

        Prepared look-ups by key: a list of ids would be compiled anew for each group.
        """
        fresh: dict[str | None, JobWrite] = {}
        owners: dict[DeviceId, Any] = {}
        stale = set()
        for item in items:
            key, device_id = item.attempt_id, item.device_id
            if key is None or key in fresh:
                continue
            if not item.new and self._known.look_up(cursor, (key,)) is not None:
                continue
            if device_id not in owners:
                owners[device_id] = self._owner.look_up(cursor, (device_id, _PAIRED))
            fresh[key] = item
            if owners[device_id] != item.session:
                stale.add(key)
        return fresh, frozenset(stale)


def _refusal(
    item: JobWrite, stale: frozenset[str | None], missing: frozenset[JobId]
) -> PalyraError | None:
    if item.attempt_id in stale:
        return NotRegistered()
    return NotFound("job", item.job_id) if item.job_id in missing else None


def _missing(connection: Connection, items: Iterable[JobWrite]) -> frozenset[JobId]:
    """The jobs to change that were never accepted; asked only when fewer rows changed."""
    wanted = {item.job_id for item in items if not item.new}
    found: set[JobId] = set()
    for some in _chunks(sorted(wanted)):
        found.update(connection.scalars(select(jobs.c.job_id).where(jobs.c.job_id.in_(some))))
    return frozenset(wanted - found)


def _append_notes(connection: Connection, item: JobWrite) -> None:
    """Keep the late reports that are not kept yet."""
    count = select(func.count()).where(job_notes.c.job_id == item.job_id)
    kept = connection.scalar(count) or 0
    new = [
        note_row(item.job_id, position, note)
        for position, note in enumerate(item.notes[kept:], start=kept)
    ]
    if new:
        connection.execute(insert(job_notes), new)


# -- reading --------------------------------------------------------------------------------------


def job(connection: Connection, job_id: JobId) -> Job | None:
    """One job."""
    found = _loaded(connection, _with_attempt.where(jobs.c.job_id == job_id))
    return found[0] if found else None


def list_jobs(connection: Connection, query: JobQuery) -> list[Job]:
    """Jobs, newest first."""
    statement = _with_attempt.order_by(jobs.c.job_id.desc()).limit(query.limit)
    if query.states is not None:
        statement = statement.where(jobs.c.state.in_([state.value for state in query.states]))
        if query.states <= UNFINISHED:
            statement = statement.where(jobs.c.finished_at_ms.is_(None))
    if query.device_id is not None:
        statement = statement.where(jobs.c.device_id == query.device_id)
    if query.before is not None:
        statement = statement.where(jobs.c.job_id < query.before)
    return _loaded(connection, statement)


def unfinished(connection: Connection, device_id: DeviceId | None = None) -> list[Job]:
    """Every job that is not final, of one device or of all, oldest first."""
    statement = _with_attempt.where(jobs.c.finished_at_ms.is_(None)).order_by(jobs.c.job_id)
    if device_id is not None:
        statement = statement.where(jobs.c.device_id == device_id)
    return [job_of(row) for row in connection.execute(statement)]


def job_of_attempt(connection: Connection, attempt_id: str) -> Job | None:
    """The job one of whose attempts has this id."""
    statement = select(attempts.c.job_id).where(attempts.c.attempt_id == attempt_id)
    job_id = connection.scalar(statement)
    return None if job_id is None else job(connection, JobId(job_id))


def find_jobs(connection: Connection, prefix: str) -> list[JobId]:
    """Ids whose random part begins with ``prefix``, newest first, at most ten."""
    begins = func.substr(jobs.c.job_id, 11, len(prefix)) == prefix
    statement = select(jobs.c.job_id).where(begins).order_by(jobs.c.job_id.desc())
    return [JobId(found) for found in connection.scalars(statement.limit(FOUND_AT_MOST))]


def keep_ended(connection: Connection, ended: Job) -> None:
    """Keep a job that ended in another change, in that change's transaction."""
    values = dict(zip(STATE_COLUMNS, state_values(ended), strict=True))
    connection.execute(update(jobs).where(jobs.c.job_id == ended.call.job_id).values(values))


def keep_imported(connection: Connection, imported: Iterable[Job]) -> None:
    """Keep jobs of a snapshot with their last attempts."""
    for each in imported:
        names = CALL_COLUMNS + STATE_COLUMNS
        row = call_values(each.call) + state_values(each)
        connection.execute(insert(jobs).values(dict(zip(names, row, strict=True))))
        if each.attempt is not None:
            attempt = attempt_values(each.call.job_id, each.attempt)
            values = dict(zip(ATTEMPT_COLUMNS, attempt, strict=True))
            connection.execute(insert(attempts).values(values))


def _loaded(connection: Connection, statement: Select[Any]) -> list[Job]:
    """Jobs with their late reports."""
    rows = connection.execute(statement).all()
    notes = _notes(connection, [row[0] for row in rows])
    return [job_of(row, notes.get(row[0], ())) for row in rows]


def _notes(connection: Connection, job_ids: list[str]) -> dict[str, list[Report]]:
    found: dict[str, list[Report]] = {}
    for some in _chunks(job_ids):
        statement = select(job_notes).where(job_notes.c.job_id.in_(some))
        for row in connection.execute(statement.order_by(job_notes.c.job_id, job_notes.c.position)):
            found.setdefault(row[0], []).append(note_of(row[2:]))
    return found


def _chunks(ids: list[Any]) -> Iterable[list[Any]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
