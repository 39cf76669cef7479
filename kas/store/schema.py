"""The tables. A change here goes with a migration; a test compares the two. Times are unix seconds."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up by itself only in a column of exactly INTEGER

agents = Table(
    "agents",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("issuer", String(64), nullable=False),
    Column("project", String(1024), nullable=False),
    Column("name", String(63), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger, nullable=True),
    Column("forge_id", String(64), nullable=True),
    sqlite_autoincrement=True,  # an id that is in some kubeconfig must never come to mean another agent
)
Index(
    "uq_agents_living",
    agents.c.issuer,
    agents.c.project,
    agents.c.name,
    unique=True,
    sqlite_where=text("deleted_at IS NULL"),
    postgresql_where=text("deleted_at IS NULL"),
)

agent_tokens = Table(
    "agent_tokens",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("agent_id", Id, ForeignKey("agents.id"), nullable=False, index=True),
    Column("prefix", String(8), nullable=False, index=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger, nullable=True),
    Column("revoked_at", BigInteger, nullable=True),
    Column("expires_at", BigInteger, nullable=True),
    sqlite_autoincrement=True,
)

job_tokens = Table(
    "job_tokens",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("prefix", String(8), nullable=False, index=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("claims", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("revoked_at", BigInteger, nullable=True),
    Column(
        "registration_id", BigInteger, nullable=True, index=True
    ),  # whose secret asked for it; NULL: the operator, or an ID token
    sqlite_autoincrement=True,
)

# A project that may ask for job tokens by itself, with a secret of its own.
registrations = Table(
    "registrations",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("prefix", String(8), nullable=False, index=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("claims", JSON, nullable=False),  # that every one of its tokens carries: project, project_id, group_ids
    Column("may_claim", JSON, nullable=False),  # what a job may say of itself: environments, refs, protected
    Column("max_ttl_s", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger, nullable=True),
    Column("expires_at", BigInteger, nullable=True),
    Column("revoked_at", BigInteger, nullable=True),
    sqlite_autoincrement=True,
)

changes = Table(
    "changes",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(64), nullable=False),
    Column("subject", BigInteger, nullable=False),
    Column("agent_id", BigInteger, nullable=True),
    Column("sha256", LargeBinary(32), nullable=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("actor", String(128), nullable=True),  # who did it: "cli:root", an issuer, a registration
)

# Where each chain of the audit log stood at some time, signed.
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("instance", String(8), nullable=False, index=True),
    Column("seq", BigInteger, nullable=False),
    Column("mac", String(64), nullable=False),
    Column("signature", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

# One row. Whoever writes locks it first and so orders the log by commit: a database's own sequence hands out numbers
# before the commit, and a reader that saw 6 would never go back for a 5 that was committed later.
change_counter = Table("change_counter", metadata, Column("seq", BigInteger, nullable=False))
