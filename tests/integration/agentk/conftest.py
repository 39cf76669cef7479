"""A dispatcher towards a fake API server, on the loop that the product runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from agentk.dispatcher import Dispatcher
from agentk.kube_api.access import Access, access
from kastunnel.link.frames import AsAgent, Impersonate, Open
from tests.fakes.api_server import FakeApiServer
from tests.fakes.exchange import FakeExchange

HERE = Path(__file__).parent
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The hook that pytest-asyncio recommends instead is global, and at odds with looptime's plugin.
    quiet = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(quiet)


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy()


class FixedCredentials:
    """A credential that the test sets, and how often it was refused."""

    def __init__(self, given: Access) -> None:
        self.access = given
        self.refusals = 0

    def refused(self) -> None:
        self.refusals += 1


class World:
    """One API server and one dispatcher; ``get`` and ``open`` are what a link would bring."""

    def __init__(self, server: FakeApiServer, dispatcher: Dispatcher, credentials: FixedCredentials) -> None:
        self.server = server
        self.dispatcher = dispatcher
        self.credentials = credentials

    def get(self, target: bytes = b"/api/v1/pods", *, window: int = 1 << 20, **more: object) -> FakeExchange:
        return self.open(window=window, method=b"GET", target=target, end=True, body_length=0, **more)

    def open(self, *, window: int = 1 << 20, **what: object) -> FakeExchange:
        exchange = FakeExchange(window)
        identity: AsAgent | Impersonate = what.pop("identity", AsAgent())  # type: ignore[assignment]
        headers = what.pop("headers", ((b"Accept", b"application/json"),))
        wanted = Open(identity=identity, headers=headers, **what)  # type: ignore[arg-type]
        exchange.handler = self.dispatcher.opened(wanted, exchange)
        return exchange


def plain(port: int, token: str = "Bearer of-the-agent", path: str = "") -> Access:
    return access(f"http://127.0.0.1:{port}{path}", token, None, None)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    async with FakeApiServer() as server:
        credentials = FixedCredentials(plain(server.port))
        async with Dispatcher(credentials) as dispatcher:
            yield World(server, dispatcher, credentials)
            carried = dispatcher.statistics.requests_open
        assert carried == 0, "a request slot was left over"


async def over(exchange: FakeExchange) -> FakeExchange:
    """The same, once nothing more will come."""
    await exchange.until(lambda x: x.is_over)
    return exchange
