"""Follows the store's change log: what the operator's commands wrote is in force within a second, in every kas that reads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kas.access.directory import AgentDirectory
from kas.access.gate import Gate
from kas.agent_config.watcher import AgentConfigs
from kas.errors import StoreUnavailable
from kas.links.registry import Links
from kas.store import Change, ChangeKind, Store
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

LOOK_S = 0.5  # one indexed read each time


class ChangeFollower:
    """Evicts, refreshes and ends whatever a change makes untrue. ``begin`` once, then keep ``run`` running."""

    def __init__(
        self,
        store: Store,
        directory: AgentDirectory,
        gate: Gate,
        configs: AgentConfigs,
        links: Links,
        record: Callable[[Change], None] = lambda _: None,
    ) -> None:
        """``record`` is told of each change, for the audit log."""
        self._store = store
        self._directory = directory
        self._gate = gate
        self._configs = configs
        self._links = links
        self._record = record
        self._seq = 0

    async def begin(self) -> int:
        """Read the state as it is, and follow from there: from the change whose number is the value. Raises StoreUnavailable."""
        # Before the state: a change between the two is seen twice, not never.
        self._seq = await self._store.changes.last()
        await self._directory.refresh()
        return self._seq

    async def run(self) -> None:
        """For ever. While the database cannot be read, what was known stays in force and is tried again."""
        failing = False
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                changes = await self._store.changes.since(self._seq)
                if changes:
                    await self._apply(changes)
                    self._seq = changes[-1].seq
            except StoreUnavailable as error:
                if not failing:
                    log.error("change log cannot be read: revocations wait", extra=fields(error=str(error)))
                failing = True
                continue
            if failing:
                log.info("change log can be read again")
            failing = False

    async def _apply(self, changes: list[Change]) -> None:
        for change in changes:
            self._gate.forget(change)
            if change.kind is ChangeKind.AGENT_TOKEN_REVOKED:
                self._links.revoke_token(change.subject)
            elif change.kind is ChangeKind.AGENT_DELETED:
                self._links.revoke_agent(change.subject)
            self._record(change)
            log.info("change is in force", extra=fields(change=change.kind.value, seq=change.seq))
        if await self._directory.follow(changes):
            self._configs.wake()
