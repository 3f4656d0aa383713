"""PINs, rejoins, grants by risk, rotation orders, tombstones; who made a certificate and its key.

A request's code may be NULL from here on: a device that comes back by its identity key has none.
SQLite can only make that table anew, and meanwhile nothing may refer to it.  What a revocation
keeps of a certificate was a pair of fingerprint and notAfter; it now has a serial too.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pairing_codes", sa.Column("sealed_pin", sa.LargeBinary(), nullable=True))
    for name in ("pake_confirm", "sealed_key"):
        op.add_column("pairing_requests", sa.Column(name, sa.LargeBinary(), nullable=True))
    op.add_column("pairing_requests", _text("grant_risk", "low"))
    _let_code_be_null()
    op.add_column("devices", _text("grant_risk", "low"))
    op.add_column("devices", _text("withheld", "[]"))
    op.add_column("devices", sa.Column("rotate_asked_at_ms", sa.BigInteger(), nullable=True))
    op.add_column("devices", _text("rotate_asked_by"))
    for name in ("device", "code"):
        op.create_index(f"pairing_requests_by_{name}", "pairing_requests", [f"{name}_id"])
    op.add_column("certificates", sa.Column("issuer", sa.Text(), nullable=True))
    op.add_column(
        "certificates",
        sa.Column("made_key", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    for name in ("device_name", "removed_by"):
        op.add_column("revocations", _text(name))
    for name in ("removed_at_ms", "allowed_at_ms"):
        op.add_column("revocations", sa.Column(name, sa.BigInteger(), nullable=True))
    _name_revoked_devices()
    _widen_revoked_certificates()


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default=default)


def _let_code_be_null() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("pairing_requests", "code_id", existing_type=sa.Text(), nullable=True)
        return
    # Dropping a table deletes its rows first, which rows that refer to them would forbid.
    op.execute("CREATE TABLE approvals_aside AS SELECT * FROM approvals")
    op.execute("DELETE FROM approvals")
    with op.batch_alter_table("pairing_requests") as batch:
        batch.alter_column("code_id", existing_type=sa.Text(), nullable=True)
    op.execute("INSERT INTO approvals SELECT * FROM approvals_aside")
    op.execute("DROP TABLE approvals_aside")


def _name_revoked_devices() -> None:
    op.execute(
        "UPDATE revocations SET device_name = COALESCE("
        "(SELECT name FROM devices WHERE devices.device_id = revocations.device_id), '')"
    )


def _widen_revoked_certificates() -> None:
    revocations = sa.table(
        "revocations",
        *map(sa.column, ("device_id", "identity_fingerprint", "certificates")),
    )
    connection, column = op.get_bind(), revocations.c
    for row in connection.execute(sa.select(revocations)).all():
        pairs = json.loads(row.certificates)
        widened = [_widened(connection, fingerprint, end) for fingerprint, end in pairs]
        connection.execute(
            sa.update(revocations)
            .where(
                column.device_id == row.device_id,
                column.identity_fingerprint == row.identity_fingerprint,
            )
            .values(certificates=json.dumps(widened))
        )


def _widened(connection: sa.Connection, fingerprint: str, not_after_ms: int) -> dict[str, Any]:
    certificates = sa.table("certificates", *map(sa.column, ("fingerprint", "serial")))
    its = certificates.c.fingerprint == fingerprint
    serial = connection.scalar(sa.select(certificates.c.serial).where(its))
    return {
        "fingerprint": fingerprint,
        "not_after_ms": not_after_ms,
        "serial": serial or "",
        "issuer": None,
    }
