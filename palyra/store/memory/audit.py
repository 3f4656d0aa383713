"""The audit chain in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from palyra.core.audit import AuditEntry, AuditPage, AuditRow
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditlog import LOOKED_THROUGH, AuditQuery
from palyra.core.auditverify import Examination
from palyra.store.memory.records import Records, fired


class AuditLog(Records):
    """Provides :class:`palyra.core.auditlog.IAuditLog`."""

    @fired
    def record(self, entries: Sequence[AuditEntry]) -> None:
        self._audit(*entries)

    @fired
    def audit_rows(self, query: AuditQuery) -> AuditPage:
        chain_id = query.chain_id or self._chain.chain_id
        kept = self._rows if chain_id == self._chain.chain_id else []
        behind = _behind(query)
        rows = kept if query.after_seq is not None else kept[::-1]
        looked = [row for row in rows if behind(row)][:LOOKED_THROUGH]
        found = [row for row in looked if _wanted(row, query)]
        page = found[: query.limit]
        cut = len(found) > query.limit or not looked
        end = 0 if not kept else kept[-1].seq if query.after_seq is not None else kept[0].seq
        reached = page[-1].seq if cut and page else looked[-1].seq if looked else end
        hashes = {head.seq: head.hash for head in self._heads.values() if head.chain_id == chain_id}
        hashes |= {row.seq: row.hash for row in kept}
        prev = tuple(self._prev_of(row, hashes) for row in page)
        ends = (kept[0].seq, kept[-1].seq) if kept else (0, 0)
        return AuditPage(tuple(page), prev, reached, *ends)

    @fired
    def examine_audit(self, examination: Examination, limit: int) -> bool:
        kept = self._rows if examination.chain_id == self._chain.chain_id else []
        found = [row for row in kept if row.seq > examination.after][:limit]
        for row in found:
            examination.see(row)
        return len(found) == limit

    @fired
    def audit_head(self) -> Head:
        newest = self._rows[-1] if self._rows else None
        if newest is None:
            return Head(self._chain.chain_id, 0, bytes(32), 0, HeadKind.START)
        return _head_of(newest, HeadKind.START)

    @fired
    def keep_head(self, head: Head, keep: int) -> None:
        self._keep_head(head)
        same = sorted(
            (each for each in self._heads if (each[0], each[2]) == (head.chain_id, head.kind)),
            reverse=True,
        )
        for each in same[keep:]:
            del self._heads[each]

    @fired
    def audit_heads(
        self,
        limit: int,
        before: tuple[str, int] | None,
        kinds: Collection[HeadKind] | None,
    ) -> list[Head]:
        found = sorted(
            self._heads.values(), key=lambda head: (head.chain_id, head.seq), reverse=True
        )
        return [
            head
            for head in found
            if (before is None or (head.chain_id, head.seq) < before)
            and (kinds is None or head.kind in kinds)
        ][:limit]

    @fired
    def cut_audit(self, segment: Head, limit: int) -> int:
        self._keep_head(segment)
        newest = self._rows[-1].seq if self._rows else 0
        gone = [row for row in self._rows if row.seq <= segment.seq and row.seq < newest][:limit]
        self._rows = self._rows[len(gone) :]
        return len(gone)

    @fired
    def forgettable_audit(self, before_ms: int, keep: int) -> Head | None:
        beyond = self._rows[: max(0, len(self._rows) - max(1, keep))]
        old = [row for row in self._rows[:-1] if row.line.at_ms < before_ms]
        if not beyond and not old:
            return None
        return _head_of(max([*beyond, *old], key=lambda row: row.seq), HeadKind.SEGMENT)

    def _keep_head(self, head: Head) -> None:
        self._heads[head.chain_id, head.seq, head.kind] = head

    def _prev_of(self, row: AuditRow, hashes: dict[int, bytes]) -> bytes | None:
        return bytes(32) if row.seq == 1 else hashes.get(row.seq - 1)


def _behind(query: AuditQuery) -> Callable[[AuditRow], bool]:
    after, before = query.after_seq, query.before_seq
    if after is not None:
        return lambda row: row.seq > after
    return lambda row: before is None or row.seq < before


def _wanted(row: AuditRow, query: AuditQuery) -> bool:
    line = row.line
    action = query.action
    of_action = line.action.startswith(action) if action.endswith(".") else line.action == action
    return (
        (not query.who or query.who in (line.who, line.operator_id))
        and (not action or of_action)
        and (not query.subject or line.subject == query.subject)
    )


def _head_of(row: AuditRow, kind: HeadKind) -> Head:
    return Head(row.chain_id, row.seq, row.hash, row.line.at_ms, kind)
