"""The tokens of agents: two active ones at most, so that one can replace the other without a pause."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kas.clock import Clock
from kas.errors import StoreUnavailable
from kas.store import changes, tokens
from kas.store.database import Database
from kas.store.errors import Refused
from kas.store.records import AgentTokenRecord, ChangeKind
from kas.store.schema import agent_tokens, agents
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

Records = list[AgentTokenRecord]  # within the class `list` is the query
MAX_ACTIVE = 2
USE_NOTED_EVERY_S = 600  # an agent that reconnects all day costs 144 writes, not thousands


class AgentTokens:
    """Queries about the tokens of agents."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, agent_id: int, ttl_s: float | None = None) -> tuple[AgentTokenRecord, str]:
        """One more token, and its secret, which cannot be read again; ``ttl_s``: it expires after so long.

        Raises Refused if the agent has two, or is not there. One that has expired does not count as one of the two.
        """
        now = int(self._clock())
        async with self._database.writing() as connection:
            living = select(agents.c.id).where(agents.c.id == agent_id, agents.c.deleted_at.is_(None))
            if (await connection.execute(living)).first() is None:
                raise Refused(f"there is no agent with the id {agent_id}: see `kas agent list`")
            active = select(func.count()).where(agent_tokens.c.agent_id == agent_id, *_active(now))
            if (await connection.execute(active)).scalar_one() >= MAX_ACTIVE:
                raise Refused(
                    f"the agent has {MAX_ACTIVE} active tokens already: revoke one with `kas agent token revoke ID`"
                )
            return await add(connection, agent_id, now, None if ttl_s is None else now + int(ttl_s))

    async def list(self, agent_id: int) -> Records:
        """All of them, revoked and expired ones too, oldest first."""
        query = select(agent_tokens).where(agent_tokens.c.agent_id == agent_id).order_by(agent_tokens.c.id)
        async with self._database.reading() as connection:
            return [_record(row) for row in (await connection.execute(query)).all()]

    async def active(self) -> Records:
        """The active ones of every agent."""
        query = select(agent_tokens).where(*_active(int(self._clock()))).order_by(agent_tokens.c.id)
        async with self._database.reading() as connection:
            return [_record(row) for row in (await connection.execute(query)).all()]

    async def expired(self, after: float) -> Records:
        """Those that have expired since ``after`` (unix seconds) without being revoked."""
        ended = (agent_tokens.c.expires_at > int(after), agent_tokens.c.expires_at <= int(self._clock()))
        query = select(agent_tokens).where(agent_tokens.c.revoked_at.is_(None), *ended)
        async with self._database.reading() as connection:
            return [_record(row) for row in (await connection.execute(query)).all()]

    async def find(self, token: bytes) -> AgentTokenRecord | None:
        """The active token with this secret; None for any other bytes, and past its end. Tells nothing by how long it takes."""
        wanted = tokens.fingerprint(token, tokens.AGENT)
        if wanted is None:
            return None
        query = select(agent_tokens).where(agent_tokens.c.prefix == wanted.prefix, *_active(int(self._clock())))
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return next((_record(row) for row in rows if wanted.matches(row.sha256)), None)

    async def note_use(self, token: AgentTokenRecord) -> None:
        """Remember that it was used now, at most every USE_NOTED_EVERY_S. Never fails: a full disk must not keep agents out."""
        now = int(self._clock())
        before = now - USE_NOTED_EVERY_S
        if token.last_used_at is not None and token.last_used_at > before:
            return
        stale = agent_tokens.c.last_used_at.is_(None) | (agent_tokens.c.last_used_at <= before)
        try:
            async with self._database.writing_unlocked() as connection:
                await connection.execute(
                    update(agent_tokens).where(agent_tokens.c.id == token.id, stale).values(last_used_at=now)
                )
        except StoreUnavailable as error:
            log.warning("use of an agent token was not noted", extra=fields(token_id=token.id, error=str(error)))

    async def revoke(self, token_id: int) -> AgentTokenRecord:
        """The token, now without effect; again does nothing. Raises Refused if there is none."""
        now = int(self._clock())
        async with self._database.writing() as connection:
            row = (await connection.execute(select(agent_tokens).where(agent_tokens.c.id == token_id))).first()
            if row is None:
                raise Refused(f"there is no agent token with the id {token_id}: see `kas agent token list NAME`")
            if row.revoked_at is None:
                await _revoke(connection, row, now)
            row = (await connection.execute(select(agent_tokens).where(agent_tokens.c.id == token_id))).one()
        return _record(row)


def _active(now: int) -> tuple[ColumnElement[bool], ...]:
    lasting = agent_tokens.c.expires_at.is_(None) | (agent_tokens.c.expires_at > now)
    return agent_tokens.c.revoked_at.is_(None), lasting


async def add(
    connection: AsyncConnection, agent_id: int, now: int, expires_at: int | None = None
) -> tuple[AgentTokenRecord, str]:
    """A new token within the caller's transaction."""
    token, print_ = tokens.new_secret(tokens.AGENT)
    values = {
        "agent_id": agent_id,
        "prefix": print_.prefix,
        "sha256": print_.sha256,
        "created_at": now,
        "expires_at": expires_at,
    }
    token_id = (await connection.execute(insert(agent_tokens).values(values).returning(agent_tokens.c.id))).scalar_one()
    await changes.append(
        connection, ChangeKind.AGENT_TOKEN_CREATED, token_id, now, agent_id=agent_id, sha256=print_.sha256
    )
    return AgentTokenRecord(token_id, agent_id, print_.prefix, now, None, None, expires_at), token


async def revoke_all(connection: AsyncConnection, agent_id: int, now: int) -> None:
    """Every active token of the agent, within the caller's transaction."""
    active = select(agent_tokens).where(agent_tokens.c.agent_id == agent_id, agent_tokens.c.revoked_at.is_(None))
    for row in (await connection.execute(active)).all():
        await _revoke(connection, row, now)


async def _revoke(connection: AsyncConnection, row: Any, now: int) -> None:
    await connection.execute(update(agent_tokens).where(agent_tokens.c.id == row.id).values(revoked_at=now))
    await changes.append(
        connection, ChangeKind.AGENT_TOKEN_REVOKED, row.id, now, agent_id=row.agent_id, sha256=row.sha256
    )


def _record(row: Any) -> AgentTokenRecord:
    return AgentTokenRecord(
        row.id, row.agent_id, row.prefix, row.created_at, row.last_used_at, row.revoked_at, row.expires_at
    )
