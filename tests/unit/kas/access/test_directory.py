"""The directory of agents follows the change log."""

from __future__ import annotations

import pytest

from kas.access.directory import MAX_SINGLE_READS, AgentDirectory
from kas.access.grants import AgentRef
from kas.errors import StoreUnavailable
from kas.store.records import AgentRecord, Change, ChangeKind


class Agents:
    def __init__(self, *records: AgentRecord) -> None:
        self.records = {record.id: record for record in records}
        self.listed = 0
        self.down = False

    async def by_id(self, agent_id: int) -> AgentRecord | None:
        if self.down:
            raise StoreUnavailable
        return self.records.get(agent_id)

    async def list(self):
        self.listed += 1
        return list(self.records.values())


def record(agent_id: int) -> AgentRecord:
    return AgentRecord(agent_id, "kas", "group/app", f"agent-{agent_id}", 0)


def change(kind: ChangeKind, agent_id: int) -> Change:
    return Change(1, kind, agent_id, agent_id, None, 0)


async def test_all_agents_are_known_after_the_first_reading():
    directory = AgentDirectory(Agents(record(1), record(2)))
    assert directory.get(1) is None
    await directory.refresh()
    assert directory.get(1) == AgentRef(1, "group/app", "agent-1", "kas")
    assert len(directory) == 2
    assert [agent.id for agent in directory] == [1, 2]


async def test_agents_come_and_go_with_the_change_log():
    agents = Agents(record(1))
    directory = AgentDirectory(agents)
    await directory.refresh()

    agents.records[2] = record(2)
    assert await directory.follow([change(ChangeKind.AGENT_REGISTERED, 2)])
    assert directory.get(2) is not None

    assert await directory.follow([change(ChangeKind.AGENT_DELETED, 1)])
    assert directory.get(1) is None


async def test_an_agent_that_came_and_went_is_not_there():
    agents = Agents()
    directory = AgentDirectory(agents)
    await directory.follow([change(ChangeKind.AGENT_REGISTERED, 5), change(ChangeKind.AGENT_DELETED, 5)])
    assert directory.get(5) is None


async def test_other_changes_are_none_of_its_business():
    directory = AgentDirectory(Agents())
    assert not await directory.follow([change(ChangeKind.AGENT_TOKEN_REVOKED, 1)])
    assert not await directory.follow([change(ChangeKind.AGENT_DELETED, 1)])


async def test_a_deleted_agent_is_gone_even_if_the_database_fails_afterwards():
    agents = Agents(record(1))
    directory = AgentDirectory(agents)
    await directory.refresh()
    agents.down = True
    with pytest.raises(StoreUnavailable):
        await directory.follow([change(ChangeKind.AGENT_REGISTERED, 2), change(ChangeKind.AGENT_DELETED, 1)])
    assert directory.get(1) is None


async def test_many_new_agents_are_read_all_together():
    agents = Agents(*(record(n) for n in range(1, 101)))
    directory = AgentDirectory(agents)
    await directory.follow([change(ChangeKind.AGENT_REGISTERED, n) for n in range(1, MAX_SINGLE_READS + 2)])
    assert len(directory) == 100
    assert agents.listed == 1
