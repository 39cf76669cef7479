"""Agents of forges, agent tokens that expire, and projects that ask for job tokens by themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Only what is new, and nothing that an older kas would stumble over."""
    op.add_column("agents", sa.Column("forge_id", sa.String(64), nullable=True))
    op.add_column("agent_tokens", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.add_column("job_tokens", sa.Column("registration_id", sa.BigInteger(), nullable=True))
    op.create_index("ix_job_tokens_registration_id", "job_tokens", ["registration_id"])
    op.create_table(
        "registrations",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("prefix", sa.String(8), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("claims", sa.JSON(), nullable=False),
        sa.Column("may_claim", sa.JSON(), nullable=False),
        sa.Column("max_ttl_s", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_registrations"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_registrations_prefix", "registrations", ["prefix"])
