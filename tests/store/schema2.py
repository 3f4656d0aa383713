"""A database as the second schema kept it, and what an upgrade must make of it."""

from __future__ import annotations

import json
from typing import Any

import attrs
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.sql import column, table

from palyra.core.devices import (
    CertificateState,
    DeviceState,
    Revocation,
    RevokedCertificate,
)
from palyra.core.identifiers import Fingerprint, sha256_hex
from palyra.core.interfaces import RequestQuery
from palyra.core.pairing import CodeMethod, CodeState, RequestState
from palyra.store import directory, migrations, pairinglog, rows, tables
from tests.store.samples import (
    NOW_MS,
    a_certificate,
    a_code,
    a_device,
    a_request,
    an_approval,
    approved,
)

NEW = {
    "sealed_pin",
    "pake_confirm",
    "sealed_key",
    "grant_risk",
    "withheld",
    "rotate_asked_at_ms",
    "rotate_asked_by",
    "contracts",
    "issuer",
    "made_key",
    "device_name",
    "removed_at_ms",
    "removed_by",
    "allowed_at_ms",
}
"""Columns that the second schema did not have."""

CODES = [a_code(name, state=CodeState.USED) for name in ("a", "b")]
REQUESTS = [
    attrs.evolve(approved(a_request(name, code)), state=RequestState.COMPLETED)
    for name, code in zip(("lab-7", "lab-8"), CODES, strict=True)
]
PAIRED = attrs.evolve(a_device(REQUESTS[0]), session_epoch=3)
GONE = attrs.evolve(
    a_device(REQUESTS[1]), state=DeviceState.REVOKED, revoked_at_ms=NOW_MS, revoke_reason="lost"
)
LIVE = a_certificate(REQUESTS[0], state=CertificateState.CURRENT)
DEAD = a_certificate(REQUESTS[1], state=CertificateState.REVOKED)
UNKNOWN = sha256_hex(b"a certificate that nobody kept")


def fill(connection: Connection) -> None:
    """Make the second schema, with two devices, one of them revoked."""
    command.upgrade(migrations.configuration(connection), "0002")
    _insert(connection, tables.pairing_codes, *map(rows.code_row, CODES))
    _insert(connection, tables.pairing_requests, *map(rows.request_row, REQUESTS))
    given = [rows.approval_row(an_approval(each)) for each in REQUESTS]
    _insert(connection, tables.approvals, *given)
    _insert(connection, tables.devices, rows.device_row(PAIRED), rows.device_row(GONE))
    for certificate, request in zip((LIVE, DEAD), REQUESTS, strict=True):
        kept = rows.certificate_row(certificate) | {"request_id": request.request_id}
        _insert(connection, tables.certificates, kept)
    pairs = [[DEAD.fingerprint, DEAD.not_after_ms], [UNKNOWN, NOW_MS]]
    _insert(
        connection,
        tables.revocations,
        _revocation(GONE.identity_fingerprint, json.dumps(pairs)),
        _revocation(sha256_hex(b"an older key"), "[]"),
    )


def check(connection: Connection) -> None:
    """Bring it up to date, and see that everything is there and in its new shape."""
    migrations.upgrade(connection, "old")
    assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    kept = {each.request_id: each for each in pairinglog.list_requests(connection, RequestQuery())}
    assert kept == {each.request_id: each for each in REQUESTS}
    assert [pairinglog.code_by_digest(connection, each.digest) for each in CODES] == CODES
    subjects = connection.scalars(select(tables.approvals.c.subject_id)).all()
    assert set(subjects) == {each.request_id for each in REQUESTS}
    for each in (PAIRED, GONE):
        assert directory.device(connection, each.device_id) == each
    assert directory.certificates_of(connection, PAIRED.device_id) == [LIVE]
    revocations = {
        each.identity_fingerprint: each for each in directory.list_revocations(connection)
    }
    assert len(revocations) == 2
    assert revocations[GONE.identity_fingerprint] == Revocation(
        GONE.device_id,
        GONE.identity_fingerprint,
        (
            RevokedCertificate(DEAD.fingerprint, DEAD.not_after_ms, DEAD.serial),
            RevokedCertificate(UNKNOWN, NOW_MS),
        ),
        NOW_MS,
        "ana",
        "lost",
        device_name="lab-8",
    )
    back = a_request("lab-7", a_code("none"), code_id="", method=CodeMethod.REJOIN)
    pairinglog.open_request(connection, back, an_approval(back))
    assert pairinglog.request(connection, back.request_id) == back


def _revocation(fingerprint: Fingerprint, certificates: str) -> dict[str, Any]:
    return {
        "device_id": GONE.device_id,
        "identity_fingerprint": fingerprint,
        "certificates": certificates,
        "at_ms": NOW_MS,
        "by": "ana",
        "reason": "lost",
    }


def _insert(connection: Connection, new: Table, *values: dict[str, Any]) -> None:
    names = [each.name for each in new.columns if each.name not in NEW]
    old = table(new.name, *map(column, names))
    for row in values:
        connection.execute(insert(old).values({name: row[name] for name in names}))
