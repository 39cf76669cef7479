"""GitLab's published identity values, exactly: role bindings in clusters name them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kas.access.caller import Caller, Environment
from kas.access.grants import AgentRef
from kas.access.identity import MissingClaim, job_identity, user_identity
from kastunnel.link.frames import Impersonate

AGENT = AgentRef(7, "infra/agents", "prod")
CALLER = Caller(
    issuer="kas",
    project="group/sub/app",
    project_id="42",
    group_ids=("5", "3"),
    pipeline_id="900",
    job_id="1234",
    username="ana",
    roles=("guest", "developer"),
    speaks_gitlab=True,
)
STAGING = Environment("staging/eu", "staging-eu-x1y2z3", "staging")


def test_a_job_without_environment():
    assert job_identity(CALLER, AGENT) == Impersonate(
        user="gitlab:ci_job:1234",
        groups=("gitlab:ci_job", "gitlab:group:5", "gitlab:group:3", "gitlab:project:42"),
        uid="",
        extra=(
            ("agent.gitlab.com/id", ("7",)),
            ("agent.gitlab.com/project_id", ("42",)),
            ("agent.gitlab.com/ci_pipeline_id", ("900",)),
            ("agent.gitlab.com/ci_job_id", ("1234",)),
            ("agent.gitlab.com/username", ("ana",)),
        ),
    )


def test_a_job_with_environment():
    identity = job_identity(replace(CALLER, environment=STAGING), AGENT)

    assert identity.groups == (
        "gitlab:ci_job",
        "gitlab:group:5",
        "gitlab:group_env_tier:5:staging",
        "gitlab:group:3",
        "gitlab:group_env_tier:3:staging",
        "gitlab:project:42",
        "gitlab:project_env:42:staging-eu-x1y2z3",
        "gitlab:project_env_tier:42:staging",
    )
    assert identity.extra[-2:] == (
        ("agent.gitlab.com/environment_slug", ("staging-eu-x1y2z3",)),
        ("agent.gitlab.com/environment_tier", ("staging",)),
    )


def test_the_configuration_projects_id_is_said_where_it_is_known():
    registered_with_id = AGENT._replace(project_id="11")
    assert ("agent.gitlab.com/config_project_id", ("11",)) in job_identity(CALLER, registered_with_id).extra

    own_agent = AGENT._replace(project="group/sub/app")
    assert ("agent.gitlab.com/config_project_id", ("42",)) in job_identity(CALLER, own_agent).extra

    same_path_elsewhere = own_agent._replace(issuer="forge")
    assert "config_project_id" not in str(job_identity(CALLER, same_path_elsewhere).extra)


def test_a_project_outside_of_groups_has_no_group():
    assert job_identity(replace(CALLER, group_ids=()), AGENT).groups == ("gitlab:ci_job", "gitlab:project:42")


@pytest.mark.parametrize(
    ("lacking", "claim"),
    [
        ({"project_id": ""}, "project id"),
        ({"project_id": "0"}, "project id"),
        ({"job_id": ""}, "job id"),
        ({"pipeline_id": ""}, "pipeline id"),
        ({"username": ""}, "username"),
        ({"group_ids": ("5", "0")}, "group id"),
        ({"environment": Environment("staging", "", "staging")}, "environment slug"),
        ({"environment": Environment("staging", "staging", "")}, "environment tier"),
    ],
)
def test_what_the_token_lacks_is_named_and_never_an_empty_value(lacking, claim):
    with pytest.raises(MissingClaim, match=f"^the token has no {claim}$"):
        job_identity(replace(CALLER, **lacking), AGENT)


@pytest.mark.parametrize("text", ["a\r\nImpersonate-Group: system:masters", "é", " a", "a,b", "a:b", "a\x00"])
@pytest.mark.parametrize(
    ("change", "claim"),
    [
        (lambda text: {"username": text}, "username"),
        (lambda text: {"environment": Environment("e", text, "t")}, "environment slug"),
        (lambda text: {"environment": Environment("e", "s", text)}, "environment tier"),
    ],
)
def test_a_claim_that_a_header_cannot_carry_is_refused(change, claim, text):
    with pytest.raises(MissingClaim, match=f"the token's {claim} cannot stand in an identity"):
        job_identity(replace(CALLER, **change(text)), AGENT)


def test_a_jobs_user_has_every_role_up_to_the_actual_one():
    assert user_identity(CALLER, AGENT) == Impersonate(
        user="gitlab:user:ana",
        groups=("gitlab:user", "gitlab:project_role:42:guest", "gitlab:project_role:42:developer"),
        uid="",
        extra=(("agent.gitlab.com/id", ("7",)), ("agent.gitlab.com/username", ("ana",))),
    )


@pytest.mark.parametrize(
    ("lacking", "claim"), [({"project_id": ""}, "project id"), ({"username": ""}, "username"), ({"roles": ()}, "roles")]
)
def test_a_user_identity_lacks_nothing(lacking, claim):
    with pytest.raises(MissingClaim, match=f"^the token has no {claim}"):
        user_identity(replace(CALLER, **lacking), AGENT)


@pytest.mark.parametrize("identity", [job_identity, user_identity])
@pytest.mark.parametrize(
    "caller",
    [
        replace(CALLER, issuer="github", speaks_gitlab=False),  # another forge's numbers
        replace(CALLER, issuer="github"),  # a GitLab, but not the agent's
        replace(CALLER, speaks_gitlab=False),
    ],
)
def test_no_job_of_another_forge_can_be_taken_for_one_of_the_agents_own(identity, caller):
    caller = replace(caller, environment=STAGING)
    names = (identity(caller, AGENT).user, *identity(caller, AGENT).groups)
    assert all(name.startswith(f"kas:{caller.issuer}:") for name in names)


def test_elsewhere_an_environment_has_a_name_and_perhaps_a_tier():
    caller = replace(CALLER, issuer="github", speaks_gitlab=False, environment=Environment("prod/eu"))
    identity = job_identity(caller, AGENT)
    assert "kas:github:project_env:42:prod/eu" in identity.groups
    assert not any("tier" in name for name in (*identity.groups, *(key for key, _ in identity.extra)))
    with pytest.raises(MissingClaim, match="cannot stand in an identity"):
        job_identity(replace(caller, environment=Environment("a:b")), AGENT)
