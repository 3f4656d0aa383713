"""Jobs, their attempts and late reports, fan-outs, idempotency keys."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, Table, Text

from palyra.store.tables.columns import (
    flag_column,
    maybe_number,
    maybe_text,
    metadata,
    number_column,
    text_column,
    text_or,
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    text_column("device_id"),
    text_column("device_name"),
    text_column("capability"),
    Column("input_json", LargeBinary),
    text_column("requested_by"),
    number_column("submitted_at_ms"),
    number_column("run_timeout_ms"),
    number_column("max_payload_bytes"),
    flag_column("idempotent"),
    flag_column("needs_mediation"),
    maybe_number("queue_expires_at_ms"),
    maybe_text("idempotency_key"),
    maybe_text("fanout_id"),
    text_or("operator_id"),
    maybe_text("approval_id"),
    text_column("state"),
    maybe_text("attempt_id"),
    number_column("attempts"),
    maybe_number("deadline_ms"),
    text_column("waiting_for"),
    maybe_number("retry_at_ms"),
    maybe_number("cancel_requested_at_ms"),
    text_or("cancel_requested_by"),
    text_or("cancel_reason"),
    maybe_number("finished_at_ms"),
    Column("output_json", LargeBinary),
    text_column("error_code"),
    text_column("error"),
    flag_column("effect_possible"),
    maybe_number("took_ms"),
    maybe_text("mediation"),
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
    number_column("number"),
    text_column("gateway_id"),
    number_column("session_epoch"),
    text_column("memory_id"),
    number_column("dispatched_at_ms"),
    number_column("deadline_ms"),
    Index("attempts_by_job", "job_id"),
    sqlite_with_rowid=False,
)

job_notes = Table(
    "job_notes",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.job_id"), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    text_column("attempt_id"),
    text_column("outcome"),
    Column("output_json", LargeBinary, nullable=False),
    text_column("error_code"),
    text_column("error"),
    flag_column("stopped"),
    number_column("took_ms"),
    sqlite_with_rowid=False,
)

fanouts = Table(
    "fanouts",
    metadata,
    Column("fanout_id", Text, primary_key=True),
    text_column("requested_by"),
    text_column("capability"),
    Column("input_json", LargeBinary, nullable=False),
    text_column("expression"),
    number_column("submitted_at_ms"),
    number_column("targets"),
    maybe_number("batch"),
    maybe_number("max_failures"),
    maybe_text("approval_id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    text_column("digest"),
    Column("job_id", Text, ForeignKey("jobs.job_id")),
    Column("fanout_id", Text, ForeignKey("fanouts.fanout_id")),
    number_column("created_at_ms"),
    Index("idempotency_keys_by_job", "job_id"),
    Index("idempotency_keys_by_fanout", "fanout_id"),
    sqlite_with_rowid=False,
)
