"""Limits at the door: refused before anything leaves, and what was taken is given back however a request ends."""

from __future__ import annotations

import asyncio

import pytest

from kas.limits.limits import LimitSettings, Scope
from kastunnel.link.frames import Code, Reset
from tests.fakes.kubernetes_door import get
from tests.integration.kas.kubernetes_api.conftest import Stage

WATCH = b"/agents/1/api/v1/pods?watch=1"
PODS = b"/agents/1/api/v1/pods"


async def test_beyond_the_rate_a_request_is_refused_before_it_leaves(plain: Stage) -> None:
    plain.door.limits.reconfigure(LimitSettings(token=Scope(1, 2)))
    async with plain.client() as client:
        for _ in range(2):
            client.say(get(PODS))
            assert (await client.response()).status == 200
        client.say(get(PODS))
        answer = await client.response()
    assert answer.status == 429
    assert answer[b"retry-after"] == b"1"
    assert "more than 1 requests per second of one token" in answer[b"warning"].decode()
    assert len(plain.upstream.opened) == 2


@pytest.mark.parametrize("end", ["answered", "reset", "client gone", "kas gone"])
async def test_a_stream_gives_its_place_back_however_it_ends(plain: Stage, end: str) -> None:
    plain.door.limits.reconfigure(LimitSettings(token=Scope(max_streams=1)))
    plain.upstream.script = None
    async with plain.client() as client, plain.client() as other:
        client.say(get(WATCH))
        stream = await plain.upstream.request(1)
        stream.answer(200, b"{}\n", end=False)
        await client.head()
        other.say(get(WATCH))
        assert (await other.response()).status == 429
        if end == "answered":
            stream.handler.on_end(False)
        elif end == "reset":
            stream.handler.on_reset(Reset(Code.UPSTREAM_BROKEN, ""))
        elif end == "client gone":
            client.writer.transport.abort()
        else:
            for relay in [connection.relay for connection in plain.door._connections]:
                if relay is not None:
                    relay.end_now()
        async with asyncio.timeout(5):
            while plain.door.open_requests:
                await asyncio.sleep(0.005)
    async with plain.client() as again:
        again.say(get(WATCH))
        (await plain.upstream.request(2)).answer(200, b"{}\n")
        assert (await again.response()).status == 200


async def test_a_request_waits_for_its_turn_at_a_busy_agent(plain: Stage) -> None:
    plain.door.limits.reconfigure(LimitSettings(max_in_flight=1))
    plain.upstream.script = None
    async with plain.client() as first, plain.client() as second:
        first.say(get(PODS))
        running = await plain.upstream.request(1)
        second.say(get(PODS))
        await asyncio.sleep(0.05)
        assert len(plain.upstream.opened) == 1
        assert plain.door.limits.waiting == 1
        running.answer(200, b"one")
        (await plain.upstream.request(2)).answer(200, b"two")
        assert (await first.response()).body == b"one"
        assert (await second.response()).body == b"two"
    assert plain.door.limits.waiting == 0
    (waited,) = plain.door.metrics.limits.waited.collect()
    found = {
        sample.name.removeprefix(waited.name): sample.value for sample in waited.samples if "le" not in sample.labels
    }
    assert found["_count"] == 1  # the first had its turn at once
    assert 0.04 < found["_sum"] < 5


async def test_who_goes_away_while_waiting_takes_no_turn(plain: Stage) -> None:
    plain.door.limits.reconfigure(LimitSettings(max_in_flight=1, wait_s=5))
    plain.upstream.script = None
    async with plain.client() as first:
        first.say(get(PODS))
        running = await plain.upstream.request(1)
        async with plain.client() as second:
            second.say(get(PODS))
            await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            while plain.door.limits.waiting:
                await asyncio.sleep(0.005)
        running.answer(200, b"one")
        await first.response()
        first.say(get(PODS))
        (await plain.upstream.request(2)).answer(200, b"two")
        assert (await first.response()).body == b"two"


@pytest.mark.covers("A-12")
async def test_a_peer_that_shows_wrong_tokens_is_slowed_and_a_good_one_is_not(plain: Stage) -> None:
    plain.door.limits.reconfigure(LimitSettings(wrong_tokens_per_s=1, wrong_tokens_burst=3))
    statuses = []
    async with plain.client() as client:
        for number in range(6):
            client.say(get(PODS, bearer=b"Authorization: Bearer ci:1:wrong%d\r\n" % number))
            statuses.append((await client.response()).status)
        client.say(get(PODS))
        good = await client.response()
    assert statuses == [401, 401, 401, 429, 429, 429]
    assert good.status == 200  # its token is known
