"""kas's own job tokens: what the store holds about a job, said by the operator, by its project, or by the ID token that was exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from kas.access.caller import OWN_ISSUER, Caller, Environment
from kas.access.issuers import JobWatch
from kas.access.issuers.oidc import is_owned
from kas.errors import IssuerUnavailable, StoreUnavailable, Unauthenticated
from kas.store.records import JobClaims, JobEnvironment, JobTokenRecord

WATCHED_S = 5.0  # how old the forge's word may become that the job still runs


class JobTokenLookup(Protocol):
    """The one query that is needed: kas.store's ``job_tokens``."""

    async def find(self, token: bytes) -> JobTokenRecord | None:
        """The token with this secret if it is in force."""


class ConfiguredIssuer(Protocol):
    """An entry of ``issuers`` in kas.yaml."""

    @property
    def name(self) -> str:
        """Of the issuer."""

    @property
    def owners(self) -> tuple[str, ...]:
        """Whose projects count; none: everybody's."""

    @property
    def is_public(self) -> bool:
        """Whether strangers can have projects there."""


class OwnTokens:
    """An Issuer that looks its tokens up in kas's own store.

    A token that was exchanged counts no longer than its issuer does: ``issuers`` are those of kas.yaml as it is now, ``watches`` know, by
    the issuer's name, whether the job still runs.
    """

    def __init__(
        self,
        job_tokens: JobTokenLookup,
        issuers: Iterable[ConfiguredIssuer] = (),
        watches: Mapping[str, JobWatch] | None = None,
    ) -> None:
        self._job_tokens = job_tokens
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._watches = watches or {}

    async def caller(self, token: bytes) -> Caller | None:
        """See Issuer."""
        try:
            record = await self._job_tokens.find(token)
        except StoreUnavailable as error:
            raise IssuerUnavailable("job tokens cannot be looked up right now: the database is unavailable") from error
        if record is None:
            return None
        caller = caller_of(record.claims, record.expires_at)
        return caller if "issuer" not in record.claims else await self._exchanged(caller)

    async def _exchanged(self, caller: Caller) -> Caller:
        issuer = self._issuers.get(caller.issuer)
        if issuer is None:
            raise Unauthenticated(
                f"this token was given for an ID token of {caller.issuer}, which is no issuer any more"
            )
        if not is_owned(caller, frozenset(issuer.owners)):
            raise Unauthenticated(
                f"this token is of a project whose owner may not use this kas (issuers, {issuer.name}: owners)"
            )
        caller = replace(caller, is_public_issuer=caller.is_public_issuer or issuer.is_public)
        watch = self._watches.get(caller.issuer)
        if watch is None:
            return caller
        await watch.ensure_running(caller)
        return replace(caller, recheck_s=WATCHED_S)


def claims_of(caller: Caller) -> JobClaims:
    """What the token says that is given for ``caller``'s ID token: all that the ID token said, but not until when."""
    claims: JobClaims = {"project": caller.project, "issuer": caller.issuer}
    known = {
        "project_id": caller.project_id,
        "group_ids": list(caller.group_ids),
        "ref": caller.ref,
        "ref_type": caller.ref_type,
        "ref_protected": caller.ref_protected,
        "is_fork": caller.is_fork,
        "environment": _environment(caller.environment),
        "pipeline_id": caller.pipeline_id,
        "job_id": caller.job_id,
        "username": caller.username,
        "user_id": caller.user_id,
        "roles": list(caller.roles),
        "is_public_issuer": caller.is_public_issuer,
        "speaks_gitlab": caller.speaks_gitlab,
    }
    claims.update({name: value for name, value in known.items() if value})  # type: ignore[typeddict-item]
    if caller.forge_agents is not None:  # none at all says something too
        claims["forge_agents"] = sorted(caller.forge_agents)
    return claims


def _environment(environment: Environment | None) -> JobEnvironment | None:
    return environment and {"name": environment.name, "slug": environment.slug, "tier": environment.tier}


def caller_of(claims: JobClaims, expires_at: float) -> Caller:
    """The caller whose claims these are; of kas itself, unless they name an issuer."""
    environment = claims.get("environment")
    forge_agents = claims.get("forge_agents")
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
        forge_agents=None if forge_agents is None else frozenset(forge_agents),
    )
