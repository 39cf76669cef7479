"""The store as the rest of kas holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kas.clock import Clock, system_clock
from kas.store.agent_tokens import AgentTokens
from kas.store.agents import Agents
from kas.store.audit_heads import AuditHeads
from kas.store.changes import Changes
from kas.store.database import Database
from kas.store.job_tokens import JobTokens
from kas.store.migrating import HEAD, found_version, migrate
from kas.store.registrations import Registrations


class Store:
    """The queries, by what they are about.

    Every method may be called by several tasks at once, and raises StoreUnavailable when the database cannot be used. Cancelled,
    a write has happened completely or not at all.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self.agents = Agents(database, clock)
        self.agent_tokens = AgentTokens(database, clock)
        self.job_tokens = JobTokens(database, clock)
        self.registrations = Registrations(database, clock)
        self.changes = Changes(database)
        self.audit_heads = AuditHeads(database, clock)

    def __repr__(self) -> str:
        return f"<Store {self._database.where}>"


async def schema_version(url: str, *, password: str | None = None) -> tuple[str | None, str]:
    """The version of the tables at ``url`` (None: there are none) and that of this kas. Nothing is changed.

    Raises ConfigurationError and StoreUnavailable as ``open_store`` does, and StoreUnavailable for tables of a newer kas.
    """
    database = Database(url, password)
    try:
        return await found_version(database), HEAD
    finally:
        await database.close()


@asynccontextmanager
async def open_store(
    url: str, *, password: str | None = None, clock: Clock = system_clock, actor: str = "kas"
) -> AsyncIterator[Store]:
    """The store at ``url``, its tables brought up to this version first; closed at the end of the block.

    ``actor``: who writes, for the change log and audit.

    Raises ConfigurationError for a URL that cannot be meant, StoreUnavailable for a database that cannot be used or was written
    by a newer kas.
    """
    database = Database(url, password, actor)
    try:
        await migrate(database)
        yield Store(database, clock)
    finally:
        await database.close()
