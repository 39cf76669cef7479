"""GitLab's job tokens against a GitLab over HTTPS: who the job is, and that nothing broken ever lets anybody in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from kas.access.caller import Caller, Environment
from kas.access.gate import Gate
from kas.access.grants import AgentRef
from kas.access.issuers.gitlab_job_tokens import GitlabJobTokens
from kas.agent_config.schema import read_agent_config
from kas.errors import IssuerUnavailable, JobIsOver, Unauthenticated
from kas.metrics import GateMetrics
from kas.outbound import Outbound
from tests.fakes.forge import Forge, SigningKey
from tests.fakes.gitlab import API_TOKEN, JOB_TOKEN, Gitlab

NOW = 1_800_000_000.0
TOKEN = JOB_TOKEN.encode()
JOB = Caller(
    issuer="gitlab",
    project="shop/web",
    project_id="17",
    group_ids=("5",),
    ref="main",
    ref_type="branch",
    pipeline_id="11",
    job_id="12",
    username="ana",
    user_id="3",
    roles=("guest", "reporter", "developer"),
    expires_at=NOW + 86_400,
    speaks_gitlab=True,
    forge_agents=frozenset({"42"}),
    recheck_s=5.0,
)


class World:
    def __init__(self, forge: Forge, outbound: Outbound) -> None:
        self.forge = forge
        self.gitlab = Gitlab(forge)
        self.outbound = outbound
        self.monotonic = 1000.0

    def tokens(self, **options: Any) -> GitlabJobTokens:
        return GitlabJobTokens(
            "gitlab",
            self.forge.url,
            self.outbound,
            tls=self.forge.authority.client_context(),
            clock=lambda: NOW,
            monotonic=lambda: self.monotonic,
            **options,
        )


@pytest.fixture
async def world(tmp_path):
    async with Forge(tmp_path) as forge, Outbound() as outbound:
        yield World(forge, outbound)


async def test_a_running_job_is_known_by_two_questions(world):
    assert await world.tokens().caller(TOKEN) == JOB
    assert sorted(world.forge.asked) == ["GET /api/v4/job", "GET /api/v4/job/allowed_agents"]


async def test_an_environment_has_a_slug_and_a_tier_but_no_name(world):
    world.gitlab.deploy_to("production-eu-x1y2z3", "production")
    caller = await world.tokens().caller(TOKEN)
    assert caller == replace(JOB, environment=Environment("", "production-eu-x1y2z3", "production"))


async def test_a_gitlab_whose_kas_is_off_vouches_all_the_same(world):
    world.gitlab.allowed = None
    assert await world.tokens().caller(TOKEN) == replace(JOB, group_ids=(), roles=(), forge_agents=None)


async def test_an_api_token_adds_what_the_job_may_not_read(world):
    world.gitlab.deploy_to()
    tokens = world.tokens(api_token=API_TOKEN)
    expected = replace(
        JOB, ref_protected=True, environment=Environment("production/eu", "production-eu-x1y2z3", "production")
    )
    assert await tokens.caller(TOKEN) == expected
    world.gitlab.project["forked_from_project"] = {"id": 1}
    assert (await tokens.caller(TOKEN)).is_fork is False  # kept for ten minutes
    world.monotonic += 600
    assert (await tokens.caller(TOKEN)).is_fork is True


async def test_an_api_token_that_may_read_nothing_adds_nothing(world):
    assert await world.tokens(api_token="glpat-other").caller(TOKEN) == JOB


@pytest.mark.parametrize(
    ("changed", "ref", "ref_type"),
    [
        ({"ref": "v1", "tag": True}, "v1", "tag"),
        ({"ref": "v1", "tag": "true"}, "v1", "branch"),
        ({"ref": "refs/merge-requests/5/head"}, "", ""),
        ({"ref": None}, "", ""),
    ],
)
async def test_the_ref_of_a_job(world, changed, ref, ref_type):
    world.gitlab.job |= changed
    caller = await world.tokens().caller(TOKEN)
    assert (caller.ref, caller.ref_type) == (ref, ref_type)


@pytest.mark.covers("A-09")
async def test_a_token_that_gitlab_does_not_know_is_refused(world):
    with pytest.raises(Unauthenticated, match="gitlab does not know this job token, or its job is over"):
        await world.tokens().caller(b"glcbt-64_unknown_unknown_")
    world.gitlab.is_running = False
    with pytest.raises(Unauthenticated):
        await world.tokens().caller(TOKEN)


@pytest.mark.parametrize("status", ["success", "failed", "canceled"])
async def test_a_job_that_is_over_is_over_whatever_its_token_may_still_do(world, status):
    world.gitlab.job["status"] = status
    with pytest.raises(JobIsOver):
        await world.tokens().caller(TOKEN)


@pytest.mark.covers("A-11")
@pytest.mark.parametrize(
    "knob",
    [
        {"status": 500},
        {"status": 502},
        {"status": 429, "retry_after": 9},
        {"status": 200},
        {"status": 302},
        {"body": b"<html>sign in</html>"},
        {"body": b"[]"},
        {"body": b"{}"},
        {"body": b'"text"'},
        {"body": b"x" * 2_000_000},
        {"cut": True},
    ],
    ids=lambda knob: str({name: str(value)[:9] for name, value in knob.items()}),
)
async def test_a_gitlab_that_fails_lets_nobody_in_and_says_so(world, knob):
    for name, value in knob.items():
        setattr(world.forge, name, value)
    with pytest.raises(IssuerUnavailable, match="^the issuer gitlab cannot be asked right now: ") as caught:
        await world.tokens().caller(TOKEN)
    assert JOB_TOKEN not in repr(caught.value)


MALFORMED = [
    (("job", "id"), "12"),
    (("job", "id"), None),
    (("job", "id"), True),
    (("job", "id"), -1),
    (("job", "id"), 1 << 70),
    (("job", "pipeline"), None),
    (("job", "pipeline"), []),
    (("job", "pipeline"), {"id": 11}),
    (("job", "user"), "ana"),
    (("job", "user"), {"id": 3, "username": "a\nb"}),
    (("job", "user"), {"id": 3, "username": ["ana"]}),
    (("job", "web_url"), None),
    (("job", "web_url"), "https://evil.example.com/shop/web/-/jobs/12"),
    (("job", "web_url"), "URL/shop/web/-/jobs/13"),
    (("job", "web_url"), "URL/shop/../etc/-/jobs/12"),
    (("job", "web_url"), "URL/shop/-/jobs/12"),
    (("allowed", "job"), {"id": 13}),
    (("allowed", "project"), {"id": 18, "groups": []}),
    (("allowed", "project"), {"id": 17, "groups": "5"}),
    (("allowed", "project"), {"id": 17, "groups": [{"id": "5"}]}),
    (("allowed", "project"), {"id": 17, "groups": [{"id": n} for n in range(1, 300)]}),
    (("allowed", "user"), {"roles_in_project": [5]}),
    (("allowed", "user"), None),
    (("allowed", "environment"), "prod"),
    (("allowed", "allowed_agents"), [None]),
]


@pytest.mark.covers("A-11")
@pytest.mark.parametrize(("place", "value"), MALFORMED, ids=lambda value: str(value)[:40])
async def test_an_answer_of_another_form_lets_nobody_in(world, place, value):
    answer, field = place
    if isinstance(value, str):
        value = value.replace("URL", world.forge.url)
    getattr(world.gitlab, answer)[field] = value
    with pytest.raises(IssuerUnavailable):
        await world.tokens().caller(TOKEN)


@pytest.mark.parametrize(
    "token",
    [
        b"kasjob-" + b"x" * 43,
        b"kasagent-" + b"x" * 43,
        b"kasproject-" + b"x" * 43,
        b"short",
        b"with a blank in it ......",
        "ümläuteümläute".encode(),
        b"x" * 9000,
        b"",
        SigningKey().sign({"iss": "https://other.example.com"}),
        b"glcbt-" + SigningKey().sign({"iss": "https://other.example.com"}),
        b"eyJub3QgYSBqd3Q.eyJub3QgYSBqd3Q.xxxxxxxxxxxx",
    ],
    ids=lambda token: str(token[:20]),
)
async def test_a_token_that_evidently_is_somebody_elses_is_never_sent(world, token):
    assert await world.tokens().caller(token) is None
    assert world.forge.asked == []


async def test_only_one_gitlab_is_shown_a_token_that_does_not_say_its_issuer(world):
    assert await world.tokens(takes_opaque=False).caller(TOKEN) is None
    assert world.forge.asked == []


@pytest.mark.parametrize(
    ("issuer", "takes_host", "is_shown"),
    [
        ("localhost", True, True),  # as GitLab 18 makes them: the host alone
        ("localhost", False, False),
        ("URL", False, True),
        ("other.example.com", True, False),
        ("", True, False),
    ],
)
async def test_a_token_that_says_its_issuer_is_shown_to_that_one(world, issuer, takes_host, is_shown):
    tokens = world.tokens(takes_opaque=False, takes_host=takes_host)
    token = b"glcbt-" + SigningKey().sign({"iss": issuer.replace("URL", world.forge.url), "aud": "gitlab-authz-token"})
    if is_shown:
        with pytest.raises(Unauthenticated):
            await tokens.caller(token)
    else:
        assert await tokens.caller(token) is None
    assert ("GET /api/v4/job" in world.forge.asked) is is_shown


async def test_a_job_that_ends_between_the_two_questions_is_not_taken_for_a_gitlab_without_kas(world):
    world.forge.answers["/api/v4/job/allowed_agents"] = lambda _: web.json_response({}, status=401)
    with pytest.raises(Unauthenticated):
        await world.tokens().caller(TOKEN)


@pytest.mark.covers("A-11")
async def test_a_gitlab_that_is_slow_lets_nobody_in(world, monkeypatch):
    world.forge.delay_s = 2
    tokens = world.tokens()
    asking = tokens._outbound.ask
    monkeypatch.setattr(tokens._outbound, "ask", lambda *a, **o: asking(*a, **{**o, "timeout_s": 0.2}))
    with pytest.raises(IssuerUnavailable, match="does not answer within"):
        await tokens.caller(TOKEN)


async def test_a_ref_that_is_protected_no_more_is_noticed_within_a_minute(world):
    tokens = world.tokens(api_token=API_TOKEN)
    assert (await tokens.caller(TOKEN)).ref_protected
    world.gitlab.branch["protected"] = False
    world.monotonic += 60
    assert not (await tokens.caller(TOKEN)).ref_protected


@pytest.mark.parametrize(
    ("owners", "expected"), [({"shop"}, True), ({"id:5"}, True), ({"5"}, False), ({"other"}, False)]
)
async def test_owners(world, owners, expected):
    tokens = world.tokens(owners=frozenset(owners))
    if expected:
        assert await tokens.caller(TOKEN)
    else:
        with pytest.raises(Unauthenticated, match="owner"):
            await tokens.caller(TOKEN)


GITLABS_OWN_FILE = """\
gitops:
  manifest_projects: [{id: shop/web, paths: [{glob: '**/*.yaml'}]}]
observability: {logging: {level: info}}
ci_access:
  projects:
    - id: shop/web
      default_namespace: web
      access_as: {ci_job: {}}
  groups:
    - id: shop
user_access:
  access_as: {agent: {}}
  projects: [{id: shop/web}]
"""


async def test_an_unmodified_file_of_gitlabs_gives_gitlabs_identity(world):
    agent = AgentRef(7, "infra/agents", "prod", "gitlab", forge_id="42")
    config = read_agent_config(GITLABS_OWN_FILE.encode(), "config.yaml")
    world.gitlab.deploy_to("production", "production")
    gate = Gate(
        [world.tokens()],
        {7: agent},
        type("C", (), {"get": lambda _, __: config})(),
        GateMetrics(),
        wall_clock=lambda: NOW,
    )

    grant = (await gate.admit(7, TOKEN)).first

    assert grant is not None
    assert grant.default_namespace == "web"
    assert grant.identity.user == "gitlab:ci_job:12"
    assert grant.identity.groups == (
        "gitlab:ci_job",
        "gitlab:group:5",
        "gitlab:group_env_tier:5:production",
        "gitlab:project:17",
        "gitlab:project_env:17:production",
        "gitlab:project_env_tier:17:production",
    )
    assert dict(grant.identity.extra) == {
        "agent.gitlab.com/id": ("7",),
        "agent.gitlab.com/project_id": ("17",),
        "agent.gitlab.com/ci_pipeline_id": ("11",),
        "agent.gitlab.com/ci_job_id": ("12",),
        "agent.gitlab.com/username": ("ana",),
        "agent.gitlab.com/environment_slug": ("production",),
        "agent.gitlab.com/environment_tier": ("production",),
    }
