"""Forgetting the oldest of what is over in SQL: found by the reader, deleted by the writer.

A job's id begins with the time it was submitted at, so the oldest are the beginning of the primary
key.  What is looked at there in vain is what stays although it is old: unfinished jobs, the rows of
unfinished fan-outs, and jobs with a young key.  A final job stays final and gets no key, and a
fan-out no row, so what was found may be deleted later.  The last certificate of a device is never
found, so none that was found can become it.  A request that came to nothing stays so; a code is
deleted only if still no request refers to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, case, delete, exists, or_, select

from palyra.core.identifiers import Fingerprint, JobId, RequestId, new_ulid
from palyra.core.pairing import RequestState
from palyra.store.tables import (
    approvals,
    attempts,
    certificates,
    fanouts,
    idempotency_keys,
    job_notes,
    jobs,
    pairing_codes,
    pairing_requests,
)

KEY_LIFE_MS = 24 * 3_600_000
"""How long an idempotency key is kept at least, and the call it was used for with it."""
_CHUNK = 500


def forgettable(
    connection: Connection, before_ms: int, keep: int, limit: int, now_ms: int
) -> list[JobId]:
    """The oldest ended jobs submitted before ``before_ms`` or beyond the ``keep`` newest jobs.

    Where fewer than ``limit`` are old enough, ``keep`` ids of the index are stepped over.
    """
    found = _ended(connection, jobs.c.job_id < first_id(before_ms), limit, now_ms)
    if len(found) < limit:
        newest = select(jobs.c.job_id).order_by(jobs.c.job_id.desc())
        beyond = connection.scalar(newest.offset(keep).limit(1))
        if beyond is not None and beyond >= first_id(before_ms):
            found = _ended(connection, jobs.c.job_id <= beyond, limit, now_ms)
    return found


def forget(connection: Connection, job_ids: Sequence[JobId]) -> int:
    """Delete ended jobs with all that hangs on them; how many there were."""
    forgotten = 0
    for start in range(0, len(job_ids), _CHUNK):
        some = job_ids[start : start + _CHUNK]
        touched = select(jobs.c.fanout_id).where(jobs.c.job_id.in_(some))
        fanout_ids = set(connection.scalars(touched.where(jobs.c.fanout_id.is_not(None))))
        for table in (job_notes, idempotency_keys, attempts):
            connection.execute(delete(table).where(table.c.job_id.in_(some)))
        forgotten += connection.execute(delete(jobs).where(jobs.c.job_id.in_(some))).rowcount
        _forget_empty(connection, fanout_ids)
    return forgotten


def forgettable_certificates(
    connection: Connection, before_ms: int, limit: int
) -> list[Fingerprint]:
    """The certificates that ended first, before ``before_ms``; never the last of a device, nor one
    that a pairing request which is kept would be answered with again."""
    column, newer = certificates.c, certificates.alias()
    longer = or_(
        newer.c.not_after_ms > column.not_after_ms,
        and_(newer.c.not_after_ms == column.not_after_ms, newer.c.fingerprint > column.fingerprint),
    )
    statement = select(column.fingerprint).where(
        column.not_after_ms < before_ms,
        exists().where(newer.c.device_id == column.device_id, longer),
        ~exists().where(pairing_requests.c.request_id == column.request_id),
    )
    oldest = statement.order_by(column.not_after_ms, column.fingerprint)
    return [*map(Fingerprint, connection.scalars(oldest.limit(limit)))]


def forget_certificates(connection: Connection, found: Sequence[Fingerprint]) -> int:
    """Delete certificates; how many there were."""
    forgotten = 0
    for start in range(0, len(found), _CHUNK):
        those = certificates.c.fingerprint.in_(found[start : start + _CHUNK])
        forgotten += connection.execute(delete(certificates).where(those)).rowcount
    return forgotten


def forgettable_requests(connection: Connection, before_ms: int, limit: int) -> list[RequestId]:
    """The oldest pairing requests that were rejected or expired before ``before_ms``."""
    column = pairing_requests.c
    rejected = column.state == RequestState.REJECTED.value
    decided = rejected & column.decided_at_ms.is_not(None)
    statement = select(column.request_id).where(
        or_(rejected, column.state == RequestState.EXPIRED.value),
        case((decided, column.decided_at_ms), else_=column.expires_at_ms) < before_ms,
    )
    oldest = statement.order_by(column.request_id).limit(limit)
    return [*map(RequestId, connection.scalars(oldest))]


def forget_requests(connection: Connection, found: Sequence[RequestId]) -> int:
    """Delete pairing requests with their approvals; how many requests there were."""
    forgotten = 0
    for start in range(0, len(found), _CHUNK):
        some = found[start : start + _CHUNK]
        connection.execute(delete(approvals).where(approvals.c.subject_id.in_(some)))
        those = pairing_requests.c.request_id.in_(some)
        forgotten += connection.execute(delete(pairing_requests).where(those)).rowcount
    return forgotten


def forgettable_codes(connection: Connection, before_ms: int, limit: int) -> list[str]:
    """The oldest codes that ended before ``before_ms``, by their dates at the latest, and that no
    pairing request refers to."""
    column = pairing_codes.c
    statement = select(column.code_id).where(column.expires_at_ms < before_ms, _unreferred())
    return [*connection.scalars(statement.order_by(column.code_id).limit(limit))]


def forget_codes(connection: Connection, found: Sequence[str]) -> int:
    """Delete codes that no pairing request refers to; how many there were."""
    forgotten = 0
    for start in range(0, len(found), _CHUNK):
        those = pairing_codes.c.code_id.in_(found[start : start + _CHUNK])
        forgotten += connection.execute(delete(pairing_codes).where(those, _unreferred())).rowcount
    return forgotten


def first_id(at_ms: int) -> str:
    """The lowest ULID of a time."""
    return new_ulid(max(0, at_ms), bytes)


def _ended(
    connection: Connection, which: ColumnElement[bool], limit: int, now_ms: int
) -> list[JobId]:
    keys = idempotency_keys.c
    young = keys.created_at_ms > now_ms - KEY_LIFE_MS
    keyed = or_(
        exists().where(young, keys.job_id == jobs.c.job_id),
        and_(
            jobs.c.fanout_id.is_not(None), exists().where(young, keys.fanout_id == jobs.c.fanout_id)
        ),
    )
    rows = jobs.alias()
    # Not correlated: one walk through the index of unfinished jobs, however many rows there are.
    running = select(rows.c.fanout_id).where(
        rows.c.finished_at_ms.is_(None), rows.c.fanout_id.is_not(None)
    )
    statement = select(jobs.c.job_id).where(
        which,
        jobs.c.finished_at_ms.is_not(None),
        or_(jobs.c.fanout_id.is_(None), jobs.c.fanout_id.not_in(running)),
        ~keyed,
    )
    return [*connection.scalars(statement.order_by(jobs.c.job_id).limit(limit))]


def _unreferred() -> ColumnElement[bool]:
    return ~exists().where(pairing_requests.c.code_id == pairing_codes.c.code_id)


def _forget_empty(connection: Connection, fanout_ids: set[str]) -> None:
    """Delete those of the fan-outs whose last row went."""
    rows = exists().where(jobs.c.fanout_id == fanouts.c.fanout_id)
    empty = select(fanouts.c.fanout_id).where(fanouts.c.fanout_id.in_(sorted(fanout_ids)), ~rows)
    gone = connection.scalars(empty).all()
    for table in (idempotency_keys, fanouts):
        connection.execute(delete(table).where(table.c.fanout_id.in_(gone)))
