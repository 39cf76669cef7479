from __future__ import annotations

from pathlib import Path

import pytest

from kas.store import Store, open_store


async def test_what_was_stored_is_there_after_a_restart(url: str):
    async with open_store(url) as store:
        agent, token = await store.agents.register("a/a", "prod")
        job = await store.job_tokens.issue({"project": "a/a"}, 900)
    async with open_store(url) as store:
        assert await store.agents.list() == [agent]
        assert await store.agent_tokens.find(token.encode()) is not None
        assert await store.job_tokens.find(job.encode()) is not None


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.covers("T26")
async def test_no_secret_is_in_any_file_of_the_database(store: Store, tmp_path: Path):
    agent, first = await store.agents.register("a/a", "prod")
    _, second = await store.agent_tokens.create(agent.id)
    job = await store.job_tokens.issue({"project": "a/a"}, 900)
    content = everything_in(tmp_path)
    for token in (first, second, job):
        secret = token.split("-", 1)[1]
        assert secret.encode() not in content
        assert secret[8:24].encode() not in content, "nor a part beyond what it is looked up by"
        assert secret[:8].encode() in content


async def test_the_representation_says_where_it_is(store: Store, tmp_path: Path):
    assert repr(store) == f"<Store {tmp_path}/kas.db>"


async def test_it_is_closed_when_the_block_fails(url: str):
    with pytest.raises(RuntimeError, match="the block"):
        async with open_store(url) as store:
            raise RuntimeError("the block")
    assert store._database._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
