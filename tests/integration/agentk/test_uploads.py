"""Bodies on their way to the API server."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Code
from tests.fakes.api_server import OK, Call, well
from tests.integration.agentk.conftest import CHUNKED, World, over

# Uploads


async def test_a_body_of_known_length_goes_out_with_it(world: World) -> None:
    got = []

    async def answer(call: Call) -> None:
        got.append(await call.body())
        await call.say(OK)

    world.server.answer = answer
    exchange = world.open(method=b"POST", target=b"/api", body=b"ab", body_length=6)
    exchange.handler.on_data(b"cd")
    exchange.handler.on_data(b"ef")
    exchange.handler.on_end(False)
    await over(exchange)
    assert got == [b"abcdef"]
    assert exchange.consumed_bytes == 6
    assert world.server.calls[0].header(b"Content-Length") == [b"6"]
    await over(world.open(method=b"DELETE", target=b"/api", body=b"{}", body_length=2, end=True))
    assert got[1] == b"{}", "a DELETE may have a body"
    assert world.server.connections == 1


async def test_a_body_of_unknown_length_goes_out_in_chunks(world: World) -> None:
    got = []

    async def answer(call: Call) -> None:
        got.append(await call.body())
        await call.say(OK)

    world.server.answer = answer
    exchange = world.open(method=b"PATCH", target=b"/api", body=b"ab", headers=[(b"Expect", b"100-continue")])
    await world.server.arrived()
    exchange.handler.on_data(b"c" * 70_000)
    exchange.handler.on_end(False)
    await over(exchange)
    assert got == [b"ab" + b"c" * 70_000]
    assert exchange.consumed_bytes == 70_002
    assert world.server.calls[0].header(b"Transfer-Encoding") == [b"chunked"]
    assert world.server.calls[0].header(b"Expect") == []


@pytest.mark.parametrize("data", [b"abc", b"a"], ids=["too long", "too short"])
async def test_a_body_that_is_not_as_long_as_stated_never_counts_as_complete(world: World, data: bytes) -> None:
    exchange = world.open(method=b"POST", target=b"/api", body_length=2)
    exchange.handler.on_data(data)
    exchange.handler.on_end(False)
    await over(exchange)
    assert exchange.reset_said is not None
    assert exchange.reset_said.code is Code.PROTOCOL


@pytest.mark.covers("T-15")
async def test_an_early_answer_stops_the_upload_and_ends_the_connection(world: World) -> None:
    async def answer(call: Call) -> None:
        await call.hear(1000)
        await call.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        while await call.hear():
            pass

    world.server.answer = answer
    exchange = world.open(method=b"POST", target=b"/api", body=b"x" * 60_000, body_length=1_000_000)
    await over(exchange)
    assert (exchange.status, exchange.body, exchange.stopped) == (413, b"big", Code.LIMIT)
    exchange.handler.on_data(b"late")
    exchange.handler.on_end(True)
    await world.server.cancelled.wait()
    world.server.answer = well
    await over(world.get())
    assert world.server.connections == 2


async def test_both_bodies_may_go_on_at_the_same_time(world: World) -> None:
    async def echo(call: Call) -> None:
        await call.say(CHUNKED)
        while (size := int(await call._reader.readline(), 16)) > 0:
            data = await call.hear_exactly(size + 2)
            await call.say(b"%x\r\n%b" % (size, data))
        await call.hear_exactly(2)
        await call.say(b"0\r\n\r\n")

    world.server.answer = echo
    exchange = world.open(method=b"POST", target=b"/api/v1/namespaces/n/services/s/proxy/echo", body=b"a")
    for count in range(1, 4):
        await exchange.until(lambda x, count=count: len(x.body) == count)
        exchange.handler.on_data(b"a")
    exchange.handler.on_end(False)
    await over(exchange)
    assert exchange.body == b"aaaa"
    assert exchange.stopped is None


async def test_a_slow_api_server_holds_back_the_upload(world: World) -> None:
    go = asyncio.Event()

    async def answer(call: Call) -> None:
        await go.wait()
        await call.body()
        await call.say(OK)

    world.server.answer = answer
    total = 16 << 20  # more than any kernel buffers
    exchange = world.open(method=b"POST", target=b"/api", body_length=total)
    await world.server.arrived()
    sent = 0
    while sent < total:
        exchange.handler.on_data(bytes(65536))
        sent += 65536
    exchange.handler.on_end(False)
    await asyncio.sleep(0.05)
    assert exchange.consumed_bytes < total
    go.set()
    await over(exchange)
    assert exchange.status == 200
    assert exchange.consumed_bytes == total
