"""Upgrades against an API server on a real socket: what is asked, what counts as a switch, and how the pipe ends."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Code, Hop, Impersonate, Reset
from tests.fakes.api_server import Call
from tests.fakes.exchange import FakeExchange
from tests.integration.agentk.conftest import World

WEBSOCKET = (
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io"),
)
SPDY = (
    (b"Upgrade", b"SPDY/3.1"),
    (b"X-Stream-Protocol-Version", b"v4.channel.k8s.io"),
    (b"X-Stream-Protocol-Version", b"v3.channel.k8s.io"),
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
EXEC = b"/api/v1/namespaces/n/pods/p/exec?command=a&command=b"


def websocket(world: World, **more: object) -> FakeExchange:
    return world.open(**{"method": b"GET", "target": EXEC, "headers": WEBSOCKET, "upgrade": True} | more)


def spdy(world: World, **more: object) -> FakeExchange:
    return world.open(**{"method": b"POST", "target": EXEC, "headers": SPDY, "upgrade": True} | more)


async def echo(call: Call) -> None:
    await call.say(SWITCH % call.header(b"Upgrade")[0])
    while data := await call.hear():
        await call.say(data)
    call.close()


@pytest.mark.covers("I-11", "T1", "T2", "T4")
async def test_the_upgrade_request_has_no_body_and_the_same_identity(world: World) -> None:
    world.server.answer = echo
    identity = Impersonate("job", ("g",))
    for ask in (websocket, spdy):
        exchange = ask(world, identity=identity)
        await exchange.until(lambda x: x.status == 101)
        exchange.handler.on_reset(Reset(Code.CANCELLED))
    first, second = world.server.calls
    assert first.headers == [
        (b"Host", f"127.0.0.1:{world.server.port}".encode()),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io"),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Authorization", b"Bearer of-the-agent"),
        (b"Impersonate-User", b"job"),
        (b"Impersonate-Group", b"g"),
    ]
    assert second.header(b"Upgrade") == [b"SPDY/3.1"]
    assert second.header(b"Content-Length") == [b"0"]
    assert second.header(b"X-Stream-Protocol-Version") == [b"v4.channel.k8s.io", b"v3.channel.k8s.io"]
    assert second.header(b"Transfer-Encoding") == []
    assert world.server.connections == 2, "an upgrade never uses a kept connection, and never gives one back"


@pytest.mark.covers("U-16")
async def test_bytes_in_the_segment_of_the_101_come_behind_it(world: World) -> None:
    async def eager(call: Call) -> None:
        await call.say(SWITCH % b"SPDY/3.1" + b"first")
        await call.hear()

    world.server.answer = eager
    exchange = spdy(world)
    await exchange.until(lambda x: x.body == b"first")
    assert exchange.frames == ["head", "data"]
    assert exchange.headers == [(b"X-Stream-Protocol-Version", b"v4.channel.k8s.io")]
    exchange.handler.on_reset(Reset(Code.CANCELLED))


@pytest.mark.covers("S-06")
async def test_bytes_that_the_caller_sent_early_are_delivered_after_the_101(world: World) -> None:
    go = asyncio.Event()
    early = []

    async def slow(call: Call) -> None:
        try:
            async with asyncio.timeout(0.03):
                early.append(await call.hear())
        except TimeoutError:
            pass
        await go.wait()
        await echo(call)

    world.server.answer = slow
    exchange = spdy(world, body=b"one ")
    exchange.handler.on_data(b"two")
    await asyncio.sleep(0.05)
    assert (early, exchange.consumed_bytes) == ([], 0)
    go.set()
    await exchange.until(lambda x: x.body == b"one two")
    assert exchange.consumed_bytes == 7
    exchange.handler.on_reset(Reset(Code.CANCELLED))


async def test_a_half_close_of_the_caller_reaches_the_api_server_and_its_rest_the_caller(world: World) -> None:
    async def count(call: Call) -> None:
        await call.say(SWITCH % b"SPDY/3.1")
        total = 0
        while data := await call.hear():
            total += len(data)
        await call.say(b"%d" % total)
        call.close()

    world.server.answer = count
    exchange = spdy(world)
    await exchange.until(lambda x: x.status)
    for _ in range(10):
        exchange.handler.on_data(bytes(50_000))
    exchange.handler.on_end(False)
    await exchange.until(lambda x: x.is_over)
    assert (exchange.body, exchange.frames[-1], exchange.consumed_bytes) == (b"500000", "end", 500_000)


async def test_a_half_close_of_the_api_server_leaves_the_caller_writing(world: World) -> None:
    got = bytearray()

    async def first(call: Call) -> None:
        await call.say(SWITCH % b"SPDY/3.1" + b"bye")
        call.half_close()
        while data := await call.hear():
            got.extend(data)

    world.server.answer = first
    exchange = spdy(world)
    await exchange.until(lambda x: x.is_ended)
    exchange.handler.on_data(b"still here")
    exchange.handler.on_end(False)
    await world.server.cancelled.wait()
    assert (exchange.body, bytes(got), exchange.reset_said) == (b"bye", b"still here", None)


async def test_both_directions_carry_bulk_under_backpressure(world: World) -> None:
    world.server.answer = echo
    exchange = spdy(world, window=65_536)
    await exchange.until(lambda x: x.status)
    total, sent = 8 << 20, 0
    while len(exchange.body) < total:
        while sent < total and sent - exchange.consumed_bytes < 262_144:
            exchange.handler.on_data(bytes(65_536))
            sent += 65_536
        await exchange.until(lambda x, sent=sent: x.room <= 0 or x.consumed_bytes == sent)
        assert exchange.room > -300_000
        exchange.give_room(262_144)
        await asyncio.sleep(0)
    assert sent == exchange.consumed_bytes == len(exchange.body) == total
    exchange.handler.on_end(False)
    await exchange.until(lambda x: x.is_over)


@pytest.mark.covers("S-07")
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 6\r\n\r\ndenied", b"Transfer-Encoding: chunked\r\n\r\n6\r\ndenied\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("status", [200, 400, 403, 500])
async def test_a_refused_upgrade_is_answered_and_its_connection_closed(
    world: World, status: int, framing: bytes
) -> None:
    smuggled = []

    async def refuse(call: Call) -> None:
        await call.say(b"HTTP/1.1 %d No\r\n%b" % (status, framing))
        smuggled.append(await call.hear())

    world.server.answer = refuse
    exchange = spdy(world)
    exchange.handler.on_data(b"GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n")
    await exchange.until(lambda x: x.is_over)
    assert (exchange.status, exchange.body) == (status, b"denied")
    assert exchange.stopped is Code.LIMIT
    exchange.handler.on_data(b"GET /api/v1/secrets HTTP/1.1\r\nHost: x\r\n\r\n")
    await world.server.cancelled.wait()
    assert smuggled in ([], [b""])
    assert len(world.server.calls) == 1
    assert world.dispatcher.statistics.requests_open == 0


@pytest.mark.covers("S-08")
@pytest.mark.parametrize(
    "said",
    [
        SWITCH % b"websocket",
        SWITCH % b"h2c",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=["another protocol", "h2c", "no Upgrade", "no Connection", "with a body", "two protocols"],
)
async def test_only_the_switch_that_was_asked_for_opens_a_pipe(world: World, said: bytes) -> None:
    async def switch(call: Call) -> None:
        await call.say(said)
        await call.hear()

    world.server.answer = switch
    exchange = spdy(world)
    await exchange.until(lambda x: x.is_over)
    assert exchange.reset_said is not None
    assert (exchange.reset_said.code, exchange.reset_said.hop, exchange.status) == (
        Code.UPSTREAM_BAD,
        Hop.API_SERVER,
        0,
    )
    await world.server.cancelled.wait()


@pytest.mark.covers("S-12", "T13")
async def test_a_redirected_upgrade_is_not_followed(world: World) -> None:
    async def redirect(call: Call) -> None:
        await call.say(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")

    world.server.answer = redirect
    for ask in (websocket, spdy):
        exchange = ask(world)
        await exchange.until(lambda x: x.is_over)
        assert exchange.reset_said is not None
        assert exchange.reset_said.code is Code.UPSTREAM_BAD
        assert exchange.headers == ()


@pytest.mark.covers("T-14")
@pytest.mark.parametrize("when", ["dialling", "before the 101", "in the pipe"])
@pytest.mark.parametrize("how", ["reset", "stop"])
async def test_a_cancelled_upgrade_ends_at_the_api_server(world: World, when: str, how: str) -> None:
    async def answer(call: Call) -> None:
        if when == "in the pipe":
            await call.say(SWITCH % b"SPDY/3.1")
        while await call.hear():
            pass

    world.server.answer = answer
    exchange = spdy(world)
    if when == "before the 101":
        await world.server.arrived()
    elif when == "in the pipe":
        await exchange.until(lambda x: x.status == 101)
        exchange.handler.on_data(b"abc")
    if how == "reset":
        exchange.handler.on_reset(Reset(Code.CANCELLED))
    else:
        exchange.handler.on_stop(Code.CANCELLED)
    if when != "dialling":
        async with asyncio.timeout(1):
            await world.server.cancelled.wait()
    assert world.dispatcher.statistics.requests_open == 0


@pytest.mark.covers("P-03")
async def test_a_pipe_that_is_cut_is_an_abort_behind_its_data(world: World) -> None:
    async def cut(call: Call) -> None:
        await call.say(SWITCH % b"SPDY/3.1" + b"abc")
        await call.hear(1)
        call._writer.transport.get_extra_info("socket").setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: RST
        call.cut()

    world.server.answer = cut
    exchange = spdy(world)
    await exchange.until(lambda x: x.body == b"abc")
    exchange.handler.on_data(b"x")
    await exchange.until(lambda x: x.is_over)
    assert exchange.reset_said == Reset(
        Code.UPSTREAM_BROKEN, "the connection to the API server was cut", Hop.API_SERVER, False, after=3
    )
