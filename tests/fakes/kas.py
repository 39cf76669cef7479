"""A stand-in for kas: a real link over real gRPC, through which a test opens requests at an agentk."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from types import TracebackType
from typing import Self

from kastunnel.link import greeting
from kastunnel.link.events import Event, Kind
from kastunnel.link.frames import AsAgent, Code, Head, Headers, Open, Reset, Uid
from kastunnel.link.handler import Exchange
from kastunnel.link.link import Link, Side
from kastunnel.transport import grpc as transport
from kastunnel.transport.driver import Driver
from kastunnel.transport.duplex import StreamLost


class Asked:
    """A request as its caller sees it; a Handler."""

    exchange: Exchange

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.body = b""
        self.is_ended = False
        self.reset: Reset | None = None
        self._happened = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.is_ended or self.reset is not None

    async def until(self, what: str, timeout_s: float = 10.0) -> None:
        """Wait until the attribute ``what`` is true."""
        async with asyncio.timeout(timeout_s):
            while not getattr(self, what):
                self._happened.clear()
                await self._happened.wait()

    def on_head(self, head: Head) -> None:
        self.status, self.headers, self.body, self.is_ended = head.status, head.headers, head.body, head.end
        self._happened.set()

    def on_data(self, data: bytes) -> None:
        self.body += data
        self.exchange.consumed(len(data))
        self._happened.set()

    def on_end(self, stopped: bool) -> None:
        self.is_ended = True
        self._happened.set()

    def on_reset(self, reset: Reset) -> None:
        self.reset = reset
        self._happened.set()

    def on_room(self) -> None:
        pass

    def on_stop(self, code: Code) -> None:
        pass


class FakeKas:
    """Takes any agentk. ``linked`` once one is there; ``byes`` are the last words of those that stopped.

    ``eager``: a request that is opened at ``linked`` travels in the very envelope of the welcome.
    """

    def __init__(self, *, eager: bool = False) -> None:
        self._eager = eager
        self.linked = asyncio.Event()
        self.tokens: list[str] = []
        self.hellos: list[greeting.Hello] = []
        self.byes: list[str] = []
        self.said_bye = asyncio.Event()
        self._counter = itertools.count(1)
        self._link: Link

    async def __aenter__(self) -> Self:
        self._server = transport.server(self._accept)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(None)

    def get(self, target: bytes) -> Asked:
        """Open a GET at the newest link."""
        asked = Asked()
        wanted = Open(identity=AsAgent(), method=b"GET", target=target, headers=(), end=True, body_length=0)
        opened = self._link.open(wanted, asked)
        assert opened is not None
        asked.exchange = opened
        return asked

    async def _accept(self, duplex: transport.ServerDuplex, token: str, peer: str) -> None:
        first = await duplex.read()
        hello = greeting.read_hello(first)
        self.tokens.append(token)
        self.hellos.append(hello)
        link = Link(Side.KAS, next_uid=lambda: Uid(1, next(self._counter)))
        driver = Driver(link, about_link=self._hear)
        welcome = greeting.Welcome(secrets.token_bytes(16), hello.attach, False, "fake", 1)
        now = asyncio.get_running_loop().time()
        link.begin_stream(hello.attach, greeting.welcome_frame(welcome), now)
        driver.dispatch(link.receive(first, now))
        self._link = link
        if self._eager:
            self.linked.set()
        else:
            asyncio.get_running_loop().call_later(0.05, self.linked.set)
        try:
            await driver.run(duplex)
        except StreamLost:
            pass

    def _hear(self, event: Event) -> None:
        if event.kind is Kind.BYE:
            self.byes.append(getattr(event.value, "reason", ""))
            self.said_bye.set()
