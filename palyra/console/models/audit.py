"""Bodies of ``audit``: the chain of what was done, and whether it holds."""

from __future__ import annotations

import msgspec

from palyra.console.models.common import Contract, Page


class AuditItem(msgspec.Struct, frozen=True):
    """One row: who did what to whom, by which way, and how it ended.

    ``details`` is None where it was erased; ``details_digest`` stays in the chain.  ``prev`` and
    ``hash`` are SHA-256 (hex), ``salt`` is hex and goes with the details.
    """

    chain_id: str
    seq: int
    at_unix_ms: int
    who: str
    operator_id: str
    via: str
    action: str
    subject: str
    subject_name: str
    result: str
    reason: str
    details: dict[str, str | int | bool] | None
    salt: str
    details_digest: str
    prev: str
    hash: str


class AuditList(msgspec.Struct, frozen=True):
    """GET audit: newest first, or (``order=oldest``) oldest first from a number."""

    contract: Contract
    page: Page
    rows: list[AuditItem]


class AuditHead(msgspec.Struct, frozen=True):
    """A signed statement of how far the chain was and what its last row's hash was.

    ``kind`` is anchor (given to the outside), segment (older rows were deleted after it) or start.
    """

    chain_id: str
    seq: int
    hash: str
    at_unix_ms: int
    kind: str
    signature: str


class AuditHeads(msgspec.Struct, frozen=True):
    """GET audit/heads: newest first, with the key (hex) that signs them."""

    contract: Contract
    page: Page
    public_key: str
    heads: list[AuditHead]


class AuditVerification(msgspec.Struct, frozen=True):
    """GET audit/verify.  ``faults`` are sentences, each naming a row; none: the chain holds.

    ``anchored_seq`` is the last row that a head vouches for which was given to the outside.
    """

    contract: Contract
    chain_id: str
    rows: int
    first_seq: int
    last_seq: int
    anchored_seq: int
    anchored_at_unix_ms: int | None
    faults: list[str]
