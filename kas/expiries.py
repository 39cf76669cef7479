"""Agent tokens that expire: their links are ended with them, and the operator hears of it two weeks before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from kas.clock import Clock
from kas.errors import StoreUnavailable
from kas.store.records import AgentTokenRecord
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

LOOK_S = 2.0  # a link outlives its token by this much
AGAIN_S = 60.0  # looked back: a hello may have been on its way when its token expired
WARN_S = 14 * 24 * 3600
COUNT_EVERY_S = 3600
WARN_EVERY_S = 24 * 3600  # about the same token


class AgentTokens(Protocol):
    """The queries that are needed: kas.store's ``agent_tokens``. Both raise StoreUnavailable."""

    async def expired(self, after: float) -> Sequence[AgentTokenRecord]:
        """Those that have expired since."""

    async def active(self) -> Sequence[AgentTokenRecord]:
        """Those that agents may dial with."""


class Expiries:
    """Keep ``run`` running. ``ended`` is told the id of each token that has expired, several times."""

    def __init__(self, tokens: AgentTokens, ended: Callable[[int], None], clock: Clock) -> None:
        self._tokens = tokens
        self._ended = ended
        self._clock = clock
        self._looked_at = clock()
        self._counted_at = 0.0
        self._warned: dict[int, float] = {}  # token id to when
        self.soon = 0  # tokens that expire within WARN_S

    async def run(self) -> None:
        """For ever. While the database cannot be read, nothing ends by expiry; it is made good afterwards."""
        while True:
            try:
                await self.look()
            except StoreUnavailable:
                pass  # changes.py says so in the log
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once. Raises StoreUnavailable: what was to be told is told the next time."""
        now = self._clock()
        for token in await self._tokens.expired(min(self._looked_at, now) - AGAIN_S):
            self._ended(token.id)
        self._looked_at = now
        if now - self._counted_at >= COUNT_EVERY_S:
            active = await self._tokens.active()
            self._warn(
                [(one, one.expires_at) for one in active if one.expires_at and one.expires_at <= now + WARN_S], now
            )
            self._counted_at = now

    def _warn(self, soon: Sequence[tuple[AgentTokenRecord, int]], now: float) -> None:
        self.soon = len(soon)
        warned, self._warned = self._warned, {}
        for token, expires_at in soon:
            last = warned.get(token.id, 0.0)
            if now - last >= WARN_EVERY_S:
                last = now
                end = datetime.fromtimestamp(expires_at, UTC).isoformat()
                said = fields(agent_id=token.agent_id, token_id=token.id, not_after=end)
                log.warning("an agent's token expires soon: give it a new one", extra=said)
            self._warned[token.id] = last
