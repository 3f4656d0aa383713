"""Operators, approvals of calls, the audit chain, and webhooks under way."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, Table, Text, text

from palyra.store.tables.columns import (
    flag_column,
    maybe_bytes,
    maybe_number,
    maybe_text,
    metadata,
    number_column,
    text_column,
)

operators = Table(
    "operators",
    metadata,
    Column("operator_id", Text, primary_key=True),
    text_column("name"),
    text_column("role"),
    number_column("created_at_ms"),
    text_column("created_by"),
    text_column("owner"),
    text_column("state"),
    maybe_number("revoked_at_ms"),
    text_column("revoked_by"),
    text_column("revoke_reason"),
)

operator_certificates = Table(
    "operator_certificates",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("operator_id", Text, ForeignKey("operators.operator_id"), nullable=False),
    text_column("serial"),
    text_column("pem"),
    text_column("csr_digest"),
    number_column("not_before_ms"),
    number_column("not_after_ms"),
    number_column("issued_at_ms"),
    text_column("issuer"),
    Index("operator_certificates_by_operator", "operator_id"),
)

operator_invitations = Table(
    "operator_invitations",
    metadata,
    Column("token_digest", Text, primary_key=True),
    text_column("name"),
    text_column("role"),
    text_column("invited_by"),
    number_column("created_at_ms"),
    number_column("expires_at_ms"),
    text_column("owner"),
    text_column("state"),
    text_column("operator_id"),
    text_column("csr_digest"),
)

call_approvals = Table(
    "call_approvals",
    metadata,
    Column("approval_id", Text, primary_key=True),
    text_column("digest"),
    text_column("repeat_digest"),
    text_column("operator_id"),
    text_column("requested_by"),
    text_column("person"),
    text_column("browser_session"),
    text_column("capability"),
    text_column("risk"),
    Column("input_json", LargeBinary, nullable=False),
    number_column("max_payload_bytes"),
    number_column("run_timeout_ms"),
    maybe_number("queue_ttl_ms"),
    text_column("idempotency_key"),
    text_column("rule_id"),
    text_column("rule_names"),
    text_column("approvers"),
    flag_column("four_eyes"),
    text_column("scopes"),
    number_column("created_at_ms"),
    number_column("expires_at_ms"),
    text_column("state"),
    text_column("decided_by"),
    text_column("decided_by_id"),
    maybe_number("decided_at_ms"),
    text_column("reason"),
    text_column("scope"),
    maybe_number("standing_until_ms"),
    Index("call_approvals_by_state", "state", "approval_id"),
    Index("call_approvals_by_repeat", "repeat_digest"),
)

call_targets = Table(
    "call_targets",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("approval_id", Text, ForeignKey("call_approvals.approval_id"), nullable=False),
    number_column("position"),
    text_column("device_id"),
    text_column("device_name"),
    text_column("identity_fingerprint"),
    text_column("descriptor_digest"),
    maybe_number("consumed_at_ms"),
    Index("call_targets_by_approval", "approval_id", "position"),
    sqlite_with_rowid=False,
)

OF_DEVICE = text("substr(subject, 1, 7) = 'device:'")
"""Over this rows about devices have an index of their own: the many about jobs stay out of it."""

audit = Table(
    "audit",
    metadata,
    Column("chain_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    number_column("at_ms"),
    text_column("operator_id"),
    text_column("who"),
    text_column("via"),
    text_column("action"),
    text_column("subject"),
    text_column("subject_name"),
    text_column("result"),
    text_column("reason"),
    maybe_bytes("salt"),
    maybe_text("details"),
    Column("details_digest", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Index(
        "audit_of_devices",
        "subject",
        "seq",
        sqlite_where=OF_DEVICE,
        postgresql_where=OF_DEVICE,
    ),
    sqlite_with_rowid=False,
)

audit_heads = Table(
    "audit_heads",
    metadata,
    Column("chain_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    number_column("at_ms"),
    Column("signature", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    text_column("target"),
    text_column("event"),
    Column("body", LargeBinary, nullable=False),
    number_column("created_at_ms"),
    number_column("tries"),
    number_column("next_try_at_ms"),
    Index("webhooks_by_time", "next_try_at_ms"),
)
