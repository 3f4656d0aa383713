"""Capabilities by anyone: descriptors, contracts of grants, what owners of devices said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("devices", sa.Column("contracts", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("mediation", sa.Text()))
    op.create_table(
        "descriptors",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("json", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("descriptors_by_time", "descriptors", ["seen_at_ms"])
