"""The audit chain in SQL (:class:`palyra.core.auditlog.IAuditLog`): how it is written.

Rows gather in the transaction of the change they tell of, and are linked and written once, before
the commit: what is undone leaves no row and no gap.  The writer remembers the head of the chain
while its connection lives, and nobody else writes to the store; the primary key would refuse it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, delete, insert, select

from palyra.core import audit as rules
from palyra.core.audit import GENESIS, SALT_BYTES, AuditEntry, Chain, Line
from palyra.core.audithead import Head
from palyra.core.identifiers import Entropy, new_ulid
from palyra.errors import PalyraError
from palyra.store import audited, remembered
from palyra.store.statements import ManyRows, inserting
from palyra.store.tables import audit, meta

CHAIN = "audit_chain"
"""The key in ``meta`` of the present chain's id."""


class Auditor:
    """The writer's end of the chain (:class:`palyra.store.remembered.IRemembered`)."""

    def __init__(self, dialect: Dialect) -> None:
        self._insert = ManyRows(inserting(audit), [*audit.columns], dialect)
        self._lines: list[Line] = []
        self._chain: Chain | None = None
        self._seq, self._hash = 0, GENESIS

    def add(self, lines: Sequence[Line]) -> None:
        """Have lines written with this transaction."""
        self._lines += lines

    def standing(self) -> int:
        return len(self._lines)

    def undone(self, standing: int | None = None) -> None:
        del self._lines[standing or 0 :]
        if standing is None:
            self._chain = None

    def erase(self, subject: str) -> None:
        """Take the details from the lines about a subject that are not written yet."""
        self._lines = [
            line._replace(salt=None, details=None) if line.subject == subject else line
            for line in self._lines
        ]

    def complete(self, connection: Connection) -> None:
        """Link what has gathered and write it."""
        if not self._lines:
            return
        chain = self._chain or self._meet(connection)
        lines, self._lines = self._lines, []
        chain_id, seq, hashed, rows = chain.chain_id, self._seq, self._hash, list[Any]()
        for line in lines:
            seq += 1
            hashed = chain.hash(seq, hashed, line)
            rows.append((chain_id, seq, *line, hashed))
        cursor = connection.connection.cursor()
        if len(rows) == 1:
            self._insert.one.run(cursor, rows[0])
        else:
            self._insert.run(cursor, rows)
        cursor.close()
        self._seq, self._hash = seq, hashed

    def _meet(self, connection: Connection) -> Chain:
        chain_id = chain_of(connection)
        self._chain = Chain(chain_id)
        newest = select(audit.c.seq, audit.c.hash).where(audit.c.chain_id == chain_id)
        row = connection.execute(newest.order_by(audit.c.seq.desc()).limit(1)).first()
        self._seq, self._hash = (0, GENESIS) if row is None else (row[0], row[1])
        return self._chain


def append(connection: Connection, *entries: AuditEntry | None) -> None:
    """Have entries written in the connection's transaction; None is nothing.

    Who acts is whoever the operation was submitted for, where an entry does not say.
    """
    add(connection, lines([each for each in entries if each is not None]))


def lines(entries: Sequence[AuditEntry]) -> list[Line]:
    """Entries as they are kept; who acts is whoever the present context acts for, where they do
    not say."""
    by = rules.acting()
    return [rules.line_of(each, os.urandom(SALT_BYTES), by) for each in entries]


def add(connection: Connection, finished: Sequence[Line]) -> None:
    """Have finished lines written in the connection's transaction."""
    if finished:
        remembered.of(connection, Auditor).add(finished)


def note(connection: Connection, items: Sequence[Sequence[Line]]) -> list[PalyraError | None]:
    """Write what is nobody's transaction, many at once (:class:`palyra.store.threads.IBatch`)."""
    add(connection, [line for item in items for line in item])
    return [None] * len(items)


def present(connection: Connection) -> str | None:
    """The id of the present chain; None where none was begun yet."""
    found: str | None = connection.scalar(select(meta.c.value).where(meta.c.key == CHAIN))
    return found


def chain_of(connection: Connection) -> str:
    """The id of the present chain."""
    found = present(connection)
    assert found is not None, "every store that is open has a chain"
    return found


def ensure_chain(connection: Connection, entropy: Entropy, now_ms: int, why: str) -> None:
    """Begin a chain where the store has none yet."""
    if present(connection) is None:
        begin_chain(connection, entropy, now_ms, None, why)


def begin_chain(
    connection: Connection, entropy: Entropy, now_ms: int, before: Head | None, why: str
) -> None:
    """Begin a chain that cites the head of the one before, and write what has gathered."""
    connection.execute(delete(meta).where(meta.c.key == CHAIN))
    values = {"key": CHAIN, "value": new_ulid(now_ms, entropy)}
    connection.execute(insert(meta).values(values))
    auditor = remembered.of(connection, Auditor)
    auditor.undone()
    append(connection, audited.started(now_ms, before, why))
    auditor.complete(connection)
