"""Promises of anchors, of deleting old rows, and of refusals that are summed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from palyra.config.audit import AuditSection
from palyra.core.audit import AuditEntry
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditlog import AuditQuery
from palyra.errors import DiskFull
from palyra.gateway.anchoring import (
    AT_ONCE,
    MAX_REFUSALS,
    PAUSE_S,
    Anchoring,
    Refusals,
    head_key,
)
from palyra.gateway.auditing import AuditControl
from palyra.pki.sealing import Sealer
from palyra.store.memory import MemoryStore
from tests.gateway.house import result_of
from tests.store.samples import DAY_MS, NOW_MS

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def at_once(work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """A thread that is none."""
    return execute(work, *arguments)


class Anchored:
    """Anchoring on a clock and a store in memory, with a sink that may fail."""

    def __init__(self, **section: Any) -> None:
        self.clock = Clock()
        self.clock.advance(NOW_MS / 1000)
        self.store = MemoryStore(now_ms=self.now_ms)
        self.given: list[Head] = []
        self.told: list[Head] = []
        self.trouble: Exception | None = None
        self.rooms = Anchoring(
            log=self.store,
            key=KEY,
            section=AuditSection(**section),
            sinks=[self.sink, self.given.append],
            in_thread=at_once,
            clock=self.clock,
            anchored=self.told.append,
        )

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def sink(self, head: Head) -> None:
        if self.trouble is not None:
            raise self.trouble

    def fill(self, count: int, at_ms: int = NOW_MS) -> None:
        result_of(self.store.record([AuditEntry(at_ms, "n")] * count))

    def anchor(self) -> None:
        result_of(Deferred.fromCoroutine(self.rooms.anchor()))

    def heads(self, kind: HeadKind = HeadKind.ANCHOR) -> list[Head]:
        return result_of(self.store.audit_heads(10, None, [kind]))


@pytest.fixture
def anchored() -> Anchored:
    return Anchored()


def test_the_head_is_signed_and_given_away(anchored: Anchored) -> None:
    """Kept here, given to every sink, told: the same head, which holds."""
    anchored.fill(3)
    anchored.anchor()
    (head,) = anchored.given
    assert anchored.told == anchored.heads() == [head]
    assert (head.seq, head.at_ms, head.kind) == (4, NOW_MS, HeadKind.ANCHOR)
    assert head.holds(KEY.public_key())
    seen = result_of(AuditControl(log=anchored.store, key=KEY).verify())
    assert (seen.anchored_seq, seen.faults) == (4, [])


def test_only_a_head_that_moved_is_given_away(anchored: Anchored) -> None:
    """A quiet gateway writes nothing."""
    anchored.anchor()
    anchored.anchor()
    assert len(anchored.given) == 1
    anchored.fill(1)
    anchored.anchor()
    assert [head.seq for head in anchored.given] == [1, 2]


def test_a_sink_that_fails_does_not_keep_the_others(anchored: Anchored) -> None:
    """It is logged as an error, and asked again with the next head."""
    logged: list[Any] = []
    anchored.trouble = OSError("no space")
    globalLogPublisher.addObserver(logged.append)
    try:
        anchored.anchor()
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert len(anchored.given) == 1
    assert any("is not anchored" in (event.get("log_format") or "") for event in logged)


def test_too_many_rows_are_deleted_in_slices() -> None:
    """Behind a signed segment head; the chain holds from there on."""
    anchored = Anchored(keep_rows=1_000)
    anchored.fill(3 * AT_ONCE)
    rotating = Deferred.fromCoroutine(anchored.rooms.rotate())
    for _ in range(2):
        assert not rotating.called
        anchored.clock.advance(PAUSE_S)
    gone = result_of(rotating)
    page = result_of(anchored.store.audit_rows(AuditQuery(10, after_seq=0)))
    assert gone == 3 * AT_ONCE + 1 - 1_000
    assert page.newest - page.oldest + 1 == 1_000
    (segment,) = anchored.heads(HeadKind.SEGMENT)
    assert segment.holds(KEY.public_key())
    seen = result_of(AuditControl(log=anchored.store, key=KEY).verify())
    assert (seen.first_seq, seen.faults) == (page.oldest, [])


def test_old_rows_are_deleted() -> None:
    """By age too; where none is old there is no segment."""
    anchored = Anchored(keep_days=2)
    anchored.fill(4, NOW_MS)
    assert result_of(Deferred.fromCoroutine(anchored.rooms.rotate())) == 0
    assert anchored.heads(HeadKind.SEGMENT) == []
    anchored.clock.advance(3 * DAY_MS / 1000)
    anchored.fill(1, anchored.now_ms())
    assert result_of(Deferred.fromCoroutine(anchored.rooms.rotate())) == 5


def test_a_stop_ends_the_deleting() -> None:
    """The rest goes after the next start."""
    anchored = Anchored(keep_rows=1_000)
    anchored.fill(3 * AT_ONCE)
    rotating = Deferred.fromCoroutine(anchored.rooms.rotate())
    anchored.rooms.stop()
    anchored.clock.advance(PAUSE_S)
    assert result_of(rotating) == AT_ONCE


def test_the_key_is_the_store_keys() -> None:
    """The same for as long as the store key is, and for nothing else."""
    one, other = (Sealer(bytes([n]) * 32, entropy=bytes) for n in (1, 2))
    assert head_key(one).private_bytes_raw() == head_key(one).private_bytes_raw()
    assert head_key(one).private_bytes_raw() != head_key(other).private_bytes_raw()


# -- refusals ---------------------------------------------------------------------------------


def told(store: MemoryStore) -> list[tuple[str, str, str]]:
    rows = result_of(store.audit_rows(AuditQuery(1_000, action="console.refused", after_seq=0)))
    return [(row.line.reason, row.line.via, row.line.result) for row in rows.rows]


def test_refusals_are_summed_up() -> None:
    """One row for each reason and source, with how often; then the count begins again."""
    store = MemoryStore(now_ms=lambda: NOW_MS)
    refusals = Refusals(log=store, now_ms=lambda: NOW_MS)
    for _ in range(3):
        refusals.refused("rate_limited", "192.0.2.7")
    refusals.refused("not_allowed", "console.sock")
    refusals.refused("rate_limited", "2001:db8::1")
    refusals.refused("rate_limited", "2001:db8::2")
    result_of(Deferred.fromCoroutine(refusals.tell()))
    result_of(Deferred.fromCoroutine(refusals.tell()))
    assert told(store) == [
        ("not_allowed", "console.sock", "denied, 1 time"),
        ("rate_limited", "192.0.2.7", "denied, 3 times"),
        ("rate_limited", "2001:db8::/64", "denied, 2 times"),
    ]


def test_refusals_are_bounded() -> None:
    """Whoever has many addresses makes few rows."""
    store = MemoryStore(now_ms=lambda: NOW_MS)
    refusals = Refusals(log=store, now_ms=lambda: NOW_MS)
    for number in range(2 * MAX_REFUSALS):
        refusals.refused("rate_limited", f"10.0.{number // 256}.{number % 256}")
    result_of(Deferred.fromCoroutine(refusals.tell()))
    assert len(told(store)) == MAX_REFUSALS + 1
    assert ("refused", "other sources", f"denied, {MAX_REFUSALS} times") in told(store)


def test_refusals_that_cannot_be_written_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the next time, together with what came meanwhile."""
    store = MemoryStore(now_ms=lambda: NOW_MS)
    refusals = Refusals(log=store, now_ms=lambda: NOW_MS)
    refusals.refused("not_allowed", "console.sock")

    def full(entries: object) -> Deferred[None]:
        raise DiskFull("the database")

    with monkeypatch.context() as patched:
        patched.setattr(store, "record", full)
        with pytest.raises(DiskFull):
            result_of(Deferred.fromCoroutine(refusals.tell()))
    refusals.refused("not_allowed", "console.sock")
    result_of(Deferred.fromCoroutine(refusals.tell()))
    assert told(store) == [("not_allowed", "console.sock", "denied, 2 times")]
