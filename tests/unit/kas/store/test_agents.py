from __future__ import annotations

import asyncio

import pytest

from kas.store import InvalidValue, Refused, Store, open_store


async def test_a_registered_agent_is_found_by_id_name_and_token(store: Store):
    agent, token = await store.agents.register("group/project", "prod")
    assert agent.id >= 1
    assert await store.agents.by_id(agent.id) == agent
    assert await store.agents.by_name("group/project", "prod") == agent
    assert await store.agents.named("prod") == agent
    assert await store.agents.list() == [agent]
    found = await store.agent_tokens.find(token.encode())
    assert found is not None
    assert found.agent_id == agent.id


async def test_agents_are_listed_by_project_and_name(store: Store):
    for project, name in (("b/b", "a"), ("a/a", "z"), ("a/a", "b")):
        await store.agents.register(project, name)
    assert [agent.context for agent in await store.agents.list()] == ["a/a:b", "a/a:z", "b/b:a"]
    assert [agent.context for agent in await store.agents.list("b/b")] == ["b/b:a"]


async def test_a_name_is_unique_within_its_project(store: Store):
    await store.agents.register("a/a", "prod")
    await store.agents.register("b/b", "prod")
    with pytest.raises(Refused, match="a/a has an agent prod already: choose another name, or"):
        await store.agents.register("a/a", "prod")
    assert len(await store.agents.list()) == 2


@pytest.mark.covers("C-04")
@pytest.mark.parametrize(
    ("project", "name"), [("a/a", "Prod"), ("a/a", "x" * 64), ("a/a", ""), ("a", "prod"), ("../a", "prod")]
)
async def test_bad_names_are_refused_before_anything_is_written(store: Store, project: str, name: str):
    with pytest.raises(InvalidValue):
        await store.agents.register(project, name)
    assert await store.agents.list() == []
    assert await store.changes.last() == 0


async def test_an_ambiguous_name_says_the_projects(store: Store):
    await store.agents.register("a/a", "prod")
    second, _ = await store.agents.register("b/b", "prod")
    with pytest.raises(Refused, match=r"choose one with --project \(a/a, b/b\)"):
        await store.agents.named("prod")
    assert await store.agents.named("prod", "b/b") == second


async def test_an_unknown_agent_says_where_to_look(store: Store):
    with pytest.raises(Refused, match="there is no agent prod in a/a: see `kas agent list`"):
        await store.agents.named("prod", "a/a")
    assert await store.agents.by_id(7) is None
    assert await store.agents.by_name("a/a", "prod") is None
    with pytest.raises(Refused, match="no agent with the id 7"):
        await store.agents.delete(7)


async def test_a_deleted_agent_is_gone_with_its_tokens(store: Store):
    agent, token = await store.agents.register("a/a", "prod")
    _, second = await store.agent_tokens.create(agent.id)
    await store.agents.delete(agent.id)
    assert await store.agents.by_id(agent.id) is None
    assert await store.agents.list() == []
    assert await store.agent_tokens.find(token.encode()) is None
    assert await store.agent_tokens.find(second.encode()) is None
    with pytest.raises(Refused):
        await store.agents.delete(agent.id)
    with pytest.raises(Refused):
        await store.agent_tokens.create(agent.id)


async def test_an_id_is_never_given_to_another_agent(store: Store):
    first, _ = await store.agents.register("a/a", "prod")
    await store.agents.delete(first.id)
    second, _ = await store.agents.register("a/a", "prod")
    assert second.id > first.id


async def test_of_registrations_at_once_from_two_processes_one_wins(url: str):
    async with open_store(url) as one, open_store(url) as two:
        tries = [store.agents.register("a/a", "prod") for store in (one, two, one, two)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, tuple) for result in results) == 1
        assert sum(isinstance(result, Refused) for result in results) == 3
        assert len(await one.agents.list()) == 1


async def test_issuers_do_not_meet(store: Store):
    mine, _ = await store.agents.register("a/a", "prod")
    theirs, _ = await store.agents.register("a/a", "prod", issuer="forge")
    assert await store.agents.by_name("a/a", "prod") == mine
    assert await store.agents.by_name("a/a", "prod", issuer="forge") == theirs
