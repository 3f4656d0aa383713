"""The audit chain of a gateway that does not run: its SQLite file, opened to read only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from palyra.core.audit import AuditRow, Line
from palyra.core.audithead import Head, HeadKind
from palyra.core.auditverify import Lineage, Verdict
from palyra.store.audit import CHAIN
from palyra.store.faults import translated
from palyra.store.opening import read_only


def verified(path: Path, anchors: Iterable[Head], key: Ed25519PublicKey | None) -> Verdict | None:
    """Whether the chain in the file holds; None where it has none.

    ``anchors`` are looked at besides those that the file has itself.

    :raises palyra.errors.StoreCorrupt: it is no database, or damaged.
    """
    try:
        with read_only(path) as raw:
            return _verified(raw, anchors, key)
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error


def _verified(
    raw: sqlite3.Connection, anchors: Iterable[Head], key: Ed25519PublicKey | None
) -> Verdict | None:
    found = raw.execute("SELECT value FROM meta WHERE key = ?", (CHAIN,)).fetchone()
    if found is None:
        return None
    heads = [
        Head(chain_id, seq, hashed, at_ms, HeadKind(kind), signature)
        for chain_id, seq, kind, hashed, at_ms, signature in raw.execute(
            "SELECT chain_id, seq, kind, hash, at_ms, signature FROM audit_heads"
        )
    ]
    lineage = Lineage(
        found[0],
        segments=[head for head in heads if head.kind is HeadKind.SEGMENT],
        anchors=[*(head for head in heads if head.kind is HeadKind.ANCHOR), *anchors],
        key=key,
    )
    while (examination := lineage.current) is not None:
        statement = "SELECT * FROM audit WHERE chain_id = ? AND seq > ? ORDER BY seq"
        for chain_id, seq, *line, hashed in raw.execute(
            statement, (examination.chain_id, examination.after)
        ):
            examination.see(AuditRow(chain_id, seq, Line(*line), hashed))
        lineage.advance()
    return lineage.verdict()
