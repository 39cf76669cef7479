"""kas's own job tokens: what the operator's command wrote into the store about a job."""

from __future__ import annotations

from typing import Protocol

from kas.access.caller import OWN_ISSUER, Caller, Environment
from kas.errors import IssuerUnavailable, StoreUnavailable
from kas.store.records import JobClaims, JobTokenRecord


class JobTokenLookup(Protocol):
    """The one query that is needed: kas.store's ``job_tokens``."""

    async def find(self, token: bytes) -> JobTokenRecord | None:
        """The token with this secret if it is in force."""


class OwnTokens:
    """An Issuer that looks its tokens up in kas's own store."""

    def __init__(self, job_tokens: JobTokenLookup) -> None:
        self._job_tokens = job_tokens

    async def caller(self, token: bytes) -> Caller | None:
        """See Issuer."""
        try:
            record = await self._job_tokens.find(token)
        except StoreUnavailable as error:
            raise IssuerUnavailable("job tokens cannot be looked up right now: the database is unavailable") from error
        return None if record is None else _caller(record.claims, record.expires_at)


def _caller(claims: JobClaims, expires_at: float) -> Caller:
    environment = claims.get("environment")
    return Caller(
        issuer=claims.get("issuer", OWN_ISSUER),
        project=claims["project"],
        project_id=claims.get("project_id", ""),
        group_ids=tuple(claims.get("group_ids", ())),
        ref=claims.get("ref", ""),
        ref_type=claims.get("ref_type", ""),
        ref_protected=claims.get("ref_protected", False) is True,
        is_fork=claims.get("is_fork", False) is True,
        environment=environment
        and Environment(environment["name"], environment.get("slug", ""), environment.get("tier", "")),
        pipeline_id=claims.get("pipeline_id", ""),
        job_id=claims.get("job_id", ""),
        username=claims.get("username", ""),
        user_id=claims.get("user_id", ""),
        roles=tuple(claims.get("roles", ())),
        expires_at=expires_at,
        is_public_issuer=claims.get("is_public_issuer", False) is True,
        speaks_gitlab=claims.get("speaks_gitlab", "issuer" not in claims) is True,
    )
