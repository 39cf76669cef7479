"""Push webhooks at the door: only a proven one wakes kas, and whatever else comes is refused without harm."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256

import pytest

from kas.agent_config.repositories.forges import pushed_project
from tests.integration.kas.management_api.conftest import World

SECRET = "hook-secret"
BODY = json.dumps(
    {"repository": {"full_name": "infra/agents"}, "project": {"path_with_namespace": "infra/agents"}}
).encode()


def signed(body: bytes = BODY) -> str:
    return "sha256=" + hmac.digest(SECRET.encode(), body, sha256).hex()


async def said(world: World, kind: str, *headers: str, body: bytes = BODY) -> int:
    status, _, _ = await world.ask("POST", f"/kas/v1/webhooks/{kind}", *headers, body=body)
    return status


@pytest.fixture
def pushes(world: World) -> list[tuple[str, str]]:
    world.pushed = lambda kind, headers, body: (
        None if (project := pushed_project(kind, headers, body, SECRET)) is None else ("forge", project)
    )
    return world.woken


@pytest.mark.covers("G-06")
async def test_a_proven_push_wakes_kas_each_time_it_comes(world: World, pushes: list[tuple[str, str]]) -> None:
    headers = ("X-GitHub-Event: push", f"X-Hub-Signature-256: {signed()}")
    assert [await said(world, "github", *headers) for _ in range(2)] == [200, 200]
    assert await said(world, "gitlab", "X-Gitlab-Event: Push Hook", f"X-Gitlab-Token: {SECRET}") == 200
    # A replay costs a look, and nothing of it is believed.
    assert pushes == [("forge", "infra/agents")] * 3


@pytest.mark.covers("G-06")
@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("github", ()),
        ("github", ("X-GitHub-Event: push",)),
        ("github", ("X-GitHub-Event: push", "X-Hub-Signature-256: sha256=")),
        ("github", ("X-GitHub-Event: push", f"X-Hub-Signature-256: {signed(b'other')}")),
        ("github", ("X-GitHub-Event: push", "X-Hub-Signature-256: sha256=\u00e9\udcff")),
        ("github", ("X-GitHub-Event: push", f"X-Hub-Signature: sha1={signed()[7:47]}")),
        ("gitlab", ("X-Gitlab-Event: Push Hook", "X-Gitlab-Token: wrong")),
        ("gitlab", ("X-Gitlab-Event: Push Hook", "X-Gitlab-Token: \u00e9\udcff")),
        ("gitlab", ("X-Gitlab-Event: Push Hook", f"X-Hub-Signature-256: {signed()}")),
    ],
)
async def test_a_forged_push_wakes_nobody(
    world: World, pushes: list[tuple[str, str]], kind: str, headers: tuple[str, ...]
) -> None:
    assert await said(world, kind, *headers) == 401
    assert pushes == []


NONSENSE = [b"", b"[]", b"null", b"{", b'{"repository": 5}', b'{"repository": {"full_name": 5}}', b"\xff", b"[" * 5000]


@pytest.mark.parametrize("body", NONSENSE)
async def test_a_proven_push_that_makes_no_sense_wakes_nobody(
    world: World, pushes: list[tuple[str, str]], body: bytes
) -> None:
    assert await said(world, "github", "X-GitHub-Event: push", f"X-Hub-Signature-256: {signed(body)}", body=body) == 200
    assert pushes == []


async def test_a_forge_that_nobody_knows_wakes_nobody(world: World, pushes: list[tuple[str, str]]) -> None:
    assert await said(world, "unknown", f"X-Gitlab-Token: {SECRET}") in (400, 404)
    assert pushes == []
