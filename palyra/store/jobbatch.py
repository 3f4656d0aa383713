"""Accepting and updating jobs in SQL: the hot path, written in groups.

:class:`JobBatch` writes a whole group on the driver's cursor in a handful of statements; what they
cost does not grow with the group before it is hundreds of jobs (:mod:`palyra.store.statements`).
A job that comes alone is written by statements of its own, without what a group needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import attrs
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Select,
    Text,
    cast,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.engine.interfaces import DBAPICursor

from palyra.core.audit import Line
from palyra.core.callapprovals import CallApproval
from palyra.core.devices import DeviceState
from palyra.core.fanouts import Fanout
from palyra.core.identifiers import DeviceId, JobId
from palyra.core.interfaces import IdempotencyKey
from palyra.core.jobs import Job, Report
from palyra.errors import ApprovalVoid, NotFound, NotRegistered, PalyraError
from palyra.store import audit, audited, callapprovals, facts, journal
from palyra.store.jobrows import (
    CALL_COLUMNS,
    MAX_NOTES,
    STATE_COLUMNS,
    attempt_values,
    call_values,
    fanout_values,
    key_values,
    note_row,
    row_values,
    state_values,
)
from palyra.store.statements import Binds, LookUp, ManyRows, Statement, inserting, updating
from palyra.store.tables import attempts, devices, fanouts, idempotency_keys, job_notes, jobs

_CHUNK = 500
"""Ids in one IN list; SQLite and PostgreSQL both take more."""
UNUSED = "it was not given, has expired or was used"
_COMMA: Any = literal_column("','", Text)
"""Part of the text, since older SQLAlchemy would make it a value that no row has."""


@attrs.frozen(eq=False)
class JobWrite:
    """A job as it was when it was handed in: rows, nothing shared with the caller."""

    new: bool
    job_id: JobId
    device_id: DeviceId
    row: tuple[Any, ...]
    ended: journal.Line | None
    """What it is in the journal of its device where this state is final."""
    audited: tuple[Line, ...]
    """What it is in the audit chain: the decision where it is new, what became of it at last."""
    attempt_id: str | None
    attempt: tuple[Any, ...]
    notes: tuple[Report, ...]
    key: tuple[Any, ...] = ()
    asked: bool = False
    """Whether its attempt is the first of a call that needs an approval."""

    @classmethod
    def of(cls, job: Job, new: bool, key: IdempotencyKey | None = None) -> JobWrite:
        """Read a job: all of it where it is new, else what can change."""
        call, attempt = job.call, job.attempt
        job_id = call.job_id
        state = state_values(job)
        return cls(
            new,
            job_id,
            call.device_id,
            call_values(call) + state if new else (*state, job_id),
            None if job.finished_at_ms is None else journal.line(facts.job_ended(job)),
            audited.of_job(job, new),
            None if attempt is None else attempt.attempt_id,
            () if attempt is None else attempt_values(job_id, attempt),
            tuple(job.notes[:MAX_NOTES]) if job.notes else (),
            () if key is None else key_values(key, job_id, None, call.submitted_at_ms),
            call.approval_id is not None and attempt is not None and attempt.number == 1,
        )

    @property
    def session(self) -> tuple[str, int]:
        """Gateway and session epoch that dispatched the attempt."""
        return self.attempt[3], self.attempt[4]


@attrs.frozen(eq=False)
class FanoutWrite:
    """A fan-out with its rows as they were when they were handed in."""

    fanout: tuple[Any, ...]
    rows: list[tuple[Any, ...]]
    keys: list[tuple[Any, ...]]
    ended: list[journal.Line]
    """Of the rows that are final from the start."""
    audited: list[Line]
    """The decision, and what became of those rows."""

    @classmethod
    def of(cls, fanout: Fanout, rows: Sequence[Job], key: IdempotencyKey | None) -> FanoutWrite:
        """Read a fan-out, its rows and its key."""
        keys = []
        if key is not None:
            keys.append(key_values(key, None, fanout.fanout_id, fanout.submitted_at_ms))
        ended = [journal.line(facts.job_ended(job)) for job in rows if job.final]
        return cls(
            fanout_values(fanout),
            [row_values(job, fanout) for job in rows],
            keys,
            ended,
            audited.of_fanout(fanout, rows),
        )


class JobBatch:
    """Writes a group of new and changed jobs (:class:`palyra.store.threads.IBatch`)."""

    def __init__(self, dialect: Dialect) -> None:
        every = [jobs.c[name] for name in CALL_COLUMNS + STATE_COLUMNS]
        state = [jobs.c[name] for name in STATE_COLUMNS]
        self._fanout = ManyRows(inserting(fanouts), [*fanouts.columns], dialect)
        self._insert = ManyRows(inserting(jobs), every, dialect)
        self._attempt = ManyRows(inserting(attempts), [*attempts.columns], dialect)
        self._key = ManyRows(inserting(idempotency_keys), [*idempotency_keys.columns], dialect)
        change = updating(jobs, state, jobs.c.finished_at_ms.is_(None))
        self._update = ManyRows(change, [*state, jobs.c.job_id], dialect)
        self._is_known = Statement.finding(
            select(attempts.c.job_id), attempts.c.attempt_id, dialect
        )
        session = select(devices.c.gateway_id, devices.c.session_epoch).where(_paired())
        self._owner = Statement.finding(session, devices.c.device_id, dialect)
        self._known = LookUp(_known, attempts.c.attempt_id, dialect)
        self._owners = LookUp(_owners, devices.c.device_id, dialect)
        self._final = LookUp(_final, jobs.c.job_id, dialect)

    def __call__(
        self, connection: Connection, items: Sequence[JobWrite]
    ) -> list[PalyraError | None]:
        """Insert, then update; a final state that is kept already stays.

        On the driver's cursor: SQLAlchemy's way costs more than the statements.
        """
        cursor = connection.connection.cursor()
        if len(items) == 1:
            refusal = self._write_one(connection, cursor, items[0])
            cursor.close()
            return [refusal]
        fresh, refused = self._dispatches(connection, cursor, items)
        kept = [item for item in items if item.attempt_id not in refused]
        self._insert.run(cursor, [item.row for item in kept if item.new])
        changes = self._changes(cursor, kept)
        touched = self._update.run(cursor, [item.row for item in changes.values()])
        missing = _missing(connection, kept) if touched != len(changes) else frozenset()
        present = [item for item in kept if item.job_id not in missing]
        dispatched = [item.attempt for item in present if fresh.get(item.attempt_id) is item]
        self._attempt.run(cursor, dispatched)
        self._key.run(cursor, [item.key for item in kept if item.key])
        changed = [item for item in present if item.new or changes.get(item.job_id) is item]
        ended = [item.ended for item in changed if item.ended]
        if ended:
            journal.of(connection).write(cursor, ended)
        audit.add(connection, [line for item in changed for line in item.audited])
        cursor.close()
        for item in present:
            if item.notes:
                _append_notes(connection, item)
        return [_refusal(item, refused, missing) for item in items]

    def _write_one(
        self, connection: Connection, cursor: DBAPICursor, item: JobWrite
    ) -> PalyraError | None:
        """What a group of one comes to, at half its cost."""
        attempt_id = item.attempt_id
        known = attempt_id is None or (not item.new and self._is_known.find(cursor, attempt_id))
        if not known and self._owner.find(cursor, item.device_id) != item.session:
            return NotRegistered()
        if not known and item.asked and not _consumed(connection, item):
            return ApprovalVoid(UNUSED)
        (self._insert if item.new else self._update).one.run(cursor, item.row)
        changed = cursor.rowcount
        if not changed and _missing(connection, (item,)):
            return NotFound("job", item.job_id)
        if not known:
            self._attempt.one.run(cursor, item.attempt)
        if item.key:
            self._key.one.run(cursor, item.key)
        if item.ended and changed:
            journal.of(connection).write(cursor, (item.ended,))
        if item.audited and changed:
            audit.add(connection, item.audited)
        if item.notes:
            _append_notes(connection, item)
        return None

    def accept_asked(self, connection: Connection, write: JobWrite, approval: CallApproval) -> None:
        """Keep a job that was not sent, with the approval that it needs."""
        for refusal in self(connection, [write]):
            assert refusal is None, "a job without an attempt is refused by nothing"
        callapprovals.keep(connection, approval)

    def accept_fanout(
        self, connection: Connection, write: FanoutWrite, approval: CallApproval | None = None
    ) -> None:
        """Keep a fan-out with its rows, its key and the approval that some rows need."""
        if approval is not None:
            callapprovals.keep(connection, approval)
        cursor = connection.connection.cursor()
        self._fanout.run(cursor, [write.fanout])
        self._insert.run(cursor, write.rows)
        self._key.run(cursor, write.keys)
        if write.ended:
            journal.of(connection).write(cursor, write.ended)
        audit.add(connection, write.audited)
        cursor.close()

    def _changes(self, cursor: DBAPICursor, items: Iterable[JobWrite]) -> dict[JobId, JobWrite]:
        """What the updates of a group come to: for each job its first final state, else its last,
        and nothing where an earlier final state is kept."""
        latest: dict[JobId, JobWrite] = {}
        for item in items:
            if not item.new and not ((told := latest.get(item.job_id)) and told.ended):
                latest[item.job_id] = item
        for answer in self._final.run(cursor, [key for key in latest if latest[key].ended]):
            for job_id in answer.split(","):
                del latest[JobId(job_id)]
        return latest

    def _dispatches(
        self, connection: Connection, cursor: DBAPICursor, items: Sequence[JobWrite]
    ) -> tuple[dict[str | None, JobWrite], dict[str | None, PalyraError]]:
        """The attempts that are not kept yet, each with the first item that brings it, and why
        some of them may not be: their session does not own dispatch to their device, or they need
        an approval and have none."""
        asked = {item.attempt_id for item in items if item.attempt_id and not item.new}
        known = self._kept_attempts(cursor, asked)
        fresh: dict[str | None, JobWrite] = {}
        for item in items:
            if item.attempt_id and (item.new or item.attempt_id not in known):
                fresh.setdefault(item.attempt_id, item)
        owners = self._owners_of(cursor, {item.device_id for item in fresh.values()})
        refused: dict[str | None, PalyraError] = {}
        for key, item in fresh.items():
            if owners.get(item.device_id) != item.session:
                refused[key] = NotRegistered()
            elif item.asked and not _consumed(connection, item):
                refused[key] = ApprovalVoid(UNUSED)
        return fresh, refused

    def _kept_attempts(self, cursor: DBAPICursor, asked: Iterable[str]) -> frozenset[str]:
        found = self._known.run(cursor, list(asked))
        return frozenset(chain.from_iterable(answer.split(",") for answer in found))

    def _owners_of(
        self, cursor: DBAPICursor, asked: Iterable[DeviceId]
    ) -> dict[str, tuple[str, int]]:
        """Gateway and epoch of the sessions that own dispatch to paired devices."""
        owners = {}
        for answer in self._owners.run(cursor, list(asked)):
            for entry in answer.split(","):
                device_id, epoch, gateway_id = entry.split(" ")
                owners[device_id] = gateway_id, int(epoch)
        return owners


def _known(keys: Binds) -> Select[Any]:
    """Which attempts are kept.  Ids are ULIDs: a comma tells them apart."""
    found = func.aggregate_strings(attempts.c.attempt_id, _COMMA)
    return select(found).where(attempts.c.attempt_id.in_(keys))


def _owners(keys: Binds) -> Select[Any]:
    space = literal_column("' '", Text)
    columns = devices.c
    epoch = cast(columns.session_epoch, Text)
    entry = columns.device_id.concat(space).concat(epoch).concat(space).concat(columns.gateway_id)
    found = select(func.aggregate_strings(entry, _COMMA))
    return found.where(columns.device_id.in_(keys), _paired())


def _final(keys: Binds) -> Select[Any]:
    """Which of these jobs have ended."""
    found = select(func.aggregate_strings(jobs.c.job_id, _COMMA))
    return found.where(jobs.c.job_id.in_(keys), jobs.c.finished_at_ms.is_not(None))


def _paired() -> ColumnElement[bool]:
    return devices.c.state == literal_column(f"'{DeviceState.PAIRED.value}'", Text)


def _refusal(
    item: JobWrite, refused: Mapping[str | None, PalyraError], missing: frozenset[JobId]
) -> PalyraError | None:
    if item.attempt_id in refused:
        return refused[item.attempt_id]
    return NotFound("job", item.job_id) if item.job_id in missing else None


def _consumed(connection: Connection, item: JobWrite) -> bool:
    """Whether the item's call had a yes that was not used; this attempt has used it up."""
    return callapprovals.consume(connection, item.job_id, item.attempt[6])


def _missing(connection: Connection, items: Iterable[JobWrite]) -> frozenset[JobId]:
    """The jobs to change that were never accepted; asked only when fewer rows changed."""
    wanted = sorted({item.job_id for item in items if not item.new})
    found: set[JobId] = set()
    for start in range(0, len(wanted), _CHUNK):
        some = jobs.c.job_id.in_(wanted[start : start + _CHUNK])
        found.update(connection.scalars(select(jobs.c.job_id).where(some)))
    return frozenset(wanted) - found


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
