"""The identity of a job or of its user in the cluster (``access_as: ci_job`` and ``ci_user``). Pure.

Where the agent belongs to a GitLab, or to kas itself, and so does the job, these are the values that GitLab publishes. Any other
issuer's numbers mean other things: its jobs get ``kas:ISSUER`` in place of ``gitlab``, so no job of one forge can be taken for a job
of another. Role bindings in clusters name these values: they must never change.
"""

from __future__ import annotations

from collections.abc import Iterator

from kas.access.caller import Caller
from kas.access.grants import AgentRef
from kastunnel.link.frames import Impersonate

_EXTRA = "agent.gitlab.com/"


class MissingClaim(Exception):
    """The token does not say what this identity is made of; the message names it."""


def job_identity(caller: Caller, agent: AgentRef) -> Impersonate:
    """The identity of ``caller``'s job. Raises MissingClaim: never a group or value with a hole in it."""
    prefix = _prefix(caller, agent)
    project = _text(caller.project_id, "project id")
    job = _text(caller.job_id, "job id")
    groups = [f"{prefix}:ci_job"]
    extra = {
        "id": str(agent.id),
        "config_project_id": _config_project_id(caller, agent),
        "project_id": project,
        "ci_pipeline_id": _text(caller.pipeline_id, "pipeline id"),
        "ci_job_id": job,
        "username": _text(caller.username, "username"),
    }
    slug = tier = ""
    if (environment := caller.environment) is not None and prefix == "gitlab":
        slug, tier = _text(environment.slug, "environment slug"), _text(environment.tier, "environment tier")
    elif environment is not None:  # elsewhere names take the place of slugs, and few forges have tiers
        slug = _text(environment.slug or environment.name, "environment name")
        tier = environment.tier and _text(environment.tier, "environment tier")
    extra |= {"environment_slug": slug, "environment_tier": tier}
    for group_id in caller.group_ids:
        group = _text(group_id, "group id")
        groups.append(f"{prefix}:group:{group}")
        groups += _if(tier, f"{prefix}:group_env_tier:{group}:{tier}")
    groups.append(f"{prefix}:project:{project}")
    groups += _if(slug, f"{prefix}:project_env:{project}:{slug}")
    groups += _if(tier, f"{prefix}:project_env_tier:{project}:{tier}")
    return Impersonate(f"{prefix}:ci_job:{job}", tuple(groups), "", _extra(extra))


def user_identity(caller: Caller, agent: AgentRef) -> Impersonate:
    """The identity of the user who started the job, with the roles that they have in the job's project. Raises MissingClaim."""
    prefix = _prefix(caller, agent)
    project = _text(caller.project_id, "project id")
    user = _text(caller.username, "username")
    if not caller.roles:
        raise MissingClaim("the token has no roles of the user")
    roles = [f"{prefix}:project_role:{project}:{_text(role, 'role')}" for role in caller.roles]
    extra = {"id": str(agent.id), "username": user, "config_project_id": _config_project_id(caller, agent)}
    return Impersonate(f"{prefix}:user:{user}", (f"{prefix}:user", *roles), "", _extra(extra))


def _prefix(caller: Caller, agent: AgentRef) -> str:
    is_gitlab = caller.speaks_gitlab and caller.issuer == agent.issuer
    return "gitlab" if is_gitlab else f"kas:{caller.issuer}"


def _config_project_id(caller: Caller, agent: AgentRef) -> str:
    """Left out where nobody knows it: kas registers agents by path."""
    own = (caller.issuer, caller.project) == (agent.issuer, agent.project)
    return agent.project_id or (caller.project_id if own else "")


def _text(value: str, claim: str) -> str:
    if not value or value == "0":
        raise MissingClaim(f"the token has no {claim}")
    if not (value.isascii() and value.isprintable() and value == value.strip()) or "," in value or ":" in value:
        raise MissingClaim(f"the token's {claim} cannot stand in an identity")
    return value


def _if(condition: str, group: str) -> Iterator[str]:
    if condition:
        yield group


def _extra(values: dict[str, str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((_EXTRA + key, (value,)) for key, value in values.items() if value)
