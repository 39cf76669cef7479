"""Which agents there are, in memory: read from the store at the start, kept true by its change log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from kas.access.grants import AgentRef
from kas.store.records import AgentRecord, Change, ChangeKind

MAX_SINGLE_READS = 20  # more changed agents than this are read all together


class AgentLookup(Protocol):
    """The queries that are needed: kas.store's ``agents``."""

    async def by_id(self, agent_id: int) -> AgentRecord | None:
        """The agent, or None."""

    async def list(self) -> Sequence[AgentRecord]:
        """All agents."""


class AgentDirectory:
    """Agents by id. ``refresh`` once before use (read the change log's last number before it), then ``follow`` each batch.

    A deleted agent is gone before ``follow`` first awaits; a new one is there when it returns.
    """

    def __init__(self, agents: AgentLookup) -> None:
        self._agents = agents
        self._by_id: dict[int, AgentRef] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[AgentRef]:
        return iter(list(self._by_id.values()))

    def get(self, agent_id: int) -> AgentRef | None:
        """The agent with this id, if there is one."""
        return self._by_id.get(agent_id)

    async def refresh(self) -> None:
        """Read all agents. Raises StoreUnavailable; what was known stays."""
        self._by_id = {record.id: _ref(record) for record in await self._agents.list()}

    async def follow(self, changes: Iterable[Change]) -> bool:
        """Take in what the change log says; True if agents came or went. Raises StoreUnavailable: say the same changes again."""
        new: list[int] = []
        gone = False
        for change in changes:
            if change.kind is ChangeKind.AGENT_DELETED:
                gone = self._by_id.pop(change.subject, None) is not None or gone
                new = [agent_id for agent_id in new if agent_id != change.subject]
            elif change.kind is ChangeKind.AGENT_REGISTERED:
                new.append(change.subject)
        if len(new) > MAX_SINGLE_READS:
            await self.refresh()
        else:
            for agent_id in new:
                record = await self._agents.by_id(agent_id)
                if record is not None:
                    self._by_id[agent_id] = _ref(record)
        return gone or bool(new)


def _ref(record: AgentRecord) -> AgentRef:
    return AgentRef(record.id, record.project, record.name, record.issuer, forge_id=record.forge_id)
