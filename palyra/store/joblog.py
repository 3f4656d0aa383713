"""Jobs and their attempts in SQL (:class:`palyra.core.interfaces.IJobLog`): what is read of them,
and the changes that come with another one.  New and changed jobs of their own are written by
:mod:`palyra.store.jobbatch`.

No query walks through the whole history: it grows to millions of jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    bindparam,
    func,
    insert,
    null,
    select,
    update,
)

from palyra.core.identifiers import DeviceId, JobId
from palyra.core.interfaces import LISTED_OUTPUT, JobQuery, KeyUse
from palyra.core.jobs import UNFINISHED, Job, Report
from palyra.store import audit, audited, facts, journal
from palyra.store.jobrows import (
    ATTEMPT_COLUMNS,
    CALL_COLUMNS,
    FANOUT,
    INPUT,
    STATE_COLUMNS,
    attempt_values,
    call_values,
    job_of,
    note_of,
    state_values,
)
from palyra.store.tables import attempts, fanouts, idempotency_keys, job_notes, jobs

FOUND_AT_MOST = 10
LOOKED_THROUGH = 100_000
"""The newest jobs, or those before the cursor, among which a beginning of an id or a rare value is
searched."""
_CHUNK = 500
"""Ids in one IN list; SQLite and PostgreSQL both take more."""

_SORTED = jobs.c.job_id.concat("")
"""To order unfinished jobs by.  By the id itself, SQLite would walk through the whole history in
that order instead of sorting the few of the partial index."""
_and_attempts = jobs.outerjoin(attempts, attempts.c.attempt_id == jobs.c.attempt_id)
_with_attempt = select(*jobs.columns, *attempts.columns).select_from(_and_attempts)
_CUT: dict[str, ColumnElement[Any]] = {
    "input_json": null(),
    "output_json": func.substr(jobs.c.output_json, 1, LISTED_OUTPUT, type_=LargeBinary),
}
_columns = [_CUT.get(each.name, each) for each in jobs.columns]
_listed = select(*_columns, *attempts.columns).select_from(_and_attempts)
"""As much of jobs as a list has."""


def job(connection: Connection, job_id: JobId) -> Job | None:
    """One job."""
    found = _loaded(connection, _with_attempt.where(jobs.c.job_id == job_id))
    return found[0] if found else None


def list_jobs(connection: Connection, query: JobQuery) -> list[Job]:
    """Jobs, newest first, as :meth:`palyra.core.interfaces.IJobLog.jobs` has them.

    Device, fan-out, cursor and "not final" are found by an index.  For anything else rows are
    looked at one by one, the LOOKED_THROUGH newest of those at most: of a value rarer than that,
    what is older is not listed.
    """
    reach, looks = _reach(query), _looks(query)
    statement = _listed.where(*reach, *looks)
    if _of_unfinished(query):
        return _cut(connection, _newest_unfinished(statement, query))
    statement = statement.order_by(jobs.c.job_id.desc())
    if looks:
        oldest = select(jobs.c.job_id).where(*reach).order_by(jobs.c.job_id.desc())
        oldest = oldest.offset(LOOKED_THROUGH).limit(1).correlate(None)
        statement = statement.where(jobs.c.job_id > func.coalesce(oldest.scalar_subquery(), ""))
    return _cut(connection, statement.limit(query.limit))


def unfinished(connection: Connection, device_id: DeviceId | None = None) -> list[Job]:
    """Every job that is not final, of one device or of all, oldest first."""
    statement = _with_attempt.where(jobs.c.finished_at_ms.is_(None)).order_by(_SORTED)
    if device_id is not None:
        statement = statement.where(jobs.c.device_id == device_id)
    return _loaded(connection, statement)


def list_unfinished(connection: Connection) -> list[Job]:
    """Every job that is not final, as :func:`list_jobs` has them, oldest first."""
    return _cut(connection, _listed.where(jobs.c.finished_at_ms.is_(None)).order_by(_SORTED))


def job_of_attempt(connection: Connection, attempt_id: str) -> Job | None:
    """The job one of whose attempts has this id."""
    statement = select(attempts.c.job_id).where(attempts.c.attempt_id == attempt_id)
    job_id = connection.scalar(statement)
    return None if job_id is None else job(connection, JobId(job_id))


def find_jobs(connection: Connection, prefix: str) -> list[JobId]:
    """Ids whose random part begins with ``prefix``, newest first, at most ten, among the
    LOOKED_THROUGH newest."""
    return [JobId(found) for found in beginning_with(connection, jobs.c.job_id, prefix)]


def beginning_with(connection: Connection, key: ColumnElement[str], prefix: str) -> Sequence[str]:
    """The newest ULIDs of a column whose random part begins with ``prefix``."""
    newest = select(key.label("id")).order_by(key.desc()).limit(LOOKED_THROUGH).subquery()
    begins = func.substr(newest.c.id, 11, len(prefix)) == prefix
    found = select(newest.c.id).where(begins).order_by(newest.c.id.desc()).limit(FOUND_AT_MOST)
    return connection.scalars(found).all()


def key_use(connection: Connection, scope: str, key: str) -> KeyUse | None:
    """The call an idempotency key was used for."""
    columns = idempotency_keys.c
    statement = select(columns.digest, columns.job_id, columns.fanout_id)
    row = connection.execute(statement.where(columns.scope == scope, columns.key == key)).first()
    return None if row is None else KeyUse(*row)


def keep_ended(connection: Connection, ended: Sequence[Job]) -> None:
    """Keep jobs that ended in another change, in that change's transaction."""
    rows = [
        dict(zip(STATE_COLUMNS, state_values(each), strict=True)) | {"key": each.call.job_id}
        for each in ended
    ]
    if rows:
        connection.execute(update(jobs).where(jobs.c.job_id == bindparam("key")), rows)
        journal.append(connection, *map(facts.job_ended, ended))
        audit.add(connection, [*map(audited.job_ended, ended)])


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


def _newest_unfinished(statement: Select[Any], query: JobQuery) -> Select[Any]:
    if not _looks(query):  # the index alone says which
        ids = select(jobs.c.job_id).where(*_reach(query)).correlate(None)
        ids = ids.order_by(_SORTED.desc()).limit(query.limit)
        statement = _listed.where(jobs.c.job_id.in_(ids))
    return statement.order_by(_SORTED.desc()).limit(query.limit)


def _of_unfinished(query: JobQuery) -> bool:
    return query.states is not None and query.states <= UNFINISHED


def _reach(query: JobQuery) -> list[ColumnElement[bool]]:
    """What an index answers."""
    conditions: list[ColumnElement[bool]] = []
    if _of_unfinished(query):
        conditions.append(jobs.c.finished_at_ms.is_(None))
    if query.device_id is not None:
        conditions.append(jobs.c.device_id == query.device_id)
    if query.fanout_id is not None:
        conditions.append(jobs.c.fanout_id == query.fanout_id)
    if query.before is not None:
        conditions.append(jobs.c.job_id < query.before)
    return conditions


def _looks(query: JobQuery) -> list[ColumnElement[bool]]:
    """What each row must be looked at for."""
    conditions: list[ColumnElement[bool]] = []
    if query.states is not None and query.states != UNFINISHED:
        conditions.append(jobs.c.state.in_(sorted(state.value for state in query.states)))
    if query.capability is not None:
        conditions.append(jobs.c.capability == query.capability)
    if query.requested_by is not None:
        conditions.append(jobs.c.requested_by == query.requested_by)
    return conditions


def _loaded(connection: Connection, statement: Select[Any]) -> list[Job]:
    """Jobs with their late reports, and with the inputs of their fan-outs (each read once)."""
    rows = connection.execute(statement).all()
    notes = _notes(connection, [row[0] for row in rows])
    inputs = _inputs(connection, {row[FANOUT] for row in rows if row[INPUT] is None})
    return [job_of(row, notes.get(row[0], ()), inputs) for row in rows]


def _cut(connection: Connection, statement: Select[Any]) -> list[Job]:
    """Jobs as a list has them."""
    return [job_of(row, (), {}) for row in connection.execute(statement)]


def _notes(connection: Connection, job_ids: list[str]) -> dict[str, list[Report]]:
    found: dict[str, list[Report]] = {}
    for some in _chunks(job_ids):
        statement = select(job_notes).where(job_notes.c.job_id.in_(some))
        for row in connection.execute(statement.order_by(job_notes.c.job_id, job_notes.c.position)):
            found.setdefault(row[0], []).append(note_of(row[2:]))
    return found


def _inputs(connection: Connection, fanout_ids: set[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for some in _chunks(sorted(fanout_ids)):
        statement = select(fanouts.c.fanout_id, fanouts.c.input_json)
        found.update(map(tuple, connection.execute(statement.where(fanouts.c.fanout_id.in_(some)))))
    return found


def _chunks(ids: list[Any]) -> Iterable[list[Any]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
