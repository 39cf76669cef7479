"""What each change does, and what happens while the change log cannot be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kas.changes import LOOK_S, ChangeFollower
from kas.errors import StoreUnavailable
from kas.store import Change, ChangeKind

pytestmark = pytest.mark.looptime


class World:
    """Everything that the follower touches, as one object that writes down what it was told."""

    def __init__(self) -> None:
        self.log: list[Change] = []
        self.told: list[tuple[str, object]] = []
        self.is_down = False
        self.changes = self
        self.agents_change = False
        self.follower = ChangeFollower(*[self] * 5)  # type: ignore[arg-type]

    async def last(self) -> int:
        self._check()
        return self.log[-1].seq if self.log else 0

    async def since(self, seq: int) -> list[Change]:
        self._check()
        return [change for change in self.log if change.seq > seq]

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailable

    async def refresh(self) -> None:
        self.told.append(("refresh", None))

    async def follow(self, changes: list[Change]) -> bool:
        self._check()
        self.told.append(("follow", [change.seq for change in changes]))
        return self.agents_change

    def forget(self, change: Change) -> None:
        self.told.append(("forget", change.seq))

    def revoke_token(self, token_id: int) -> None:
        self.told.append(("revoke token", token_id))

    def revoke_agent(self, agent_id: int) -> None:
        self.told.append(("revoke agent", agent_id))

    def wake(self) -> None:
        self.told.append(("wake", None))

    def write(self, kind: ChangeKind, subject: int) -> None:
        self.log.append(change(len(self.log) + 1, kind, subject))

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        await self.follower.begin()
        self.told.clear()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.follower.run())
            yield
            task.cancel()


def change(seq: int, kind: ChangeKind, subject: int) -> Change:
    return Change(seq, kind, subject, None, None, 0)


@pytest.mark.parametrize(
    ("kind", "agents_change", "told"),
    [
        (ChangeKind.AGENT_REGISTERED, True, [("forget", 1), ("follow", [1]), ("wake", None)]),
        (ChangeKind.AGENT_DELETED, True, [("forget", 1), ("revoke agent", 7), ("follow", [1]), ("wake", None)]),
        (ChangeKind.AGENT_TOKEN_CREATED, False, [("forget", 1), ("follow", [1])]),
        (ChangeKind.AGENT_TOKEN_REVOKED, False, [("forget", 1), ("revoke token", 7), ("follow", [1])]),
        (ChangeKind.JOB_TOKEN_REVOKED, False, [("forget", 1), ("follow", [1])]),
    ],
)
async def test_what_a_change_does(kind: ChangeKind, agents_change: bool, told: list[tuple[str, object]]) -> None:
    world = World()
    world.agents_change = agents_change
    async with world.following():
        world.write(kind, 7)
        await asyncio.sleep(LOOK_S * 1.5)
        assert world.told == told
        await asyncio.sleep(LOOK_S * 4)
        assert world.told == told


async def test_what_was_there_at_the_start_is_read_and_not_repeated() -> None:
    world = World()
    world.write(ChangeKind.AGENT_TOKEN_REVOKED, 3)
    async with world.following():
        await asyncio.sleep(LOOK_S * 3)
        assert world.told == []


async def test_a_log_that_cannot_be_read_is_said_once_and_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    async with world.following():
        world.is_down = True
        world.write(ChangeKind.AGENT_TOKEN_REVOKED, 3)
        await asyncio.sleep(LOOK_S * 5)
        assert world.told == []
        world.is_down = False
        await asyncio.sleep(LOOK_S * 1.5)
        assert ("revoke token", 3) in world.told
    said = [record.message for record in caplog.records]
    assert said.count("change log cannot be read: revocations wait") == 1
    assert said.count("change log can be read again") == 1


async def test_changes_that_could_not_be_followed_are_taken_again() -> None:
    world = World()
    follow = world.follow
    tries = 0

    async def once(changes: list[Change]) -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreUnavailable
        return await follow(changes)

    world.follow = once  # type: ignore[method-assign]
    async with world.following():
        world.write(ChangeKind.AGENT_DELETED, 4)
        await asyncio.sleep(LOOK_S * 3)
    assert world.told.count(("revoke agent", 4)) == 2
    assert ("follow", [1]) in world.told
