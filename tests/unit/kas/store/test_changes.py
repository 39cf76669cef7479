from __future__ import annotations

import asyncio

import pytest

from kas.store import ChangeKind, Refused, Store, open_store
from kas.store.changes import KEPT_S
from tests.fakes.clock import Time


async def test_the_log_begins_at_zero(store: Store):
    assert await store.changes.last() == 0
    assert await store.changes.since(0) == []


async def test_every_write_is_in_the_log_in_order(store: Store, time: Time):
    agent, _ = await store.agents.register("a/a", "prod")
    record, _ = await store.agent_tokens.create(agent.id)
    await store.agent_tokens.revoke(record.id)
    await store.job_tokens.issue({"project": "a/a"}, 60)
    await store.agents.delete(agent.id)
    log = await store.changes.since(0)
    assert [(change.seq, change.kind) for change in log] == [
        (1, ChangeKind.AGENT_REGISTERED),
        (2, ChangeKind.AGENT_TOKEN_CREATED),
        (3, ChangeKind.AGENT_TOKEN_CREATED),
        (4, ChangeKind.AGENT_TOKEN_REVOKED),
        (5, ChangeKind.JOB_TOKEN_ISSUED),
        (6, ChangeKind.AGENT_TOKEN_REVOKED),
        (7, ChangeKind.AGENT_DELETED),
    ]
    assert {change.at for change in log} == {int(time.now)}
    assert await store.changes.since(5) == log[5:]
    assert await store.changes.last() == 7


async def test_a_write_that_fails_is_not_in_the_log(store: Store):
    await store.agents.register("a/a", "prod")
    before = await store.changes.last()
    with pytest.raises(Refused):
        await store.agents.register("a/a", "prod")
    assert await store.changes.last() == before


async def test_another_process_sees_a_write_at_once(url: str):
    async with open_store(url) as server, open_store(url) as command:
        seen = await server.changes.last()
        agent, _ = await command.agents.register("a/a", "prod")
        assert [change.subject for change in await server.changes.since(seen)] == [agent.id, 1]


async def test_writers_at_once_leave_no_gap_and_a_reader_misses_none(url: str):
    async with open_store(url) as one, open_store(url) as two, open_store(url) as reader:
        seen: list[int] = []

        async def write(store: Store, project: str) -> None:
            for number in range(8):
                await store.agents.register(project, f"agent-{number}")

        async def read() -> None:
            while len(seen) < 2 * 8 * 2:
                seen.extend(change.seq for change in await reader.changes.since(seen[-1] if seen else 0))

        await asyncio.gather(write(one, "a/a"), write(two, "b/b"), read())
        assert seen == list(range(1, 33))


async def test_a_cancelled_write_has_happened_completely_or_not_at_all(store: Store):
    for turns in range(1, 40):
        task = asyncio.get_running_loop().create_task(store.agents.register("a/a", f"agent-{turns}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    agents = {agent.id for agent in await store.agents.list()}
    log = await store.changes.since(0)
    assert [change.seq for change in log] == list(range(1, len(log) + 1))
    assert {change.agent_id for change in log} == agents
    assert {token.agent_id for token in await store.agent_tokens.active()} == agents


async def test_entries_are_kept_for_a_week(store: Store, time: Time):
    await store.agents.register("a/a", "first")
    time.now += KEPT_S + 1
    await store.agents.register("a/a", "second")
    assert [change.seq for change in await store.changes.since(0)] == [3, 4]
