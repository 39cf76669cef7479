"""kas's own job tokens become callers."""

from __future__ import annotations

import pytest

from kas.access.caller import Caller, Environment
from kas.access.issuers.own_tokens import OwnTokens
from kas.errors import IssuerUnavailable, StoreUnavailable
from kas.store import open_store
from kas.store.records import JobClaims


class Down:
    async def find(self, token: bytes):
        raise StoreUnavailable


@pytest.fixture
async def store(tmp_path):
    async with open_store(f"sqlite:///{tmp_path}/kas.db", clock=lambda: 1_700_000_000.0) as store:
        yield store


async def test_every_claim_reaches_the_caller(store):
    claims: JobClaims = {
        "project": "group/sub/app",
        "project_id": "42",
        "group_ids": ["5", "3"],
        "ref": "main",
        "ref_protected": True,
        "environment": {"name": "prod/eu", "slug": "prod-eu", "tier": "production"},
        "pipeline_id": "900",
        "job_id": "1234",
        "username": "ana",
        "user_id": "9",
    }
    token = await store.job_tokens.issue(claims, 900)

    assert await OwnTokens(store.job_tokens).caller(token.encode()) == Caller(
        issuer="kas",
        project="group/sub/app",
        project_id="42",
        group_ids=("5", "3"),
        ref="main",
        ref_protected=True,
        environment=Environment("prod/eu", "prod-eu", "production"),
        pipeline_id="900",
        job_id="1234",
        username="ana",
        user_id="9",
        expires_at=1_700_000_900.0,
        speaks_gitlab=True,
    )


async def test_what_a_token_does_not_say_is_not_known(store):
    token = await store.job_tokens.issue({"project": "group/app"}, 900)
    assert await OwnTokens(store.job_tokens).caller(token.encode()) == Caller(
        issuer="kas", project="group/app", expires_at=1_700_000_900.0, speaks_gitlab=True
    )


@pytest.mark.covers("A-13")
async def test_an_agents_token_and_other_bytes_are_nobody(store):
    _, agent_token = await store.agents.register("group/app", "demo")
    issuer = OwnTokens(store.job_tokens)
    for token in (agent_token.encode(), b"", b"kasjob-", b"kasjob-" + b"x" * 43, b"\xff" * 50, b"eyJ.a.b"):
        assert await issuer.caller(token) is None


async def test_a_database_that_is_away_is_an_issuer_that_cannot_be_asked():
    with pytest.raises(IssuerUnavailable, match="the database is unavailable"):
        await OwnTokens(Down()).caller(b"kasjob-x")
