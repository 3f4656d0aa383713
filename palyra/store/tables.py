"""The tables, as SQLAlchemy Core sees them.  Times are Unix milliseconds, JSON is text.

No session id and no token is here in clear: both are found by their SHA-256.  A job is unfinished
exactly while ``finished_at_ms`` is NULL; the partial index on it stays as small as what is running,
however long the history grows.  A job's input is NULL where it is its fan-out's.  A pairing
request's code is NULL where a device came back without one.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData()


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _text_or(name: str, default: str = "") -> Column[str]:
    """A text that rows of an older schema do not have."""
    return Column(name, Text, nullable=False, server_default=default)


def _maybe_text(name: str) -> Column[str]:
    return Column(name, Text)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _maybe_number(name: str) -> Column[int]:
    return Column(name, BigInteger)


def _maybe_bytes(name: str) -> Column[bytes]:
    """Bytes that may be absent, or were erased: NULL."""
    return Column(name, LargeBinary)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _flag_or_not(name: str) -> Column[bool]:
    """A flag that rows of an older schema do not have."""
    return Column(name, Boolean, nullable=False, server_default=false())


meta = Table("meta", metadata, Column("key", Text, primary_key=True), _text("value"))

pairing_codes = Table(
    "pairing_codes",
    metadata,
    Column("code_id", Text, primary_key=True),
    _text("method"),
    _text("digest"),
    _text("issued_by"),
    _number("issued_at_ms"),
    _number("expires_at_ms"),
    _text("labels"),
    _text("source"),
    _maybe_number("nameplate"),
    _text("state"),
    _number("reserved"),
    _number("failed"),
    _maybe_bytes("sealed_pin"),
    Index("pairing_codes_by_digest", "digest"),
    Index("pairing_codes_by_state", "state"),
)

pairing_requests = Table(
    "pairing_requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    _text("session_digest"),
    _text("device_id"),
    _text("client_kind"),
    _text("name"),
    _text("platform"),
    _text("version"),
    _text("source"),
    Column("identity_public", LargeBinary, nullable=False),
    Column("csr_der", LargeBinary, nullable=False),
    _text("capabilities"),
    _text("transcript_hash"),
    _text("digest"),
    Column("code_id", Text, ForeignKey("pairing_codes.code_id")),
    _text("method"),
    _text("issued_by"),
    _number("issued_at_ms"),
    _text("labels"),
    _text("approval_id"),
    _number("created_at_ms"),
    _number("expires_at_ms"),
    _text("identity_fingerprint"),
    _text("state"),
    _text("decided_by"),
    _maybe_number("decided_at_ms"),
    _text("reason"),
    _text("grants"),
    _text_or("grant_risk", "low"),
    _maybe_bytes("pake_confirm"),
    _maybe_bytes("sealed_key"),
    Index("pairing_requests_by_session", "session_digest", unique=True),
    Index("pairing_requests_by_state", "state", "request_id"),
    Index("pairing_requests_by_device", "device_id"),
    Index("pairing_requests_by_code", "code_id"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("approval_id", Text, primary_key=True),
    _text("kind"),
    Column("subject_id", Text, ForeignKey("pairing_requests.request_id"), nullable=False),
    _text("digest"),
    _number("created_at_ms"),
    _number("expires_at_ms"),
    _text("state"),
    _text("decided_by"),
    _maybe_number("decided_at_ms"),
    _text("reason"),
    Index("approvals_by_subject", "subject_id"),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", Text, primary_key=True),
    _text("client_kind"),
    _text("name"),
    _text("platform"),
    _text("version"),
    Column("identity_public", LargeBinary, nullable=False),
    _text("identity_fingerprint"),
    _text("grants"),
    _text("capabilities"),
    _text("labels"),
    _text("approved_by"),
    _number("paired_at_ms"),
    _text("state"),
    _maybe_number("revoked_at_ms"),
    _text("revoke_reason"),
    _text("gateway_id"),
    _number("session_epoch"),
    _text("memory_id"),
    _maybe_number("last_heard_ms"),
    _text("transport"),
    _text("address"),
    _text_or("grant_risk", "low"),
    _text_or("withheld", "[]"),
    _maybe_number("rotate_asked_at_ms"),
    _text_or("rotate_asked_by"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("device_id", Text, ForeignKey("devices.device_id"), nullable=False),
    _text("serial"),
    _text("pem"),
    _text("csr_digest"),
    _number("not_before_ms"),
    _number("not_after_ms"),
    _number("issued_at_ms"),
    _text("state"),
    _maybe_text("request_id"),
    _maybe_text("issuer"),
    _flag_or_not("made_key"),
    Index("certificates_by_device", "device_id"),
    Index("certificates_by_end", "not_after_ms"),
    Index("certificates_by_request", "request_id", unique=True),
)

revocations = Table(
    "revocations",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("identity_fingerprint", Text, primary_key=True),
    _text("certificates"),
    _number("at_ms"),
    _text("by"),
    _text("reason"),
    _text_or("device_name"),
    _maybe_number("removed_at_ms"),
    _text_or("removed_by"),
    _maybe_number("allowed_at_ms"),
    Index("revocations_by_key", "identity_fingerprint"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    _text("device_id"),
    _text("device_name"),
    _text("capability"),
    Column("input_json", LargeBinary),
    _text("requested_by"),
    _number("submitted_at_ms"),
    _number("run_timeout_ms"),
    _number("max_payload_bytes"),
    _flag("idempotent"),
    _flag("needs_mediation"),
    _maybe_number("queue_expires_at_ms"),
    _maybe_text("idempotency_key"),
    _maybe_text("fanout_id"),
    _text_or("operator_id"),
    _maybe_text("approval_id"),
    _text("state"),
    _maybe_text("attempt_id"),
    _number("attempts"),
    _maybe_number("deadline_ms"),
    _text("waiting_for"),
    _maybe_number("retry_at_ms"),
    _maybe_number("cancel_requested_at_ms"),
    _text_or("cancel_requested_by"),
    _text_or("cancel_reason"),
    _maybe_number("finished_at_ms"),
    Column("output_json", LargeBinary),
    _text("error_code"),
    _text("error"),
    _flag("effect_possible"),
    _maybe_number("took_ms"),
)
_UNFINISHED = jobs.c.finished_at_ms.is_(None)
Index(
    "jobs_unfinished",
    jobs.c.device_id,
    jobs.c.job_id,
    sqlite_where=_UNFINISHED,
    postgresql_where=_UNFINISHED,
)
Index("jobs_by_device", jobs.c.device_id, jobs.c.job_id)
_OF_FANOUT = jobs.c.fanout_id.is_not(None)
Index(
    "jobs_by_fanout",
    jobs.c.fanout_id,
    jobs.c.job_id,
    sqlite_where=_OF_FANOUT,
    postgresql_where=_OF_FANOUT,
)

attempts = Table(
    "attempts",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column("job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    _number("number"),
    _text("gateway_id"),
    _number("session_epoch"),
    _text("memory_id"),
    _number("dispatched_at_ms"),
    _number("deadline_ms"),
    Index("attempts_by_job", "job_id"),
    sqlite_with_rowid=False,
)

job_notes = Table(
    "job_notes",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.job_id"), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    _text("attempt_id"),
    _text("outcome"),
    Column("output_json", LargeBinary, nullable=False),
    _text("error_code"),
    _text("error"),
    _flag("stopped"),
    _number("took_ms"),
    sqlite_with_rowid=False,
)

fanouts = Table(
    "fanouts",
    metadata,
    Column("fanout_id", Text, primary_key=True),
    _text("requested_by"),
    _text("capability"),
    Column("input_json", LargeBinary, nullable=False),
    _text("expression"),
    _number("submitted_at_ms"),
    _number("targets"),
    _maybe_number("batch"),
    _maybe_number("max_failures"),
    _maybe_text("approval_id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _text("digest"),
    Column("job_id", Text, ForeignKey("jobs.job_id")),
    Column("fanout_id", Text, ForeignKey("fanouts.fanout_id")),
    _number("created_at_ms"),
    Index("idempotency_keys_by_job", "job_id"),
    Index("idempotency_keys_by_fanout", "fanout_id"),
    sqlite_with_rowid=False,
)

journal = Table(
    "journal",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    _number("at_ms"),
    _text("kind"),
    _text("details"),
    sqlite_with_rowid=False,
)

operators = Table(
    "operators",
    metadata,
    Column("operator_id", Text, primary_key=True),
    _text("name"),
    _text("role"),
    _number("created_at_ms"),
    _text("created_by"),
    _text("owner"),
    _text("state"),
    _maybe_number("revoked_at_ms"),
    _text("revoked_by"),
    _text("revoke_reason"),
)

operator_certificates = Table(
    "operator_certificates",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("operator_id", Text, ForeignKey("operators.operator_id"), nullable=False),
    _text("serial"),
    _text("pem"),
    _text("csr_digest"),
    _number("not_before_ms"),
    _number("not_after_ms"),
    _number("issued_at_ms"),
    _text("issuer"),
    Index("operator_certificates_by_operator", "operator_id"),
)

operator_invitations = Table(
    "operator_invitations",
    metadata,
    Column("token_digest", Text, primary_key=True),
    _text("name"),
    _text("role"),
    _text("invited_by"),
    _number("created_at_ms"),
    _number("expires_at_ms"),
    _text("owner"),
    _text("state"),
    _text("operator_id"),
    _text("csr_digest"),
)

call_approvals = Table(
    "call_approvals",
    metadata,
    Column("approval_id", Text, primary_key=True),
    _text("digest"),
    _text("repeat_digest"),
    _text("operator_id"),
    _text("requested_by"),
    _text("person"),
    _text("browser_session"),
    _text("capability"),
    _text("risk"),
    Column("input_json", LargeBinary, nullable=False),
    _number("max_payload_bytes"),
    _number("run_timeout_ms"),
    _maybe_number("queue_ttl_ms"),
    _text("idempotency_key"),
    _text("rule_id"),
    _text("approvers"),
    _flag("four_eyes"),
    _text("scopes"),
    _number("created_at_ms"),
    _number("expires_at_ms"),
    _text("state"),
    _text("decided_by"),
    _maybe_number("decided_at_ms"),
    _text("reason"),
    _text("scope"),
    _maybe_number("standing_until_ms"),
    Index("call_approvals_by_state", "state", "approval_id"),
    Index("call_approvals_by_repeat", "repeat_digest"),
)

call_targets = Table(
    "call_targets",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("approval_id", Text, ForeignKey("call_approvals.approval_id"), nullable=False),
    _number("position"),
    _text("device_id"),
    _text("device_name"),
    _text("identity_fingerprint"),
    _text("descriptor_digest"),
    _maybe_number("consumed_at_ms"),
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
    _number("at_ms"),
    _text("operator_id"),
    _text("who"),
    _text("via"),
    _text("action"),
    _text("subject"),
    _text("subject_name"),
    _text("result"),
    _text("reason"),
    _maybe_bytes("salt"),
    _maybe_text("details"),
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
    _number("at_ms"),
    Column("signature", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    _text("target"),
    _text("event"),
    Column("body", LargeBinary, nullable=False),
    _number("created_at_ms"),
    _number("tries"),
    _number("next_try_at_ms"),
    Index("webhooks_by_time", "next_try_at_ms"),
)
