"""Ordinary requests through the door: what reaches the agent, what the client reads, and that connections live on."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Code, Head, Hop, Impersonate, Reset
from tests.fakes.kubernetes_door import BEARER, FakeOpenExchange, get, grant
from tests.integration.kas.kubernetes_api.conftest import Stage


async def test_a_get_reaches_the_agent_cleaned_and_its_answer_the_client(stage: Stage) -> None:
    stage.gate.grants[1, b"good"] = grant(identity=Impersonate("gitlab:ci_job:7", ("g",)))
    stage.upstream.script = lambda asked: asked.answer(200, b"{}", [(b"Audit-Id", b"a"), (b"Warning", b'299 - "old"')])
    async with stage.client() as client:
        client.say(
            get(b"/agents/1/api/v1/pods?limit=5", b"Accept: x\r\nCookie: c\r\nX-Remote-User: u\r\nVia: 1.1 p\r\n")
        )
        response = await client.response()
    [asked] = stage.upstream.opened
    wanted = asked.wanted
    assert (asked.agent_id, wanted.method, wanted.target) == (1, b"GET", b"/api/v1/pods?limit=5")
    assert wanted.headers == [(b"Accept", b"x"), (b"Via", b"1.1 p"), (b"Via", b"1.1 kas")]
    assert wanted.identity == Impersonate("gitlab:ci_job:7", ("g",))
    assert (wanted.body, wanted.end, wanted.body_length, wanted.upgrade) == (b"", True, 0, False)
    assert wanted.labels == {"job": "7"}
    assert wanted.timeout_ms == 75_000
    assert response.status == 200
    assert response.body == b"{}"
    assert response[b"X-Request-Id"] == wanted.request_id.encode()
    assert response[b"Audit-Id"] == b"a"
    assert response[b"Warning"] == b'299 - "old"'
    assert response[b"Content-Length"] == b"2"


async def test_one_connection_carries_one_request_after_another(stage: Stage) -> None:
    async with stage.client() as client:
        for number in range(3):
            client.say(get(b"/k8s-proxy/api/v1/n/%d" % number))
            assert (await client.response()).body == b"hello"
    assert [asked.wanted.target for asked in stage.upstream.opened] == [b"/api/v1/n/0", b"/api/v1/n/1", b"/api/v1/n/2"]
    assert len({asked.wanted.request_id for asked in stage.upstream.opened}) == 3


@pytest.mark.covers("X-06")
@pytest.mark.parametrize(
    "path", [b"/api", b"/api/v1?x=y", b"/apis", b"/version?timeout=32s", b"/openapi/v3", b"/livez", b"/metrics"]
)
async def test_the_bare_roots_are_served_as_kubectl_sends_them(plain: Stage, path: bytes) -> None:
    async with plain.client() as client:
        client.say(get(path))
        assert (await client.response()).status == 200
    assert plain.upstream.opened[0].wanted.target == path


@pytest.mark.covers("Z-01", "Z-02", "Z-07")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"/k8s-proxy", 404),
        (b"/K8S-PROXY/api", 404),
        (b"/k8s-proxy/../x", 400),
        (b"/k8s-proxy/%2e%2e/x", 400),
        (b"/%6b8s-proxy/api", 404),
        (b"//k8s-proxy/api", 404),
        (b"/agents/1", 404),
        (b"/agents//api", 404),
        (b"/agents/01/api", 404),
        (b"/agents/+1/api", 404),
        (b"/agents/9223372036854775808/api", 404),
        (b"/apix", 404),
        (b"/", 404),
        (b"http://kas/api", 400),
        (b"/agents/2/api", 403),
    ],
)
async def test_other_paths_lead_nowhere(plain: Stage, path: bytes, status: int) -> None:
    async with plain.client() as client:
        client.say(get(path))
        assert (await client.response()).status == status
    assert plain.upstream.opened == []


async def test_the_query_and_the_path_pass_byte_for_byte(plain: Stage) -> None:
    target = b"/api/v1//namespaces/a;b/x:y/%7Euser?dryRun=All&dryRun=&b=2&a=1+2%20%2f&command=%C3%A4"
    async with plain.client() as client:
        client.say(get(b"/agents/1" + target))
        await client.response()
    assert plain.upstream.opened[0].wanted.target == target


async def test_a_body_that_comes_with_the_head_is_in_the_open(stage: Stage) -> None:
    async with stage.client() as client:
        client.say(get(b"/agents/1/api/v1/x", b"Content-Length: 3\r\n", method=b"POST") + b"abc")
        assert (await client.response()).status == 200
        client.say(get(b"/agents/1/api/v1/x", b"Content-Length: 3\r\n", method=b"DELETE") + b"abc")
        assert (await client.response()).status == 200
    for asked in stage.upstream.opened:
        assert (asked.body, asked.is_ended, asked.wanted.body_length) == (b"abc", True, 3)


async def test_a_large_body_is_cut_for_the_open_and_follows_as_data(stage: Stage) -> None:
    body = bytes(range(256)) * 1200
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(b"/agents/1/api/v1/x", b"Content-Length: %d\r\n" % len(body), method=b"PUT") + body)
        asked = await stage.upstream.request()
        await asked.until(lambda it: it.is_ended)
        assert len(asked.wanted.body) <= 65536
        assert asked.body == body
        asked.answer(201)
        assert (await client.response()).status == 201
        client.say(get())
        await stage.upstream.request(2)


async def test_a_chunked_body_arrives_decoded(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(b"/agents/1/api/v1/x", b"Transfer-Encoding: chunked\r\n", method=b"POST") + b"3\r\nabc\r\n")
        asked = await stage.upstream.request()
        assert asked.wanted.body_length is None
        client.say(b"2;x=y\r\nde\r\n0\r\nImpersonate-User: admin\r\n\r\n")
        await asked.until(lambda it: it.is_ended)
        assert asked.body == b"abcde"
        asked.answer(200, b"ok")
        assert (await client.response()).body == b"ok"


async def test_a_body_waits_for_room_on_the_link(stage: Stage) -> None:
    stage.upstream.script = None
    stage.upstream.window = 1000
    size = 4 << 20
    async with stage.client() as client:
        client.say(get(b"/agents/1/api/v1/x", b"Content-Length: %d\r\n" % size, method=b"POST") + b"x" * size)
        asked = await stage.upstream.request()
        await asked.until(lambda it: it.room <= 0)
        await asyncio.sleep(0.05)
        assert len(asked.body) < 1 << 20
        while not asked.is_ended:
            asked.give_room(len(asked.body) - asked.window + 100_000)
            await asyncio.sleep(0)
        assert len(asked.body) == size
        asked.answer(200)
        await client.response()


@pytest.mark.covers("S-05")
async def test_pipelined_requests_are_answered_one_at_a_time_each_by_its_own_token(stage: Stage) -> None:
    stage.upstream.script = None
    stage.gate.grants[2, b"other"] = grant(2)
    other = b"Authorization: Bearer ci:2:other\r\n"
    bad = b"Authorization: Bearer ci:1:bad\r\n"
    async with stage.client() as client:
        client.say(get() + get(b"/k8s-proxy/api", bearer=other) + get(b"/k8s-proxy/apis", bearer=bad) + get())
        first = await stage.upstream.request()
        await asyncio.sleep(0.02)
        assert len(stage.upstream.opened) == 1
        first.answer(200, b"one")
        second = await stage.upstream.request(2)
        assert (second.agent_id, second.wanted.target) == (2, b"/api")
        second.answer(200, b"two")
        assert (await client.response()).body == b"one"
        assert (await client.response()).body == b"two"
        assert (await client.response()).status == 401
        (await stage.upstream.request(3)).answer(200, b"four")
        assert (await client.response()).body == b"four"


async def test_an_endless_answer_is_passed_on_piece_by_piece(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(b"/agents/1/api/v1/pods?watch=true"))
        asked = await stage.upstream.request()
        asked.answer(200, b"first", end=False)
        assert b"Transfer-Encoding: chunked" in await client.head()
        assert await client.reader.readexactly(10) == b"5\r\nfirst\r\n"
        asked.handler.on_data(b"second")
        assert await client.reader.readexactly(11) == b"6\r\nsecond\r\n"
        asked.handler.on_end(False)
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        assert asked.consumed_bytes == 11
        client.say(get())
        (await stage.upstream.request(2)).answer(200)
        assert (await client.response()).status == 200


async def test_an_answer_of_known_length_keeps_it(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get())
        asked = await stage.upstream.request()
        asked.answer(200, b"ab", end=False, body_length=4)
        asked.handler.on_data(b"cd")
        asked.handler.on_end(False)
        response = await client.response()
        assert (response[b"Content-Length"], response.body) == (b"4", b"abcd")


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        (b"HEAD", Head(200, (), b"", True, 10), b"10"),
        (b"HEAD", Head(200, (), b"", True, None), b""),
        (b"GET", Head(304, [(b"ETag", b"e"), (b"Location", b"/x")], b"", True, None), b""),
        (b"DELETE", Head(204, (), b"", True, None), b""),
    ],
)
async def test_answers_without_a_body(stage: Stage, method: bytes, head: Head, length: bytes) -> None:
    stage.upstream.script = lambda asked: asked.handler.on_head(head)
    async with stage.client() as client:
        client.say(get(method=method))
        response = await client.response(is_head=True)
        assert (response.status, response[b"Content-Length"]) == (head.status, length)
        assert response[b"Location"] == response[b"Transfer-Encoding"] == b""
        client.say(get(method=method))
        assert (await client.response(is_head=True)).status == head.status


async def test_http_1_0_is_answered_and_closed_without_chunks(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(b"GET /agents/1/version HTTP/1.0\r\nHost: kas\r\nConnection: keep-alive\r\n" + BEARER + b"\r\n")
        asked = await stage.upstream.request()
        asked.answer(200, b"a", end=False)
        asked.handler.on_data(b"b")
        asked.handler.on_end(False)
        head = await client.head()
        assert b"Connection: close" in head
        assert b"chunked" not in head
        assert await client.rest() == b"ab"


async def test_a_client_that_closes_is_obeyed(stage: Stage) -> None:
    async with stage.client() as client:
        client.say(get(fields=b"Connection: close\r\n"))
        response = await client.response()
        assert response[b"Connection"] == b"close"
        assert await client.is_closed()


async def test_expect_is_answered_only_after_admission(stage: Stage) -> None:
    stage.upstream.script = None
    expect = b"Content-Length: 3\r\nExpect: 100-continue\r\n"
    async with stage.client() as client:
        client.say(get(b"/agents/1/api", expect, method=b"POST", bearer=b"Authorization: Bearer ci:1:bad\r\n"))
        refused = await client.response()
        assert (refused.status, refused[b"Connection"]) == (401, b"close")
    async with stage.client() as client:
        client.say(get(b"/agents/1/api", expect, method=b"POST"))
        assert await client.head() == b"HTTP/1.1 100 Continue"
        client.say(b"abc")
        asked = await stage.upstream.request()
        await asked.until(lambda it: it.is_ended)
        asked.answer(200)
        assert (await client.response()).status == 200


async def test_a_token_that_is_not_known_yet_and_a_link_that_comes_later_are_waited_for(stage: Stage) -> None:
    stage.gate.is_warm = False
    stage.gate.open.clear()
    stage.upstream.is_linked = False
    async with stage.client() as client:
        client.say(get(b"/agents/1/api", b"Content-Length: 3\r\n", method=b"POST") + b"a")
        await asyncio.sleep(0.02)
        client.say(b"bc")
        stage.gate.open.set()
        await asyncio.sleep(0.02)
        assert stage.upstream.opened == []
        stage.upstream.is_linked = True
        stage.upstream.linked.set()
        assert (await client.response()).status == 200
    assert stage.upstream.opened[0].body == b"abc"


@pytest.mark.covers("X-02", "T-08")
async def test_a_request_that_certainly_did_not_run_is_dispatched_once_more(stage: Stage) -> None:
    def script(asked: FakeOpenExchange) -> None:
        if len(stage.upstream.opened) < 3:
            asked.handler.on_reset(Reset(Code.DRAINING, "stopping", Hop.AGENTK, not_run=True))
        else:
            asked.answer(200)

    stage.upstream.script = script
    async with stage.client() as client:
        client.say(get())
        assert (await client.response()).status == 503
        assert len(stage.upstream.opened) == 2
        client.say(get())
        assert (await client.response()).status == 200


async def test_a_drain_lets_requests_end_and_connections_close(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as busy, stage.client() as idle:
        idle.say(get())
        (await stage.upstream.request()).answer(200)
        await idle.response()
        busy.say(get())
        asked = await stage.upstream.request(2)
        stage.door.drain()
        assert await idle.is_closed()
        assert not await stage.door.drained(0.01)
        asked.answer(200, b"last")
        response = await busy.response()
        assert (response.body, response[b"Connection"]) == (b"last", b"close")
        assert await stage.door.drained(1.0)
        assert await busy.is_closed()
