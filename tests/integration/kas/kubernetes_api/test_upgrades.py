"""exec, attach and port-forward: the switch itself, both directions of the pipe, and how each end of it is told."""

from __future__ import annotations

import asyncio
import json

import pytest

from kas.demo.practice_cluster import spdy
from kas.errors import AccessDenied
from kas.kubernetes_api import relay
from kas.streams.forwarding import ForwardTap
from kastunnel.link.frames import Code, Head, Hop, Reset
from kastunnel.link.limits import NO_TIMEOUT_MS
from tests.fakes.kubernetes_door import FakeOpenExchange, RawClient, get
from tests.integration.kas.kubernetes_api.conftest import Stage

EXEC = b"/agents/1/api/v1/namespaces/d/pods/p/exec?command=sh&stdin=true"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
)
SPDY = (
    b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
    b"X-Stream-Protocol-Version: v3.channel.k8s.io\r\nContent-Length: 0\r\n"
)
PING = b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02"
KINDS = [
    pytest.param(b"GET", WEBSOCKET, b"websocket", id="websocket"),
    pytest.param(b"POST", SPDY, b"SPDY/3.1", id="spdy"),
]


async def _switch(
    stage: Stage, client: RawClient, method: bytes, fields: bytes, early: bytes = b""
) -> FakeOpenExchange:
    stage.upstream.script = None
    client.say(get(EXEC, fields, method=method) + early)
    asked = await stage.upstream.request()
    agreed = (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io")
    if fields is SPDY:
        agreed = (b"X-Stream-Protocol-Version", b"v4.channel.k8s.io")
    asked.handler.on_head(Head(101, [agreed]))
    return asked


@pytest.mark.covers("U-16")
@pytest.mark.parametrize(("method", "fields", "protocol"), KINDS)
async def test_a_switch_and_bytes_both_ways(stage: Stage, method: bytes, fields: bytes, protocol: bytes) -> None:
    async with stage.client() as client:
        asked = await _switch(stage, client, method, fields)
        wanted = asked.wanted
        assert (wanted.upgrade, wanted.end, wanted.body, wanted.body_length) == (True, False, b"", 0)
        assert wanted.timeout_ms == NO_TIMEOUT_MS
        assert wanted.target == EXEC.removeprefix(b"/agents/1")
        assert (b"Upgrade", protocol) in wanted.headers
        assert [value for name, value in wanted.headers if name == b"X-Stream-Protocol-Version"] == (
            [b"v4.channel.k8s.io", b"v3.channel.k8s.io"] if protocol == b"SPDY/3.1" else []
        )
        head = await client.head()
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
        assert {b"Connection: Upgrade", b"Upgrade: " + protocol} < set(lines)
        assert b"Content-Length" not in head
        client.say(b"stdin \x00\x01")
        await asked.until(lambda it: it.body == b"stdin \x00\x01")
        asked.handler.on_data(b"stdout \x02")
        assert await client.reader.readexactly(8) == b"stdout \x02"
        asked.handler.on_end(False)
        assert await client.is_closed()
        assert asked.is_ended
        assert asked.reset_said is None


@pytest.mark.covers("S-06")
@pytest.mark.parametrize(("method", "fields", "protocol"), KINDS)
async def test_what_the_client_says_before_the_switch_waits_for_it(
    stage: Stage, method: bytes, fields: bytes, protocol: bytes
) -> None:
    early = b"GET /api HTTP/1.1\r\nHost: kas\r\n\r\n"
    stage.upstream.script = None
    async with stage.client() as client:
        client.say(get(EXEC, fields, method=method) + early)
        asked = await stage.upstream.request()
        await asyncio.sleep(0.02)
        assert asked.body == b""
        asked.handler.on_head(Head(101, []))
        await asked.until(lambda it: it.body == early)
        assert len(stage.upstream.opened) == 1


@pytest.mark.covers("U-16")
@pytest.mark.parametrize(("method", "fields", "protocol"), KINDS)
async def test_the_head_of_a_switch_leaves_alone(
    plain: Stage, monkeypatch: pytest.MonkeyPatch, method: bytes, fields: bytes, protocol: bytes
) -> None:
    monkeypatch.setattr(relay, "SPDY_FIRST_S", 0.05)
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(get(EXEC, fields, method=method))
        asked = await plain.upstream.request()
        asked.handler.on_head(Head(101, [], b"with the head, "))
        asked.handler.on_data(b"right behind it")
        first = await client.reader.read(65536)
        if protocol == b"SPDY/3.1":
            assert first.endswith(b"\r\n\r\n")
        while not first.endswith(b"with the head, right behind it"):
            first += await client.reader.read(65536)
        assert asked.consumed_bytes == 30
        asked.handler.on_end(False)


async def test_spdy_bytes_are_held_only_until_the_client_speaks(plain: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "SPDY_FIRST_S", 30.0)
    async with plain.client() as client:
        asked = await _switch(plain, client, b"POST", SPDY)
        asked.handler.on_data(PING)
        await client.head()
        client.say(b"SYN_STREAM")
        assert await client.reader.readexactly(len(PING)) == PING


@pytest.mark.covers("S-07", "S-08", "T12")
@pytest.mark.parametrize(("method", "fields", "protocol"), KINDS)
@pytest.mark.parametrize("status", [200, 400, 403, 500])
async def test_any_other_answer_to_an_upgrade_is_passed_and_the_connection_closed(
    stage: Stage, method: bytes, fields: bytes, protocol: bytes, status: int
) -> None:
    stage.upstream.script = lambda asked: asked.answer(status, b"no")
    async with stage.client() as client:
        client.say(get(EXEC, fields, method=method))
        response = await client.response()
        assert (response.status, response.body, response[b"Connection"]) == (status, b"no", b"close")
        client.say(get())
        assert await client.is_closed()
    assert len(stage.upstream.opened) == 1


@pytest.mark.covers("S-08")
async def test_a_switch_that_nobody_asked_for_is_a_bad_gateway(stage: Stage) -> None:
    stage.upstream.script = lambda asked: asked.handler.on_head(Head(101, [(b"Upgrade", b"websocket")]))
    async with stage.client() as client:
        client.say(get())
        assert (await client.response()).status == 502


async def test_a_refused_upgrade_says_why_as_a_status(stage: Stage) -> None:
    stage.gate.grants.clear()
    async with stage.client() as client:
        client.say(get(EXEC, WEBSOCKET))
        response = await client.response()
        assert response.status == 401
        assert response.message.startswith("kas: the token is missing")
        assert await client.is_closed()


@pytest.mark.covers("T-14")
@pytest.mark.parametrize(("method", "fields", "protocol"), KINDS)
async def test_a_client_that_goes_ends_the_stream_at_the_agent_within_a_second(
    stage: Stage, method: bytes, fields: bytes, protocol: bytes
) -> None:
    async with stage.client() as client:
        asked = await _switch(stage, client, method, fields)
        await client.head()
        client.say(b"last words")
        await client.writer.drain()
        client.writer.close()
        # What it said before is not lost: first an end behind it, and a reset when the other side does not end too.
        await asked.until(lambda it: it.is_ended)
        assert asked.body == b"last words"
        assert stage.door.open_requests == 1
        asked.handler.on_data(b"nobody reads this")
        assert asked.consumed_bytes == 17
        await asked.until(lambda it: it.reset_said, 1.0)
        assert asked.reset_said is not None
        assert (asked.reset_said.code, asked.reset_said.hop) == (Code.CANCELLED, Hop.CALLER)
        assert stage.door.open_requests == 0


async def test_an_orphaned_stream_that_ends_by_itself_is_not_reset(stage: Stage) -> None:
    async with stage.client() as client:
        asked = await _switch(stage, client, b"GET", WEBSOCKET)
        await client.head()
        client.writer.close()
        await asked.until(lambda it: it.is_ended)
        asked.handler.on_end(False)
        assert stage.door.open_requests == 0
        assert asked.reset_said is None


@pytest.mark.covers("U-12")
async def test_a_broken_stream_never_ends_like_a_whole_one(stage: Stage) -> None:
    async with stage.client() as client:
        asked = await _switch(stage, client, b"GET", WEBSOCKET)
        await client.head()
        asked.handler.on_data(b"last line")
        asked.handler.on_reset(Reset(Code.UPSTREAM_BROKEN, "", Hop.API_SERVER))
        rest = await client.rest()
        assert rest in (b"last line", b"last lineRESET")
        await asyncio.sleep(0)
        assert stage.door.open_requests == 0


SENTENCE = "kas: agent 1: API server: the API server closed the connection"


@pytest.mark.covers("U-14")
@pytest.mark.parametrize("ending", ["reset", "end", "access", "kas"])
async def test_a_failure_is_written_into_the_error_stream_of_a_websocket(stage: Stage, ending: str) -> None:
    async with stage.client() as client:
        asked = await _switch(stage, client, b"GET", WEBSOCKET)
        await client.head()
        whole = b"\x82\x06\x01hello"
        asked.handler.on_data(whole + b"\x82\x06\x01hel")  # the second one never comes whole
        if ending == "reset":
            asked.handler.on_reset(Reset(Code.UPSTREAM_BROKEN, "", Hop.API_SERVER))
            expected = SENTENCE
        elif ending == "end":
            asked.handler.on_end(False)
            expected = "before the command's exit code came"
        elif ending == "access":
            stage.door._connections.copy().pop().relay.end_access(AccessDenied(told="the rule is gone"))
            expected = "this job may not do this: the rule is gone"
        else:
            stage.door._connections.copy().pop().relay.end_now()
            expected = "kas is going down"
        rest = await client.rest()
        assert rest.startswith(whole + b"\x82")
        said = rest[len(whole) :]
        assert b'\x03{"kind":"Status"' in said
        assert expected.encode() in said
        assert said.endswith(b"\x88\x02\x03\xe8")


@pytest.mark.covers("U-14")
async def test_a_failure_is_written_into_the_error_stream_of_spdy(stage: Stage) -> None:
    kubectl = spdy.Spdy(client=True)
    api_server = spdy.Spdy()
    streams = {kind: kubectl.open({"streamType": kind}) for kind in ("error", "stdin")}
    async with stage.client() as client:
        asked = await _switch(stage, client, b"POST", SPDY)
        await client.head()
        client.say(kubectl.taken())
        await asked.until(lambda it: it.body)
        for event in api_server.feed(bytes(asked.body)):
            api_server.answer(event.stream)
        asked.handler.on_data(api_server.taken())
        asked.handler.on_reset(Reset(Code.UPSTREAM_BROKEN, "", Hop.API_SERVER))
        *_, told = kubectl.feed(await client.rest())
        assert (told.stream, told.fin) == (streams["error"], True)
        assert SENTENCE in json.loads(told.data)["message"]


@pytest.mark.covers("U-14")
async def test_a_forwarded_connection_is_told_and_its_client_has_time_to_say_so(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ForwardTap, "settle_s", 0.2)
    kubectl, api_server = spdy.Spdy(client=True), spdy.Spdy()
    error, data = (kubectl.open({"streamtype": kind, "requestid": "0", "port": "80"}) for kind in ("error", "data"))
    forward = b"X-Stream-Protocol-Version: portforward.k8s.io\r\n"
    async with stage.client() as client:
        stage.upstream.script = None
        fields = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n" + forward
        client.say(get(EXEC.replace(b"exec?", b"portforward?"), fields, method=b"POST"))
        asked = await stage.upstream.request()
        asked.handler.on_head(Head(101, [(b"X-Stream-Protocol-Version", b"portforward.k8s.io")]))
        await client.head()
        client.say(kubectl.taken())
        await asked.until(lambda it: it.body)
        for event in api_server.feed(bytes(asked.body)):
            api_server.answer(event.stream)
        asked.handler.on_data(api_server.taken())
        asked.handler.on_reset(Reset(Code.UPSTREAM_BROKEN, "", Hop.API_SERVER))
        client.say(PING + get())  # dropped: the connection is over, and is no connection of requests again
        reset, told = kubectl.feed(await client.rest())[-2:]
        assert reset == spdy.StreamReset(data, 5)
        assert (told.stream, told.fin) == (error, True)
        assert SENTENCE in told.data.decode()
        assert len(stage.upstream.opened) == 1


async def test_a_command_that_ended_ends_as_the_api_server_says(stage: Stage) -> None:
    async with stage.client() as client:
        asked = await _switch(stage, client, b"GET", WEBSOCKET)
        await client.head()
        whole = b'\x82\x15\x03{"status":"Success"}'
        asked.handler.on_data(whole)
        asked.handler.on_end(False)
        assert await client.rest() == whole


@pytest.mark.covers("U-03", "S-15")
async def test_a_pipe_keeps_to_the_room_on_the_link_and_to_what_its_client_reads(stage: Stage) -> None:
    stage.upstream.window = 65536
    async with stage.client() as client:
        asked = await _switch(stage, client, b"GET", WEBSOCKET)
        await client.head()
        client.say(b"x" * (4 << 20))
        await asked.until(lambda it: it.room <= 0)
        await asyncio.sleep(0.05)
        assert len(asked.body) < 1 << 20
        # The other direction is not stopped by that.
        asked.handler.on_data(b"y" * 1000)
        assert await client.reader.readexactly(1000) == b"y" * 1000
        while len(asked.body) < 4 << 20:
            asked.give_room(1 << 20)
            await asyncio.sleep(0)
        client.writer.transport.pause_reading()
        said = 0
        for _ in range(200):
            asked.handler.on_data(b"z" * 65536)
            said += 65536
            await asyncio.sleep(0)
        assert asked.consumed_bytes < said
        client.writer.transport.resume_reading()
        for _ in range(200):
            await client.reader.readexactly(65536)
        await asked.until(lambda it: it.consumed_bytes == said + 1000)


@pytest.mark.covers("S-15")
@pytest.mark.parametrize("ending", ["end", "reset"])
async def test_who_reads_slowly_gets_the_last_bytes_of_a_stream_that_has_ended(stage: Stage, ending: str) -> None:
    stage.change(linger_s=0.2)
    target = EXEC.replace(b"exec", b"portforward")
    async with stage.client() as client:
        stage.upstream.script = None
        client.say(get(target, WEBSOCKET))
        asked = await stage.upstream.request()
        asked.handler.on_head(Head(101, [(b"Sec-WebSocket-Protocol", b"v4.channel.k8s.io")]))
        await client.head()
        client.writer.transport.pause_reading()
        content = bytes(range(256)) * 4096 * 8  # more than all buffers on the way hold
        asked.handler.on_data(content)
        if ending == "end":
            asked.handler.on_end(False)
        else:
            asked.handler.on_reset(Reset(Code.UPSTREAM_BROKEN, "", Hop.API_SERVER))
        for _ in range(5):
            await asyncio.sleep(0.5)
            client.say(b"a ping that nobody waits for any more")
        client.writer.transport.resume_reading()
        assert await client.rest(timeout_s=20) == content
    await stage.deserted()
