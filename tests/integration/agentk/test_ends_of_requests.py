"""Requests that end before their time: cancelled, too late, drained, closed."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Code, Hop, Reset
from kastunnel.link.limits import NO_TIMEOUT_MS
from tests.fakes.api_server import OK, Call
from tests.integration.agentk.conftest import CHUNKED, World, over

# Cancelling, in every state


@pytest.mark.covers("T-14")
async def test_a_cancelled_request_is_cancelled_at_the_api_server_while_it_waits_for_the_head(world: World) -> None:
    arrived = asyncio.Event()

    async def never(call: Call) -> None:
        arrived.set()
        assert await call.hear() == b""

    world.server.answer = never
    exchange = world.get()
    await arrived.wait()
    exchange.handler.on_reset(Reset(Code.CANCELLED))
    async with asyncio.timeout(1):
        await world.server.cancelled.wait()
    assert exchange.frames == []


@pytest.mark.covers("T-14")
async def test_cancelled_while_dialling_it_leaves_nothing_behind(world: World) -> None:
    exchange = world.get()
    exchange.handler.on_reset(Reset(Code.CANCELLED))
    await asyncio.sleep(0.05)
    assert world.server.calls == []
    assert world.server.open_connections == 0
    assert len(world.dispatcher.dials) == 0


@pytest.mark.covers("T-14")
async def test_cancelled_within_its_body(world: World) -> None:
    exchange = world.open(method=b"POST", target=b"/api", body=b"ab", body_length=6)
    await world.server.arrived()
    exchange.handler.on_data(b"c")
    exchange.handler.on_reset(Reset(Code.CANCELLED))
    async with asyncio.timeout(1):
        await world.server.cancelled.wait()


@pytest.mark.covers("T-14")
@pytest.mark.parametrize("how", ["reset", "stop"])
async def test_cancelled_within_its_answer(world: World, how: str) -> None:
    async def watch(call: Call) -> None:
        await call.say(CHUNKED + b"1\r\na\r\n")
        await call.hear()

    world.server.answer = watch
    exchange = world.get()
    await exchange.until(lambda x: x.body)
    if how == "reset":
        exchange.handler.on_reset(Reset(Code.CANCELLED))
    else:
        exchange.handler.on_stop(Code.CANCELLED)
    async with asyncio.timeout(1):
        await world.server.cancelled.wait()
    assert world.dispatcher.statistics.requests_open == 0


# Time limits


@pytest.mark.covers("P-02", "T-18")
async def test_without_an_answer_the_limit_ends_it_but_not_a_long_running_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentk.dispatcher.SWEEP_S", 0.02)

    async def never(call: Call) -> None:
        await call.hear()

    world.server.answer = never
    short = world.get(timeout_ms=100)
    long = world.get(timeout_ms=NO_TIMEOUT_MS)
    async with asyncio.TaskGroup() as group:
        sweeping = group.create_task(world.dispatcher.sweep())
        await over(short)
        assert short.reset_said == Reset(
            Code.TIMEOUT, "the API server did not begin to answer within 0.1 s", Hop.API_SERVER
        )
        assert not long.is_over
        long.handler.on_reset(Reset(Code.CANCELLED))
        sweeping.cancel()


# Stopping


async def test_a_drain_refuses_new_requests_and_waits_for_the_open_ones(world: World) -> None:
    go = asyncio.Event()

    async def slow(call: Call) -> None:
        await go.wait()
        await call.say(OK)

    world.server.answer = slow
    exchange = world.get()
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(world.dispatcher.drain(5))
        await asyncio.sleep(0.01)
        refused = world.get()
        assert refused.reset_said == Reset(Code.DRAINING, "agentk is stopping", Hop.AGENTK, not_run=True)
        assert not draining.done()
        go.set()
        await over(exchange)
    assert exchange.status == 200


async def test_closing_resets_what_is_still_open(world: World) -> None:
    async def watch(call: Call) -> None:
        await call.say(CHUNKED + b"1\r\na\r\n")
        await call.hear()

    world.server.answer = watch
    exchange = world.get()
    await exchange.until(lambda x: x.body)
    await world.dispatcher.drain(0.01)
    await world.dispatcher.close()
    assert exchange.reset_said == Reset(Code.DRAINING, "agentk is stopping", Hop.AGENTK, False, after=1)
