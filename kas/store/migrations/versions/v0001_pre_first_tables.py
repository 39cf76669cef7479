"""The first tables: agents, their tokens, job tokens, the change log and its counter."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NOT_DELETED = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    """Make the tables, and the one row of the counter."""
    _agents()
    _tokens()
    op.create_table(
        "changes",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("subject", sa.BigInteger(), nullable=False),
        sa.Column("agent_id", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(32), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_changes"),
    )
    op.create_index("ix_changes_at", "changes", ["at"])
    counter = op.create_table("change_counter", sa.Column("seq", sa.BigInteger(), nullable=False))
    op.bulk_insert(counter, [{"seq": 0}])


def _agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("issuer", sa.String(64), nullable=False),
        sa.Column("project", sa.String(1024), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_agents_living",
        "agents",
        ["issuer", "project", "name"],
        unique=True,
        sqlite_where=_NOT_DELETED,
        postgresql_where=_NOT_DELETED,
    )


def _tokens() -> None:
    op.create_table(
        "agent_tokens",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("agent_id", _ID, nullable=False),
        sa.Column("prefix", sa.String(8), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_agent_tokens"),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_agent_tokens_agent_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_agent_tokens_agent_id", "agent_tokens", ["agent_id"])
    op.create_index("ix_agent_tokens_prefix", "agent_tokens", ["prefix"])
    op.create_table(
        "job_tokens",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("prefix", sa.String(8), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("claims", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_job_tokens"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_tokens_prefix", "job_tokens", ["prefix"])
    op.create_index("ix_job_tokens_expires_at", "job_tokens", ["expires_at"])
