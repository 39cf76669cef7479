"""A job fetches its kubeconfig over TLS, with the real gate and store behind the door."""

from __future__ import annotations

import asyncio
import json

import pytest
import yaml

from kas.errors import IssuerUnavailable


async def test_a_job_gets_a_context_for_each_agent_that_it_may_use(world):
    token = await world.token("group/app", project_id="1", job_id="2", pipeline_id="3", username="ana")

    status, headers, body = await world.get(f"Authorization: Bearer {token}")

    assert status == 200
    assert headers["Content-Type"] == "application/yaml; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "kas"
    config = yaml.safe_load(body)
    assert [context["name"] for context in config["contexts"]] == ["group/app:demo", "infra/agents:shared"]
    assert config["contexts"][1]["context"]["namespace"] == "web"
    assert {user["user"]["token"].split(":", 2)[2] for user in config["users"]} == {token}


async def test_what_a_job_may_not_use_is_not_there(world):
    token = await world.token("group/other")
    status, _, body = await world.get(f"Authorization: Bearer {token}")
    assert status == 200
    assert yaml.safe_load(body)["contexts"] == []
    assert "closed" not in body


@pytest.mark.covers("A-01", "A-02", "A-03", "A-13", "A-14")
@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Authorization: Bearer {token}", "Authorization: Bearer {token}"],
        ["Authorization: Bearer {token}", "authorization: Basic x"],
        ["Authorization: Basic {token}"],
        ["Authorization: Bearer  {token}"],
        ["Authorization: Bearer\t{token}"],
        ["Authorization: {token}"],
        ["Authorization: Bearer"],
        ["Authorization: Bearer {token} x"],
        ["Authorization: Bearer {token}x"],
        ["Authorization: Bearer ci:1:{token}"],
        ["Authorization: Bearer é"],
        ["Authorization: Bearer {agent_token}"],
        ["Cookie: token={token}"],
        ["Job-Token: {token}"],
    ],
)
async def test_anything_but_one_good_token_is_refused_with_the_same_words(world, headers):
    token = await world.token("group/app")
    _, agent_token = await world.store.agents.register("group/app", "another")
    filled = [header.format(token=token, agent_token=agent_token) for header in headers]

    status, said, body = await world.get(*filled, path=f"/kas/v1/kubeconfig?access_token={token}")

    assert status == 401
    assert said["WWW-Authenticate"] == "Bearer"
    assert json.loads(body) == {
        "error": "The token is missing, malformed, unknown, expired or revoked.",
        "remedy": "send the job's token as 'Authorization: Bearer TOKEN', and take a fresh one if it is an old one",
    }
    assert token not in body


@pytest.mark.covers("A-02")
async def test_the_schemes_case_does_not_matter(world):
    token = await world.token("group/app")
    assert (await world.get(f"Authorization: bearer {token}"))[0] == 200


@pytest.mark.covers("A-11")
async def test_an_issuer_that_is_down_is_a_503_that_says_so(world):
    async def down(token: bytes):
        raise IssuerUnavailable("job tokens cannot be looked up right now: the database is unavailable")

    world.gate._issuers[0].caller = down
    status, headers, body = await world.get("Authorization: Bearer kasjob-x")
    assert status == 503
    assert headers["Retry-After"] == "5"
    assert json.loads(body)["error"] == "job tokens cannot be looked up right now: the database is unavailable"


async def test_plain_http_is_not_answered(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"GET /kas/v1/kubeconfig HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer kasjob-secret\r\n\r\n")
    async with asyncio.timeout(5):
        try:
            assert b"kind: Config" not in await reader.read()
        except ConnectionResetError:
            pass
    writer.close()
