"""Promises of the audit chain in SQL: rollback, crash, restore, and any byte that is changed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, text

from palyra.core.audit import Acting, AuditEntry, AuditRow, acts_for
from palyra.core.audithead import Head
from palyra.core.auditlog import AuditQuery
from palyra.core.auditverify import Verdict, cited
from palyra.errors import Malformed, StoreCorrupt
from palyra.store import audit, auditread, opening
from palyra.store.auditfile import verified
from palyra.store.sqlite import SqliteStore
from palyra.store.tables import audit as table
from tests.store.reactorless import Calls
from tests.store.samples import NOW_MS

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
COUNT = 5


def entry(action: str = "test.done", **changes: Any) -> AuditEntry:
    return AuditEntry(**{"at_ms": NOW_MS, "action": action} | changes)


def full(number: int) -> AuditEntry:
    """An entry with something in every column."""
    return AuditEntry(
        NOW_MS, f"a.{number}", f"job:{number}", "n", "ok", "r", "w", "v", {"n": number}, "id"
    )


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "palyra.sqlite3"


@pytest.fixture
def store(calls: Calls, path: Path) -> Iterator[SqliteStore]:
    opened = calls.open(path)
    yield opened
    calls.wait(opened.close())


@pytest.fixture
def left(calls: Calls, path: Path) -> Path:
    """The file of a store that was closed with rows in it."""
    opened = calls.open(path)
    calls.wait(opened.record([full(number) for number in range(COUNT)]))
    calls.wait(opened.close())
    return path


def rows(calls: Calls, store: SqliteStore) -> list[AuditRow]:
    return [*calls.wait(store.audit_rows(AuditQuery(1_000, after_seq=1))).rows]


def actions(calls: Calls, store: SqliteStore) -> list[str]:
    return [row.line.action for row in rows(calls, store)]


def looked(path: Path, *anchors: Head) -> Verdict:
    found = verified(path, anchors, KEY.public_key())
    assert found is not None
    return found


def spoil(path: Path, statement: str, *values: Any) -> int:
    """Write into the database of a gateway that does not run."""
    with sqlite3.connect(path) as raw:
        count = raw.execute(statement, values).rowcount
    raw.close()
    return count


# -- the writer -------------------------------------------------------------------------------


def append_and_fail(action: str, connection: Connection) -> None:
    audit.append(connection, entry(action))
    raise Malformed("test", "it fails")


def append(action: str, connection: Connection) -> None:
    audit.append(connection, entry(action))


def test_what_is_undone_leaves_no_row(calls: Calls, store: SqliteStore, path: Path) -> None:
    """An operation that fails among others in one transaction takes its rows with it, and only
    those; numbers have no hole."""
    kept = [store._writer.submit(partial(append, "one"))]
    failed = store._writer.submit(partial(append_and_fail, "no"))
    kept.append(store._writer.submit(partial(append, "two")))
    with pytest.raises(Malformed):
        calls.wait(failed)
    for each in kept:
        calls.wait(each)
    calls.wait(store.record([entry("three")]))
    assert actions(calls, store) == ["one", "two", "three"]
    assert not looked(path).faults


def test_a_transaction_that_fails_leaves_no_row(
    calls: Calls, store: SqliteStore, path: Path
) -> None:
    """Nothing of its group is kept, and the chain goes on from what is."""

    def spoiled(connection: Connection) -> None:
        audit.append(connection, entry("lost"))
        connection.execute(text("SELECT * FROM nothing_of_that_name"))

    calls.wait(store.record([entry("before")]))
    with pytest.raises(Exception, match="nothing_of_that_name"):
        calls.wait(store._writer.submit(spoiled))
    calls.wait(store.record([entry("after")]))
    assert actions(calls, store) == ["before", "after"]
    assert not looked(path).faults


def test_a_row_that_was_put_in_is_never_written_over(
    calls: Calls, store: SqliteStore, path: Path
) -> None:
    """Somebody else wrote the next number: the writer looks again and goes on behind it, and
    verifying names the row."""
    calls.wait(store.record([entry("one")]))
    copied = "INSERT INTO audit SELECT chain_id, seq + 1, at_ms, operator_id, who, via, action, "
    copied += "subject, subject_name, result, reason, salt, details, details_digest, hash "
    assert spoil(path, copied + "FROM audit WHERE seq = 2") == 1
    calls.wait(store.record([entry("two")]))
    assert actions(calls, store) == ["one", "one", "two"]
    assert looked(path).faults == ("row 3 was changed, or the row before it",)


def test_the_chain_goes_on_after_a_start(calls: Calls, left: Path) -> None:
    """The next start links to the last row that is there."""
    again = calls.open(left)
    calls.wait(again.record([entry("after the start")]))
    calls.wait(again.close())
    assert looked(left).last_seq == COUNT + 2
    assert not looked(left).faults


def test_who_acts_is_known_in_the_writers_thread(calls: Calls, store: SqliteStore) -> None:
    """It is taken where an operation is submitted, and is nobody's afterwards."""
    with acts_for(Acting("ANA", "ana", "console.sock")):
        first = store._writer.submit(partial(append, "hers"))
    second = store._writer.submit(partial(append, "nobody's"))
    calls.wait(first)
    calls.wait(second)
    assert [row.line.who for row in rows(calls, store)] == ["ana", "gateway"]


def test_a_record_that_had_no_chain_gets_one(calls: Calls, left: Path) -> None:
    """As a gateway of an older version leaves it."""
    spoil(left, "DELETE FROM audit")
    spoil(left, "DELETE FROM meta WHERE key = ?", audit.CHAIN)
    assert verified(left, (), None) is None
    again = calls.open(left)
    calls.wait(again.close())
    assert looked(left) == Verdict(looked(left).chain_id, 1, 1, 1, 0, None, ())


def test_another_chain_cites_the_one_before(calls: Calls, left: Path) -> None:
    """As a restored state begins one: both are looked through."""
    connection = opening.connect(left, "BEGIN IMMEDIATE")
    with connection.begin():
        last = connection.execute(table.select().order_by(table.c.seq.desc())).first()
        assert last is not None
        before = Head(last.chain_id, last.seq, last.hash, NOW_MS)
        audit.begin_chain(connection, os.urandom, NOW_MS + 1, before, "restored")
    connection.close()
    assert not looked(left).faults
    assert looked(left).rows == 1
    spoil(left, "UPDATE audit SET who = 'x' WHERE seq = 3")
    assert looked(left).faults == (
        f"chain {before.chain_id}: row 3 was changed, or the row before it",
    )
    again = calls.open(left)
    (row,) = calls.wait(again.audit_rows(AuditQuery(10))).rows
    assert cited(row.line) == Head(
        before.chain_id,
        before.seq,
        before.hash,
        NOW_MS + 1,
        cited(row.line).kind,  # type: ignore[union-attr]
    )
    calls.wait(again.close())


# -- tampering --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [column.name for column in table.columns])
@pytest.mark.parametrize("seq", range(2, COUNT + 1))
def test_any_changed_column_is_found(left: Path, name: str, seq: int) -> None:
    """Whatever is written into any column of any row, verifying says which."""
    raw = sqlite3.connect(left)
    (value,) = raw.execute(f"SELECT {name} FROM audit WHERE seq = ?", (seq,)).fetchone()
    raw.close()
    if name == "seq":
        changed: Any = 99
    elif isinstance(value, bytes):
        changed = bytes([value[0] ^ 1]) + value[1:]
    else:
        changed = value + 1 if isinstance(value, int) else value + "x"
    assert spoil(left, f"UPDATE audit SET {name} = ? WHERE seq = ?", changed, seq) == 1
    found = looked(left).faults
    assert found and f"{seq}" in found[0]


def test_deleted_rows_are_found(left: Path) -> None:
    """In the middle by the chain, at the end by an anchor that was kept elsewhere."""
    raw = sqlite3.connect(left)
    statement = "SELECT chain_id, seq, hash FROM audit ORDER BY seq DESC LIMIT 1"
    anchor = Head(*raw.execute(statement).fetchone(), NOW_MS).signed(KEY)
    raw.close()
    assert looked(left, anchor).anchored_seq == COUNT + 1
    spoil(left, "DELETE FROM audit WHERE seq = ?", COUNT + 1)
    assert not looked(left).faults
    assert "are missing" in looked(left, anchor).faults[0]
    spoil(left, "DELETE FROM audit WHERE seq = 3")
    assert looked(left).faults == ("row 3 is missing",)


def test_rows_that_changed_places_are_found(left: Path) -> None:
    """With each other's numbers."""
    for old, new in (2, -1), (3, 2), (-1, 3):
        spoil(left, "UPDATE audit SET seq = ? WHERE seq = ?", new, old)
    assert looked(left).faults[0].startswith("row 2 was changed")


def test_erased_details_are_no_fault(left: Path) -> None:
    """They may go; nothing may come in their place."""
    spoil(left, "UPDATE audit SET salt = NULL, details = NULL")
    assert not looked(left).faults
    spoil(left, "UPDATE audit SET details = '{}' WHERE seq = 2")
    assert looked(left).faults == ("the details of row 2 were changed",)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """With the error that every command has for it."""
    file = tmp_path / "palyra.sqlite3"
    file.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreCorrupt):
        verified(file, (), None)


def test_rows_about_a_device_are_found_by_their_index(
    calls: Calls, store: SqliteStore, path: Path
) -> None:
    """However long the history is, listing and erasing them costs what they are."""
    calls.wait(store.record([entry(subject="device:x")]))
    plans: list[str] = []

    def asked(connection: Connection) -> None:
        raw: Any = connection.connection.driver_connection
        raw.set_trace_callback(plans.append)
        auditread.rows(connection, AuditQuery(50, subject="device:x"))
        raw.set_trace_callback(None)

    calls.wait(store._reader.submit(asked))
    (listing,) = (each for each in plans if "substr" in each)
    erasing = "UPDATE audit SET details = NULL WHERE subject = 'device:x' AND "
    with sqlite3.connect(path) as raw:
        for statement in listing, f"{erasing} substr(subject, 1, 7) = 'device:'":
            plan = raw.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            assert "audit_of_devices" in str(plan)
    raw.close()
