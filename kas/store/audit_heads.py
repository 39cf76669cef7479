"""Where each chain of the audit log stood at some time, signed by kas: what a log that was cut off is measured by."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select

from kas.clock import Clock
from kas.store.database import Database
from kas.store.records import AuditHeadRecord
from kas.store.schema import audit_heads

Records = list[AuditHeadRecord]
KEPT = 10_000  # of each chain; the newest counts, older ones narrow down where somebody was at work


class AuditHeads:
    """Queries about heads."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, instance: str, seq: int, mac: str, signature: str) -> None:
        """Remember one more."""
        values = {"instance": instance, "seq": seq, "mac": mac, "signature": signature, "at": int(self._clock())}
        mine = audit_heads.c.instance == instance
        async with self._database.writing_unlocked() as connection:
            await connection.execute(insert(audit_heads).values(values))
            newest = (await connection.execute(select(func.max(audit_heads.c.id)).where(mine))).scalar_one()
            await connection.execute(delete(audit_heads).where(mine, audit_heads.c.id <= newest - KEPT))

    async def list(self) -> Records:
        """All that are kept, oldest first."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(audit_heads).order_by(audit_heads.c.id))).all()
        return [AuditHeadRecord(row.instance, row.seq, row.mac, row.signature, row.at) for row in rows]
