"""Whether a job still runs, asked of three forges."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from kas.access.caller import Caller
from kas.access.issuers.job_watches import Forge as Asked
from kas.access.issuers.job_watches import PolledJobs
from kas.errors import IssuerUnavailable, JobIsOver
from kas.outbound import Outbound
from tests.fakes.forge import Forge

CALLER = Caller(issuer="i", project="acme/web", project_id="17", pipeline_id="900", job_id="900-2")
CHECK = Caller(issuer="i", project="acme/web", project_id="17", pipeline_id="900", job_id="4711")
RUN = "/repos/acme/web/actions/runs/900"
CASES = [
    ("github", CALLER, RUN, {"status": "in_progress", "run_attempt": 2}, True),
    ("github", CALLER, RUN, {"status": "completed", "run_attempt": 2}, False),
    ("github", CALLER, RUN, {"status": "in_progress", "run_attempt": 3}, False),
    ("github", CALLER, RUN, None, False),
    ("github", CHECK, "/repos/acme/web/check-runs/4711", {"status": "in_progress"}, True),
    ("github", CHECK, "/repos/acme/web/check-runs/4711", {"status": "completed"}, False),
    ("forgejo", CALLER, f"/api/v1{RUN}", {"status": "running"}, True),
    ("forgejo", CALLER, f"/api/v1{RUN}", {"status": "success"}, False),
    ("forgejo", CALLER, f"/api/v1{RUN}", {"status": "cancelled"}, False),
    ("forgejo", CALLER, f"/api/v1{RUN}", None, False),
    ("gitlab", CHECK, "/api/v4/projects/17/jobs/4711", {"status": "running"}, True),
    ("gitlab", CHECK, "/api/v4/projects/17/jobs/4711", {"status": "failed"}, False),
    ("gitlab", CHECK, "/api/v4/projects/17/jobs/4711", None, False),
]


class World:
    def __init__(self, forge: Forge, outbound: Outbound) -> None:
        self.forge = forge
        self.monotonic = 1000.0
        self.asked = Asked(forge.url, "secret", outbound, forge.authority.client_context())

    def watch(self, kind: str) -> PolledJobs:
        return PolledJobs("i", getattr(self.asked, kind), lambda: self.monotonic)


@pytest.fixture
async def world(tmp_path):
    async with Forge(tmp_path) as forge, Outbound() as outbound:
        yield World(forge, outbound)


@pytest.mark.parametrize(("kind", "caller", "path", "answer", "runs"), CASES, ids=lambda value: str(value)[:30])
async def test_case(world, kind, caller, path, answer, runs):
    world.forge.answers[path] = answer
    watch = world.watch(kind)
    if runs:
        await watch.ensure_running(caller)
    else:
        with pytest.raises(JobIsOver):
            await watch.ensure_running(caller)
    assert world.forge.asked == [f"GET {path}"]


async def test_a_job_is_asked_about_once_in_a_few_seconds_however_many_ask(world):
    world.forge.answers[RUN] = {"status": "in_progress", "run_attempt": 2}
    watch = world.watch("github")
    await asyncio.gather(*(watch.ensure_running(CALLER) for _ in range(20)))
    world.monotonic += 3.9
    await watch.ensure_running(CALLER)
    assert len(world.forge.asked) == 1
    world.monotonic += 0.2
    await watch.ensure_running(CALLER)
    assert len(world.forge.asked) == 2


async def test_a_job_that_is_over_stays_over_without_another_question(world):
    world.forge.answers[RUN] = {"status": "completed", "run_attempt": 2}
    watch = world.watch("github")
    for _ in range(3):
        with pytest.raises(JobIsOver):
            await watch.ensure_running(CALLER)
        world.monotonic += 60
    assert len(world.forge.asked) == 1


@pytest.mark.parametrize(
    "knob", [{"status": 500}, {"status": 403}, {"body": b"[]"}, {"body": b"{}"}, {"cut": True}], ids=str
)
@pytest.mark.parametrize("kind", ["gitlab", "forgejo", "github"])
async def test_a_forge_that_cannot_say_it_says_neither(world, kind, knob):
    for name, value in knob.items():
        setattr(world.forge, name, value)
    with pytest.raises(IssuerUnavailable) as caught:
        await world.watch(kind).ensure_running(CALLER)
    assert "secret" not in repr(caught.value)


async def test_all_who_wait_hear_of_a_failure_from_one_question_and_the_forge_is_left_alone_as_long_as_it_asks(world):
    world.forge.status, world.forge.retry_after = 429, 30
    watch = world.watch("github")
    errors = await asyncio.gather(*(watch.ensure_running(CALLER) for _ in range(10)), return_exceptions=True)
    assert {type(error) for error in errors} == {IssuerUnavailable}
    assert len(world.forge.asked) == 1
    world.monotonic += 29
    with pytest.raises(IssuerUnavailable):
        await watch.ensure_running(CALLER)
    assert len(world.forge.asked) == 1
    world.forge.status = None
    world.forge.answers[RUN] = {"status": "in_progress", "run_attempt": 2}
    world.monotonic += 2
    await watch.ensure_running(CALLER)


async def test_an_unchanged_job_costs_no_quota(world):
    seen: list[str | None] = []

    def answer(request: web.Request) -> web.Response:
        seen.append(request.headers.get("If-None-Match"))
        if seen[-1] == '"one"':
            return web.Response(status=304)
        return web.json_response({"status": "in_progress", "run_attempt": 2}, headers={"ETag": '"one"'})

    world.forge.answers[RUN] = answer
    watch = world.watch("github")
    for _ in range(3):
        await watch.ensure_running(CALLER)
        world.monotonic += 5
    assert seen == [None, '"one"', '"one"']
