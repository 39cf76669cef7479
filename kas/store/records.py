"""What the queries return: plain values. Times are unix seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NotRequired, TypedDict


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent that exists: its id is never given to another, not even after it was deleted."""

    id: int
    issuer: str
    project: str
    name: str
    created_at: int
    forge_id: str = ""  # the id that the forge knows this agent by, where it has one of its own

    @property
    def context(self) -> str:
        """``group/project:name``, as kubeconfigs call it."""
        return f"{self.project}:{self.name}"


@dataclass(frozen=True, slots=True)
class AgentTokenRecord:
    """A token of an agent, without its secret."""

    id: int
    agent_id: int
    prefix: str
    created_at: int
    last_used_at: int | None
    revoked_at: int | None
    expires_at: int | None = None

    def is_active(self, now: float) -> bool:
        """Whether agentk may dial with it."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class JobEnvironment(TypedDict):
    """The environment that a job deploys to."""

    name: str
    slug: NotRequired[str]
    tier: NotRequired[str]


class JobClaims(TypedDict):
    """What a job token says about its job: the fields of kas.access.caller.Caller. A claim that is not known is absent, never empty."""

    project: str
    issuer: NotRequired[str]  # of the ID token that was exchanged for this one; absent: kas itself
    project_id: NotRequired[str]
    group_ids: NotRequired[list[str]]  # the project's group and all its ancestors
    ref: NotRequired[str]
    ref_type: NotRequired[str]
    ref_protected: NotRequired[bool]
    is_fork: NotRequired[bool]
    environment: NotRequired[JobEnvironment]
    pipeline_id: NotRequired[str]
    job_id: NotRequired[str]
    username: NotRequired[str]
    user_id: NotRequired[str]
    roles: NotRequired[list[str]]
    is_public_issuer: NotRequired[bool]
    speaks_gitlab: NotRequired[bool]
    forge_agents: NotRequired[list[str]]


@dataclass(frozen=True, slots=True)
class JobTokenRecord:
    """A job token that is in force, without its secret. ``sha256`` is the hash of the whole token."""

    id: int
    sha256: bytes
    claims: JobClaims
    created_at: int
    expires_at: int


class ClaimableEnvironment(TypedDict):
    """Environments that a job may claim: ``*`` stands for any characters. All of them are of this tier, "" if of none."""

    pattern: str
    tier: str


class MayClaim(TypedDict):
    """What a job may say of itself with the secret of its project's registration. Nothing is allowed that is not named."""

    environments: list[ClaimableEnvironment]
    refs: list[str]  # patterns, as in an entry of ci_access
    protected: bool  # that its ref is protected


@dataclass(frozen=True, slots=True)
class RegistrationRecord:
    """A project that may ask for job tokens, without its secret. ``claims`` are those that each of its tokens carries."""

    id: int
    prefix: str
    claims: JobClaims
    may_claim: MayClaim
    max_ttl_s: int
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    revoked_at: int | None

    def is_active(self, now: float) -> bool:
        """Whether its secret gets tokens."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class ChangeKind(StrEnum):
    """What happened, and whose id the ``subject`` of the change is."""

    AGENT_REGISTERED = "agent_registered"  # agent
    AGENT_DELETED = "agent_deleted"  # agent; its tokens are revoked with it, each a change of its own
    AGENT_TOKEN_CREATED = "agent_token_created"  # noqa: S105  agent token
    AGENT_TOKEN_REVOKED = "agent_token_revoked"  # noqa: S105  agent token
    JOB_TOKEN_ISSUED = "job_token_issued"  # noqa: S105  job token
    JOB_TOKEN_REVOKED = "job_token_revoked"  # noqa: S105  job token
    PROJECT_REGISTERED = "project_registered"  # registration
    REGISTRATION_REVOKED = (
        "registration_revoked"  # registration; its job tokens are revoked with it, each a change of its own
    )


@dataclass(frozen=True, slots=True)
class AuditHeadRecord:
    """Up to record ``seq`` a chain of the audit log went, and that record's mac was this."""

    instance: str
    seq: int
    mac: str
    signature: str
    at: int


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log.

    ``seq`` grows by one with each entry, in the order of commits, so nobody who reads on from the last one misses any.
    ``agent_id`` is set where an agent is concerned, ``sha256`` (of the token) where a token is: caches are keyed by it.
    """

    seq: int
    kind: ChangeKind
    subject: int
    agent_id: int | None
    sha256: bytes | None
    at: int
    actor: str = ""  # who did it, as far as it is known
