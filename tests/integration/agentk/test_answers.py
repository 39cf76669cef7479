"""What the API server answers: in one frame or as a stream, whole or broken off, well-formed or not."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Code, Hop, Reset
from tests.fakes.api_server import Call, well
from tests.integration.agentk.conftest import CHUNKED, World, over

# Answers


@pytest.mark.covers("P-07")
async def test_a_stream_is_passed_on_as_it_comes(world: World) -> None:
    more = asyncio.Event()

    async def watch(call: Call) -> None:
        await call.say(CHUNKED)
        for event in (b"one", b"two"):
            await call.say(b"3\r\n%b\r\n" % event)
            await more.wait()
        await call.say(b"0\r\n\r\n")

    world.server.answer = watch
    exchange = world.get(b"/api/v1/pods?watch=true")
    await exchange.until(lambda x: x.body == b"one")
    assert not exchange.is_over
    more.set()
    await over(exchange)
    assert exchange.body == b"onetwo"
    assert exchange.is_ended


@pytest.mark.covers("P-07")
async def test_a_small_answer_that_trickles_is_not_held_for_long(world: World) -> None:
    more = asyncio.Event()

    async def trickle(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na")
        await more.wait()
        await call.say(b"bcd")

    world.server.answer = trickle
    exchange = world.get()
    await exchange.until(lambda x: x.body == b"a")
    more.set()
    await over(exchange)
    assert exchange.frames == ["head", "data", "end"]


async def test_a_small_answer_in_two_segments_is_one_frame(world: World) -> None:
    async def twice(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await call.say(b"cd")

    world.server.answer = twice
    exchange = await over(world.get())
    assert (exchange.body, exchange.frames) == (b"abcd", ["head+end"])


async def test_a_chunked_answer_that_is_complete_at_once_is_one_frame_with_its_length(world: World) -> None:
    async def chunked(call: Call) -> None:
        await call.say(CHUNKED + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")

    world.server.answer = chunked
    exchange = await over(world.get())
    assert (exchange.body, exchange.frames, exchange.body_length) == (b"abcd", ["head+end"], 4)


@pytest.mark.parametrize("size", [65_536, 65_537, 500_000, 3_000_000])
async def test_a_large_answer_arrives_whole_however_slowly_it_is_read(world: World, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)

    async def large(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, body))

    world.server.answer = large
    exchange = world.get(window=65_536)
    while not exchange.is_over:
        await exchange.until(lambda x: x.is_over or x.room <= 0)
        assert exchange.room > -300_000, "no more than one read beyond the room"
        exchange.give_room(200_000)
    assert exchange.body == body
    await over(world.get(window=1 << 30))
    assert world.server.connections == 1


async def test_an_answer_to_head_has_a_length_and_no_body(world: World) -> None:
    async def answer(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")

    world.server.answer = answer
    exchange = await over(world.open(method=b"HEAD", target=b"/api", end=True, body_length=0))
    assert (exchange.frames, exchange.body_length) == (["head+end"], 100)
    await over(world.open(method=b"HEAD", target=b"/api", end=True, body_length=0))
    assert world.server.connections == 1


@pytest.mark.covers("P-04", "P-10")
@pytest.mark.parametrize("status", [403, 429, 500, 503, 504])
async def test_failures_of_the_api_server_are_passed_unchanged(world: World, status: int) -> None:
    async def answer(call: Call) -> None:
        await call.say(b"HTTP/1.1 %d X\r\nRetry-After: 1\r\nAudit-Id: a\r\nContent-Length: 2\r\n\r\n{}" % status)

    world.server.answer = answer
    exchange = await over(world.get())
    assert exchange.status == status
    assert exchange.headers == [(b"Retry-After", b"1"), (b"Audit-Id", b"a")]


@pytest.mark.covers("P-09")
async def test_a_401_is_passed_with_a_hint_and_asks_for_a_fresh_credential(world: World) -> None:
    async def answer(call: Call) -> None:
        await call.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    world.server.answer = answer
    exchange = await over(world.get())
    assert exchange.status == 401
    assert exchange.header(b"Warning") == [b'299 kas "agentk: the API server refused the agent\'s own credential"']
    assert world.credentials.refusals == 1
    exchange = await over(world.get(b"/api/v1/namespaces/n/services/s/proxy/login"))
    assert exchange.header(b"Warning") == []
    assert world.credentials.refusals == 1


@pytest.mark.covers("S-16")
async def test_content_is_never_decoded(world: World) -> None:
    async def answer(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: x\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08")

    world.server.answer = answer
    exchange = await over(world.get())
    assert exchange.body == b"\x1f\x8b\x08"
    assert exchange.headers == [(b"Content-Encoding", b"gzip"), (b"ETag", b"x")]


@pytest.mark.covers("P-08")
async def test_a_clean_end_of_a_watch_stays_a_clean_end(world: World) -> None:
    async def watch(call: Call) -> None:
        await call.say(CHUNKED + b"3\r\nabc\r\n")
        await asyncio.sleep(0.01)
        await call.say(b"0\r\n\r\n")

    world.server.answer = watch
    exchange = await over(world.get())
    assert exchange.frames[-1] == "end"
    assert exchange.reset_said is None


# Failures


@pytest.mark.covers("P-03")
@pytest.mark.parametrize(
    "said",
    [
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"5\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
    ],
    ids=["between chunks", "within a chunk", "short of its length", "without a length", "HTTP/1.0"],
)
@pytest.mark.parametrize("how", ["close", "cut"])
async def test_an_answer_that_breaks_off_is_never_a_clean_end(world: World, said: bytes, how: str) -> None:
    async def breaks(call: Call) -> None:
        await call.say(said)
        await asyncio.sleep(0.02)
        getattr(call, how)()

    world.server.answer = breaks
    exchange = await over(world.get())
    assert exchange.body == b"abc"
    assert exchange.reset_said == Reset(
        Code.UPSTREAM_BROKEN, "the API server broke off its answer", Hop.API_SERVER, False, after=3
    )


@pytest.mark.covers("P-03")
async def test_a_broken_chunk_after_the_head_is_an_abort_behind_what_was_good(world: World) -> None:
    async def breaks(call: Call) -> None:
        await call.say(CHUNKED + b"3\r\nabc\r\n")
        await asyncio.sleep(0.01)
        await call.say(b"zz\r\n")
        await call.hear()

    world.server.answer = breaks
    exchange = await over(world.get())
    assert exchange.reset_said is not None
    assert (exchange.body, exchange.reset_said.code, exchange.reset_said.after) == (b"abc", Code.UPSTREAM_BROKEN, 3)


@pytest.mark.covers("P-03")
@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["nothing", "half a head"])
async def test_an_answer_that_never_began_is_broken_and_may_have_run(world: World, said: bytes, method: bytes) -> None:
    async def breaks(call: Call) -> None:
        await call.say(said)
        call.close()

    world.server.answer = breaks
    exchange = await over(world.open(method=method, target=b"/api", end=True, body_length=0))
    said_reset = exchange.reset_said
    assert said_reset is not None
    assert said_reset[2:] == (Hop.API_SERVER, False, None)
    assert said_reset.code is Code.UPSTREAM_BROKEN
    assert exchange.status == 0


MALFORMED = {
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "obs-fold": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
    "NUL": b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 2\r\n\r\n{}",
    "status 99": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status 999": b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "garbage": b"SSH-2.0-OpenSSH\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000,
    "a switch nobody asked for": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.covers("S-18", "P-06", "S-08", "S-12")
@pytest.mark.parametrize("said", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_answer_is_refused_and_its_connection_dropped(world: World, said: bytes) -> None:
    async def malformed(call: Call) -> None:
        await call.say(said)
        await call.hear()

    world.server.answer = malformed
    exchange = await over(world.get())
    assert exchange.reset_said is not None
    assert (exchange.reset_said.code, exchange.reset_said.hop) == (Code.UPSTREAM_BAD, Hop.API_SERVER)
    assert exchange.status == 0
    await world.server.cancelled.wait()
    world.server.answer = well
    await over(world.get())
    assert world.server.connections == 2
