"""Time limits and caps: slow peers go, long-running requests stay, strangers cannot take every place."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from kas.kubernetes_api.door import KubernetesApiDoor
from kas.kubernetes_api.settings import DoorSettings
from kas.metrics import Door
from kastunnel.link.frames import Code
from tests.fakes.certificates import Authority
from tests.fakes.kubernetes_door import RawClient, get
from tests.integration.kas.kubernetes_api.conftest import Stage

PODS = b"/agents/1/api/v1/pods"


@pytest.mark.covers("S-13")
async def test_a_silent_connection_is_closed(stage: Stage) -> None:
    stage.change(head_s=0.05)
    async with stage.client() as client:
        assert await client.is_closed(1.0)


@pytest.mark.covers("S-13")
async def test_a_head_that_comes_byte_by_byte_has_one_deadline_from_its_first(stage: Stage) -> None:
    stage.change(head_s=0.1)
    async with stage.client() as client:
        client.say(b"GET /agents/1/api HTTP/1.1\r\nX: ")
        for _ in range(6):
            client.say(b"x")
            await asyncio.sleep(0.01)
        response = await client.response()
        assert (response.status, response[b"Connection"]) == (408, b"close")
        assert await client.is_closed()
    assert stage.upstream.opened == []


@pytest.mark.covers("S-13")
async def test_an_idle_connection_is_kept_longer_for_a_caller_than_for_a_stranger(plain: Stage) -> None:
    plain.change(head_s=0.05, keep_alive_idle_s=0.4)
    async with plain.client() as caller, plain.client() as stranger:
        caller.say(get())
        await caller.response()
        stranger.say(get(bearer=b""))
        await stranger.response()
        assert await stranger.is_closed(0.3)
        caller.say(get())
        assert (await caller.response()).status == 200
        assert await caller.is_closed(1.0)


@pytest.mark.covers("S-14")
async def test_a_body_that_stops_coming_frees_its_place(stage: Stage) -> None:
    stage.change(body_idle_s=0.1)
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(PODS, b"Content-Length: 100\r\n", method=b"POST") + b"x")
        asked = await stage.upstream.request()
        for _ in range(10):
            client.say(b"x")
            await asyncio.sleep(0.02)
        assert asked.reset_said is None
        response = await client.response()
        assert (response.status, response[b"Connection"]) == (408, b"close")
        assert asked.reset_said is not None


@pytest.mark.covers("P-02", "T-18")
async def test_an_answer_that_does_not_come_is_a_504_unless_the_request_is_long_running(stage: Stage) -> None:
    stage.change(response_head_s=0.1)
    stage.upstream.script = None
    async with stage.client() as ordinary, stage.client() as watch, stage.client() as logs:
        watch.say(get(PODS + b"?watch=true"))
        await stage.upstream.request()
        logs.say(get(PODS + b"/p/log?follow=true"))
        await stage.upstream.request(2)
        ordinary.say(get(PODS))
        asked = await stage.upstream.request(3)
        assert asked.wanted.timeout_ms == 100
        response = await ordinary.response()
        assert response.status == 504
        assert response.message.startswith(
            "kas: agent 1: the API server did not answer in time; it may still be processing"
        )
        assert asked.reset_said is not None
        assert asked.reset_said.code == Code.TIMEOUT
        await asyncio.sleep(0.1)
        for asked in stage.upstream.opened[:2]:
            assert asked.reset_said is None
            asked.answer(200, b"late")
        assert (await watch.response()).body == b"late"


@pytest.mark.parametrize(
    ("query", "timeout_ms"),
    [(b"?timeout=32s", 47_000), (b"?a=b&timeout=1m30s", 105_000), (b"?timeout=0s", 75_000), (b"?timeout=nonsense", 75_000),
     (b"?watch=1&timeout=5s", 0xFFFF_FFFF), (b"?xtimeout=5s", 75_000), (b"?timeout=99h", 3_615_000)],
)  # fmt: skip
async def test_a_client_may_ask_for_another_limit(plain: Stage, query: bytes, timeout_ms: int) -> None:
    async with plain.client() as client:
        client.say(get(PODS + query))
        await client.response()
    assert plain.upstream.opened[0].wanted.timeout_ms == timeout_ms


async def test_waiting_for_the_gate_has_a_limit_too(plain: Stage) -> None:
    plain.change(response_head_s=0.05)
    plain.gate.is_warm = False
    plain.gate.open.clear()
    async with plain.client() as client:
        client.say(get(PODS))
        assert (await client.response()).status == 504


@pytest.mark.covers("S-13")
async def test_a_handshake_that_stalls_is_ended(server_tls: ssl.SSLContext, plain: Stage) -> None:
    plain.door.use_tls(server_tls)
    plain.change(tls_handshake_s=0.1)
    async with RawClient(plain.port) as silent, RawClient(plain.port) as plain_text:
        plain_text.say(get())
        assert await silent.is_closed(1.0)
        assert b"HTTP" not in await plain_text.rest(1.0)
    await plain.deserted()


@pytest.mark.covers("S-13")
@pytest.mark.parametrize("is_tls", [False, True])
async def test_strangers_make_room_for_each_other_and_callers_are_not_touched(
    plain: Stage, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, is_tls: bool
) -> None:
    plain.change(max_unauthenticated_connections=5)
    if is_tls:
        plain.door.use_tls(server_tls)
    async with RawClient(plain.port, client_tls if is_tls else None) as caller:
        caller.say(get())
        await caller.response()
        strangers = [RawClient(plain.port) for _ in range(40)]
        for stranger in strangers:
            await stranger.__aenter__()
        async with RawClient(plain.port, client_tls if is_tls else None) as other:
            other.say(get())
            assert (await other.response()).status == 200
        caller.say(get())
        assert (await caller.response()).status == 200
        assert plain.door.open_connections <= 8
        assert plain.door.metrics.doors.refused[Door.KUBERNETES].value >= 35
        for stranger in strangers:
            await stranger.__aexit__()


async def test_beyond_the_cap_new_connections_wait_in_the_kernel(plain: Stage) -> None:
    plain.change(max_connections=2)
    async with plain.client() as first, plain.client() as second, plain.client() as third:
        first.say(get())
        await first.response()
        second.say(get())
        await second.response()
        third.say(get())
        with pytest.raises(TimeoutError):
            await third.response(timeout_s=0.05)
        second.writer.close()
        assert (await third.response()).status == 200


@pytest.mark.covers("T-24")
async def test_a_new_certificate_is_shown_without_cutting_anybody(
    plain: Stage, authority: Authority, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    plain.door.use_tls(server_tls)
    async with RawClient(plain.port, client_tls) as before:
        before.say(get())
        await before.response()
        plain.door.use_tls(authority.server_context())
        async with RawClient(plain.port, client_tls) as after:
            shown = [each.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"] for each in (before, after)]
            assert shown[0] != shown[1]
            for client in (before, after):
                client.say(get())
                assert (await client.response()).status == 200


@pytest.mark.parametrize("protocols", [[], ["http/1.1"], ["h2", "http/1.1"]])
async def test_a_client_without_alpn_is_served(
    plain: Stage, authority: Authority, server_tls: ssl.SSLContext, protocols: list[str]
) -> None:
    plain.door.use_tls(server_tls)
    tls = ssl.create_default_context(cafile=authority.ca)
    if protocols:
        tls.set_alpn_protocols(protocols)
    async with RawClient(plain.port, tls) as client:
        client.say(get())
        assert (await client.response()).status == 200
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == (
            "http/1.1" if protocols else None
        )


async def test_an_address_in_use_is_an_error_that_leaves_nothing_behind(plain: Stage) -> None:
    async with KubernetesApiDoor(plain.gate, plain.upstream, DoorSettings()) as door:
        with pytest.raises(OSError, match="in use"):
            await door.start("127.0.0.1", plain.port, None)


@pytest.mark.covers("T-25")
async def test_many_requests_leave_nothing_behind(plain: Stage) -> None:
    tasks = len(asyncio.all_tasks())
    for _ in range(50):
        async with plain.client() as client:
            client.say(get() * 3)
            for _ in range(3):
                await client.response()
            client.say(get(PODS + b"?watch=1"))
    await plain.deserted()
    assert len(asyncio.all_tasks()) <= tasks
    assert plain.door.open_requests == 0
