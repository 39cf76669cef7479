"""The fast path without a socket: what it costs is one write and one frame, never a task."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from agentk.dispatcher import DEAF, Dispatcher
from agentk.kube_api.access import Access, access
from agentk.kube_api.connection import Connection
from kastunnel.link.frames import AsAgent, Code, Open, Reset
from kastunnel.link.limits import NO_TIMEOUT_MS
from tests.fakes.exchange import FakeExchange

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
GET = Open(AsAgent(), b"GET", b"/api", (), end=True, body_length=0)


class FakeTransport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.state = "open"

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> None:
        """There is no socket."""

    def is_closing(self) -> bool:
        return self.state != "open"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def set_write_buffer_limits(self, high: int) -> None:
        pass


class Fixed:
    access: Access = access("http://127.0.0.1:1", "Bearer t", None, None)

    def refused(self) -> None:
        pass


@pytest.fixture
async def dispatcher() -> Dispatcher:
    return Dispatcher(Fixed())


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
async def connection(dispatcher: Dispatcher, transport: FakeTransport) -> Connection:
    made = Connection(Fixed.access.endpoint, lambda _: None)
    made.connection_made(cast("asyncio.Transport", transport))
    dispatcher.pool.give_back(made, 0.0)
    return made


def opened(dispatcher: Dispatcher, wanted: Open = GET) -> FakeExchange:
    exchange = FakeExchange()
    exchange.handler = dispatcher.opened(wanted, exchange)
    return exchange


async def test_a_kept_connection_carries_a_request_without_a_task(
    dispatcher: Dispatcher, connection: Connection, transport: FakeTransport
) -> None:
    tasks = len(asyncio.all_tasks())
    exchange = opened(dispatcher)
    connection.data_received(ANSWER)
    assert transport.written == [b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAuthorization: Bearer t\r\n\r\n"]
    assert exchange.frames == ["head+end"]
    assert len(asyncio.all_tasks()) == tasks
    assert "requests=0" in repr(dispatcher)
    assert "idle=1" in repr(dispatcher)


async def test_a_reset_ends_the_connection_in_the_very_call(
    dispatcher: Dispatcher, connection: Connection, transport: FakeTransport
) -> None:
    exchange = opened(dispatcher)
    exchange.handler.on_reset(Reset(Code.CANCELLED))
    assert transport.state == "aborted"
    assert dispatcher.statistics.requests_open == 0
    connection.data_received(ANSWER)
    connection.connection_lost(None)
    assert exchange.frames == []


async def test_a_finished_request_does_not_hold_its_exchange(dispatcher: Dispatcher, connection: Connection) -> None:
    exchange = opened(dispatcher)
    connection.data_received(ANSWER)
    assert exchange.handler.exchange is not exchange  # type: ignore[attr-defined]
    exchange.handler.on_stop(Code.CANCELLED)
    exchange.handler.on_reset(Reset(Code.CANCELLED))
    exchange.handler.on_room()
    assert exchange.frames == ["head+end"]


@pytest.mark.parametrize(("timeout_ms", "limit_s"), [(0, 75.0), (1500, 1.5), (NO_TIMEOUT_MS, 0.0)])
async def test_the_limit_until_the_head_is_what_kas_says(
    dispatcher: Dispatcher, connection: Connection, timeout_ms: int, limit_s: float
) -> None:
    exchange = opened(dispatcher, GET._replace(timeout_ms=timeout_ms))
    assert exchange.handler.limit_s == limit_s  # type: ignore[attr-defined]
    exchange.handler.on_reset(Reset(Code.CANCELLED))


@pytest.mark.looptime
async def test_the_limit_runs_from_the_last_byte_of_the_upload(
    dispatcher: Dispatcher, connection: Connection, transport: FakeTransport
) -> None:
    wanted = Open(AsAgent(), b"POST", b"/api", (), body_length=2, timeout_ms=10_000)
    async with asyncio.TaskGroup() as group:
        sweeping = group.create_task(dispatcher.sweep())
        exchange = opened(dispatcher, wanted)
        await asyncio.sleep(8)
        exchange.handler.on_data(b"a")
        await asyncio.sleep(8)
        assert not exchange.is_over
        await asyncio.sleep(4)
        sweeping.cancel()
    assert exchange.reset_said is not None
    assert (exchange.reset_said.code, transport.state) == (Code.TIMEOUT, "aborted")


async def test_a_drain_can_be_hurried(dispatcher: Dispatcher, connection: Connection) -> None:
    exchange = opened(dispatcher)
    async with asyncio.TaskGroup() as group:
        group.create_task(dispatcher.drain(3600))
        await asyncio.sleep(0)
        dispatcher.hurry()
    assert opened(dispatcher).handler is DEAF
    await dispatcher.close()
    assert exchange.reset_said is not None
    assert exchange.reset_said.code is Code.DRAINING
