"""Configuration from other machines: three forges over HTTPS, git over https, pushes that wake, and everything that can be wrong."""

from __future__ import annotations

import asyncio
import hmac
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from dulwich import porcelain

from kas.agent_config.repositories import RepositoryProblem
from kas.agent_config.repositories.configured import ConfiguredRepositories
from kas.agent_config.repositories.forges import pushed_project
from kas.agent_config.repositories.git_remote import GitRemote
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
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


# git over https: git's own http-backend behind a small server that checks the token


@contextmanager
def git_server(root: Path, forge_authority: Any) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        do_POST = do_GET  # noqa: N815 - the name that the server calls

        def _serve(self) -> None:
            import base64

            expected = "Basic " + base64.b64encode(f"kas:{TOKEN}".encode()).decode()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            environment = {
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "PATH": "/usr/bin:/bin",
                "REMOTE_USER": "kas",
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, capture_output=True, env=environment, check=False
            )
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            status = 200
            fields = []
            for line in head.decode().splitlines():
                name, _, value = line.partition(": ")
                if name == "Status":
                    status = int(value.split()[0])
                else:
                    fields.append((name, value))
            self.send_response(status)
            for name, value in fields:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = forge_authority.server_context("localhost").wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Origin:
    """A repository that is served, with one working copy to commit in."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "infra/agents.git"
        self.folder.mkdir(parents=True)
        porcelain.init(self.folder, bare=False)

    def commit(self, text: bytes | None) -> None:
        file = self.folder / PATH
        file.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            porcelain.remove(self.folder, [str(file)])
        else:
            file.write_bytes(text)
            porcelain.add(self.folder, [str(file)])
        porcelain.commit(self.folder, b"c", author=AUTHOR, committer=AUTHOR)


@pytest.fixture
def served(tmp_path):
    from tests.fakes.certificates import Authority

    authority = Authority(tmp_path, "git CA")
    origin = Origin(tmp_path / "root")
    origin.commit(GOOD)
    with git_server(tmp_path / "root", authority) as url:
        yield origin, f"{url}/infra/agents.git", authority.ca, tmp_path / "cache"


def remote(served: Any, **options: Any) -> GitRemote:
    _, url, ca, cache = served
    return GitRemote(url, cache, **{"token": TOKEN, "ca_file": ca, **options})


def test_git_over_https_is_read_at_its_newest_commit_and_cached(served):
    origin = served[0]
    repository = remote(served)
    first = repository.head()
    assert repository.read(first, PATH, 10_000) == GOOD
    origin.commit(OTHER)
    second = repository.head()
    assert second != first
    assert repository.read(second, PATH, 10_000) == OTHER
    assert remote(served, token="wrong").read(first, PATH, 10_000) == GOOD  # from the cache
    origin.commit(None)
    assert repository.read(repository.head(), PATH, 10_000) is None


def test_no_secret_is_kept_in_the_cache(served):
    repository = remote(served)
    repository.read(repository.head(), PATH, 10_000)
    for file in served[3].rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()
    assert served[3].stat().st_mode & 0o077 == 0 or next(served[3].iterdir()).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token": "not-this-one"}, "its token is refused"),
        ({"token": None}, "its token is refused"),
        ({"ca_file": None}, "CERTIFICATE_VERIFY_FAILED"),
        ({"ref": "missing"}, "refs/heads/missing has no commit"),
    ],
)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # dulwich leaves a refused answer unclosed
def test_what_is_wrong_with_it_is_said_without_secrets(served, options, said):
    with pytest.raises(RepositoryProblem) as caught:
        remote(served, **options).head()
    assert said in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "not-this-one" not in str(caught.value)


def test_a_machine_that_does_not_answer_is_told(served):
    with pytest.raises(RepositoryProblem, match="Connection refused"):
        GitRemote("https://localhost:1/x.git", served[3]).head()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed Protocol:ResourceWarning"
)  # dulwich leaves what hung up unclosed
def test_ssh_never_takes_a_host_on_trust(tmp_path):
    known = tmp_path / "known"
    known.write_text("")
    repository = GitRemote(
        "ssh://git@localhost:1/x.git", tmp_path / "c", key_file=tmp_path / "key", known_hosts_file=known
    )
    with repository._client() as (client, path):
        assert path == "/x.git"
        assert "StrictHostKeyChecking=yes" in client.ssh_command
        assert f"UserKnownHostsFile={known}" in client.ssh_command
    with pytest.raises(RepositoryProblem):
        repository.head()
