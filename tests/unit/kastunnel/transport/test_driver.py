"""The driver on virtual time: two ends in memory, and a network that does what networks do."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link import greeting
from kastunnel.link.errors import LinkError, StreamSilent
from kastunnel.link.frames import AsAgent, Open, Uid
from kastunnel.link.link import Link, Side
from kastunnel.link.uids import UidMemory
from kastunnel.transport.driver import Driver
from kastunnel.transport.duplex import StreamLost
from kastunnel.transport.memory import MemoryDuplex, joined
from tests.protocol.ends import Heard


class Pair:
    """kas and agentk over one memory stream."""

    def __init__(self) -> None:
        self.kas = Link(Side.KAS, next_uid=lambda: Uid(1, 1))
        self.agentk = Link(Side.AGENTK, uids=UidMemory())
        self.opened: list[tuple[Open, object]] = []
        self.kas_driver = Driver(self.kas)
        self.agent_driver = Driver(self.agentk, opened=self._opened)
        self.ends: tuple[MemoryDuplex, MemoryDuplex]

    def _opened(self, wanted: Open, exchange: object) -> Heard:
        self.opened.append((wanted, exchange))
        exchange.send_head(200, [], b"ok", end=True)  # type: ignore[attr-defined]
        return Heard()

    def start(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        self.ends = joined()
        now = asyncio.get_running_loop().time()
        self.agentk.begin_stream(1, greeting.hello_frame(greeting.Hello("pod", 1, 1, 1)), now)
        self.kas.begin_stream(1, greeting.welcome_frame(greeting.Welcome(b"l" * 16, 1, False, "kas", 1)), now)
        return [
            group.create_task(self.kas_driver.run(self.ends[0])),
            group.create_task(self.agent_driver.run(self.ends[1])),
        ]


async def test_a_request_goes_there_and_back() -> None:
    pair = Pair()
    heard = Heard()
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            pair.start(group)
            pair.kas.open(Open(AsAgent(), b"GET", b"/", [], end=True), heard)
            while not heard.said:
                await asyncio.sleep(0)
            await pair.ends[0].cut()
    assert heard.said[0][1].body == b"ok"


@pytest.mark.looptime
@pytest.mark.covers("T-05", "T-23")
async def test_beats_keep_an_idle_stream_alive_and_their_lack_is_noticed_at_both_ends(looptime: object) -> None:
    pair = Pair()
    noticed: list[float] = []

    async def run(driver: Driver, end: MemoryDuplex) -> None:
        try:
            await driver.run(end)
        except StreamSilent:
            noticed.append(asyncio.get_running_loop().time())

    pair.ends = joined()
    loop = asyncio.get_running_loop()
    pair.agentk.begin_stream(1, greeting.hello_frame(greeting.Hello("pod", 1, 1, 1)), loop.time())
    pair.kas.begin_stream(1, greeting.welcome_frame(greeting.Welcome(b"l" * 16, 1, False, "kas", 1)), loop.time())
    async with asyncio.TaskGroup() as group:
        group.create_task(run(pair.kas_driver, pair.ends[0]))
        group.create_task(run(pair.agent_driver, pair.ends[1]))
        await asyncio.sleep(300)
        assert not noticed
        frozen_at = loop.time()
        for end in pair.ends:
            end.frozen = True
    assert len(noticed) == 2
    assert all(20 <= at - frozen_at <= 31 for at in noticed)


async def test_a_cut_is_a_lost_stream_and_the_link_is_detached() -> None:
    pair = Pair()
    with pytest.raises(ExceptionGroup) as lost:
        async with asyncio.TaskGroup() as group:
            tasks = pair.start(group)
            await asyncio.sleep(0)
            await pair.ends[0].cut()
            await asyncio.wait(tasks)
    assert lost.group_contains(StreamLost)
    assert "none" in repr(pair.kas)
    assert "none" in repr(pair.agentk)


async def test_a_broken_rule_ends_the_link_with_its_reason() -> None:
    pair = Pair()
    with pytest.raises(ExceptionGroup) as broken:
        async with asyncio.TaskGroup() as group:
            pair.start(group)
            await pair.ends[1].write(b"\xff\xff")
    assert broken.group_contains(LinkError)
