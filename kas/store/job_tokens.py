"""Tokens for jobs where no forge vouches: issued by the operator, short-lived, with what they claim about the job."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import delete, insert, select, update

from kas.clock import Clock
from kas.names import check_project
from kas.store import changes, tokens
from kas.store.database import Database
from kas.store.errors import InvalidValue, Refused
from kas.store.records import ChangeKind, JobClaims, JobTokenRecord
from kas.store.schema import job_tokens

Records = list[JobTokenRecord]  # within the class `list` is the query
Rows = list[Any]
MAX_CLAIMS_BYTES = 16 * 1024  # a job in a hundred groups is a tenth of that; every request's verdict is made of it
KEPT_AFTER_END_S = 24 * 3600  # for people who look back; then the row is removed


class JobTokens:
    """Queries about job tokens."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def issue(self, claims: JobClaims, ttl_s: float) -> str:
        """The secret of a new token that is in force for ``ttl_s``; it cannot be read again. Raises InvalidValue."""
        _check(claims, ttl_s)
        now = int(self._clock())
        token = tokens.new_token(tokens.JOB)
        print_ = tokens.fingerprint(token.encode(), tokens.JOB)
        assert print_ is not None  # noqa: S101 - we made it
        values = {
            "prefix": print_.prefix,
            "sha256": print_.sha256,
            "claims": dict(claims),
            "created_at": now,
            "expires_at": now + int(ttl_s),
        }
        async with self._database.writing() as connection:
            token_id = (
                await connection.execute(insert(job_tokens).values(values).returning(job_tokens.c.id))
            ).scalar_one()
            await changes.append(connection, ChangeKind.JOB_TOKEN_ISSUED, token_id, now, sha256=print_.sha256)
            await connection.execute(delete(job_tokens).where(job_tokens.c.expires_at < now - KEPT_AFTER_END_S))
        return token

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

    async def revoke(self, token_id: int) -> None:
        """End it now; again does nothing. Raises Refused if there is none."""
        now = int(self._clock())
        async with self._database.writing() as connection:
            row = (await connection.execute(select(job_tokens).where(job_tokens.c.id == token_id))).first()
            if row is None:
                raise Refused(f"there is no job token with the id {token_id}: see `kas job-token list`")
            if row.revoked_at is None:
                await connection.execute(update(job_tokens).where(job_tokens.c.id == token_id).values(revoked_at=now))
                await changes.append(connection, ChangeKind.JOB_TOKEN_REVOKED, token_id, now, sha256=row.sha256)

    async def _in_force(self, *conditions: Any) -> Rows:
        now = int(self._clock())
        query = select(job_tokens).where(job_tokens.c.revoked_at.is_(None), job_tokens.c.expires_at > now, *conditions)
        async with self._database.reading() as connection:
            return [*(await connection.execute(query.order_by(job_tokens.c.id))).all()]


def _check(claims: JobClaims, ttl_s: float) -> None:
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
