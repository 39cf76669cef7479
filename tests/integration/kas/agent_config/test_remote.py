"""Configuration from other machines: three forges over HTTPS, git over https, pushes that wake, and everything that can be wrong."""

from __future__ import annotations

import asyncio
import hmac
import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web

from kas.agent_config.repositories.configured import ConfiguredRepositories
from kas.agent_config.repositories.forges import pushed_project
from kas.agent_config.watcher import AgentConfigs
from kas.config.repositories import ConfigurationRepository
from kas.metrics import ConfigMetrics
from kas.outbound import Outbound
from tests.fakes.forge import Forge
from tests.unit.kas.agent_config.test_watcher import BAD, GOOD, OTHER, PATH, Agent

TOKEN = "glpat-secret-secret"
AUTHOR = b"kas tests <tests@example.com>"
KINDS = ("gitlab", "gitea", "github")
PROJECT = "infra/agents"
DEMO = Agent(1, PROJECT, "demo", "forge")


class Files:
    """The repository of infra/agents at a forge of one kind: commits of files."""

    def __init__(self, forge: Forge, kind: str) -> None:
        self.forge = forge
        self.kind = kind
        self.commits: list[dict[str, bytes]] = [{PATH: GOOD}]
        self.told: list[dict[str, Any]] = []
        self.not_modified = 0
        forge.fallback = self._answer

    @property
    def head(self) -> str:
        return f"{len(self.commits):040x}"

    def _answer(self, request: web.Request) -> Any:
        said = request.headers.get("Private-Token") or request.headers.get("Authorization", "").split(" ")[-1]
        if said != TOKEN:
            return web.json_response({}, status=401)
        path = unquote(request.path_qs)
        if "statuses" in path:
            return self._status(request)
        if PROJECT not in path:
            return web.json_response({}, status=404)
        if "commits" in path:
            return self._head(request, path)
        commit = path.rpartition("=")[2]
        for name, text in self.commits[int(commit, 16) - 1].items():
            if name in path:
                return web.Response(body=text)
        return web.json_response({}, status=404)

    def _head(self, request: web.Request, path: str) -> Any:
        if request.headers.get("If-None-Match") == f'"{self.head}"':
            self.not_modified += 1
            return web.Response(status=304)
        if "nobranch" in path:
            return web.json_response([] if self.kind != "github" else {}, status=200 if self.kind != "github" else 422)
        answer: Any = {"sha": self.head} if self.kind == "github" else [{"id": self.head, "sha": self.head}]
        return web.json_response(answer, headers={"ETag": f'"{self.head}"'})

    async def _status(self, request: web.Request) -> web.Response:
        self.told.append(json.loads(await request.read()))
        return web.json_response({}, status=201)


class World:
    def __init__(self, forge: Forge, outbound: Outbound, folder: Path, kind: str, **options: Any) -> None:
        self.forge = forge
        self.files = Files(forge, kind)
        self.folder = folder
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        secret = folder / "webhook"
        secret.write_text("hook-secret")
        secret.chmod(0o600)
        settings = {
            "forge": kind,
            "url": forge.url,
            "projects": ["infra/*"],
            "issuer": "forge",
            "token_file": token,
            "ca_file": forge.authority.ca,
            "webhook_secret_file": secret,
            **options,
        }
        self.repositories = ConfiguredRepositories([ConfigurationRepository(**settings)], outbound, folder / "cache")
        self.outbound = outbound
        self.settings = settings
        self.repositories.use(asyncio.get_running_loop())
        self.configs = AgentConfigs(self.repositories, lambda: [DEMO], ConfigMetrics())

    def allowed(self) -> list[str] | None:
        config = self.configs.get(DEMO)
        return None if config is None else list(config.projects)

    async def until(self, predicate: Any) -> None:
        async with asyncio.timeout(10):
            while not predicate():
                await asyncio.sleep(0.02)


@pytest.fixture(params=KINDS)
async def world(request, tmp_path):
    async with Forge(tmp_path) as forge, Outbound() as outbound:
        yield World(forge, outbound, tmp_path, request.param)


async def test_the_newest_file_of_the_default_branch_is_in_force(world):
    await world.configs.refresh()
    assert world.allowed() == ["web/app"]
    status = world.configs.status(DEMO.id)
    assert (status.repository, status.commit) == (f"{world.forge.url}/{PROJECT}", world.files.head)

    world.files.commits.append({PATH: OTHER})
    await world.configs.refresh()
    assert world.allowed() == ["web/other"]


async def test_an_unchanged_repository_costs_one_small_question(world):
    await world.configs.refresh()
    asked = len(world.forge.asked)
    await world.configs.refresh()
    assert len(world.forge.asked) == asked + 1
    assert world.files.not_modified == 1


async def test_a_bad_file_keeps_the_last_good_one_and_a_deleted_one_closes_access(world):
    await world.configs.refresh()
    world.files.commits.append({PATH: BAD})
    await world.configs.refresh()
    assert world.allowed() == ["web/app"]
    assert f"{PATH}:3:7" in world.configs.status(DEMO.id).problem.reason

    world.files.commits.append({})
    await world.configs.refresh()
    assert world.allowed() == []


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"status": 401}, "answers 401: its token is refused"),
        ({"status": 403}, "answers 403"),
        ({"status": 404}, "there is no such repository or ref"),
        ({"status": 500}, "answers 500"),
        ({"status": 429, "retry_after": 9}, "answers 429"),
        ({"body": b"<html>"}, "names no commit"),
        ({"body": b"[]"}, "names no commit"),
        ({"body": b'[{"id": "../../etc", "sha": "../../etc"}]'}, "names no commit"),
        ({"body": b"x" * 2_000_000}, "more than"),
        ({"cut": True}, "cannot be reached"),
    ],
    ids=str,
)
async def test_a_forge_that_fails_keeps_the_last_good_file_and_is_told(world, knobs, said):
    await world.configs.refresh()
    for name, value in knobs.items():
        setattr(world.forge, name, value)
    await world.configs.refresh()
    assert world.allowed() == ["web/app"]
    problem = world.configs.status(DEMO.id).problem
    assert said in problem.reason
    assert TOKEN not in problem.reason


async def test_a_named_ref_is_asked_for(tmp_path):
    async with Forge(tmp_path) as forge, Outbound() as outbound:
        for kind in KINDS:
            world = World(forge, outbound, tmp_path, kind, ref="nobranch")
            await world.configs.refresh()
            assert world.allowed() is None
            assert "nobranch" in forge.asked[-1]


async def test_an_agent_of_another_issuer_is_not_configured_from_there(world):
    assert world.repositories.find(PROJECT, "forge") is not None
    assert world.repositories.find(PROJECT, "kas") is None
    assert world.repositories.find(PROJECT, "github") is None
    assert world.repositories.find("other/agents", "forge") is None


async def test_the_commit_shows_whether_it_is_in_force_where_that_is_wanted(tmp_path):
    async with Forge(tmp_path) as forge, Outbound() as outbound:
        for kind in KINDS:
            world = World(forge, outbound, tmp_path, kind, commit_status=True)
            await world.configs.refresh()
            world.files.commits.append({PATH: BAD})
            await world.configs.refresh()
            states = [one["state"] for one in world.files.told]
            assert states == ["success", "failed" if kind == "gitlab" else "failure"]
            assert world.files.told[1]["context"] == "kas/demo"
            assert "config.yaml:3:7" in world.files.told[1]["description"]


async def test_a_file_that_cannot_be_read_is_shown_at_its_commit_once(tmp_path):
    async with Forge(tmp_path) as forge, Outbound() as outbound:
        world = World(forge, outbound, tmp_path, "gitlab", commit_status=True)
        world.files.commits.append({PATH: b"#" * (2 << 20)})
        for _ in range(3):
            await world.configs.refresh()
        assert [one["state"] for one in world.files.told] == ["failed"]
        world.files.commits.append({PATH: GOOD})
        await world.configs.refresh()
        assert [one["state"] for one in world.files.told] == ["failed", "success"]


# Webhooks


def hook(
    kind: str, project: str = PROJECT, secret: str = "hook-secret", event: str | None = None
) -> tuple[dict[str, str], bytes]:
    body = json.dumps({"project": {"path_with_namespace": project}, "repository": {"full_name": project}}).encode()
    digest = hmac.digest(secret.encode(), body, sha256).hex()
    headers = {
        "gitlab": {"x-gitlab-token": secret, "x-gitlab-event": event or "Push Hook"},
        "gitea": {"x-gitea-signature": digest, "x-gitea-event": event or "push"},
        "github": {"x-hub-signature-256": f"sha256={digest}", "x-github-event": event or "push"},
    }
    return headers[kind], body


async def test_a_push_that_the_forge_tells_of_is_in_force_soon(world):
    kind = world.files.kind
    running = asyncio.create_task(world.configs.run())
    try:
        await world.until(lambda: world.allowed() == ["web/app"])
        await asyncio.sleep(1.1)  # looks at one repository are a second apart
        world.files.commits.append({PATH: OTHER})
        found = world.repositories.pushed(kind, *hook(kind))
        assert found == ("forge", PROJECT)
        before = asyncio.get_running_loop().time()
        for _ in range(100):  # a storm
            world.configs.wake_project(*found)
        await world.until(lambda: world.allowed() == ["web/other"])
        assert asyncio.get_running_loop().time() - before < 2
        asked = len(world.forge.asked)
        await asyncio.sleep(0.3)
        assert len(world.forge.asked) - asked <= 2
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_push_must_be_proven(kind):
    headers, body = hook(kind)
    assert pushed_project(kind, headers, body, "hook-secret") == PROJECT
    assert pushed_project(kind, headers, body, "other") is None
    assert pushed_project(kind, {}, body, "hook-secret") is None
    assert pushed_project(kind, dict.fromkeys(headers, ""), body, "hook-secret") is None
    if kind != "gitlab":
        assert pushed_project(kind, headers, body + b" ", "hook-secret") is None


@pytest.mark.parametrize("kind", KINDS)
def test_other_events_and_forms_wake_nobody(kind):
    assert pushed_project(kind, *hook(kind, event="ping"), "hook-secret") == ""
    for body in (
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b'{"repository": {"full_name": 5}, "project": {"path_with_namespace": []}}',
    ):
        headers, _ = hook(kind)
        for name in headers:
            if "signature" in name:
                digest = hmac.digest(b"hook-secret", body, sha256).hex()
                headers[name] = f"sha256={digest}" if kind == "github" else digest
        assert pushed_project(kind, headers, body, "hook-secret") == ""


async def test_a_push_to_a_project_that_is_not_configured_here_wakes_nobody(world):
    assert world.repositories.pushed(world.files.kind, *hook(world.files.kind, "evil/agents")) == ("", "")
    assert world.repositories.pushed(world.files.kind, *hook(world.files.kind, secret="wrong")) is None


async def test_a_dead_repository_delays_no_other(tmp_path):
    async with Forge(tmp_path) as forge, Outbound() as outbound:
        world = World(forge, outbound, tmp_path, "gitlab")
        slow = Agent(2, "infra/slow", "demo", "forge")
        world.configs = AgentConfigs(world.repositories, lambda: [slow, DEMO], ConfigMetrics())
        answer = forge.fallback

        async def held(request: web.Request) -> Any:
            if "slow" in request.path_qs:
                await asyncio.sleep(30)
            return answer(request) if answer is not None else None

        forge.fallback = held
        running = asyncio.create_task(world.configs.run())
        try:
            await world.until(lambda: world.allowed() == ["web/app"])
            assert world.configs.get(slow) is None
            world.repositories.close()  # as kas does at its end: the thread that waits is told so
            await world.until(lambda: world.configs.status(slow.id) is not None)
            assert "was given up" in world.configs.status(slow.id).problem.reason
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_what_another_repository_said_ends_where_the_new_one_cannot_be_read(world, tmp_path):
    await world.configs.refresh()
    assert world.allowed() == ["web/app"]
    other = ConfigurationRepository(
        project=PROJECT, git="https://localhost:1/x.git", issuer="forge", ca_file=world.forge.authority.ca
    )
    repositories = ConfiguredRepositories([other], world.outbound, tmp_path / "cache")
    world.configs.reconfigure(repositories, poll_s=2, allow_system_identities=False)
    await world.configs.refresh()
    assert world.allowed() is None


async def test_what_another_ref_said_ends_where_the_named_one_cannot_be_read(world, tmp_path):
    await world.configs.refresh()
    assert world.allowed() == ["web/app"]
    other = ConfigurationRepository(**{**world.settings, "ref": "nobranch"})
    repositories = ConfiguredRepositories([other], world.outbound, tmp_path / "cache")
    repositories.use(asyncio.get_running_loop())
    world.configs.reconfigure(repositories, poll_s=2, allow_system_identities=False)
    await world.configs.refresh()
    assert world.allowed() is None


async def test_the_first_look_is_waited_for_whatever_comes_of_it(world):
    running = asyncio.create_task(world.configs.run())
    async with asyncio.timeout(10):
        await world.configs.looked()
    assert world.allowed() == ["web/app"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
