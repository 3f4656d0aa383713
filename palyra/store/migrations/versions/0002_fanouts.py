"""Fan-outs, idempotency keys, times of the next attempt, who asked for a cancel and why.

``jobs.input_json`` may be NULL from here on: the input is the fan-out's.  SQLite cannot take NOT
NULL away from a column, so there it is replaced by a copy; PostgreSQL can.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "fanouts",
        sa.Column("fanout_id", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("capability", sa.Text(), nullable=False),
        sa.Column("input_json", sa.LargeBinary(), nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("submitted_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("targets", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=True),
        sa.Column("max_failures", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("fanout_id"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("fanout_id", sa.Text(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.job_id"],
        ),
        sa.ForeignKeyConstraint(
            ["fanout_id"],
            ["fanouts.fanout_id"],
        ),
        sa.PrimaryKeyConstraint("scope", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_keys_by_job", "idempotency_keys", ["job_id"], unique=False)
    op.create_index("idempotency_keys_by_fanout", "idempotency_keys", ["fanout_id"], unique=False)
    op.add_column("jobs", sa.Column("retry_at_ms", sa.BigInteger(), nullable=True))
    for name in ("cancel_requested_by", "cancel_reason"):
        op.add_column("jobs", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    _let_input_be_null()
    op.create_index(
        "jobs_by_fanout",
        "jobs",
        ["fanout_id", "job_id"],
        unique=False,
        sqlite_where=sa.text("fanout_id IS NOT NULL"),
        postgresql_where=sa.text("fanout_id IS NOT NULL"),
    )
    op.create_index("attempts_by_job", "attempts", ["job_id"], unique=False)


def _let_input_be_null() -> None:
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("jobs", "input_json", existing_type=sa.LargeBinary(), nullable=True)
        return
    op.add_column("jobs", sa.Column("input_copy", sa.LargeBinary(), nullable=True))
    op.execute("UPDATE jobs SET input_copy = input_json")
    op.execute("ALTER TABLE jobs DROP COLUMN input_json")
    op.execute("ALTER TABLE jobs RENAME COLUMN input_copy TO input_json")
