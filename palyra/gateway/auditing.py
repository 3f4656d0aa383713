"""What operators ask about the audit chain: its rows, its signed heads, and whether it holds."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.defer import Deferred
from zope.interface import implementer

from palyra.console import models
from palyra.console.control import AuditFilter, IAuditControl
from palyra.core.audit import AuditRow, details_of
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditlog import AuditQuery, IAuditLog
from palyra.core.auditverify import Lineage
from palyra.core.identifiers import is_ulid
from palyra.errors import Malformed
from palyra.gateway.views import CONTRACT

SLICE = 2_000
"""Rows that one turn of verifying reads: other reads wait no longer than that takes."""
ALL = 1_000_000


@implementer(IAuditControl)
class AuditControl:
    """Provides IAuditControl over the store; ``key`` signs heads."""

    def __init__(self, *, log: IAuditLog, key: Ed25519PrivateKey) -> None:
        self._log = log
        self._public = key.public_key()

    def rows(
        self, which: AuditFilter, limit: int, cursor: str | None
    ) -> Deferred[models.AuditList]:
        return Deferred.fromCoroutine(self._rows(which, limit, cursor))

    async def _rows(self, which: AuditFilter, limit: int, cursor: str | None) -> models.AuditList:
        upward = which.after_seq is not None
        began = None if cursor is None else _number(cursor)
        page = await self._log.audit_rows(
            AuditQuery(
                limit=limit,
                chain_id=which.chain_id,
                after_seq=which.after_seq if began is None or not upward else began,
                before_seq=None if upward else began,
                who=which.who,
                action=which.action,
                subject=which.subject,
            )
        )
        more = page.reached < page.newest if upward else page.reached > page.oldest
        items = [_item(row, prev) for row, prev in zip(page.rows, page.prev, strict=True)]
        following = str(page.reached) if more else None
        return models.AuditList(CONTRACT, models.Page(limit, len(items), more, following), items)

    def heads(self, limit: int, cursor: str | None) -> Deferred[models.AuditHeads]:
        return Deferred.fromCoroutine(self._heads(limit, cursor))

    async def _heads(self, limit: int, cursor: str | None) -> models.AuditHeads:
        before = None if cursor is None else _place(cursor)
        found = await self._log.audit_heads(limit + 1, before, None)
        more, found = len(found) > limit, found[:limit]
        following = f"{found[-1].chain_id}-{found[-1].seq}" if more else None
        return models.AuditHeads(
            CONTRACT,
            models.Page(limit, len(found), more, following),
            self._public.public_bytes_raw().hex(),
            [_head(each) for each in found],
        )

    def verify(self) -> Deferred[models.AuditVerification]:
        return Deferred.fromCoroutine(self._verify())

    async def _verify(self) -> models.AuditVerification:
        lineage = Lineage(
            (await self._log.audit_head()).chain_id,
            segments=await self._log.audit_heads(ALL, None, [HeadKind.SEGMENT]),
            anchors=await self._log.audit_heads(ALL, None, [HeadKind.ANCHOR]),
            key=self._public,
        )
        while (examination := lineage.current) is not None:
            while await self._log.examine_audit(examination, SLICE):
                pass
            lineage.advance()
        seen = lineage.verdict()
        return models.AuditVerification(
            contract=CONTRACT,
            chain_id=seen.chain_id,
            rows=seen.rows,
            first_seq=seen.first_seq,
            last_seq=seen.last_seq,
            anchored_seq=seen.anchored_seq,
            anchored_at_unix_ms=seen.anchored_at_ms,
            faults=[*seen.faults],
        )


def _item(row: AuditRow, prev: bytes | None) -> models.AuditItem:
    line = row.line
    try:
        details = details_of(line)
    except ValueError:  # somebody wrote into the database: verifying names the row
        details = None
    return models.AuditItem(
        chain_id=row.chain_id,
        seq=row.seq,
        at_unix_ms=line.at_ms,
        who=line.who,
        operator_id=line.operator_id,
        via=line.via,
        action=line.action,
        subject=line.subject,
        subject_name=line.subject_name,
        result=line.result,
        reason=line.reason,
        details=details,
        salt="" if line.salt is None else line.salt.hex(),
        details_digest=line.details_digest.hex(),
        prev="" if prev is None else prev.hex(),
        hash=row.hash.hex(),
    )


def _head(head: Head) -> models.AuditHead:
    return models.AuditHead(
        head.chain_id,
        head.seq,
        head.hash.hex(),
        head.at_ms,
        head.kind.value,
        head.signature.hex(),
    )


def _number(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise Malformed("cursor", "is not one that a list gave")
    return int(cursor)


def _place(cursor: str) -> tuple[str, int]:
    chain_id, _, seq = cursor.partition("-")
    if not is_ulid(chain_id):
        raise Malformed("cursor", "is not one that a list gave")
    return chain_id, _number(seq)
