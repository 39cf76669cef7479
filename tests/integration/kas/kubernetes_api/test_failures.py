"""Failures on the way: an answer that names the hop while there is time, a broken connection afterwards, never a clean end."""

from __future__ import annotations

import asyncio

import pytest

from kas.errors import TooManyRequests
from kastunnel.link.frames import Code, Hop, Reset
from tests.fakes.kubernetes_door import FakeOpenExchange, get
from tests.integration.kas.kubernetes_api.conftest import Stage

PODS = b"/agents/1/api/v1/pods"


@pytest.mark.covers("T-01", "P-01", "P-03", "X-01")
@pytest.mark.parametrize(
    ("method", "reset", "status", "words"),
    [
        (b"GET", Reset(Code.UPSTREAM_DIAL, "connection refused", Hop.API_SERVER), 502,
         "kas: agent 1: API server: the API server cannot be reached: connection refused"),
        (b"POST", Reset(Code.UPSTREAM_DIAL, "", Hop.AGENTK), 502, "kas: agent 1: the API server cannot be reached"),
        (b"GET", Reset(Code.UPSTREAM_TLS, "wrong CA", Hop.AGENTK), 502, "TLS failed: wrong CA"),
        (b"GET", Reset(Code.UPSTREAM_BAD, "", Hop.API_SERVER), 502, "may not be passed on"),
        (b"GET", Reset(Code.TIMEOUT, "", Hop.API_SERVER), 504, "did not answer in time"),
        (b"GET", Reset(Code.UPSTREAM_BROKEN, "", Hop.API_SERVER), 502, "closed the connection before it answered (request"),
        (b"POST", Reset(Code.UPSTREAM_BROKEN, "", Hop.API_SERVER), 504, "it may still be processing"),
        (b"HEAD", Reset(Code.TOO_LATE, "", Hop.HOLDER), 502, ""),
        (b"PATCH", Reset(Code.TOO_LATE, "", Hop.HOLDER), 504, "may still be processing"),
        (b"GET", Reset(Code.SUPERSEDED), 502, "kas: the connection was lost"),
        (b"DELETE", Reset(Code.INTERNAL, "x\r\nSet-Cookie: \x1b[31m\u00e4", Hop.AGENTK), 504, "x??Set-Cookie: ?[31m?"),
        (b"GET", Reset(Code.REVOKED), 503, "token does not count any more"),
        (b"GET", Reset(Code.ACCESS_ENDED), 403, "may not use this agent"),
        (b"GET", Reset(Code.DRAINING), 503, "stopping"),
        (b"GET", Reset(Code.UNSUPPORTED), 502, "upgraded"),
        (b"GET", Reset(Code.PROTOCOL), 502, "malformed"),
        (b"GET", Reset(Code.LIMIT), 502, "limit"),
        (b"GET", Reset(99), 502, "without a reason"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_each_reset_before_the_head_has_its_answer(
    plain: Stage, method: bytes, reset: Reset, status: int, words: str
) -> None:
    plain.upstream.script = lambda asked: asked.handler.on_reset(reset)
    async with plain.client() as client:
        client.say(get(PODS, method=method))
        response = await client.response(is_head=method == b"HEAD")
        assert response.status == status
        if method != b"HEAD":
            assert words in response.message
            assert response[b"Warning"].decode() == f'299 kas "{response.message}"'
        assert response[b"Retry-After"] == b""
        # The request was read whole and nothing of an answer is on its way: the connection is good.
        plain.upstream.script = lambda asked: asked.answer(200)
        client.say(get())
        assert (await client.response()).status == 200


@pytest.mark.covers("T-01", "P-03")
@pytest.mark.parametrize("length", [None, 105])
async def test_a_reset_after_the_head_breaks_the_answer_off(stage: Stage, length: int | None) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(PODS))
        asked = await stage.upstream.request()
        asked.answer(200, b"first line\n", end=False, body_length=length)
        asked.handler.on_data(b"last line\n")
        asked.handler.on_reset(Reset(Code.UPSTREAM_BROKEN, "", Hop.API_SERVER))
        rest = await client.rest()
        assert b"last line\n" in rest
        assert b"0\r\n\r\n" not in rest
        assert b"HTTP/1.1 502" not in rest


async def test_a_reset_after_the_head_of_a_1_0_answer_is_a_reset(plain: Stage) -> None:
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(b"GET /agents/1/api HTTP/1.0\r\nHost: kas\r\nAuthorization: Bearer ci:1:good\r\n\r\n")
        asked = await plain.upstream.request()
        asked.answer(200, b"half", end=False)
        await client.head()
        asked.handler.on_reset(Reset(Code.UPSTREAM_BROKEN))
        assert (await client.rest()).startswith(b"half")


@pytest.mark.parametrize("end", ["short", "stopped", "long"])
async def test_an_answer_of_another_length_than_stated_is_broken_off(stage: Stage, end: str) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(PODS))
        asked = await stage.upstream.request()
        asked.answer(200, b"ab", end=False, body_length=4)
        if end == "long":
            asked.handler.on_data(b"cdefg")
        else:
            asked.handler.on_end(end == "stopped")
        _, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert body.removesuffix(b"RESET") in (b"ab", b"")
        await asked.until(lambda it: it.reset_said)


async def test_an_agent_that_is_not_connected_is_said_so(plain: Stage) -> None:
    plain.upstream.is_linked = False
    plain.upstream.linked.set()
    async with plain.client() as client:
        client.say(get(PODS))
        response = await client.response()
    assert response.status == 503
    assert response.message.startswith("kas: the agent is not connected to kas (request ")


async def test_an_agent_with_too_many_requests_is_the_only_reason_to_try_again(
    plain: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise TooManyRequests

    monkeypatch.setattr(plain.upstream, "open", full)
    async with plain.client() as client:
        client.say(get(PODS))
        response = await client.response()
    assert (response.status, response[b"Retry-After"]) == (429, b"1")


@pytest.mark.covers("T-14")
@pytest.mark.parametrize("moment", ["admitting", "waiting for a link", "uploading", "before the head", "in the answer"])
async def test_a_client_that_goes_cancels_what_was_going_on_for_it(stage: Stage, moment: str) -> None:
    stage.upstream.script = None
    stage.gate.is_warm = moment != "admitting"
    stage.gate.open.clear()
    stage.upstream.is_linked = moment != "waiting for a link"
    fields = b"Content-Length: 100\r\n" if moment == "uploading" else b""
    client = stage.client()
    async with client:
        client.say(get(PODS, fields, method=b"POST" if fields else b"GET"))
        if stage.upstream.is_linked and stage.gate.is_warm:
            asked = await stage.upstream.request()
            if moment == "in the answer":
                asked.answer(200, b"x", end=False)
                await client.head()
        else:
            await asyncio.sleep(0.02)
        assert stage.door.open_requests == 1
    await stage.deserted()
    if stage.upstream.opened:
        asked = stage.upstream.opened[0]
        assert asked.reset_said is not None
        assert (asked.reset_said.code, asked.reset_said.hop) == (Code.CANCELLED, Hop.CALLER)


@pytest.mark.covers("S-15")
async def test_a_reader_that_never_reads_stops_the_credit_and_only_an_ordinary_answer_has_a_limit(plain: Stage) -> None:
    async def flood(asked: FakeOpenExchange) -> int:
        asked.answer(200, b"", end=False)
        for _ in range(300):
            if asked.reset_said is None:
                asked.handler.on_data(b"x" * 65536)
            await asyncio.sleep(0)
        return asked.consumed_bytes

    plain.upstream.script = None
    plain.change(write_stall_s=0.1)
    async with plain.client() as client:
        client.say(get(PODS + b"?watch=true"))
        watch = await plain.upstream.request()
        client.writer.transport.pause_reading()
        assert await flood(watch) < 300 * 65536
        await asyncio.sleep(0.3)
        assert watch.reset_said is None
    async with plain.client() as client:
        client.say(get(PODS))
        ordinary = await plain.upstream.request(2)
        client.writer.transport.pause_reading()
        assert await flood(ordinary) < 300 * 65536
        await ordinary.until(lambda it: it.reset_said, 2.0)
        assert ordinary.reset_said is not None
        assert ordinary.reset_said.code == Code.TIMEOUT


async def test_a_body_that_breaks_off_or_breaks_the_rules_ends_the_request_at_the_agent(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(PODS, b"Transfer-Encoding: chunked\r\n", method=b"POST") + b"3\r\nabc\r\n")
        asked = await stage.upstream.request()
        client.say(b"nonsense\r\n")
        assert (await client.response()).status == 400
        assert await client.is_closed()
        await asked.until(lambda it: it.reset_said)


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        (PODS, b"Content-Length: 2000\r\n", 413),
        (PODS, b"Transfer-Encoding: chunked\r\n", 413),
        (b"/agents/1/api/v1/namespaces/d/services/s/proxy/upload", b"Transfer-Encoding: chunked\r\n", 200),
        (b"/agents/1/api/v1/namespaces/d/services/s/proxy/upload", b"Content-Length: 2007\r\n", 200),
    ],
)
async def test_bodies_are_limited_except_towards_a_service(
    plain: Stage, path: bytes, fields: bytes, status: int
) -> None:
    plain.change(max_body_bytes=1000)
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(get(path, fields, method=b"POST") + b"3e8\r\n" + b"x" * 1000)
        await asyncio.sleep(0.02)
        client.say(b"\r\n3E0\r\n" + b"x" * 990)
        if status == 200:
            asked = await plain.upstream.request()
            client.say(b"x" * 2 + b"\r\n0\r\n\r\n")
            await asked.until(lambda it: it.is_ended)
            asked.answer(200)
        assert (await client.response()).status == status
    assert all(asked.reset_said is not None or asked.is_ended for asked in plain.upstream.opened)


async def test_the_api_server_may_stop_a_body_and_the_answer_still_comes(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(PODS, b"Content-Length: 1000000\r\n", method=b"POST") + b"x" * 100)
        asked = await stage.upstream.request()
        asked.handler.on_stop(Code.CANCELLED)
        client.say(b"x" * 100_000)
        await asyncio.sleep(0.02)
        assert len(asked.body) == 100
        asked.answer(413, b"enough")
        response = await client.response()
        assert (response.status, response.body, response[b"Connection"]) == (413, b"enough", b"close")


async def test_leaving_the_door_ends_everything_with_words(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as waiting, stage.client() as watching, stage.client() as idle:
        waiting.say(get(PODS))
        watching.say(get(PODS + b"?watch=1"))
        asked = await stage.upstream.request(2)
        for each in stage.upstream.opened:
            if b"watch" in each.wanted.target:
                each.answer(200, b"x", end=False)
        await watching.head()
        await stage.door.close()
        assert (await waiting.response()).status == 503
        assert b"0\r\n\r\n" not in await watching.rest()
        assert await idle.is_closed()
        assert asked.reset_said is not None
