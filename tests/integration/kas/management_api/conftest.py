"""The management door over TLS, with the real gate and store behind it, and an issuer in the test's hands."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path

import pytest

from kas.access.caller import Caller
from kas.access.directory import AgentDirectory
from kas.access.gate import Gate
from kas.access.issuers.own_tokens import OwnTokens
from kas.agent_config.entries import EMPTY
from kas.agent_config.schema import read_agent_config
from kas.clock import system_clock
from kas.limits.limits import Limits, LimitSettings
from kas.management_api.door import open_management_api
from kas.management_api.job_tokens import JobTokens, Lives
from kas.management_api.webhooks import Pushed, Webhooks
from kas.metrics import Metrics
from kas.pki import OwnCa
from kas.store import open_store

SERVER = "https://kas.example.com:8154"


class Configs:
    def __init__(self) -> None:
        self.by_name = {
            "demo": EMPTY,
            "shared": read_agent_config(
                b"ci_access: {projects: [{id: group/app, default_namespace: web, access_as: {ci_job: {}}}]}", "f"
            ),
            "closed": EMPTY,
        }

    def get(self, agent):
        return self.by_name.get(agent.name)


class Github:
    """An issuer of whatever a test says; ``asked`` are the tokens that it was shown."""

    name = "github"
    owners: tuple[str, ...] = ()
    is_public = False

    def __init__(self) -> None:
        self.callers: dict[bytes, Caller] = {}
        self.errors: dict[bytes, Exception] = {}
        self.asked: list[bytes] = []

    async def caller(self, token: bytes) -> Caller | None:
        self.asked.append(token)
        if token in self.errors:
            raise self.errors[token]
        return self.callers.get(token)


class World:
    configs: Configs
    issuer: Github
    limits: Limits

    def __init__(self, store, gate: Gate, port: int, client_tls: ssl.SSLContext, ca: bytes) -> None:
        self.lives = Lives(3600, 7200, 24 * 3600)
        self.store = store
        self.gate = gate
        self.port = port
        self.client_tls = client_tls
        self.ca = ca
        self.pushed: Pushed = lambda *_: None
        self.woken: list[tuple[str, str]] = []

    async def get(self, *headers: str, path: str = "/kas/v1/kubeconfig", method: str = "GET") -> tuple[int, dict, str]:
        return await self.ask(method, path, *headers)

    async def ask(self, method: str, path: str, *headers: str, body: bytes | None = None) -> tuple[int, dict, str]:
        if body is not None:
            headers = (*headers, f"Content-Length: {len(body)}")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.client_tls, server_hostname="localhost"
        )
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
        writer.write("\r\n".join(lines).encode("utf-8", "surrogateescape") + (body or b""))
        head, _, said = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        status, *fields = head.decode().split("\r\n")
        return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), said.decode()

    def let_in(self, issuer: str) -> None:
        """Jobs of this issuer may use the agent `closed`."""
        text = f"ci_access: {{projects: [{{id: group/app, issuer: {issuer}}}]}}"
        self.configs.by_name["closed"] = read_agent_config(text.encode(), "f")

    async def token(self, project: str, **claims) -> str:
        return await self.store.job_tokens.issue({"project": project, **claims}, 900)


@pytest.fixture
async def world(tmp_path: Path):
    own = OwnCa(tmp_path / "pki", ["localhost"], system_clock)
    pair = own.ensure()
    (tmp_path / "leaf.pem").write_bytes(pair.key + pair.chain)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(tmp_path / "leaf.pem")
    client_tls = ssl.create_default_context(cadata=own.bundle().decode())
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    metrics = Metrics()
    async with open_store(f"sqlite:///{tmp_path}/kas.db") as store:
        for project, name in (("group/app", "demo"), ("infra/agents", "shared"), ("infra/agents", "closed")):
            await store.agents.register(project, name)
        directory = AgentDirectory(store.agents)
        await directory.refresh()
        configs, issuer = Configs(), Github()
        gate = Gate([OwnTokens(store.job_tokens, [issuer]), issuer], directory, configs, metrics.gate)
        world = World(store, gate, port, client_tls, own.bundle())
        world.configs, world.issuer = configs, issuer
        world.limits = Limits(LimitSettings(), metrics.limits, time.monotonic)
        tokens = JobTokens(gate, store.job_tokens, store.registrations, lambda: world.lives, world.limits)
        async with open_management_api(
            listener,
            server_tls,
            gate,
            tokens,
            metrics.doors,
            server=lambda: SERVER,
            ca=own.bundle,
            webhooks=Webhooks(lambda *push: world.pushed(*push), lambda *place: world.woken.append(place)),
        ):
            yield world
