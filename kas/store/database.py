"""The connection to the database: transactions of two kinds, and its troubles in words that say what to do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, select
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from kas.errors import ConfigurationError, StoreUnavailable
from kas.store.schema import change_counter

if TYPE_CHECKING:
    import aiosqlite

BUSY_TIMEOUT_MS = 5000  # a writer holds SQLite for a few ms; who waits longer meets a program that has hung
AGAIN_S = 0.01
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_WRITING = "kas_writing"
ACTOR = "kas_actor"  # the option of a connection that says who writes
MAX_ACTOR_CHARACTERS = 128


class Database:
    """Owns the pool of connections; ``close`` gives them back and may be called twice."""

    def __init__(self, url: str, password: str | None = None, actor: str = "kas") -> None:
        """``actor``: who writes, for the change log."""
        self._actor = actor[:MAX_ACTOR_CHARACTERS]
        self._url = _driver_url(url, password)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.where = f"{self._url.database}" if self.is_sqlite else self._url.render_as_string(hide_password=True)
        if self.is_sqlite:
            self._create_private_file()
        self._engine = self._new_engine()

    def _create_private_file(self) -> None:
        # SQLite itself would create it with the umask's mode; its -wal and -shm files take the mode of this one. One that is there
        # is not even opened: closing it would let go of every lock that this process has on it (fcntl(2)).
        try:
            os.close(os.open(str(self._url.database), os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreUnavailable(
                f"the database {self.where} cannot be opened: {error.strerror}; check that its directory exists and belongs to the "
                "user that runs kas"
            ) from error

    def _new_engine(self) -> AsyncEngine:
        try:
            engine = create_async_engine(self._url, pool_pre_ping=not self.is_sqlite)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"database.url: the driver {error.name} is not installed: pip install {error.name}"
            ) from error
        if self.is_sqlite:
            event.listen(engine.sync_engine, "connect", _set_up_sqlite)
            event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine

    def __repr__(self) -> str:
        return f"<Database {self.where}>"

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view. Raises StoreUnavailable."""
        with self._in_words():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, alone: two never overlap, here or in another process. Committed at the end of the block.

        An exception or a cancellation in the block undoes it all. Raises StoreUnavailable.
        """
        async with self.writing_unlocked() as connection:
            await connection.execute(
                select(change_counter.c.seq).with_for_update()
            )  # SQLite is locked by its BEGIN already
            yield connection

    @asynccontextmanager
    async def writing_unlocked(self) -> AsyncIterator[AsyncConnection]:
        """For what may overlap with other writes, and for migrations, which make the row that ``writing`` locks."""
        with self._in_words():
            async with self._engine.execution_options(**{_WRITING: True, ACTOR: self._actor}).begin() as connection:
                yield connection

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # a rule of the tables, not trouble: the query knows which
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"the database {self.where} {_trouble(error, self.where)}") from error

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def _driver_url(url: str, password: str | None) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            "database.url: this is not a database URL"
        ) from None  # it may hold a password: not shown
    if parsed.get_backend_name() not in _DRIVERS:
        raise ConfigurationError(
            "database.url: sqlite:////absolute/path or postgresql+asyncpg://user@host/name was expected"
        )
    if "+" not in parsed.drivername:
        parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
    return parsed if password is None else parsed.set(password=password)


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late and never as IMMEDIATE: see _begin_sqlite
    connection.run_async(_set_up)


async def _set_up(connection: aiosqlite.Connection) -> None:
    await connection.execute_fetchall(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    await _write_ahead(connection)
    # With NORMAL a power cut could undo the last commits, a revocation among them.
    await connection.execute_fetchall("PRAGMA synchronous = FULL")
    await connection.execute_fetchall("PRAGMA foreign_keys = ON")


async def _write_ahead(connection: aiosqlite.Connection) -> None:
    """A write-ahead log: readers and the writer do not wait for each other.

    A new file is switched over by whoever comes first; who does so while another has begun to write is told "locked" at once, whatever
    the time-out, so the waiting is done here.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            await connection.execute_fetchall("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or loop.time() >= until:
                raise
        await asyncio.sleep(AGAIN_S)


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once; an upgrade from a read lock fails with "locked" whatever the time-out.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITING) else "BEGIN")


def _trouble(error: BaseException, where: str) -> str:
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = (str(original).splitlines() or [""])[0][:200]
    known = {
        "locked": "is locked by another program: try again; if it stays so, end the program that holds it",
        "readonly": "cannot be written: check the owner and mode of the file and of its directory, and whether the disk is read-only",
        "is full": "has no space left: free some on its disk",
        "not a database": "is not a database of kas, or damaged: restore a backup",
        "malformed": f"is damaged: look with: sqlite3 {where} 'PRAGMA integrity_check'; restore a backup",
        "disk I/O error": "cannot be read or written (disk I/O error): look at the disk, its free space and the kernel's log",
        "unable to open": "cannot be opened: check that its directory exists and belongs to the user that runs kas",
    }
    for words, meaning in known.items():
        if words in said:
            return meaning
    return f"cannot be used: {said or type(original).__name__}; check that it runs, and database.url and password_file"
