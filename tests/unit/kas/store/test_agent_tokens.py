from __future__ import annotations

import asyncio
import logging

import pytest
from sqlalchemy import event

from kas.store import AgentRecord, ChangeKind, Refused, Store
from kas.store.agent_tokens import USE_NOTED_EVERY_S
from tests.fakes.clock import Time


@pytest.fixture
async def agent(store: Store) -> AgentRecord:
    return (await store.agents.register("a/a", "prod"))[0]


async def test_two_tokens_are_active_so_that_one_can_be_rotated(store: Store, agent: AgentRecord, time: Time):
    record, token = await store.agent_tokens.create(agent.id)
    assert await store.agent_tokens.find(token.encode()) == record
    with pytest.raises(Refused, match=r"2 active tokens already: revoke one with `kas agent token revoke ID`"):
        await store.agent_tokens.create(agent.id)
    await store.agent_tokens.revoke(record.id)
    assert await store.agent_tokens.find(token.encode()) is None
    await store.agent_tokens.create(agent.id)
    assert [one.is_active(time.now) for one in await store.agent_tokens.list(agent.id)] == [True, False, True]
    assert len(await store.agent_tokens.active()) == 2


async def test_the_limit_of_two_holds_when_many_ask_at_once(store: Store, agent: AgentRecord):
    results = await asyncio.gather(*(store.agent_tokens.create(agent.id) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(result, Refused) for result in results) == 5
    assert len(await store.agent_tokens.list(agent.id)) == 2


async def test_only_the_whole_secret_finds_a_token(store: Store, agent: AgentRecord):
    _, token = await store.agent_tokens.create(agent.id)
    secret = token.encode()
    for wrong in (
        b"",
        b"nonsense",
        secret[:-1],
        secret + b"a",
        secret[:-1] + b"-" if secret[-1:] != b"-" else secret[:-1] + b"a",
    ):
        assert await store.agent_tokens.find(wrong) is None


async def test_tokens_that_begin_alike_are_told_apart(
    store: Store, agent: AgentRecord, monkeypatch: pytest.MonkeyPatch
):
    alike = iter(["kasagent-" + "a" * 42 + end for end in "xy"])
    monkeypatch.setattr("kas.store.tokens.new_token", lambda kind: next(alike))
    second, _ = await store.agents.register("a/a", "second")
    third, _ = await store.agents.register("a/a", "third")
    found = [await store.agent_tokens.find(b"kasagent-" + b"a" * 42 + end) for end in (b"x", b"y", b"z")]
    assert [one and one.agent_id for one in found] == [second.id, third.id, None]


async def test_revoking_again_does_nothing(store: Store, agent: AgentRecord, time: Time):
    (token,) = await store.agent_tokens.list(agent.id)
    first = await store.agent_tokens.revoke(token.id)
    before = await store.changes.last()
    time.now += 100
    assert await store.agent_tokens.revoke(token.id) == first
    assert await store.changes.last() == before


async def test_an_unknown_token_id_says_where_to_look(store: Store):
    with pytest.raises(Refused, match="no agent token with the id 7: see `kas agent token list NAME`"):
        await store.agent_tokens.revoke(7)


async def test_use_is_noted_at_most_once_in_ten_minutes(store: Store, agent: AgentRecord, time: Time):
    (token,) = await store.agent_tokens.list(agent.id)
    assert token.last_used_at is None
    noted = []
    for _ in range(5):
        await store.agent_tokens.note_use(token)
        (token,) = await store.agent_tokens.list(agent.id)
        noted.append(token.last_used_at)
        time.now += USE_NOTED_EVERY_S / 2
    start = noted[0]
    assert start is not None
    assert noted == [start, start, start + 600, start + 600, start + 1200]


async def test_use_is_no_change(store: Store, agent: AgentRecord):
    before = await store.changes.last()
    await store.agent_tokens.note_use((await store.agent_tokens.list(agent.id))[0])
    assert await store.changes.last() == before


@pytest.mark.covers("D-01")
async def test_a_full_disk_does_not_keep_agents_out(store: Store, agent: AgentRecord, caplog: pytest.LogCaptureFixture):
    (token,) = await store.agent_tokens.list(agent.id)
    engine = store._database._engine
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA query_only = ON"))
    with caplog.at_level(logging.WARNING):
        await store.agent_tokens.note_use(token)
    assert [record.message for record in caplog.records] == ["use of an agent token was not noted"]
    assert await store.agent_tokens.list(agent.id) == [token]


async def test_every_change_names_the_token_its_agent_and_its_hash(store: Store, agent: AgentRecord):
    record, _ = await store.agent_tokens.create(agent.id)
    await store.agent_tokens.revoke(record.id)
    created, revoked = (await store.changes.since(0))[-2:]
    assert (created.kind, revoked.kind) == (ChangeKind.AGENT_TOKEN_CREATED, ChangeKind.AGENT_TOKEN_REVOKED)
    assert created.subject == revoked.subject == record.id
    assert created.agent_id == revoked.agent_id == agent.id
    assert created.sha256 == revoked.sha256
    assert created.sha256 is not None


async def test_an_expired_token_finds_nobody_and_makes_room_for_another(store: Store, agent: AgentRecord, time: Time):
    record, token = await store.agent_tokens.create(agent.id, 90)
    assert record.expires_at == int(time.now) + 90
    time.now += 89
    assert await store.agent_tokens.find(token.encode()) == record
    assert len(await store.agent_tokens.active()) == 2
    time.now += 1
    assert await store.agent_tokens.find(token.encode()) is None
    assert len(await store.agent_tokens.active()) == 1
    await store.agent_tokens.create(agent.id)
    with pytest.raises(Refused, match="2 active tokens already"):
        await store.agent_tokens.create(agent.id)


async def test_what_has_expired_since_is_told_unless_it_was_revoked_before(
    store: Store, agent: AgentRecord, time: Time
):
    start = time.now
    record, _ = await store.agent_tokens.create(agent.id, 90)
    assert await store.agent_tokens.expired(start - 60) == []
    time.now += 90
    assert await store.agent_tokens.expired(start) == [record]
    assert await store.agent_tokens.expired(time.now) == []
    await store.agent_tokens.revoke(record.id)
    assert await store.agent_tokens.expired(start) == []
