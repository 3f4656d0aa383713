"""Verifying the audit chain: by the gateway, from its file while it does not run, or an export."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, TextIO

import click
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from palyra.cli import auditlines
from palyra.cli.client import Console
from palyra.cli.options import Call
from palyra.console.models import (
    AuditHeads,
    AuditItem,
    AuditList,
    AuditVerification,
    Contract,
)
from palyra.core.audit import AuditRow, Line
from palyra.core.audithead import KEY_PURPOSE, Head, anchors_in
from palyra.core.auditverify import MAX_FAULTS, Examination, Verdict
from palyra.errors import GatewayNotRunning, NoGatewayState, PalyraError

PATIENCE_MS = 3_600_000
"""How long the gateway may look through its chain."""
COMPARED = 20
"""Anchors that are compared with a running gateway's rows, the newest: each proves all before it,
since the rows hang together."""
_encode = msgspec.json.Encoder(order="deterministic").encode


def verify(call: Call, anchors: TextIO | None, file: BinaryIO | None) -> int:
    """Verify and say what was found; the exit code."""
    given = [*anchors_in(anchors)] if anchors is not None else []
    if anchors is not None and not given:
        raise click.UsageError(f"there is no anchor in {anchors.name}")
    notes: list[str] = []
    if file is not None:
        seen = _of(_export(file, given))
        notes.append("signatures of anchors were not checked: an export has no key")
    else:
        try:
            seen = _asked(call.console, given)
        except GatewayNotRunning:
            seen = _read(call, given, notes)
    auditlines.show_verdict(call.screen, seen, notes, outside=bool(given))
    return 1 if seen.faults else 0


def _asked(console: Console, given: Sequence[Head]) -> AuditVerification:
    """What the gateway says, and its rows compared with the anchors from elsewhere."""
    seen = console.patiently("audit/verify", AuditVerification, PATIENCE_MS).value
    if not given:
        return seen
    public = console.get("audit/heads", AuditHeads, 0, limit=1).value.public_key
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    faults = [*seen.faults]
    anchored, at_ms = seen.anchored_seq, seen.anchored_at_unix_ms
    for head in sorted(_proper(given, key, faults), key=lambda head: head.seq)[-COMPARED:]:
        fault = _compared(console, head, seen)
        if fault:
            faults.append(fault)
        elif head.chain_id == seen.chain_id and head.seq > anchored:
            anchored, at_ms = head.seq, head.at_ms
    return msgspec.structs.replace(
        seen, faults=faults[:MAX_FAULTS], anchored_seq=anchored, anchored_at_unix_ms=at_ms
    )


def _proper(given: Iterable[Head], key: Ed25519PublicKey, faults: list[str]) -> Iterator[Head]:
    for head in given:
        if head.holds(key):
            yield head
        else:
            faults.append(
                f"an anchor for row {head.seq} has a signature that is not this gateway's"
            )


def _compared(console: Console, head: Head, seen: AuditVerification) -> str:
    """What is wrong between an anchor and the row it is about; empty where nothing is."""
    of_present = head.chain_id == seen.chain_id
    if of_present and head.seq < seen.first_seq:
        return ""  # its row was deleted when its time was over
    rows = console.get(
        "audit", AuditList, 0, limit=1, chain=head.chain_id, after_seq=max(0, head.seq - 1)
    ).value.rows
    if not rows:
        if not of_present:
            return "" if seen.first_seq > 1 else f"chain {head.chain_id} was anchored and is gone"
        return f"rows {seen.last_seq + 1} to {head.seq} are missing: row {head.seq} was anchored"
    if (rows[0].seq, rows[0].hash) != (head.seq, head.hash.hex()):
        return f"row {head.seq} is not the one that was anchored"
    return ""


def _read(call: Call, given: Sequence[Head], notes: list[str]) -> AuditVerification:
    """The record of a gateway that does not run."""
    from palyra.store.auditfile import verified  # here: it takes its time to import
    from palyra.store.gathering import DATABASE

    path = call.state_root / DATABASE
    if not path.exists():
        raise NoGatewayState(str(call.state_root))
    key = _own_key(call)
    if key is None:
        notes.append("signatures of anchors were not checked: the store key cannot be read")
    verdict = verified(path, given, key)
    if verdict is None:
        raise NoGatewayState(str(call.state_root))
    return _of(verdict)


def _own_key(call: Call) -> Ed25519PublicKey | None:
    from palyra.config import load
    from palyra.pki.sealing import Sealer
    from palyra.pki.storekey import load_store_key
    from palyra.store.gathering import CONFIG, IDENTITY

    try:
        configured = load(call.state_root / CONFIG).gateway.store_key_file
        key_file = call.state_root / configured if configured else None
        key = load_store_key(call.state_root / IDENTITY, store_key_file=key_file)
    except (PalyraError, OSError):
        return None
    secret = Sealer(key, entropy=os.urandom).derived(KEY_PURPOSE)
    return Ed25519PrivateKey.from_private_bytes(secret).public_key()


def _export(file: BinaryIO, given: Sequence[Head]) -> Verdict:
    """An export's rows; where it does not begin with row 1, its first row is taken as it is."""
    examination: Examination | None = None
    for item in _items(file):
        if examination is None:
            before = None
            if item.seq > 1:
                before = Head(item.chain_id, item.seq - 1, _bytes(item.prev), 0)
            examination = Examination(item.chain_id, segment=before, anchors=given)
        examination.see(_row(item))
    if examination is None:
        raise click.UsageError("the export has no rows")
    return examination.finish()


def _items(file: BinaryIO) -> Iterator[AuditItem]:
    decode = msgspec.json.Decoder(AuditItem).decode
    for number, line in enumerate(file, start=1):
        try:
            yield decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise click.UsageError(f"line {number} is not a row of an export") from error


def _row(item: AuditItem) -> AuditRow:
    """An exported row as it was kept."""
    erased = item.details is None or not (item.details or item.salt)
    line = Line(
        item.at_unix_ms,
        item.operator_id,
        item.who,
        item.via,
        item.action,
        item.subject,
        item.subject_name,
        item.result,
        item.reason,
        None if erased or not item.salt else _bytes(item.salt),
        None if erased else _encode(item.details).decode(),
        _bytes(item.details_digest),
    )
    return AuditRow(item.chain_id, item.seq, line, _bytes(item.hash))


def _bytes(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return digits.encode()  # no hash of ours: the row will not hold


def _of(verdict: Verdict) -> AuditVerification:
    return AuditVerification(
        contract=Contract(),
        chain_id=verdict.chain_id,
        rows=verdict.rows,
        first_seq=verdict.first_seq,
        last_seq=verdict.last_seq,
        anchored_seq=verdict.anchored_seq,
        anchored_at_unix_ms=verdict.anchored_at_ms,
        faults=[*verdict.faults],
    )
