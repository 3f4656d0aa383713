"""The journals of devices in SQL (:class:`palyra.core.interfaces.IEventJournal`).

Events are written in the transaction of the fact, by the writer's connection alone.  It knows the
newest number of each journal it has met: asking for it each time would cost as much as the row.
What it knows is only as true as its transaction, so it forgets all of it when one is undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Dialect,
    Select,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
)
from sqlalchemy.engine.interfaces import DBAPICursor

from palyra.core.identifiers import DeviceId
from palyra.core.journal import JournalEntry, JournalEvent, JournalPage, pruned_below
from palyra.errors import PalyraError
from palyra.store import remembered
from palyra.store.statements import Binds, LookUp, ManyRows, Row, Statement, inserting
from palyra.store.tables import devices, journal

Line = tuple[DeviceId, int, str, str]
"""Device, time, kind, details: an event without its number, as it is written."""

_encode = msgspec.json.Encoder().encode
_details = msgspec.json.Decoder(dict[str, str | int | bool])
_COMMA: Any = literal_column("','", Text)
_SPACE: Any = literal_column("' '", Text)
_ZERO: Any = literal_column("0")


class Journals:
    """The writer's end of every journal (:class:`palyra.store.remembered.IRemembered`)."""

    def __init__(self, dialect: Dialect) -> None:
        self._insert = ManyRows(inserting(journal), [*journal.columns], dialect)
        self._look_up = LookUp(_newest_of, devices.c.device_id, dialect)
        its, below = bindparam("its", type_=Text), bindparam("below", type_=journal.c.seq.type)
        old = delete(journal).where(journal.c.device_id == its, journal.c.seq < below)
        self._prune = Statement(old, [[its, below]], dialect)
        self._newest: dict[str, int] = {}
        self._grown: set[DeviceId] = set()

    def write(self, cursor: DBAPICursor, lines: Sequence[Line]) -> None:
        """Number the events and write them; those of a device that does not exist are nobody's."""
        newest, rows = self._newest, list[Row]()
        unmet = {line[0] for line in lines if line[0] not in newest}
        if unmet:
            self._meet(cursor, sorted(unmet))
        for device_id, at_ms, kind, details in lines:
            if device_id in newest:
                seq = newest[device_id] = newest[device_id] + 1
                rows.append((device_id, seq, at_ms, kind, details))
        if len(rows) == 1:
            self._insert.one.run(cursor, rows[0])
        else:
            self._insert.run(cursor, rows)
        for device_id, seq, *_ in rows:
            self._grown.add(device_id)
            if below := pruned_below(seq):
                self._prune.run(cursor, (device_id, below))

    def let_go(self, device_id: DeviceId) -> None:
        """The device is deleted, and its journal with it."""
        self._newest.pop(device_id, None)

    def standing(self) -> frozenset[DeviceId]:
        """The devices whose journals have grown in this transaction so far."""
        return frozenset(self._grown)

    def undone(self, standing: frozenset[DeviceId] | None = None) -> None:
        """Know nothing, but whose journals have grown before what was undone."""
        self._newest.clear()
        self._grown = set(standing or ())

    def complete(self, connection: Connection) -> None:
        """Events are written as they come."""

    def take_grown(self) -> frozenset[DeviceId]:
        """The devices whose journals have grown since the last call."""
        grown = frozenset(self._grown)
        self._grown.clear()
        return grown

    def _meet(self, cursor: DBAPICursor, device_ids: Sequence[str]) -> None:
        for answer in self._look_up.run(cursor, device_ids):
            for entry in answer.split(","):
                device_id, seq = entry.split(" ")
                self._newest[device_id] = int(seq)


def of(connection: Connection) -> Journals:
    """The journals as this connection writes them; they end with it."""
    return remembered.of(connection, Journals)


def line(entry: JournalEntry) -> Line:
    """An entry as it is written."""
    return entry.device_id, entry.at_ms, entry.kind, _encode(entry.details).decode()


def append(connection: Connection, *entries: JournalEntry | None) -> None:
    """Write entries in the connection's transaction; None is nothing."""
    lines = [line(entry) for entry in entries if entry is not None]
    if lines:
        cursor = connection.connection.cursor()
        of(connection).write(cursor, lines)
        cursor.close()


def note(connection: Connection, items: Sequence[Iterable[Line]]) -> list[PalyraError | None]:
    """Write what is nobody's transaction, many at once (:class:`palyra.store.threads.IBatch`)."""
    cursor = connection.connection.cursor()
    of(connection).write(cursor, [each for item in items for each in item])
    cursor.close()
    return [None] * len(items)


def forget(connection: Connection, device_id: DeviceId) -> None:
    """Delete the journal of a device that is deleted."""
    connection.execute(delete(journal).where(journal.c.device_id == device_id))
    of(connection).let_go(device_id)


def page(connection: Connection, device_id: DeviceId, after_seq: int, limit: int) -> JournalPage:
    """The events of a device after a number, ``limit`` at most."""
    column, its = journal.c, journal.c.device_id == device_id
    ends = (select(end(column.seq)).where(its).scalar_subquery() for end in (func.min, func.max))
    oldest, newest = connection.execute(select(*ends)).one()
    statement = select(journal).where(its, column.seq > after_seq)
    found = connection.execute(statement.order_by(column.seq).limit(limit))
    events = tuple(
        JournalEvent(device_id, seq, at_ms, kind, _details.decode(details))
        for _, seq, at_ms, kind, details in found
    )
    return JournalPage(events, oldest or 0, newest or 0)


def _newest_of(keys: Binds) -> Select[Any]:
    """The newest number of each of these devices that exists.  An id has no blank and no comma."""
    newest = select(func.max(journal.c.seq)).where(journal.c.device_id == devices.c.device_id)
    seq = cast(func.coalesce(newest.scalar_subquery(), _ZERO), Text)
    entry = devices.c.device_id.concat(_SPACE).concat(seq)
    found = select(func.aggregate_strings(entry, _COMMA))
    return found.where(devices.c.device_id.in_(keys))
