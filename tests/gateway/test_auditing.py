"""Promises of the audit chain's routes: pages, heads, and verifying."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from zope.interface.verify import verifyObject

from palyra.console.control import AuditFilter, IAuditControl
from palyra.console.models import AuditItem
from palyra.core.audit import AuditEntry
from palyra.core.audithead import Head
from palyra.errors import Malformed
from palyra.gateway.auditing import SLICE, AuditControl
from palyra.store.memory import MemoryStore
from tests.gateway.house import result_of
from tests.store.samples import NOW_MS

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(now_ms=lambda: NOW_MS)


@pytest.fixture
def control(store: MemoryStore) -> AuditControl:
    return AuditControl(log=store, key=KEY)


def fill(store: MemoryStore, count: int, **changes: Any) -> None:
    entries = [AuditEntry(NOW_MS, f"n.{number}", **changes) for number in range(count)]
    result_of(store.record(entries))


def listed(control: AuditControl, which: AuditFilter, limit: int = 2) -> list[AuditItem]:
    """All rows, page by page."""
    found: list[AuditItem] = []
    cursor = None
    while True:
        page = result_of(control.rows(which, limit, cursor))
        assert page.page.returned == len(page.rows) <= limit
        found += page.rows
        cursor = page.page.next_cursor
        assert page.page.has_more is (cursor is not None)
        if cursor is None:
            return found


def test_it_provides_the_interface(control: AuditControl) -> None:
    """Every method of IAuditControl is there, with its arguments."""
    assert verifyObject(IAuditControl, control)


def test_rows_come_newest_first_or_behind_a_number(
    store: MemoryStore, control: AuditControl
) -> None:
    """Page by page, each row once."""
    fill(store, 7)
    assert [row.seq for row in listed(control, AuditFilter())] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [row.seq for row in listed(control, AuditFilter(after_seq=5))] == [6, 7, 8]
    assert listed(control, AuditFilter(after_seq=8)) == []


def test_rows_are_whole(store: MemoryStore, control: AuditControl) -> None:
    """Every field as it was kept, hashes in hex, and the hash that a row follows."""
    fill(store, 1, details={"n": 1}, who="ana", reason="why", subject="job:1", subject_name="pi")
    newest, first = listed(control, AuditFilter())
    assert (newest.who, newest.reason, newest.subject) == ("ana", "why", "job:1")
    assert newest.details == {"n": 1}
    assert len(newest.salt) == 32
    assert newest.prev == first.hash
    assert first.prev == "00" * 32


def test_rows_are_searched(store: MemoryStore, control: AuditControl) -> None:
    """By what the filter says."""
    fill(store, 3, who="ana")
    fill(store, 3, who="bo")
    assert [row.seq for row in listed(control, AuditFilter(who="ana"))] == [4, 3, 2]
    assert [row.seq for row in listed(control, AuditFilter(action="n.2"))] == [7, 4]


@pytest.mark.parametrize("cursor", ["x", "", "-1", "9" * 19, "\u0663"])
def test_a_cursor_is_one_that_was_given(control: AuditControl, cursor: str) -> None:
    """Anything else is a refusal that names it."""
    with pytest.raises(Malformed):
        result_of(control.rows(AuditFilter(), 5, cursor))
    with pytest.raises(Malformed):
        result_of(control.heads(5, cursor))


def test_heads_are_listed(store: MemoryStore, control: AuditControl) -> None:
    """Newest first, page by page, with the key that signs them."""
    chain_id = result_of(store.audit_head()).chain_id
    for seq in 1, 2, 3:
        result_of(store.keep_head(Head(chain_id, seq, bytes(32), NOW_MS).signed(KEY), 10))
    first = result_of(control.heads(2, None))
    assert first.public_key == KEY.public_key().public_bytes_raw().hex()
    assert [head.seq for head in first.heads] == [3, 2]
    second = result_of(control.heads(2, first.page.next_cursor))
    assert [head.seq for head in second.heads] == [1]
    assert second.page.next_cursor is None


def test_the_whole_chain_is_looked_through(store: MemoryStore, control: AuditControl) -> None:
    """In slices, with the anchors that are kept here."""
    fill(store, 2 * SLICE)
    head = result_of(store.audit_head())
    result_of(store.keep_head(Head(head.chain_id, head.seq, head.hash, NOW_MS).signed(KEY), 1))
    fill(store, 1)
    seen = result_of(control.verify())
    assert (seen.rows, seen.first_seq, seen.last_seq) == (2 * SLICE + 2, 1, 2 * SLICE + 2)
    assert (seen.anchored_seq, seen.anchored_at_unix_ms) == (2 * SLICE + 1, NOW_MS)
    assert seen.faults == []


def test_a_changed_row_is_named(store: MemoryStore, control: AuditControl) -> None:
    """And one whose details cannot be read is listed all the same."""
    fill(store, 3, details={"n": 1})
    store._rows[2] = store._rows[2].__class__(
        store._rows[2].chain_id,
        3,
        store._rows[2].line._replace(details="nonsense"),
        store._rows[2].hash,
    )
    assert result_of(control.verify()).faults == ["the details of row 3 were changed"]
    assert listed(control, AuditFilter())[1].details is None
