"""Requests without an upgrade, against an API server on a real socket."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Code, Hop, Impersonate, Reset
from kastunnel.link.limits import NO_TIMEOUT_MS
from tests.fakes.api_server import OK, Answer, Call, well
from tests.fakes.exchange import FakeExchange
from tests.integration.agentk.conftest import World, plain

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def over(exchange: FakeExchange) -> FakeExchange:
    await exchange.until(lambda x: x.is_over)
    return exchange


async def test_a_small_answer_is_said_in_one_frame(world: World) -> None:
    exchange = await over(world.get())
    assert (exchange.status, exchange.body, exchange.frames) == (200, b"{}", ["head+end"])
    assert exchange.header(b"Content-Length") == []
    assert exchange.body_length == 2


async def test_connections_are_used_again_one_request_at_a_time(world: World) -> None:
    for _ in range(5):
        await over(world.get())
    assert world.server.connections == 1
    await asyncio.gather(*[over(world.get()) for _ in range(3)])
    assert world.server.connections == 3


@pytest.mark.parametrize(
    ("query", "connections"),
    [
        (b"watch=true", 2),
        (b"allowWatchBookmarks=true&watch=1", 2),
        (b"follow=true&container=a", 2),
        (b"watch=False", 1),
        (b"fieldSelector=watch%3Dtrue", 1),
        (b"limit=500", 1),
    ],
)
async def test_a_connection_that_reads_little_ahead_is_not_used_again(
    world: World, query: bytes, connections: int
) -> None:
    await over(world.get(b"/api/v1/pods?" + query))
    await over(world.get())
    assert world.server.connections == connections


async def test_credential_and_identity_come_last_and_only_from_agentk(world: World) -> None:
    identity = Impersonate("job", ("a,b", "c"), "u1", (("agent.gitlab.com/id", ("7", "8")),))
    await over(world.get(identity=identity))
    head = world.server.heads[0]
    assert head.endswith(
        b"Accept: application/json\r\nAuthorization: Bearer of-the-agent\r\nImpersonate-User: job\r\n"
        b"Impersonate-Group: a,b\r\nImpersonate-Group: c\r\nImpersonate-Uid: u1\r\n"
        b"Impersonate-Extra-agent.gitlab.com%2fid: 7\r\nImpersonate-Extra-agent.gitlab.com%2fid: 8\r\n\r\n"
    )


@pytest.mark.covers("I-13", "I-14", "T-17", "T5", "T6", "T18")
async def test_identity_in_a_hostile_header_map_is_dropped(world: World) -> None:
    hostile = [
        (b"Impersonate-User", b"admin"),
        (b"impersonate_group", b"system:masters"),
        (b"IMPERSONATE-EXTRA-x", b"y"),
        (b"Authorization", b"Bearer stolen"),
        (b"X-Remote-User", b"admin"),
        (b"Cookie", b"a=b"),
        (b"Host", b"elsewhere"),
        (b"Connection", b"Authorization"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"5"),
        (b"Expect", b"100-continue"),
        (b"Accept", b"text/plain"),
    ]
    await over(world.get(headers=hostile, identity=Impersonate("job")))
    call = world.server.calls[0]
    assert [name for name, _ in call.headers] == [b"Host", b"Accept", b"Authorization", b"Impersonate-User"]
    assert call.header(b"Impersonate-User") == [b"job"]
    assert call.header(b"Authorization") == [b"Bearer of-the-agent"]
    assert call.header(b"Host") == [f"127.0.0.1:{world.server.port}".encode()]


HOSTILE_OPENS = {
    "method in lower case": {"method": b"get"},
    "CONNECT": {"method": b"CONNECT"},
    "a method with a line end": {"method": b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET"},
    "absolute form": {"target": b"http://elsewhere/api"},
    "asterisk form": {"target": b"*"},
    "empty target": {"target": b""},
    "dots": {"target": b"/api/../etc"},
    "encoded dots": {"target": b"/api/%2e%2e/etc"},
    "doubly encoded dots": {"target": b"/api/%252e%252e/etc"},
    "line end in the target": {"target": b"/api HTTP/1.1\r\nX: y"},
    "line end in a value": {"headers": [(b"A", b"b\r\nImpersonate-User: admin")]},
    "line end in a name": {"headers": [(b"A: b\r\nImpersonate-User", b"admin")]},
    "colon in a name": {"headers": [(b"Authorization: x", b"y")]},
    "NUL in a value": {"headers": [(b"A", b"\0")]},
    "more body than stated": {"method": b"POST", "body": b"abc", "body_length": 2, "end": False},
    "less body than stated": {"method": b"POST", "body": b"a", "body_length": 2, "end": True},
    "no user": {"identity": Impersonate("")},
    "a line end in a user": {"identity": Impersonate("a\r\nImpersonate-Group: system:masters")},
    "a blank around a group": {"identity": Impersonate("a", (" system:masters",))},
    "not ASCII": {"identity": Impersonate("jörg")},
    "an extra without a key": {"identity": Impersonate("a", extra=(("", ("b",)),))},
    "an unknown identity": {"identity": None},
    "an unknown upgrade": {"upgrade": True, "headers": [(b"Upgrade", b"h2c")]},
    "an upgrade without a protocol": {"upgrade": True, "headers": []},
}


@pytest.mark.covers("T-17", "I-13", "I-08", "S-19", "T6", "T16")
@pytest.mark.parametrize("what", HOSTILE_OPENS.values(), ids=HOSTILE_OPENS.keys())
async def test_a_hostile_open_is_refused_and_nothing_is_sent(world: World, what: dict[str, object]) -> None:
    exchange = world.open(**{"method": b"GET", "target": b"/api", "end": True, "body_length": 0} | what)
    said = exchange.reset_said
    assert said is not None
    assert (said.hop, said.not_run) == (Hop.AGENTK, True)
    assert said.code in (Code.PROTOCOL, Code.UNSUPPORTED)
    await over(world.get())
    assert len(world.server.calls) == 1


async def test_the_path_of_the_kubeconfigs_server_is_put_before_the_target(world: World) -> None:
    world.credentials.access = plain(world.server.port, path="/k8s/clusters/c-1/")
    await over(world.get(b"/api/v1/pods?limit=500&a=%2F+b"))
    assert world.server.calls[0].target == b"/k8s/clusters/c-1/api/v1/pods?limit=500&a=%2F+b"
    for target in (b"api", b"@elsewhere/"):
        assert world.get(target).reset_said is not None


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
