"""The identity of a job in the cluster (``access_as: ci_job``), with the values that GitLab publishes. Pure.

Role bindings in clusters name these values: they must never change.
"""

from __future__ import annotations

from collections.abc import Iterator

from kas.access.caller import Caller
from kas.access.grants import AgentRef
from kastunnel.link.frames import Impersonate

_PREFIX = "agent.gitlab.com/"


class MissingClaim(Exception):
    """The token does not say what this identity is made of; the message names it."""


def job_identity(caller: Caller, agent: AgentRef) -> Impersonate:
    """The identity of ``caller``'s job. Raises MissingClaim: never a group or value with a hole in it."""
    project = _number(caller.project_id, "project id")
    job = _number(caller.job_id, "job id")
    groups = ["gitlab:ci_job"]
    extra = {
        "id": str(agent.id),
        "config_project_id": _config_project_id(caller, agent),
        "project_id": project,
        "ci_pipeline_id": _number(caller.pipeline_id, "pipeline id"),
        "ci_job_id": job,
        "username": _text(caller.username, "username"),
    }
    slug = tier = ""
    if caller.environment is not None:
        slug = _text(caller.environment.slug, "environment slug")
        tier = _text(caller.environment.tier, "environment tier")
        extra |= {"environment_slug": slug, "environment_tier": tier}
    for group_id in caller.group_ids:
        group = _number(group_id, "group id")
        groups.append(f"gitlab:group:{group}")
        groups += _if(tier, f"gitlab:group_env_tier:{group}:{tier}")
    groups.append(f"gitlab:project:{project}")
    groups += _if(slug, f"gitlab:project_env:{project}:{slug}")
    groups += _if(tier, f"gitlab:project_env_tier:{project}:{tier}")
    values = tuple((_PREFIX + key, (value,)) for key, value in extra.items() if value)
    return Impersonate(f"gitlab:ci_job:{job}", tuple(groups), "", values)


def _config_project_id(caller: Caller, agent: AgentRef) -> str:
    """Left out where nobody knows it: kas registers agents by path."""
    if agent.project_id is not None:
        return str(agent.project_id)
    own = (caller.issuer, caller.project) == (agent.issuer, agent.project)
    return str(caller.project_id) if own else ""


def _number(value: int | None, claim: str) -> str:
    if value is None or value < 1:
        raise MissingClaim(f"the token has no {claim}")
    return str(value)


def _text(value: str, claim: str) -> str:
    if not value:
        raise MissingClaim(f"the token has no {claim}")
    if not (value.isascii() and value.isprintable() and value == value.strip()) or "," in value:
        raise MissingClaim(f"the token's {claim} cannot be used in an HTTP header")
    return value


def _if(condition: str, group: str) -> Iterator[str]:
    if condition:
        yield group
