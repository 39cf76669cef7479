"""Signed heads of the audit log, and who made a change."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Only what is new."""
    op.add_column("changes", sa.Column("actor", sa.String(128), nullable=True))
    op.create_table(
        "audit_heads",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("instance", sa.String(8), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_heads"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_heads_instance", "audit_heads", ["instance"])
