"""The audit chain in SQL: reading it, its signed heads, and the end of its oldest rows.

The numbers of a chain have no hole, so a page with a filter is bounded by them: what it costs does
not grow with the history.  Rows about one device are found by an index of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    TextClause,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from palyra.core.audit import GENESIS, AuditPage, AuditRow, Line
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditlog import LOOKED_THROUGH, SEGMENTS_KEPT, AuditQuery
from palyra.core.auditverify import Examination
from palyra.core.identifiers import DeviceId
from palyra.store import remembered
from palyra.store.audit import Auditor, chain_of
from palyra.store.audited import DEVICE, subject_of
from palyra.store.tables import OF_DEVICE, audit, audit_heads

_CHUNK = 500
_COLUMNS = audit.c
_CHAIN = _COLUMNS.chain_id.concat("")
"""The same where SQLite is to take the index of devices and not the primary key."""


def rows(connection: Connection, query: AuditQuery) -> AuditPage:
    """A page of rows, as :meth:`palyra.core.auditlog.IAuditLog.audit_rows` has them."""
    chain_id = query.chain_id or chain_of(connection)
    oldest, newest = _ends(connection, chain_id)
    low, high = _window(query, oldest, newest)
    its = _CHAIN if _found_by_index(query) else _COLUMNS.chain_id
    reach = (its == chain_id, _COLUMNS.seq >= low, _COLUMNS.seq <= high)
    upward = query.after_seq is not None
    order = _COLUMNS.seq.asc() if upward else _COLUMNS.seq.desc()
    statement = select(audit).where(*reach, *_looks(query)).order_by(order).limit(query.limit)
    found = tuple(_row(row) for row in connection.execute(statement))
    full = len(found) == query.limit
    reached = found[-1].seq if full else min(high if upward else low, newest)
    return AuditPage(found, _before(connection, chain_id, found), reached, oldest, newest)


def examine(connection: Connection, examination: Examination, limit: int) -> bool:
    """Have the next rows seen; whether there may be more."""
    its = and_(_COLUMNS.chain_id == examination.chain_id, _COLUMNS.seq > examination.after)
    found = connection.execute(select(audit).where(its).order_by(_COLUMNS.seq).limit(limit)).all()
    for row in found:
        examination.see(_row(row))
    return len(found) == limit


def head(connection: Connection) -> Head:
    """How far the present chain is."""
    chain_id = chain_of(connection)
    found = _newest(connection, chain_id)
    return Head(chain_id, 0, GENESIS, 0, HeadKind.START) if found is None else found


def keep_head(connection: Connection, kept: Head, keep: int) -> None:
    """Keep a signed head, and of its chain and kind only the newest."""
    column = audit_heads.c
    same = and_(column.chain_id == kept.chain_id, column.kind == kept.kind.value)
    connection.execute(delete(audit_heads).where(same, column.seq == kept.seq))
    values = (kept.chain_id, kept.seq, kept.kind.value, kept.hash, kept.at_ms, kept.signature)
    connection.execute(insert(audit_heads).values(values))
    older = select(column.seq).where(same).order_by(column.seq.desc()).offset(keep).limit(1)
    below = connection.scalar(older)
    if below is not None:
        connection.execute(delete(audit_heads).where(same, column.seq <= below))


def heads(
    connection: Connection,
    limit: int,
    before: tuple[str, int] | None,
    kinds: Collection[HeadKind] | None,
) -> list[Head]:
    """Signed heads, newest first."""
    column = audit_heads.c
    statement = select(audit_heads).order_by(column.chain_id.desc(), column.seq.desc())
    if before is not None:
        chain_id, seq = before
        of_chain = and_(column.chain_id == chain_id, column.seq < seq)
        statement = statement.where(or_(column.chain_id < chain_id, of_chain))
    if kinds is not None:
        statement = statement.where(column.kind.in_([kind.value for kind in kinds]))
    return [
        Head(chain_id, seq, bytes(hashed), at_ms, HeadKind(kind), bytes(signature))
        for chain_id, seq, kind, hashed, at_ms, signature in connection.execute(
            statement.limit(limit)
        )
    ]


def forgettable(connection: Connection, before_ms: int, keep: int) -> Head | None:
    """The last row that may go, found in as many looks as its number has bits."""
    chain_id = chain_of(connection)
    oldest, newest = _ends(connection, chain_id)
    low, high = oldest, newest
    while low < high:  # the first row that is young
        middle = (low + high) // 2
        if _at(connection, chain_id, middle).at_ms < before_ms:
            low = middle + 1
        else:
            high = middle
    last = min(max(low - 1, newest - keep), newest - 1)
    return None if last < oldest else _at(connection, chain_id, last)


def cut(connection: Connection, segment: Head, limit: int) -> int:
    """Keep ``segment`` and delete rows up to it, and those of older chains."""
    keep_head(connection, segment, SEGMENTS_KEPT)
    oldest, newest = _ends(connection, segment.chain_id)
    last = min(segment.seq, newest - 1, oldest + limit - 1)
    those = and_(_COLUMNS.chain_id == segment.chain_id, _COLUMNS.seq <= last)
    gone = connection.execute(delete(audit).where(those)).rowcount
    return gone + _cut_older(connection, segment.chain_id, limit - gone)


def erase(connection: Connection, device_id: DeviceId) -> None:
    """Erase the details of the rows about a device; the chain holds without them."""
    subject = subject_of(device_id)
    remembered.of(connection, Auditor).erase(subject)
    about = and_(_COLUMNS.subject == subject, OF_DEVICE)
    connection.execute(update(audit).where(about).values(salt=None, details=None))


def _cut_older(connection: Connection, chain_id: str, limit: int) -> int:
    older = connection.scalar(
        select(func.min(_COLUMNS.chain_id)).where(_COLUMNS.chain_id < chain_id)
    )
    if older is None or limit <= 0:
        return 0
    oldest, _ = _ends(connection, older)
    those = and_(_COLUMNS.chain_id == older, _COLUMNS.seq < oldest + limit)
    return connection.execute(delete(audit).where(those)).rowcount


def _window(query: AuditQuery, oldest: int, newest: int) -> tuple[int, int]:
    """The first and the last number that this page looks at."""
    looks = newest if _found_by_index(query) or not query.filters else LOOKED_THROUGH
    if query.after_seq is not None:
        low = max(query.after_seq + 1, oldest)
        return low, min(newest, low + looks - 1)
    high = newest if query.before_seq is None else min(newest, query.before_seq - 1)
    return max(oldest, high - looks + 1), high


def _found_by_index(query: AuditQuery) -> bool:
    return query.subject.startswith(DEVICE) and not (query.who or query.action)


def _looks(query: AuditQuery) -> list[ColumnElement[bool] | TextClause]:
    conditions: list[ColumnElement[bool] | TextClause] = []
    if query.who:
        conditions.append(or_(_COLUMNS.who == query.who, _COLUMNS.operator_id == query.who))
    if query.action.endswith("."):
        conditions.append(func.substr(_COLUMNS.action, 1, len(query.action)) == query.action)
    elif query.action:
        conditions.append(_COLUMNS.action == query.action)
    if query.subject:
        conditions.append(_COLUMNS.subject == query.subject)
        if query.subject.startswith(DEVICE):
            conditions.append(OF_DEVICE)
    return conditions


def _ends(connection: Connection, chain_id: str) -> tuple[int, int]:
    its = _COLUMNS.chain_id == chain_id
    ends = (select(end(_COLUMNS.seq)).where(its).scalar_subquery() for end in (func.min, func.max))
    oldest, newest = connection.execute(select(*ends)).one()
    return oldest or 0, newest or 0


def _before(
    connection: Connection, chain_id: str, found: Sequence[AuditRow]
) -> tuple[bytes | None, ...]:
    """The hash that each row follows: of a row, or of the head of the rows that were deleted."""
    hashes = {row.seq: row.hash for row in found} | {0: GENESIS}
    wanted = sorted({row.seq - 1 for row in found} - hashes.keys())
    for table in (audit_heads, audit):
        for some in _chunks(wanted):
            those = (table.c.chain_id == chain_id, table.c.seq.in_(some))
            statement = select(table.c.seq, table.c.hash).where(*those)
            hashes.update((seq, bytes(hashed)) for seq, hashed in connection.execute(statement))
    return tuple(hashes.get(row.seq - 1) for row in found)


def _chunks(keys: Sequence[int]) -> Iterable[Sequence[int]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))


def _newest(connection: Connection, chain_id: str) -> Head | None:
    _, newest = _ends(connection, chain_id)
    return None if not newest else _at(connection, chain_id, newest, HeadKind.START)


def _at(connection: Connection, chain_id: str, seq: int, kind: HeadKind = HeadKind.SEGMENT) -> Head:
    columns = select(_COLUMNS.hash, _COLUMNS.at_ms)
    its = columns.where(_COLUMNS.chain_id == chain_id, _COLUMNS.seq >= seq)
    hashed, at_ms = connection.execute(its.order_by(_COLUMNS.seq).limit(1)).one()
    return Head(chain_id, seq, bytes(hashed), at_ms, kind)


def _row(row: Any) -> AuditRow:
    chain_id, seq, *values, hashed = row
    line = Line(*values)
    salt = None if line.salt is None else _bytes(line.salt)
    line = line._replace(salt=salt, details_digest=_bytes(line.details_digest))
    return AuditRow(chain_id, seq, line, _bytes(hashed))


def _bytes(value: object) -> bytes:
    """SQLite keeps whatever somebody writes into it, whatever the column is said to have."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
