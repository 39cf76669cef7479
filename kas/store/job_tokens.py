"""kas's own tokens for jobs: short-lived, with what they claim about the job.

The operator's command issues them, a project's registration secret does, and an ID token is exchanged for one.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kas.clock import Clock
from kas.errors import TooManyRequests
from kas.names import check_project
from kas.store import changes, tokens
from kas.store.database import Database
from kas.store.errors import InvalidValue, Refused
from kas.store.records import ChangeKind, JobClaims, JobTokenRecord
from kas.store.schema import job_tokens, registrations

Records = list[JobTokenRecord]  # within the class `list` is the query
Rows = list[Any]
MAX_CLAIMS_BYTES = 16 * 1024  # a job in a hundred groups is a tenth of that; every request's verdict is made of it
MAX_LIVING = (
    5_000  # of one registration: more jobs than any Jenkins runs at once, and a bound for a script that runs wild
)
KEPT_AFTER_END_S = 24 * 3600  # for people who look back; then the row is removed


class JobTokens:
    """Queries about job tokens."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def issue(self, claims: JobClaims, ttl_s: float) -> str:
        """The secret of a new token that is in force for ``ttl_s``; it cannot be read again. Raises InvalidValue."""
        return (await self.create(claims, ttl_s))[1]

    async def create(
        self, claims: JobClaims, ttl_s: float, registration_id: int | None = None
    ) -> tuple[JobTokenRecord, str]:
        """A new token and its secret. Raises InvalidValue.

        ``registration_id``: whose secret asked for it. Raises Refused if that does not count any more, TooManyRequests if it has
        MAX_LIVING tokens already.
        """
        _check(claims, ttl_s)
        now = int(self._clock())
        token, print_ = tokens.new_secret(tokens.JOB)
        values = {
            "prefix": print_.prefix,
            "sha256": print_.sha256,
            "claims": dict(claims),
            "created_at": now,
            "expires_at": now + int(ttl_s),
            "registration_id": registration_id,
        }
        async with self._database.writing() as connection:
            if registration_id is not None:
                await _check_registration(connection, registration_id, now)
            token_id = (
                await connection.execute(insert(job_tokens).values(values).returning(job_tokens.c.id))
            ).scalar_one()
            issued = ChangeKind.JOB_TOKEN_ISSUED
            actor = _actor(claims, registration_id)
            await changes.append(connection, issued, token_id, now, sha256=print_.sha256, actor=actor)
            await connection.execute(delete(job_tokens).where(job_tokens.c.expires_at < now - KEPT_AFTER_END_S))
        return JobTokenRecord(token_id, print_.sha256, claims, now, now + int(ttl_s)), token

    async def find(self, token: bytes) -> JobTokenRecord | None:
        """The token with this secret if it is in force; None for any other bytes, and when it has expired or was revoked."""
        wanted = tokens.fingerprint(token, tokens.JOB)
        if wanted is None:
            return None
        rows = await self._in_force(job_tokens.c.prefix == wanted.prefix)
        return next((_record(row) for row in rows if wanted.matches(row.sha256)), None)

    async def list(self) -> Records:
        """Those in force, oldest first."""
        return [_record(row) for row in await self._in_force()]

    async def revoke(self, token_id: int, actor: str = "") -> None:
        """End it now; again does nothing. Raises Refused if there is none. ``actor``: who does it, if not who opened the store."""
        now = int(self._clock())
        async with self._database.writing() as connection:
            row = (await connection.execute(select(job_tokens).where(job_tokens.c.id == token_id))).first()
            if row is None:
                raise Refused(f"there is no job token with the id {token_id}: see `kas job-token list`")
            if row.revoked_at is None:
                await _revoke(connection, row, now, actor)

    async def _in_force(self, *conditions: Any) -> Rows:
        query = select(job_tokens).where(*_living(int(self._clock())), *conditions)
        async with self._database.reading() as connection:
            return [*(await connection.execute(query.order_by(job_tokens.c.id))).all()]


async def revoke_all(connection: AsyncConnection, registration_id: int, now: int) -> int:
    """Every living token of the registration, within the caller's transaction; how many there were."""
    living = select(job_tokens).where(job_tokens.c.registration_id == registration_id, *_living(now))
    rows = (await connection.execute(living)).all()
    for row in rows:
        await _revoke(connection, row, now)
    return len(rows)


async def _revoke(connection: AsyncConnection, row: Any, now: int, actor: str = "") -> None:
    await connection.execute(update(job_tokens).where(job_tokens.c.id == row.id).values(revoked_at=now))
    await changes.append(connection, ChangeKind.JOB_TOKEN_REVOKED, row.id, now, sha256=row.sha256, actor=actor)


def _actor(claims: JobClaims, registration_id: int | None) -> str:
    if registration_id is not None:
        return f"registration:{registration_id}"
    return f"issuer:{claims['issuer']}" if "issuer" in claims else ""


def _living(now: int) -> tuple[ColumnElement[bool], ...]:
    return job_tokens.c.revoked_at.is_(None), job_tokens.c.expires_at > now


async def _check_registration(connection: AsyncConnection, registration_id: int, now: int) -> None:
    """Within the transaction that makes the token: a registration that is revoked meanwhile leaves none behind."""
    table = registrations.c
    lasting = table.expires_at.is_(None) | (table.expires_at > now)
    active = select(table.id).where(table.id == registration_id, table.revoked_at.is_(None), lasting)
    if (await connection.execute(active)).first() is None:
        raise Refused("the registration has expired or was revoked")
    living = select(func.count()).where(job_tokens.c.registration_id == registration_id, *_living(now))
    if (await connection.execute(living)).scalar_one() >= MAX_LIVING:
        raise TooManyRequests(
            f"{MAX_LIVING} tokens of this registration are in force: revoke them when their jobs end, or give them shorter lives",
            retry_after_s=60,
        )


def _check(claims: JobClaims, ttl_s: float) -> None:
    if "issuer" not in claims:  # else an issuer has vouched for it, and its projects have the names that they have
        try:
            check_project(claims["project"])
        except ValueError as error:
            raise InvalidValue(str(error)) from None
    if ttl_s < 1:
        raise InvalidValue("a token must be in force for a second at least")
    if len(json.dumps(claims)) > MAX_CLAIMS_BYTES:
        raise InvalidValue(f"the claims of a job token may take {MAX_CLAIMS_BYTES} bytes at most: leave out groups")


def _record(row: Any) -> JobTokenRecord:
    return JobTokenRecord(row.id, row.sha256, row.claims, row.created_at, row.expires_at)
