"""The change log: what every process that serves must hear of, in the order in which it was committed."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kas.store.database import ACTOR, Database
from kas.store.records import Change, ChangeKind
from kas.store.schema import change_counter, changes

MAX_CHANGES = 1000  # in one answer; who got that many asks again
KEPT_S = 7 * 24 * 3600  # every process reads each second; a week is for people who look back


class Changes:
    """Reads the log. Entries older than a week are removed when new ones are written."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last(self) -> int:
        """The number of the newest entry, 0 if there was never one. Read it before what the log keeps true, then go on from it."""
        async with self._database.reading() as connection:
            return int((await connection.execute(select(change_counter.c.seq))).scalar_one())

    async def since(self, seq: int) -> list[Change]:
        """Entries after ``seq``, oldest first, at most MAX_CHANGES."""
        query = select(changes).where(changes.c.seq > seq).order_by(changes.c.seq).limit(MAX_CHANGES)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Change(row.seq, ChangeKind(row.kind), row.subject, row.agent_id, row.sha256, row.at, row.actor or "")
            for row in rows
        ]


async def append(
    connection: AsyncConnection,
    kind: ChangeKind,
    subject: int,
    now: int,
    *,
    agent_id: int | None = None,
    sha256: bytes | None = None,
    actor: str = "",
) -> None:
    """Write an entry within the transaction of the change itself (one of ``Database.writing``).

    ``actor``: who did it, where it was not simply who opened the database.
    """
    await connection.execute(update(change_counter).values(seq=change_counter.c.seq + 1))
    seq = (await connection.execute(select(change_counter.c.seq))).scalar_one()
    if not actor and connection.sync_connection is not None:
        actor = connection.sync_connection.get_execution_options().get(ACTOR) or ""
    values = {"seq": seq, "kind": kind.value, "subject": subject, "agent_id": agent_id, "sha256": sha256, "at": now}
    await connection.execute(insert(changes).values(**values, actor=actor or None))
    await connection.execute(delete(changes).where(changes.c.at < now - KEPT_S))
