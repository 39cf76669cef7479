from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from kas.errors import StoreUnavailable
from kas.store import open_store, schema_version
from kas.store.database import Database
from kas.store.migrating import HEAD, migrate
from kas.store.schema import metadata

MIGRATIONS = Path(__file__).parents[4] / "kas/store/migrations"


def tables(path: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE tbl_name NOT LIKE 'alembic%' ORDER BY name"
        ).fetchall()
    connection.close()
    return [
        (kind, name, re.sub(r"\s+", " ", sql or "").replace("( ", "(").replace(" )", ")").replace(" ,", ","))
        for kind, name, sql in rows
    ]


async def test_the_migrated_tables_are_those_of_the_schema(url: str):
    database = Database(url)
    await migrate(database)
    async with database.reading() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    await database.close()
    assert differences == []


async def test_the_migrated_tables_are_the_same_to_the_letter(url: str, tmp_path: Path):
    migrated, direct = Database(url), Database(f"sqlite:///{tmp_path}/direct.db")
    await migrate(migrated)
    async with direct.writing_unlocked() as connection:
        await connection.run_sync(metadata.create_all)
    await migrated.close()
    await direct.close()
    assert tables(tmp_path / "kas.db") == tables(tmp_path / "direct.db")


def test_the_head_in_the_code_is_that_of_the_files():
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_a_migrations_file_says_its_number_and_whether_it_goes_before_or_after_the_code():
    names = sorted(path.name for path in (MIGRATIONS / "versions").glob("*.py") if path.name != "__init__.py")
    assert names
    assert all(re.fullmatch(r"v\d{4}_(pre|post)_[a-z_]+\.py", name) for name in names)


def test_migrations_do_not_use_the_schema_of_today():
    for path in (MIGRATIONS / "versions").glob("*.py"):
        assert "kas.store" not in path.read_text()


@pytest.mark.covers("D-08")
async def test_a_database_of_a_newer_kas_is_refused_and_left_alone(url: str, tmp_path: Path):
    async with open_store(url) as store:
        await store.agents.register("a/a", "prod")
    path = tmp_path / "kas.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = tables(path)
    with pytest.raises(
        StoreUnavailable, match=r"written by a newer kas \(its tables are of version 9999, .*: install that version"
    ):
        async with open_store(url):
            pass
    assert tables(path) == before


@pytest.mark.covers("D-08")
async def test_an_older_database_is_brought_up_with_what_is_in_it(url: str, tmp_path: Path):
    """The oldest there is: no tables at all. Later migrations add a fixture of the version before."""
    sqlite3.connect(tmp_path / "kas.db").close()
    async with open_store(url) as store:
        await store.agents.register("a/a", "prod")
    async with open_store(url) as store:
        assert [agent.name for agent in await store.agents.list()] == ["prod"]


async def test_the_tables_of_another_program_are_refused(url: str, tmp_path: Path):
    with sqlite3.connect(tmp_path / "kas.db") as connection:
        connection.execute("CREATE TABLE songs (id INTEGER)")
    connection.close()
    with pytest.raises(StoreUnavailable, match="holds the tables of another program"):
        async with open_store(url):
            pass


async def test_processes_that_start_at_once_migrate_once(url: str):
    databases = [Database(url) for _ in range(4)]
    await asyncio.gather(*(migrate(database) for database in databases))
    for database in databases:
        await database.close()


@pytest.mark.covers("D-06")
async def test_a_migration_that_fails_half_way_leaves_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from alembic import op

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(op, "bulk_insert", fail)
    with pytest.raises(StoreUnavailable, match="disk I/O error"):
        async with open_store(url):
            pass
    assert tables(tmp_path / "kas.db") == []
    monkeypatch.undo()
    async with open_store(url) as store:
        assert await store.changes.last() == 0


@pytest.mark.covers("D-08")
async def test_the_version_of_the_tables_can_be_asked_without_making_any(url: str, tmp_path: Path):
    assert await schema_version(url) == (None, HEAD)
    assert tables(tmp_path / "kas.db") == []
    async with open_store(url):
        pass
    assert await schema_version(url) == (HEAD, HEAD)
    with sqlite3.connect(tmp_path / "kas.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreUnavailable, match="newer kas"):
        await schema_version(url)
