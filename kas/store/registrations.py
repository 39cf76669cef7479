"""Projects that may ask for job tokens by themselves: each registration has a secret, and bounds for what its jobs may claim."""

from __future__ import annotations

import json
import logging
from typing import Any

from sqlalchemy import insert, select, update

from kas.clock import Clock
from kas.errors import StoreUnavailable
from kas.names import check_project
from kas.store import changes, job_tokens, tokens
from kas.store.database import Database
from kas.store.errors import InvalidValue, Refused
from kas.store.records import ChangeKind, JobClaims, MayClaim, RegistrationRecord
from kas.store.schema import registrations
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

Records = list[RegistrationRecord]  # within the class `list` is the query
MAX_BYTES = 16 * 1024  # of what its jobs may claim: read with each token that is asked for
USE_NOTED_EVERY_S = 600


class Registrations:
    """Queries about registrations."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self, claims: JobClaims, may_claim: MayClaim, max_ttl_s: float, ttl_s: float | None = None
    ) -> tuple[RegistrationRecord, str]:
        """A new registration, and its secret, which cannot be read again. Raises InvalidValue.

        ``max_ttl_s``: the longest life of its tokens; ``ttl_s``: the secret itself expires after so long, None: never. A project may
        have several, so that a secret can be rotated.
        """
        try:
            check_project(claims["project"])
        except ValueError as error:
            raise InvalidValue(str(error)) from None
        if len(json.dumps([claims, may_claim])) > MAX_BYTES:
            raise InvalidValue(f"what a registration's jobs may claim takes {MAX_BYTES} bytes at most: use patterns")
        now = int(self._clock())
        secret, print_ = tokens.new_secret(tokens.PROJECT)
        values = {
            "prefix": print_.prefix,
            "sha256": print_.sha256,
            "claims": dict(claims),
            "may_claim": dict(may_claim),
            "max_ttl_s": int(max_ttl_s),
            "created_at": now,
            "expires_at": None if ttl_s is None else now + int(ttl_s),
        }
        async with self._database.writing() as connection:
            row = (await connection.execute(insert(registrations).values(values).returning(registrations))).one()
            await changes.append(connection, ChangeKind.PROJECT_REGISTERED, row.id, now)
        return _record(row), secret

    async def list(self) -> Records:
        """All of them, revoked and expired ones too, oldest first."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(registrations).order_by(registrations.c.id))).all()
        return [_record(row) for row in rows]

    async def find(self, secret: bytes) -> RegistrationRecord | None:
        """The active one with this secret; None for any other bytes. Tells nothing by how long it takes."""
        wanted = tokens.fingerprint(secret, tokens.PROJECT)
        if wanted is None:
            return None
        query = select(registrations).where(registrations.c.prefix == wanted.prefix)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        now = self._clock()
        found = next((_record(row) for row in rows if wanted.matches(row.sha256)), None)
        return found if found is not None and found.is_active(now) else None

    async def note_use(self, registration: RegistrationRecord) -> None:
        """Remember that it was used now, at most every USE_NOTED_EVERY_S. Never fails."""
        now = int(self._clock())
        if registration.last_used_at is not None and registration.last_used_at > now - USE_NOTED_EVERY_S:
            return
        used = update(registrations).where(registrations.c.id == registration.id).values(last_used_at=now)
        try:
            async with self._database.writing_unlocked() as connection:
                await connection.execute(used)
        except StoreUnavailable as error:
            log.warning("use of a registration was not noted", extra=fields(error=str(error)))

    async def revoke(self, registration_id: int) -> int:
        """End it now with all its living job tokens, and say how many there were; again does nothing. Raises Refused if there is none."""
        now = int(self._clock())
        this = registrations.c.id == registration_id
        async with self._database.writing() as connection:
            row = (await connection.execute(select(registrations).where(this))).first()
            if row is None:
                raise Refused(f"there is no registration with the id {registration_id}: see `kas project list`")
            if row.revoked_at is None:
                await connection.execute(update(registrations).where(this).values(revoked_at=now))
                await changes.append(connection, ChangeKind.REGISTRATION_REVOKED, registration_id, now)
            return await job_tokens.revoke_all(connection, registration_id, now)


def _record(row: Any) -> RegistrationRecord:
    return RegistrationRecord(
        row.id,
        row.prefix,
        row.claims,
        row.may_claim,
        row.max_ttl_s,
        row.created_at,
        row.last_used_at,
        row.expires_at,
        row.revoked_at,
    )
