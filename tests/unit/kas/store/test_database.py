from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from kas.errors import ConfigurationError, StoreUnavailable
from kas.store import Store, database, open_store


def on_begin(store: Store, statement: str) -> None:
    """Have every further transaction of this store begin with a statement."""
    engine: Any = store._database._engine.sync_engine
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(statement))


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name.startswith("kas.db")}


async def test_a_new_database_is_for_its_owner_alone(store: Store, tmp_path: Path):
    await store.agents.register("a/a", "prod")
    assert modes(tmp_path) == {
        "kas.db": 0o600,
        "kas.db-wal": 0o600,
        "kas.db-shm": 0o600,
    }


async def test_sqlite_is_set_up_to_lose_nothing(store: Store):
    async with store._database.reading() as connection:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)):
            assert (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar() == value


async def test_readers_do_not_wait_for_a_writer(store: Store):
    async with store._database.writing():
        assert await store.agents.list() == []


@pytest.mark.covers("D-02")
async def test_a_locked_database_says_what_to_do(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 20)
    async with open_store(url) as store:
        other = sqlite3.connect(tmp_path / "kas.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"kas.db is locked by another program: try again"):
            await store.agents.register("a/a", "prod")
        other.execute("ROLLBACK")
        other.close()
        await store.agents.register("a/a", "prod")


@pytest.mark.covers("D-06")
async def test_a_new_database_that_another_program_has_begun_to_write_is_waited_for(url: str, tmp_path: Path):
    other = sqlite3.connect(tmp_path / "kas.db", isolation_level=None)  # has not switched it to a write-ahead log yet
    other.execute("BEGIN IMMEDIATE")
    asyncio.get_running_loop().call_later(0.1, other.execute, "COMMIT")
    async with open_store(url) as store:
        await store.agents.register("a/a", "prod")
    other.close()


@pytest.mark.covers("D-02")
async def test_one_that_stays_locked_from_the_start_says_what_to_do(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    other = sqlite3.connect(tmp_path / "kas.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"kas.db is locked by another program: try again"):
        async with open_store(url):
            pass
    other.close()


async def fill(store: Store, claims: Any) -> None:
    for _ in range(20):
        await store.job_tokens.issue(claims, 60)


@pytest.mark.covers("D-01")
async def test_on_a_full_disk_writes_fail_and_reads_go_on(store: Store):
    agent, _ = await store.agents.register("a/a", "prod")
    claims: Any = {"project": "a/a", "ref": "r" * 10_000}
    on_begin(store, "PRAGMA max_page_count = 1")  # no page can be added
    with pytest.raises(StoreUnavailable, match="has no space left: free some on its disk"):
        await fill(store, claims)
    assert await store.agents.list() == [agent]
    on_begin(store, "PRAGMA max_page_count = 100000")
    await store.job_tokens.issue(claims, 60)


@pytest.mark.covers("D-02")
async def test_a_read_only_database_says_what_to_do(store: Store):
    on_begin(store, "PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable, match="cannot be written: check the owner and mode"):
        await store.agents.register("a/a", "prod")
    assert await store.agents.list() == []


@pytest.mark.covers("D-02")
@pytest.mark.parametrize(("content", "said"), [(b"this is a text" * 100, "is not a database of kas, or damaged")])
async def test_a_file_that_is_no_database_is_left_alone(url: str, tmp_path: Path, content: bytes, said: str):
    (tmp_path / "kas.db").write_bytes(content)
    with pytest.raises(StoreUnavailable, match=said):
        async with open_store(url):
            pass
    assert (tmp_path / "kas.db").read_bytes() == content


@pytest.mark.covers("D-02")
async def test_a_damaged_page_says_how_to_look(url: str, tmp_path: Path):
    async with open_store(url) as store:
        for number in range(50):
            await store.agents.register("a/a", f"agent-{number}")
    path = tmp_path / "kas.db"
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * len(content[8192:])
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="PRAGMA integrity_check"):
        async with open_store(url) as store:
            await store.agents.list()


async def test_a_directory_that_is_missing_says_what_to_do(tmp_path: Path):
    with pytest.raises(
        StoreUnavailable, match="cannot be opened: No such file or directory; check that its directory exists"
    ):
        async with open_store(f"sqlite:///{tmp_path}/nowhere/kas.db"):
            pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://kas@127.0.0.1:1/kas", "the driver asyncpg is not installed: pip install asyncpg"),
        ("mysql://a:tr0ub4dor@b/c", "sqlite:////absolute/path or postgresql"),
        ("tr0ub4dor", "this is not a database URL"),
    ],
)
async def test_a_url_that_cannot_be_meant_is_refused_without_its_password(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "asyncpg", None)  # as where it is not installed
    with pytest.raises(ConfigurationError, match=said) as caught:
        async with open_store(url):
            pass
    assert "tr0ub4dor" not in str(caught.value)


async def test_an_error_never_shows_statements_or_values(store: Store):
    on_begin(store, "SELECT tr0ub4dor FROM nowhere")
    with pytest.raises(StoreUnavailable) as caught:
        await store.job_tokens.issue({"project": "a/a", "ref": "secret-branch"}, 60)
    assert "secret-branch" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
