"""What GitLab's file cannot say: issuers, immutable ids, refs, forks, expiry, the whole instance, limits by request."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kas.access.caller import Caller, Environment
from kas.access.grants import Access, AgentRef, Denial, Grant
from kas.access.rules import decide
from kas.agent_config.schema import read_agent_config
from kastunnel.http.classify import request_info
from kastunnel.link.frames import Impersonate

NOW = 1_800_000_000.0  # 2027-01-15
AGENT = AgentRef(7, "infra/agents", "prod", "gitlab")
JOB = Caller(
    issuer="gitlab",
    project="web/app",
    project_id="17",
    group_ids=("5",),
    ref="main",
    ref_type="branch",
    environment=Environment("prod", "prod", "production"),
    pipeline_id="11",
    job_id="12",
    username="ana",
    roles=("guest", "developer"),
    speaks_gitlab=True,
)
GITHUB = replace(JOB, issuer="github", speaks_gitlab=False, is_public_issuer=True)
TAG = replace(JOB, ref_type="tag")
FORK = replace(JOB, is_fork=True)
SENTENCES = {"fork": "the entry does not say `forks: true`", "ref": "is not one of the entry's", "id": "immutable id"}


def access(ci_access: str, caller: Caller = JOB, agent: AgentRef = AGENT, now: float = NOW) -> Access | Denial:
    return decide(caller, agent, read_agent_config(f"ci_access: {{{ci_access}}}".encode(), "f"), now)


def entry(more: str = "", source: str = "projects") -> str:
    return f"{source}: [{{id: {'web/app' if source == 'projects' else 'web'}{', ' if more else ''}{more}}}]"


LETS_IN = {
    # Issuers
    "an entry speaks of the agent's own issuer": (entry(), JOB, True),
    "the same path at another issuer": (entry(), GITHUB, False),
    "an entry for that issuer": (entry("issuer: github"), GITHUB, True),
    "an entry for that issuer, a job of the agent's own": (entry("issuer: github"), JOB, False),
    "an entry for the agent's own issuer, said": (entry("issuer: gitlab"), JOB, True),
    "a group of that issuer": (entry("issuer: github", "groups"), GITHUB, True),
    "a group of the agent's own": (entry("", "groups"), GITHUB, False),
    "another issuer's entry for the project does not hide the group": (
        f"{entry('issuer: github')}, {entry('', 'groups')}",
        JOB,
        True,
    ),
    "the own project at another issuer": ("", replace(GITHUB, project="infra/agents"), False),
    "the own project at its issuer": ("", replace(JOB, project="infra/agents"), True),
    # The whole instance
    "instance": ("instance: {}", JOB, True),
    "instance of another issuer": ("instance: {}", replace(GITHUB, is_public_issuer=False), False),
    "instance of a named issuer": ("instance: {issuer: github}", replace(GITHUB, is_public_issuer=False), True),
    "instance of a public issuer": ("instance: {issuer: github}", GITHUB, False),
    "instance of the agent's own public issuer": ("instance: {}", replace(JOB, is_public_issuer=True), False),
    "instance with a condition": ("instance: {environments: [dev]}", JOB, False),
    "a group before the instance": (f"instance: {{}}, {entry('environments: [dev]', 'groups')}", JOB, False),
    # Immutable ids
    "the same id": (entry('project_id: "17"'), JOB, True),
    "another id: a new project took the path": (entry('project_id: "18"'), JOB, False),
    "a token without an id": (entry('project_id: "17"'), replace(JOB, project_id=""), False),
    "a group's id is no project's": (entry('project_id: "5"'), JOB, False),
    "the group's id": (entry('group_id: "5"', "groups"), JOB, True),
    "another group's id": (entry('group_id: "6"', "groups"), JOB, False),
    "a project's id is no group's": (entry('group_id: "17"', "groups"), JOB, False),
    # Refs
    "the branch": (entry("refs: [main]"), JOB, True),
    "another branch": (entry("refs: [release]"), JOB, False),
    "a pattern of branches": (entry("refs: ['release/*', 'ma*']"), JOB, True),
    "a tag that is called like the branch": (entry("refs: [main]"), TAG, False),
    "any branch, but a tag": (entry("refs: ['*']"), TAG, False),
    "the tag": (entry("refs: [refs/tags/main]"), TAG, True),
    "the full name of a branch": (entry("refs: [refs/heads/main]"), JOB, True),
    "a branch that is called like a full ref": (
        entry("refs: [refs/tags/main]"),
        replace(JOB, ref="refs/tags/main"),
        False,
    ),
    "nobody knows whether it is a branch": (entry("refs: [main]"), replace(JOB, ref_type=""), False),
    "no ref": (entry("refs: ['*']"), replace(JOB, ref=""), False),
    # Forks
    "a fork": (entry(), FORK, False),
    "a fork where forks count": (entry("forks: true"), FORK, True),
    "no fork where forks count": (entry("forks: true"), JOB, True),
    "a fork in the group": (entry("", "groups"), FORK, False),
    "a fork in the instance": ("instance: {}", FORK, False),
    "a fork's pull request to the own project": ("", replace(FORK, project="infra/agents"), False),
    # Expiry
    "until later": (entry("expires: '2027-01-15T09:00:00Z'"), JOB, True),
    "until earlier": (entry("expires: '2027-01-15T07:00:00Z'"), JOB, False),
    "until the end of today": (entry("expires: 2027-01-15"), JOB, True),
    "until the end of yesterday": (entry("expires: 2027-01-14"), JOB, False),
    "in another time zone": (entry("expires: '2027-01-15T09:00:00+02:00'"), JOB, False),
    "the next entry after one that has expired": (
        "projects: [{id: web/app, expires: 2020-01-01}, {id: web/app}]",
        JOB,
        True,
    ),
    # Environments that the issuer does not name
    "an environment without a name": (entry("environments: ['*']"), replace(JOB, environment=Environment("")), False),
}


@pytest.mark.covers("Z-09", "T21")
@pytest.mark.parametrize(("ci_access", "caller", "expected"), LETS_IN.values(), ids=LETS_IN.keys())
def test_case(ci_access, caller, expected):
    verdict = access(ci_access, caller)
    assert isinstance(verdict, Access if expected else Denial)
    if isinstance(verdict, Denial):
        assert verdict.reason


def test_access_ends_when_the_entry_does():
    verdict = access(
        "projects: [{id: web/app, expires: '2027-01-15T09:00:00Z', allow: [{verbs: [get], resources: [pods]}]}, "
        "{id: web/app}]"
    )
    assert isinstance(verdict, Access)
    assert verdict.expires_at == 1_800_003_600.0


@pytest.mark.parametrize(
    ("listed", "expected"), [(None, True), (frozenset({"42"}), True), (frozenset({"43"}), False), (frozenset(), False)]
)
def test_where_the_forge_knows_the_agent_it_must_say_yes_too(listed, expected):
    known = AGENT._replace(forge_id="42")
    verdict = access(entry(), replace(JOB, forge_agents=listed), known)
    assert isinstance(verdict, Access if expected else Denial)


@pytest.mark.parametrize(
    ("ci_access", "caller", "may_know"),
    [
        (entry("refs: [release]"), JOB, True),
        (entry("refs: [release]", "groups"), JOB, True),
        (entry("refs: [release]"), FORK, True),
        (entry('project_id: "18"'), JOB, False),  # a stranger, who took over a path
        ("instance: {refs: [release]}", JOB, False),
        (entry(), GITHUB, False),
        ("projects: [{id: web/api}]", JOB, False),
        ("", replace(FORK, project="infra/agents"), True),
    ],
)
def test_the_reason_is_for_those_whom_an_entry_names(ci_access, caller, may_know):
    verdict = access(ci_access, caller)
    assert isinstance(verdict, Denial)
    assert verdict.may_know is may_know


def test_ci_user_acts_as_the_user():
    verdict = access(entry("access_as: {ci_user: {}}"))
    assert isinstance(verdict, Access)
    assert verdict.first is not None
    assert verdict.first.identity == Impersonate(
        "gitlab:user:ana",
        ("gitlab:user", "gitlab:project_role:17:guest", "gitlab:project_role:17:developer"),
        "",
        (("agent.gitlab.com/id", ("7",)), ("agent.gitlab.com/username", ("ana",))),
    )


# Which entry decides depends on the request

READ = "{id: web/app, access_as: {impersonate: {username: reader}}, allow: [{verbs: [get, list, watch], resources: ['*']}]}"
EXEC = "{id: web/app, access_as: {impersonate: {username: admin}}, allow: [{verbs: [create], resources: [pods/exec], namespaces: [dev]}]}"
JOBS = "{id: web/app, access_as: {ci_job: {}}, allow: [{verbs: [delete], resources: [pods]}]}"


def who(ci_access: str, method: str, target: str, caller: Caller = JOB) -> str:
    verdict = access(ci_access, caller)
    assert isinstance(verdict, Access)
    granted = verdict.grant_for(request_info(method.encode(), target.encode()))
    if isinstance(granted, Denial):
        return f"denied: {granted.reason}"
    return granted.identity.user if isinstance(granted.identity, Impersonate) else "agent"


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/namespaces/dev/pods", "reader"),
        ("POST", "/api/v1/namespaces/dev/pods/a/exec?command=sh", "admin"),
        ("GET", "/api/v1/namespaces/dev/pods/a/exec?command=sh", "admin"),
        (
            "POST",
            "/api/v1/namespaces/prod/pods/a/exec?command=sh",
            "denied: `allow` does not cover create pods/exec in namespace prod",
        ),
        ("DELETE", "/api/v1/namespaces/prod/pods/a", "gitlab:ci_job:12"),
        (
            "DELETE",
            "/api/v1/namespaces/prod/pods",
            "denied: `allow` does not cover deletecollection pods in namespace prod",
        ),
        ("GET", "/version", "reader"),
        ("GET", "/metrics", "denied: `allow` does not cover get /metrics"),
        ("GET", "/api/v1/watch", "denied: `allow` does not cover this request"),
    ],
)
def test_the_first_entry_that_allows_the_request_decides_alone(method, target, expected):
    assert who(f"projects: [{READ}, {EXEC}, {JOBS}]", method, target) == expected


def test_an_entry_without_allow_ends_the_search():
    assert who(f"projects: [{READ}, {{id: web/app}}, {EXEC}]", "POST", "/api/v1/namespaces/dev/pods/a/exec") == "agent"


def test_an_identity_that_cannot_be_made_is_not_replaced_by_the_next_one():
    nameless = replace(JOB, job_id="")
    both = f"projects: [{JOBS}, {{id: web/app}}]"
    assert who(both, "DELETE", "/api/v1/namespaces/dev/pods/a", nameless).startswith("denied: access_as: ci_job")
    assert who(both, "GET", "/api/v1/namespaces/dev/pods/a", nameless) == "agent"


def test_the_context_gets_the_namespace_of_the_first_entry():
    verdict = access(
        "projects: [{id: web/app, default_namespace: a, allow: [{verbs: ['*'], resources: ['*']}]}, "
        "{id: web/app, default_namespace: b}]"
    )
    assert isinstance(verdict, Access)
    assert isinstance(verdict.first, Grant)
    assert verdict.first.default_namespace == "a"
