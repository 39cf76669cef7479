from __future__ import annotations

import hashlib

import pytest

from kas.store import ChangeKind, InvalidValue, JobClaims, Refused, Store
from kas.store.job_tokens import KEPT_AFTER_END_S
from tests.fakes.clock import Time

CLAIMS: JobClaims = {
    "project": "group/project",
    "project_id": "17",
    "group_ids": ["5", "4"],
    "ref": "main",
    "ref_protected": True,
    "environment": {"name": "production/eu", "slug": "production-eu", "tier": "production"},
    "pipeline_id": "3",
    "job_id": "9",
    "username": "käthe",
    "user_id": "2",
}


async def test_a_job_token_says_what_was_claimed(store: Store, time: Time):
    token = await store.job_tokens.issue(CLAIMS, 900)
    found = await store.job_tokens.find(token.encode())
    assert found is not None
    assert found.claims == CLAIMS
    assert found.expires_at == int(time.now) + 900
    assert found.sha256 == hashlib.sha256(token.encode()).digest()
    assert await store.job_tokens.list() == [found]


async def test_what_is_not_known_stays_absent(store: Store):
    token = await store.job_tokens.issue({"project": "group/project"}, 900)
    found = await store.job_tokens.find(token.encode())
    assert found is not None
    assert found.claims == {"project": "group/project"}


async def test_an_expired_token_is_none(store: Store, time: Time):
    token = await store.job_tokens.issue(CLAIMS, 900)
    time.now += 899
    assert await store.job_tokens.find(token.encode()) is not None
    time.now += 1
    assert await store.job_tokens.find(token.encode()) is None
    assert await store.job_tokens.list() == []


async def test_a_revoked_token_is_none_and_a_change(store: Store):
    token = await store.job_tokens.issue(CLAIMS, 900)
    found = await store.job_tokens.find(token.encode())
    assert found is not None
    await store.job_tokens.revoke(found.id)
    await store.job_tokens.revoke(found.id)
    assert await store.job_tokens.find(token.encode()) is None
    issued, revoked = await store.changes.since(0)
    assert (issued.kind, revoked.kind) == (ChangeKind.JOB_TOKEN_ISSUED, ChangeKind.JOB_TOKEN_REVOKED)
    assert (revoked.subject, revoked.sha256, revoked.agent_id) == (found.id, found.sha256, None)


async def test_an_unknown_id_says_where_to_look(store: Store):
    with pytest.raises(Refused, match="no job token with the id 7: see `kas job-token list`"):
        await store.job_tokens.revoke(7)


async def test_an_agent_token_is_no_job_token(store: Store):
    _, token = await store.agents.register("a/a", "prod")
    job = await store.job_tokens.issue(CLAIMS, 900)
    assert await store.job_tokens.find(token.encode()) is None
    assert await store.agent_tokens.find(job.encode()) is None


@pytest.mark.parametrize(
    ("claims", "ttl_s", "said"),
    [
        ({"project": "p"}, 900, "is not a project"),
        ({"project": "g/p"}, 0, "a second at least"),
        ({"project": "g/p", "group_ids": [str(n) for n in range(10_000)]}, 900, "leave out groups"),
    ],
)
async def test_claims_that_cannot_be_meant_are_refused(store: Store, claims: JobClaims, ttl_s: float, said: str):
    with pytest.raises(InvalidValue, match=said):
        await store.job_tokens.issue(claims, ttl_s)
    assert await store.job_tokens.list() == []


async def test_tokens_that_ended_a_day_ago_are_removed_when_new_ones_are_made(store: Store, time: Time):
    await store.job_tokens.issue(CLAIMS, 60)
    first = (await store.job_tokens.list())[0]
    time.now += 60 + KEPT_AFTER_END_S
    await store.job_tokens.issue(CLAIMS, 60)
    await store.job_tokens.revoke(first.id)  # still known
    time.now += 1
    await store.job_tokens.issue(CLAIMS, 60)
    with pytest.raises(Refused):
        await store.job_tokens.revoke(first.id)


async def test_an_id_is_never_used_again(store: Store, time: Time):
    await store.job_tokens.issue(CLAIMS, 60)
    first = (await store.job_tokens.list())[0].id
    time.now += 61 + KEPT_AFTER_END_S
    await store.job_tokens.issue(CLAIMS, 60)
    assert (await store.job_tokens.list())[0].id > first
