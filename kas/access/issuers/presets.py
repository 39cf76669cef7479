"""What the ID tokens of each kind of issuer say, as one table: claims to the fields of a Caller. Pure; every claim is hostile until read.

Sources: GitLab docs ci/secrets/id_token_authentication; GitHub docs actions/security-for-github-actions, "OpenID Connect reference";
Buildkite docs agent/v3/cli-oidc; CircleCI docs guides/permissions-authentication/openid-connect-tokens; Kubernetes docs
reference/access-authn-authz/service-accounts-admin, "Bound service account tokens". Forgejo and Gitea give theirs GitHub's form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kas.access.caller import Environment

Claims = Mapping[str, Any]
Fields = dict[str, Any]
MAX_CHARACTERS = 255
MAX_GROUPS = 200
_BRANCH, _TAG = "refs/heads/", "refs/tags/"
_ROLES = ("guest", "reporter", "developer", "maintainer", "owner")
# Events in which a pull request has a part: nothing in the token says whether it comes from a fork.
_PULL_REQUESTS = frozenset(
    {"pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment", "workflow_run"}
)


# Pipelines of GitLab whose `ref` is the branch's name where the merge request comes from, which may be a fork: no ref of the project.
_MERGE_REQUESTS = frozenset({"merge_request_event", "external_pull_request_event"})


class BadClaim(Exception):
    """A claim is not what it must be; the message names it, never its value."""


def text(claims: Claims, name: str) -> str:
    """A text, or a number as text; empty where the claim is absent. Raises BadClaim."""
    value = claims.get(name)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS or not value.isprintable():
        raise BadClaim(f"the claim {name} is not a short text")
    return value


def truth(claims: Claims, name: str) -> bool:
    """Whether it says true; issuers write it as a text too. Raises BadClaim."""
    value = claims.get(name, False)
    if value in (True, False, "true", "false", ""):
        return value in (True, "true")
    raise BadClaim(f"the claim {name} is not true or false")


def split_ref(full: str) -> Fields:
    """``refs/heads/main`` as ref and kind; anything else (``refs/pull/5/merge``) is neither a branch nor a tag."""
    for prefix, kind in ((_BRANCH, "branch"), (_TAG, "tag")):
        if full.startswith(prefix):
            return {"ref": full.removeprefix(prefix), "ref_type": kind}
    return {}


def _gitlab(claims: Claims) -> Fields:
    project, namespace = text(claims, "project_path"), text(claims, "namespace_path")
    is_inside = namespace == project.rpartition("/")[0]
    level = text(claims, "user_access_level")
    name = text(claims, "environment")
    is_ref = text(claims, "pipeline_source") not in _MERGE_REQUESTS
    kind = text(claims, "ref_type") if is_ref else ""
    return {
        "project": project,
        "project_id": text(claims, "project_id"),
        "group_ids": tuple(filter(None, (text(claims, "namespace_id") if is_inside else "",))),
        "ref": text(claims, "ref"),
        "ref_type": kind if kind in ("branch", "tag") else "",
        "ref_protected": truth(claims, "ref_protected"),
        "environment": Environment(name, _plain_slug(name), text(claims, "deployment_tier")) if name else None,
        "pipeline_id": text(claims, "pipeline_id"),
        "job_id": text(claims, "job_id"),
        "username": text(claims, "user_login"),
        "user_id": text(claims, "user_id"),
        "roles": _ROLES[: _ROLES.index(level) + 1] if level in _ROLES else (),
        "speaks_gitlab": True,
    }


def _plain_slug(name: str) -> str:
    """GitLab's slug of an environment where it is the name itself; longer and other names get a suffix that the token does not say."""
    is_plain = len(name) <= 24 and name[:1].isalpha() and name[-1:] != "-" and "--" not in name
    is_plain = (
        is_plain and name.isascii() and all(c.isdigit() or (c.isalpha() and c.islower()) or c == "-" for c in name)
    )
    return name if is_plain else ""


def _github(claims: Claims) -> Fields:
    run = text(claims, "run_id")
    attempt = text(claims, "run_attempt")
    name = text(claims, "environment")
    return {
        "project": text(claims, "repository"),
        "project_id": text(claims, "repository_id"),
        "group_ids": tuple(filter(None, (text(claims, "repository_owner_id"),))),
        **split_ref(text(claims, "ref")),
        "ref_protected": truth(claims, "ref_protected"),
        "is_fork": text(claims, "event_name") in _PULL_REQUESTS,
        "environment": Environment(name) if name else None,
        "pipeline_id": run,
        "job_id": text(claims, "check_run_id") or (f"{run}-{attempt}" if run and attempt else run),
        "username": text(claims, "actor"),
        "user_id": text(claims, "actor_id"),
    }


def _buildkite(claims: Claims) -> Fields:
    organisation, pipeline = text(claims, "organization_slug"), text(claims, "pipeline_slug")
    branch, tag = text(claims, "build_branch"), text(claims, "build_tag")
    return {
        "project": f"{organisation}/{pipeline}",
        "project_id": text(claims, "pipeline_id"),
        "group_ids": tuple(filter(None, (text(claims, "organization_id"),))),
        "ref": tag or branch,
        "ref_type": "tag" if tag else "branch" if branch else "",
        "is_fork": ":" in branch,  # how branches of third-party forks are called
        "pipeline_id": text(claims, "build_number"),
        "job_id": text(claims, "job_id"),
        "username": text(claims, "build_creator_email") or organisation,
    }


_CIRCLE = "oidc.circleci.com/"


def _circleci(claims: Claims) -> Fields:
    origin = text(claims, f"{_CIRCLE}vcs-origin")
    ref = text(claims, f"{_CIRCLE}vcs-ref")
    return {
        "project": origin.partition("/")[2],  # without the host
        "project_id": text(claims, f"{_CIRCLE}project-id"),
        "group_ids": tuple(filter(None, (text(claims, f"{_CIRCLE}org-id"),))),
        **split_ref(ref),
        "is_fork": ref.startswith(("refs/pull/", "pull/")),
        "pipeline_id": text(claims, f"{_CIRCLE}pipeline-id") or text(claims, f"{_CIRCLE}workflow-id"),
        "job_id": text(claims, f"{_CIRCLE}job-id"),
        "username": text(claims, "sub").rpartition("/user/")[2],
    }


def _kubernetes(claims: Claims) -> Fields:
    said = _inner(claims, "kubernetes.io")
    account, pod = _inner(said, "serviceaccount"), _inner(said, "pod")
    return {
        "project": f"{text(said, 'namespace')}/{text(account, 'name')}",
        "project_id": text(account, "uid"),
        "job_id": text(pod, "uid"),
        "pipeline_id": text(pod, "uid"),
        "username": text(account, "name"),
    }


def _inner(claims: Claims, name: str) -> Claims:
    value = claims.get(name, {})
    if not isinstance(value, dict):
        raise BadClaim(f"the claim {name} is not an object")
    return value


def generic(names: Mapping[str, str]) -> Callable[[Claims], Fields]:
    """For any other issuer: ``names`` says which claim is which field."""

    def read(claims: Claims) -> Fields:
        found: Fields = {}
        for field, claim in names.items():
            if field == "groups":
                found["group_ids"] = _texts(claims, claim)
            elif field == "environment":
                found["environment"] = Environment(name) if (name := text(claims, claim)) else None
            elif field in ("ref_protected", "is_fork"):
                found[field] = truth(claims, claim)
            else:
                found[field] = text(claims, claim)
        return {**found, **split_ref(found.get("ref", ""))}

    return read


def _texts(claims: Claims, name: str) -> tuple[str, ...]:
    value = claims.get(name, [])
    if not isinstance(value, list) or len(value) > MAX_GROUPS or not all(isinstance(one, str | int) for one in value):
        raise BadClaim(f"the claim {name} is not a list of {MAX_GROUPS} texts at most")
    return tuple(str(one)[:MAX_CHARACTERS] for one in value)


_RSA = ("RS256", "RS384", "RS512")
READERS: Mapping[str, Callable[[Claims], Fields]] = {
    "gitlab": _gitlab,
    "github": _github,
    "forgejo": _github,
    "buildkite": _buildkite,
    "circleci": _circleci,
    "kubernetes": _kubernetes,
}
ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "gitlab": ("RS256",),
    "github": ("RS256",),
    "forgejo": ("RS256", "ES256", "EdDSA"),
    "buildkite": ("RS256",),
    "circleci": ("RS256",),
    "kubernetes": ("RS256", "ES256", "ES384", "ES512"),
    "oidc": (*_RSA, "ES256", "ES384", "ES512", "EdDSA"),
}
GENERIC_FIELDS = frozenset(
    {
        *("project", "project_id", "ref", "ref_type", "ref_protected", "environment", "pipeline_id", "job_id"),
        *("username", "user_id", "groups", "is_fork"),
    }
)
