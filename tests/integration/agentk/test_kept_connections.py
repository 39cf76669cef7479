"""Connections that are kept for the next request, and what happens on one that turns out to be dead."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Code
from tests.fakes.api_server import OK, Answer, Call, well
from tests.integration.agentk.conftest import World, over


async def test_bytes_behind_an_answer_or_on_an_idle_connection_drop_it(world: World) -> None:
    async def chatty(call: Call) -> None:
        await call.say(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")

    async def late(call: Call) -> None:
        await call.say(OK)
        await asyncio.sleep(0.01)
        await call.say(b"x")

    for number, answer in enumerate((chatty, late, well), 1):
        world.server.answer = answer
        exchange = await over(world.get())
        assert exchange.body == b"{}"
        assert world.server.connections == number
        if answer is not well:
            await world.server.gone(number)


@pytest.mark.covers("P-05")
async def test_connection_close_is_obeyed(world: World) -> None:
    async def answer(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        call.close()

    world.server.answer = answer
    for _ in range(3):
        assert (await over(world.get())).body == b"{}"
    assert world.server.connections == 3


def stale_after(first: int) -> Answer:
    """The first ``first`` requests of the server are answered, the next one finds its kept connection closed."""
    seen = 0

    async def answer(call: Call) -> None:
        nonlocal seen
        seen += 1
        if seen == first + 1:
            call.close()
        else:
            await call.body()
            await call.say(OK)

    return answer


@pytest.mark.covers("P-12", "P-05")
async def test_a_read_on_a_dead_kept_connection_is_repeated_once(world: World) -> None:
    world.server.answer = stale_after(1)
    await over(world.get())
    exchange = await over(world.get())
    assert exchange.status == 200
    assert len(world.server.calls) == 3
    assert world.dispatcher.statistics.retries == 1


@pytest.mark.covers("P-12")
@pytest.mark.parametrize(
    "what",
    [
        {"method": b"POST", "end": True, "body_length": 0},
        {"method": b"DELETE", "end": True, "body_length": 0},
        {"method": b"GET", "end": True, "body": b"{}", "body_length": 2},
    ],
    ids=["POST", "DELETE", "GET with a body"],
)
async def test_what_may_have_run_is_never_repeated(world: World, what: dict[str, object]) -> None:
    world.server.answer = stale_after(1)
    await over(world.get())
    exchange = await over(world.open(target=b"/api", **what))
    assert exchange.reset_said is not None
    assert (exchange.reset_said.code, exchange.reset_said.not_run) == (Code.UPSTREAM_BROKEN, False)
    assert len(world.server.calls) == 2


async def test_a_read_that_fails_on_a_fresh_connection_is_not_repeated(world: World) -> None:
    world.server.answer = stale_after(0)
    exchange = await over(world.get())
    assert exchange.reset_said is not None
    assert len(world.server.calls) == 1
