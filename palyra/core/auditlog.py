"""What the core needs of the store for the audit chain (:mod:`palyra.core.audit`)."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence

import attrs
from zope.interface import Interface

from palyra.core.audit import AuditEntry, AuditPage
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditverify import Examination

LOOKED_THROUGH = 20_000
"""Rows that a page with a filter looks at, at most."""
SEGMENTS_KEPT = 100
"""Signed heads of deleted rows that are kept, the newest: one is enough to go on from."""


@attrs.frozen
class AuditQuery:
    """Which rows to read; an empty text does not filter.

    ``action`` that ends in a dot is the beginning of many.  ``after_seq`` reads oldest first,
    behind that row; ``before_seq`` newest first, before it (None: from the newest).  An empty
    ``chain_id`` is the present chain.
    """

    limit: int
    chain_id: str = ""
    after_seq: int | None = None
    before_seq: int | None = None
    who: str = ""
    action: str = ""
    subject: str = ""

    @property
    def filters(self) -> bool:
        """Whether rows must be looked at one by one."""
        return bool(self.who or self.action or self.subject)


class IAuditLog(Interface):
    """The chain of what was done.  The other logs write it, each row in the transaction of its
    change: what is answered is on it."""

    def record(entries: Sequence[AuditEntry]) -> Awaitable[None]:
        """Keep what happened in nobody's transaction.

        Who acts is, where an entry does not say, whoever this is called for
        (:func:`palyra.core.audit.acting`).
        """

    def audit_rows(query: AuditQuery) -> Awaitable[AuditPage]:
        """A page of rows.  With a filter LOOKED_THROUGH rows are looked at, at most; those about a
        device (``subject``) alone are all found."""

    def examine_audit(examination: Examination, limit: int) -> Awaitable[bool]:
        """Have ``examination`` see the next ``limit`` rows of its chain, beside the reactor;
        whether there may be more.  Nobody else may touch it meanwhile."""

    def audit_head() -> Awaitable[Head]:
        """How far the present chain is; its kind is START, its signature empty."""

    def keep_head(head: Head, keep: int) -> Awaitable[None]:
        """Keep a signed head; of its kind and chain only the ``keep`` newest stay."""

    def audit_heads(
        limit: int, before: tuple[str, int] | None, kinds: Collection[HeadKind] | None
    ) -> Awaitable[list[Head]]:
        """Signed heads, newest first: before a chain and number; None: from the newest, and of
        every kind."""

    def cut_audit(segment: Head, limit: int) -> Awaitable[int]:
        """Keep ``segment`` and delete the oldest rows up to and with its own; at most ``limit`` in
        one transaction, then those of older chains.  How many were deleted: fewer than ``limit``
        once all are.

        The newest row of the chain is never deleted.
        """

    def forgettable_audit(before_ms: int, keep: int) -> Awaitable[Head | None]:
        """The last row that is older than ``before_ms`` or not of the ``keep`` newest, as an
        unsigned head of kind SEGMENT; None where there is none."""
