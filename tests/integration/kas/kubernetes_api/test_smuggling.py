"""The corpus of requests that must not pass, against the real listener: one answer, the connection closed, nothing at the agent."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Head
from tests.fakes.kubernetes_door import BEARER, get
from tests.integration.kas.kubernetes_api.conftest import Stage
from tests.unit.kastunnel.http.test_request import REFUSED

SECOND = get(b"/agents/1/api/v1/second")


@pytest.mark.covers(
    "S-01", "S-09", "S-10", "S-11", "S-17", "I-02", "I-03", "I-04", "I-06", "A-15", "S-21", "T7", "T17", "T19"
)
async def test_every_refused_message_gets_one_answer_and_the_connection_closes(stage: Stage) -> None:
    stage.change(linger_s=0.01)
    for data, kind in REFUSED:
        async with stage.client() as client:
            # Where the head passes, it must be authenticated to get as far as the body.
            client.say(
                data.replace(b"\r\nHost: kas\r\n", b"\r\nHost: kas\r\n" + BEARER, 1).replace(
                    b" / ", b" /agents/1/api ", 1
                )
            )
            client.say(SECOND)
            response = await client.response()
            assert response.status in {kind.status, 400, 401}, data
            assert response[b"Connection"] == b"close"
            assert await client.is_closed(), data
    assert all(asked.reset_said is not None for asked in stage.upstream.opened)
    assert not any(asked.wanted.target.endswith(b"second") for asked in stage.upstream.opened)


@pytest.mark.covers("S-04")
@pytest.mark.parametrize("bearer", [BEARER, b""])
async def test_a_request_hidden_in_the_body_of_a_refused_one_is_never_read(stage: Stage, bearer: bytes) -> None:
    fields = b"Content-Length: %d\r\nImpersonate-User: admin\r\n" % len(SECOND)
    async with stage.client() as client:
        client.say(get(b"/agents/1/api/v1/x", fields, bearer=bearer, method=b"POST") + SECOND)
        response = await client.response()
        assert response.status == (403 if bearer else 401)
        assert response[b"Connection"] == b"close"
        assert await client.is_closed()
    assert stage.upstream.opened == []


@pytest.mark.covers("S-04", "T-15")
async def test_an_answer_before_the_end_of_the_body_closes_the_connection(stage: Stage) -> None:
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(b"/agents/1/api/v1/x", b"Content-Length: 1000000\r\n", method=b"POST") + b"x" * 1000)
        asked = await stage.upstream.request()
        asked.answer(413, b"too large")
        response = await client.response()
        assert (response.status, response.body, response[b"Connection"]) == (413, b"too large", b"close")
        client.say(SECOND)
        assert await client.is_closed()
    assert asked.reset_said is not None
    assert len(stage.upstream.opened) == 1


@pytest.mark.covers("S-19")
@pytest.mark.parametrize(
    "headers",
    [
        [(b"Warning", b"a\r\nSet-Cookie: b")],
        [(b"Warning", b"a\nb")],
        [(b"A\r\nB", b"c")],
        [(b"A", b"\0")],
    ],
)
async def test_an_answer_that_would_split_is_a_bad_gateway(plain: Stage, headers: list[tuple[bytes, bytes]]) -> None:
    plain.upstream.script = lambda asked: asked.answer(200, b"", headers)
    async with plain.client() as client:
        client.say(get())
        response = await client.response()
        assert response.status == 502
        assert b"Cookie" not in response.body


@pytest.mark.covers("S-12", "S-08", "T-16")
@pytest.mark.parametrize(
    "head",
    [
        Head(301, [(b"location", b"https://elsewhere/")], b"", True),
        Head(307, [(b"Location", b"/x")], b"", True),
        Head(101, [], b"", False),
        Head(101, [], b"", True),
        Head(99, [], b"", True),
        Head(100, [], b"", True),
        Head(600, [], b"", True),
        Head(999, [], b"", True),
        Head(204, [], b"x", True),
        Head(200, [], b"x", True, 2),
        Head(200, [], b"xyz", False, 2),
    ],
)
async def test_an_answer_that_may_not_be_passed_on_is_a_bad_gateway(stage: Stage, head: Head) -> None:
    stage.upstream.script = lambda asked: asked.handler.on_head(head)
    async with stage.client() as client:
        client.say(get(b"/agents/1/api/v1/pods"))
        response = await client.response()
        assert response.status == 502
        assert response[b"Location"] == b""
        assert response.message.startswith("kas: agent 1: what came back is not an answer")


@pytest.mark.covers("T-16")
async def test_frames_in_the_wrong_order_are_a_bad_gateway(stage: Stage) -> None:
    stage.upstream.script = None
    for number, play in enumerate(("data first", "end first"), 1):
        async with stage.client() as client:
            client.say(get())
            asked = await stage.upstream.request(number)
            if play == "data first":
                asked.handler.on_data(b"x")
            else:
                asked.handler.on_end(False)
            assert (await client.response()).status == 502
            await asked.until(lambda it: it.reset_said)


@pytest.mark.covers("S-17")
@pytest.mark.parametrize(
    ("start", "piece", "status"),
    [
        (b"GET /", b"a" * 4096, 414),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 4096, 431),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 500, 431),
        (get(b"/agents/1/api", b"Transfer-Encoding: chunked\r\n", method=b"POST") + b"1;", b"a" * 4096, 400),
        (get(b"/agents/1/api", b"Transfer-Encoding: chunked\r\n", method=b"POST"), b"0" * 4096, 400),
        (get(b"/agents/1/api", b"Transfer-Encoding: chunked\r\n", method=b"POST") + b"0\r\nX: ", b"a" * 4096, 400),
    ],
)
async def test_what_has_no_end_is_ended(plain: Stage, start: bytes, piece: bytes, status: int) -> None:
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(start)
        for _ in range(32):
            client.say(piece)
            await asyncio.sleep(0)
        assert (await client.response()).status == status
        assert await client.is_closed()
