"""Brings the tables up to this version, in one transaction, whoever comes first."""

from __future__ import annotations

from importlib.resources import files

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kas.errors import StoreUnavailable
from kas.store.database import Database

HEAD = "0003"  # the newest of migrations/versions; kept here so that a database that is up to date costs no import of Alembic
_POSTGRESQL_LOCK = 0x6B61735F  # "kas_": two processes that start at once migrate one after the other


async def migrate(database: Database) -> None:
    """Make the tables those of this version. Raises StoreUnavailable if a newer kas has written them."""
    async with database.reading() as connection:
        if await connection.run_sync(_revision) == HEAD:
            return
    async with database.writing_unlocked() as connection:  # SQLite is locked by its BEGIN IMMEDIATE
        if not database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRESQL_LOCK})
        await _upgrade(connection, database.where)


async def found_version(database: Database) -> str | None:
    """The version of the tables, None if there are none. Raises StoreUnavailable if a newer kas has written them."""
    async with database.reading() as connection:
        return await _version(connection, database.where)


async def _version(connection: AsyncConnection, where: str) -> str | None:
    revision = await connection.run_sync(_revision)
    if revision is not None and revision != HEAD and revision not in _known_revisions():
        raise StoreUnavailable(
            f"the database {where} was written by a newer kas (its tables are of version {revision}, this kas knows up to {HEAD}): "
            "install that version again, or restore a backup from before"
        )
    return revision


async def _upgrade(connection: AsyncConnection, where: str) -> None:
    revision = await _version(connection, where)
    if revision is None and await connection.run_sync(lambda sync: bool(inspect(sync).get_table_names())):
        raise StoreUnavailable(f"the database {where} holds the tables of another program: choose another database.url")
    await connection.run_sync(_run_alembic)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(_scripts()).walk_revisions()}


def _scripts() -> str:
    return str(files("kas.store") / "migrations")


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", _scripts().replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
