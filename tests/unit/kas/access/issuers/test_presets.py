"""What each kind of token says: a table of real forms, and claims that are not what they must be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.access.caller import Caller, Environment
from kas.access.issuers.presets import ALGORITHMS, READERS, BadClaim, generic

GITLAB = {
    "namespace_id": "72",
    "namespace_path": "my-group",
    "project_id": "20",
    "project_path": "my-group/my-project",
    "user_id": "1",
    "user_login": "sample-user",
    "user_access_level": "developer",
    "pipeline_id": "574",
    "job_id": "302",
    "ref": "feature-branch-1",
    "ref_type": "branch",
    "ref_path": "refs/heads/feature-branch-1",
    "ref_protected": "false",
    "environment": "test-environment2",
    "deployment_tier": "testing",
}
GITHUB = {
    "repository": "octo-org/octo-repo",
    "repository_id": "74",
    "repository_owner": "octo-org",
    "repository_owner_id": "65",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "event_name": "push",
    "run_id": "30433642",
    "run_attempt": "1",
    "actor": "octocat",
    "actor_id": "12",
}
BUILDKITE = {
    "organization_slug": "acme-inc",
    "pipeline_slug": "super-duper-app",
    "build_number": 1,
    "build_branch": "main",
    "job_id": "0184990a-477b-4fa8-9968-496074483cee",
    "organization_id": "0184990a-4777-4a9c-8f8e-d5b0a1f4c1d2",
    "pipeline_id": "0184990a-477a-4fa8-9968-496074483k77",
}
CIRCLECI = {
    "sub": "org/o-1/project/p-1/user/u-1",
    "oidc.circleci.com/project-id": "p-1",
    "oidc.circleci.com/org-id": "o-1",
    "oidc.circleci.com/vcs-origin": "github.com/acme/web",
    "oidc.circleci.com/vcs-ref": "refs/heads/main",
    "oidc.circleci.com/job-id": "j-1",
    "oidc.circleci.com/workflow-id": "w-1",
}
KUBERNETES = {
    "sub": "system:serviceaccount:ci:runner",
    "kubernetes.io": {
        "namespace": "ci",
        "serviceaccount": {"name": "runner", "uid": "14ee3fa4"},
        "pod": {"name": "job-5", "uid": "a0c5f4d8"},
    },
}
TABLE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "gitlab",
        GITLAB,
        {
            "project": "my-group/my-project",
            "project_id": "20",
            "group_ids": ("72",),
            "ref": "feature-branch-1",
            "ref_type": "branch",
            "environment": Environment("test-environment2", "test-environment2", "testing"),
            "pipeline_id": "574",
            "job_id": "302",
            "username": "sample-user",
            "user_id": "1",
            "roles": ("guest", "reporter", "developer"),
            "speaks_gitlab": True,
        },
    ),
    (
        "github",
        GITHUB,
        {
            "project": "octo-org/octo-repo",
            "project_id": "74",
            "group_ids": ("65",),
            "ref": "main",
            "ref_type": "branch",
            "pipeline_id": "30433642",
            "job_id": "30433642-1",
            "username": "octocat",
            "user_id": "12",
        },
    ),
    (
        "buildkite",
        BUILDKITE,
        {
            "project": "acme-inc/super-duper-app",
            "project_id": "0184990a-477a-4fa8-9968-496074483k77",
            "group_ids": ("0184990a-4777-4a9c-8f8e-d5b0a1f4c1d2",),
            "ref": "main",
            "ref_type": "branch",
            "pipeline_id": "1",
            "job_id": "0184990a-477b-4fa8-9968-496074483cee",
            "username": "acme-inc",
        },
    ),
    (
        "circleci",
        CIRCLECI,
        {
            "project": "acme/web",
            "project_id": "p-1",
            "group_ids": ("o-1",),
            "ref": "main",
            "ref_type": "branch",
            "pipeline_id": "w-1",
            "job_id": "j-1",
            "username": "u-1",
        },
    ),
    (
        "kubernetes",
        KUBERNETES,
        {
            "project": "ci/runner",
            "project_id": "14ee3fa4",
            "pipeline_id": "a0c5f4d8",
            "job_id": "a0c5f4d8",
            "username": "runner",
        },
    ),
]


def caller(kind: str, claims: dict[str, Any]) -> Caller:
    return Caller(issuer="i", **READERS[kind](claims))


@pytest.mark.parametrize(("kind", "claims", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_a_token_of_each_kind(kind, claims, expected):
    assert caller(kind, claims) == Caller(issuer="i", **expected)


def test_forgejo_speaks_as_github_does():
    assert READERS["forgejo"] is READERS["github"]


@pytest.mark.covers("T21")
@pytest.mark.parametrize(
    ("kind", "claims", "is_fork"),
    [
        ("github", {"event_name": "push"}, False),
        ("github", {"event_name": "workflow_dispatch"}, False),
        ("github", {"event_name": "pull_request"}, True),
        ("github", {"event_name": "pull_request_target"}, True),
        ("github", {"event_name": "workflow_run"}, True),
        ("buildkite", {"build_branch": "stranger:main"}, True),
        ("buildkite", {"build_branch": "main"}, False),
        ("circleci", {"oidc.circleci.com/vcs-ref": "refs/pull/15/head"}, True),
        ("circleci", {"oidc.circleci.com/vcs-ref": "refs/heads/pull/15"}, False),
    ],
)
def test_what_may_come_from_a_fork_counts_as_one(kind, claims, is_fork):
    base = {"github": GITHUB, "buildkite": BUILDKITE, "circleci": CIRCLECI}[kind]
    assert caller(kind, {**base, **claims}).is_fork is is_fork


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("refs/heads/main", ("main", "branch")),
        ("refs/tags/main", ("main", "tag")),
        ("refs/heads/refs/tags/v1", ("refs/tags/v1", "branch")),
        ("refs/pull/5/merge", ("", "")),
        ("main", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_tag_is_never_taken_for_a_branch(ref, expected):
    found = caller("github", {**GITHUB, "ref": ref})
    assert (found.ref, found.ref_type) == expected


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("prod", "prod"),
        ("review/a", ""),
        ("Prod", ""),
        ("a" * 24, "a" * 24),
        ("a" * 25, ""),
        ("a--b", ""),
        ("1a", ""),
        ("a-", ""),
    ],
)
def test_a_gitlab_environment_has_a_slug_where_that_is_certain(name, slug):
    environment = caller("gitlab", {**GITLAB, "environment": name}).environment
    assert environment is not None
    assert environment.slug == slug


@pytest.mark.covers("T21")
@pytest.mark.parametrize(
    ("source", "full_ref"),
    [
        ("push", "refs/heads/main"),
        ("merge_request_event", ""),
        ("external_pull_request_event", ""),
        ("", "refs/heads/main"),
    ],
)
def test_the_branch_that_a_gitlab_merge_request_comes_from_is_no_branch_of_the_project(source, full_ref):
    assert caller("gitlab", {**GITLAB, "ref": "main", "pipeline_source": source}).full_ref == full_ref


def test_a_gitlab_project_of_a_user_has_no_group():
    assert caller("gitlab", {**GITLAB, "namespace_path": "other"}).group_ids == ()


def test_any_other_issuer_says_what_is_what():
    read = generic(
        {"project": "repo", "job_id": "id", "groups": "teams", "environment": "env", "ref": "branch", "is_fork": "fork"}
    )
    claims = {"repo": "a/b", "id": 5, "teams": ["x", 7], "env": "prod", "branch": "refs/tags/v1", "fork": True}
    assert Caller(issuer="i", **read(claims)) == Caller(
        issuer="i",
        project="a/b",
        job_id="5",
        group_ids=("x", "7"),
        environment=Environment("prod"),
        ref="v1",
        ref_type="tag",
        is_fork=True,
    )


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = SCALARS | st.lists(st.text(max_size=3), max_size=3) | st.just({})


@given(st.sampled_from(TABLE), st.data())
def test_a_claim_of_any_form_is_read_or_refused(row, data):
    kind, claims, _ = row
    name = data.draw(st.sampled_from(sorted(claims)))
    try:
        READERS[kind]({**claims, name: data.draw(VALUES)})
    except BadClaim:
        pass  # the only error there may be


def test_no_kind_of_issuer_signs_with_a_shared_secret():
    assert set(ALGORITHMS) == {*READERS, "oidc"}
    assert not any(algorithm.startswith(("HS", "none")) for kinds in ALGORITHMS.values() for algorithm in kinds)
