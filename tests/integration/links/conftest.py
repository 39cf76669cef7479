"""A kas without its HTTP doors, and agents that answer by themselves, joined by gRPC through a relay that can be cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from agentk.config import Address, KasAddress, Settings
from agentk.uplink import Uplink
from kas.agent_api.door import AgentApiDoor
from kas.links.registry import Links
from kas.metrics import Metrics
from kas.presence.memory import MemoryPresence
from kas.routing.router import Router
from kastunnel.link.frames import AsAgent, Code, Head, Open, Reset
from kastunnel.link.handler import Exchange
from tests.support.tcp_relay import TcpRelay

AGENT = 7


@dataclass
class Token:
    id: int
    agent_id: int


class Tokens:
    """Agent tokens by their text."""

    def __init__(self) -> None:
        self.active = {b"good": Token(1, AGENT), b"second": Token(2, AGENT), b"other": Token(3, 8)}
        self.used: list[int] = []

    async def note_use(self, token: Token) -> None:
        self.used.append(token.id)

    async def find(self, token: bytes) -> Token | None:
        return self.active.get(token)


class Asked:
    """A request as its caller sees it."""

    exchange: Exchange

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.body = bytearray()
        self.ended: bool | None = None
        self.reset: Reset | None = None
        self.happened = asyncio.Event()

    async def until(self, condition: Callable[[Asked], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition(self):
                self.happened.clear()
                await self.happened.wait()

    @property
    def over(self) -> bool:
        return self.ended is not None or self.reset is not None

    def on_head(self, head: Head) -> None:
        self.heads.append(head)
        self.body += head.body
        if head.end:
            self.ended = False
        elif head.body:
            self.exchange.consumed(len(head.body))
        self.happened.set()

    def on_data(self, data: bytes) -> None:
        self.body += data
        self.exchange.consumed(len(data))
        self.happened.set()

    def on_end(self, stopped: bool) -> None:
        self.ended = stopped
        self.happened.set()

    def on_reset(self, reset: Reset) -> None:
        self.reset = reset
        self.happened.set()

    def on_room(self) -> None:
        pass

    def on_stop(self, code: Code) -> None:
        pass


class Answering:
    """One request at an agent, answered by the test."""

    def __init__(self, wanted: Open, exchange: Exchange) -> None:
        self.wanted = wanted
        self.exchange = exchange
        self.room = asyncio.Event()
        self.reset: Reset | None = None
        self.body = bytearray(wanted.body)
        self.ended = wanted.end

    def on_head(self, head: Head) -> None:
        raise AssertionError("a head at the answering end")

    def on_data(self, data: bytes) -> None:
        self.body += data
        self.exchange.consumed(len(data))

    def on_end(self, stopped: bool) -> None:
        self.ended = True

    def on_reset(self, reset: Reset) -> None:
        self.reset = reset
        self.room.set()

    def on_room(self) -> None:
        self.room.set()

    def on_stop(self, code: Code) -> None:
        pass

    async def say(self, data: bytes) -> None:
        """Say body bytes as a socket would: only while there is room."""
        while self.exchange.room <= 0 and self.reset is None:
            self.room.clear()
            await self.room.wait()
        self.exchange.send(data)


class Agent:
    """Implements agentk.uplink.Requests; keeps what was opened."""

    def __init__(self) -> None:
        self.opened_requests: list[Answering] = []
        self.came = asyncio.Event()
        self.answers_at_once = False

    def opened(self, wanted: Open, exchange: Exchange) -> Answering:
        answering = Answering(wanted, exchange)
        self.opened_requests.append(answering)
        self.came.set()
        if self.answers_at_once:
            exchange.send_head(200, [], b"x" * 1900, end=True)
        return answering

    async def request(self, number: int = 0) -> Answering:
        async with asyncio.timeout(10):
            while len(self.opened_requests) <= number:
                self.came.clear()
                await self.came.wait()
        return self.opened_requests[number]


class Kas:
    """What holds links, and the relay in front of it."""

    def __init__(self, hold_s: float, detach_s: float) -> None:
        self.metrics = Metrics()
        self.presence = MemoryPresence(time.monotonic)
        self.links = Links("kas-test", self.presence, self.metrics.links, max_links=10, detach_s=detach_s)
        self.router = Router(self.links, self.presence, hold_s=hold_s)
        self.tokens = Tokens()
        self.door = AgentApiDoor(self.tokens, self.links)
        self.relay: TcpRelay

    @asynccontextmanager
    async def agent(
        self, token: bytes = b"good", instance: str = "pod-0", **about: str
    ) -> AsyncIterator[tuple[Agent, Uplink]]:
        agent = Agent()
        address = KasAddress(Address("127.0.0.1", self.relay.port), tls=False)
        uplink = Uplink(Settings(kas=address, token=token, instance=instance), agent, {"version": "test", **about})
        running = asyncio.get_running_loop().create_task(uplink.run())
        try:
            yield agent, uplink
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def linked(self, count: int = 1) -> None:
        async with asyncio.timeout(10):
            while sum(held.takes_requests for held in self.links.of(AGENT)) < count:
                await asyncio.sleep(0.01)

    def ask(self, body: bytes = b"", *, end: bool = True) -> Asked:
        asked = Asked()
        wanted = Open(AsAgent(), b"GET", b"/api", [(b"a", b"b")], body=body, end=end)
        exchange = self.router.open(AGENT, wanted, asked)
        assert exchange is not None
        asked.exchange = exchange
        return asked


@pytest.fixture
async def kas() -> AsyncIterator[Kas]:
    async with AsyncExitStack() as stack:
        made = Kas(hold_s=2.0, detach_s=1.0)
        port = await made.door.start("127.0.0.1:0", None)
        stack.push_async_callback(made.door.stop)
        stack.push_async_callback(made.links.close)
        made.relay = await stack.enter_async_context(TcpRelay(port))
        yield made
