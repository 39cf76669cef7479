from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from kas.errors import TooManyRequests
from kas.store import ChangeKind, InvalidValue, JobClaims, MayClaim, Refused, RegistrationRecord, Store
from kas.store import job_tokens as module
from kas.store.registrations import USE_NOTED_EVERY_S
from tests.fakes.clock import Time

CLAIMS: JobClaims = {"project": "shop/web", "project_id": "17", "group_ids": ["5"]}
MAY: MayClaim = {
    "environments": [{"pattern": "production", "tier": "production"}],
    "refs": ["main", "refs/tags/v*"],
    "protected": True,
}


@pytest.fixture
async def registered(store: Store) -> tuple[RegistrationRecord, str]:
    return await store.registrations.create(CLAIMS, MAY, 3600)


async def test_a_secret_finds_its_registration(store: Store, registered: tuple[RegistrationRecord, str], time: Time):
    record, secret = registered
    assert await store.registrations.find(secret.encode()) == record
    assert await store.registrations.list() == [record]
    assert (record.claims, record.may_claim, record.max_ttl_s) == (CLAIMS, MAY, 3600)
    assert (record.created_at, record.last_used_at, record.expires_at) == (int(time.now), None, None)
    assert secret == f"kasproject-{record.prefix}{secret[19:]}"
    for wrong in (b"", b"kasproject-", secret[:-1].encode(), secret.encode() + b"x", b"\xff" * 54):
        assert await store.registrations.find(wrong) is None


async def test_the_database_holds_no_secret(store: Store, registered: tuple[RegistrationRecord, str], tmp_path: Path):
    with sqlite3.connect(tmp_path / "kas.db") as database:
        dump = "\n".join(database.iterdump())
    assert registered[1][19:] not in dump
    assert registered[1][11:19] in dump


@pytest.mark.covers("A-13")
async def test_no_kind_of_secret_is_taken_for_another(store: Store, registered: tuple[RegistrationRecord, str]):
    secret = registered[1].encode()
    _, agent = await store.agents.register("a/a", "prod")
    job = await store.job_tokens.issue(CLAIMS, 900)
    assert await store.job_tokens.find(secret) is None
    assert await store.agent_tokens.find(secret) is None
    assert await store.registrations.find(job.encode()) is None
    assert await store.registrations.find(agent.encode()) is None
    for kind in (b"kasjob-", b"kasagent-"):
        renamed = kind + secret.removeprefix(b"kasproject-")
        assert await store.job_tokens.find(renamed) is None
        assert await store.agent_tokens.find(renamed) is None
        assert await store.registrations.find(renamed) is None


async def test_an_expired_secret_finds_nothing_and_gets_nothing(store: Store, time: Time):
    record, secret = await store.registrations.create(CLAIMS, MAY, 3600, 90)
    time.now += 89
    assert await store.registrations.find(secret.encode()) == record
    await store.job_tokens.create(CLAIMS, 900, record.id)
    time.now += 1
    assert await store.registrations.find(secret.encode()) is None
    with pytest.raises(Refused, match="expired or was revoked"):
        await store.job_tokens.create(CLAIMS, 900, record.id)


async def test_revoking_ends_its_living_tokens_and_no_others(
    store: Store, registered: tuple[RegistrationRecord, str], time: Time
):
    record, secret = registered
    other = await store.job_tokens.issue(CLAIMS, 900)
    _, short = await store.job_tokens.create(CLAIMS, 1, record.id)
    made = [await store.job_tokens.create(CLAIMS, 900, record.id) for _ in range(3)]
    time.now += 1
    before = await store.changes.last()

    assert await store.registrations.revoke(record.id) == 3

    assert await store.registrations.find(secret.encode()) is None
    for _, token in made:
        assert await store.job_tokens.find(token.encode()) is None
    assert await store.job_tokens.find(short.encode()) is None
    assert await store.job_tokens.find(other.encode()) is not None
    told = await store.changes.since(before)
    assert [change.kind for change in told] == [ChangeKind.REGISTRATION_REVOKED] + [ChangeKind.JOB_TOKEN_REVOKED] * 3
    assert [change.sha256 for change in told[1:]] == [one.sha256 for one, _ in made]
    with pytest.raises(Refused, match="expired or was revoked"):
        await store.job_tokens.create(CLAIMS, 900, record.id)
    assert await store.registrations.revoke(record.id) == 0
    with pytest.raises(Refused, match="no registration with the id 9: see `kas project list`"):
        await store.registrations.revoke(9)


async def test_a_token_that_is_asked_for_while_its_registration_is_revoked_is_never_left_behind(
    store: Store, registered: tuple[RegistrationRecord, str]
):
    asked = [store.job_tokens.create(CLAIMS, 900, registered[0].id) for _ in range(4)]
    await asyncio.gather(*asked[:2], store.registrations.revoke(registered[0].id), *asked[2:], return_exceptions=True)
    assert await store.job_tokens.list() == []


async def test_a_registration_has_so_many_living_tokens_at_most(
    store: Store, registered: tuple[RegistrationRecord, str], time: Time, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_LIVING", 2)
    for _ in range(2):
        await store.job_tokens.create(CLAIMS, 60, registered[0].id)
    with pytest.raises(TooManyRequests, match="2 tokens of this registration are in force"):
        await store.job_tokens.create(CLAIMS, 60, registered[0].id)
    await store.job_tokens.issue(CLAIMS, 60)
    time.now += 60
    await store.job_tokens.create(CLAIMS, 60, registered[0].id)


async def test_use_is_noted_at_most_once_in_ten_minutes(
    store: Store, registered: tuple[RegistrationRecord, str], time: Time
):
    noted = []
    for _ in range(3):
        (record,) = await store.registrations.list()
        await store.registrations.note_use(record)
        (record,) = await store.registrations.list()
        noted.append(record.last_used_at)
        time.now += USE_NOTED_EVERY_S / 2
    assert noted == [1_800_000_000, 1_800_000_000, 1_800_000_600]


async def test_what_cannot_be_meant_is_refused(store: Store):
    with pytest.raises(InvalidValue, match="is not a project"):
        await store.registrations.create({"project": "shop"}, MAY, 60)
    many: MayClaim = {"environments": [], "refs": ["x" * 100] * 200, "protected": False}
    with pytest.raises(InvalidValue, match="use patterns"):
        await store.registrations.create(CLAIMS, many, 60)
    assert await store.registrations.list() == []


async def test_the_change_log_says_who_got_a_token_and_who_gave_it_back(
    store: Store, registered: tuple[RegistrationRecord, str]
):
    before = await store.changes.last()
    await store.job_tokens.issue(CLAIMS, 60)
    record, _ = await store.job_tokens.create(CLAIMS, 60, registered[0].id)
    await store.job_tokens.create({"project": "acme/web", "issuer": "github"}, 60)
    await store.job_tokens.revoke(record.id, "job")
    actors = [change.actor for change in await store.changes.since(before)]
    assert actors == ["kas", f"registration:{registered[0].id}", "issuer:github", "job"]
