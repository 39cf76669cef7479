"""Tokens of agents that expire: who is told, when, and what happens while the database is away."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kas.errors import StoreUnavailable
from kas.expiries import AGAIN_S, COUNT_EVERY_S, LOOK_S, WARN_EVERY_S, WARN_S, Expiries
from kas.store import AgentTokenRecord
from tests.fakes.clock import Time

DAY_S = 24 * 3600


class Tokens:
    def __init__(self, time: Time) -> None:
        self.time = time
        self.all: list[AgentTokenRecord] = []
        self.is_down = False

    def add(self, token_id: int, left_s: float | None) -> None:
        end = None if left_s is None else int(self.time.now + left_s)
        self.all.append(AgentTokenRecord(token_id, 7, "abcdefgh", 0, None, None, end))

    async def expired(self, after: float) -> list[AgentTokenRecord]:
        if self.is_down:
            raise StoreUnavailable
        return [one for one in self.all if one.expires_at and after < one.expires_at <= self.time.now]

    async def active(self) -> list[AgentTokenRecord]:
        return [one for one in self.all if one.is_active(self.time.now)]


class World:
    def __init__(self) -> None:
        self.time = Time()
        self.tokens = Tokens(self.time)
        self.ended: list[int] = []
        self.expiries = Expiries(self.tokens, self.ended.append, self.time)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_link_is_ended_with_its_token_and_again_for_a_hello_that_was_on_its_way(world: World):
    world.tokens.add(1, 10)
    world.tokens.add(2, None)
    await world.expiries.look()
    assert world.ended == []
    world.time.now += 10
    await world.expiries.look()
    assert world.ended == [1]
    world.time.now += LOOK_S
    await world.expiries.look()
    assert world.ended == [1, 1]
    world.time.now += AGAIN_S
    await world.expiries.look()
    world.time.now += AGAIN_S
    await world.expiries.look()
    assert set(world.ended) == {1}
    count = len(world.ended)
    world.time.now += 1
    await world.expiries.look()
    assert len(world.ended) == count


async def test_what_expires_while_the_database_is_away_is_ended_afterwards(world: World):
    world.tokens.add(1, 10)
    world.tokens.is_down = True
    for _ in range(3):
        world.time.now += AGAIN_S
        with pytest.raises(StoreUnavailable):
            await world.expiries.look()
    world.tokens.is_down = False
    await world.expiries.look()
    assert world.ended == [1]


@pytest.mark.looptime
async def test_it_goes_on_while_the_database_is_away(world: World):
    world.tokens.is_down = True
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.expiries.run())
        await asyncio.sleep(LOOK_S * 3.5)
        world.tokens.is_down = False
        world.tokens.add(1, 0)
        await asyncio.sleep(LOOK_S)
        task.cancel()
    assert world.ended == [1]


async def test_two_weeks_before_there_is_one_warning_a_day_and_a_number(world: World, caplog: pytest.LogCaptureFixture):
    world.tokens.add(1, WARN_S + 2 * DAY_S)
    world.tokens.add(2, None)
    await world.expiries.look()
    assert (world.expiries.soon, caplog.messages) == (0, [])
    world.time.now += 2 * DAY_S
    for _ in range(24):
        await world.expiries.look()
        world.time.now += WARN_EVERY_S / 24
    assert world.expiries.soon == 1
    assert caplog.messages == ["an agent's token expires soon: give it a new one"]
    said = caplog.records[0].fields  # type: ignore[attr-defined]
    assert (said["agent_id"], said["token_id"], said["not_after"]) == (7, 1, "2027-01-31T08:00:00+00:00")
    assert caplog.records[0].levelno == logging.WARNING
    await world.expiries.look()
    assert len(caplog.messages) == 2
    world.tokens.all.pop(0)
    world.time.now += COUNT_EVERY_S
    await world.expiries.look()
    assert world.expiries.soon == 0
