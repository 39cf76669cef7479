"""Reaching the API server: what goes wrong before a byte is sent, TLS, and how a pipe ends where TLS cannot half-close."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentk.dispatcher import Dispatcher
from agentk.kube_api.access import access
from agentk.kube_api.question import Question
from kastunnel.link.frames import Code, Hop, Reset
from tests.fakes.api_server import OK, Call, FakeApiServer
from tests.fakes.certificates import Authority
from tests.fakes.exchange import FakeExchange
from tests.integration.agentk.conftest import FixedCredentials, World, plain
from tests.integration.agentk.test_upgrades import SWITCH, echo, spdy
from tests.support.raw_server import serving


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[World]:
    authority = Authority(tmp_path)
    async with FakeApiServer(tls=authority.server_context()) as server:
        given = access(f"https://127.0.0.1:{server.port}", "Bearer t", authority.client_context(), "kubernetes")
        credentials = FixedCredentials(given)
        async with Dispatcher(credentials) as dispatcher:
            yield World(server, dispatcher, credentials)
            carried = dispatcher.statistics.requests_open
        assert carried == 0


async def failed(exchange: FakeExchange) -> Reset:
    await exchange.until(lambda x: x.is_over)
    assert exchange.reset_said is not None
    assert exchange.status == 0
    return exchange.reset_said


@pytest.mark.covers("P-01")
async def test_a_refused_connection_names_the_hop_and_has_not_run(world: World) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        world.credentials.access = plain(nobody.getsockname()[1])
        said = await failed(world.open(method=b"POST", target=b"/api", body=b"x", body_length=9))
    assert said == Reset(Code.UPSTREAM_DIAL, "the API server refused the connection", Hop.API_SERVER, not_run=True)
    assert not world.dispatcher.statistics.reachable


@pytest.mark.covers("P-01")
async def test_a_name_that_does_not_resolve_names_the_hop_and_has_not_run(world: World) -> None:
    world.credentials.access = access("http://no..name:6443", "", None, None)  # needs no name server to fail
    said = await failed(world.get())
    assert said == Reset(Code.UPSTREAM_DIAL, "the API server's name cannot be resolved", Hop.API_SERVER, not_run=True)


@pytest.mark.covers("P-01", "T32")
async def test_an_untrusted_certificate_is_a_tls_failure_that_has_not_run(secure: World, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another CA").client_context()
    secure.credentials.access = access(f"https://127.0.0.1:{secure.server.port}", "", other, "kubernetes")
    said = await failed(secure.get())
    assert (said.code, said.hop, said.not_run) == (Code.UPSTREAM_TLS, Hop.API_SERVER, True)
    assert "not trusted" in said.reason


@pytest.mark.covers("P-01")
async def test_a_server_without_tls_is_a_tls_failure(world: World, tmp_path: Path) -> None:
    async def plain_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    context = Authority(tmp_path).client_context()
    async with serving(plain_http) as port:
        world.credentials.access = access(f"https://127.0.0.1:{port}", "", context, None)
        said = await failed(world.get())
    assert (said.code, said.hop, said.not_run) == (Code.UPSTREAM_TLS, Hop.API_SERVER, True)


@pytest.mark.covers("P-01")
@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_listener_that_closes_at_once_is_a_failure_that_has_not_run(
    world: World, tmp_path: Path, abruptly: bool
) -> None:
    async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if abruptly:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    context = Authority(tmp_path).client_context()
    async with serving(closes) as port:
        world.credentials.access = access(f"https://127.0.0.1:{port}", "", context, None)
        for _ in range(20):
            said = await failed(world.get())
            assert (said.code in (Code.UPSTREAM_TLS, Code.UPSTREAM_DIAL), said.not_run) == (True, True)


@pytest.mark.covers("P-02")
async def test_a_silent_listener_is_given_up(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentk.kube_api.pool.DIAL_TIMEOUT_S", 0.05)
    context = Authority(tmp_path).client_context()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.credentials.access = access(f"https://127.0.0.1:{silent.getsockname()[1]}", "", context, None)
        said = await failed(world.get())
    assert (said.code, said.not_run) == (Code.UPSTREAM_DIAL, True)


async def test_requests_over_tls_share_kept_connections(secure: World) -> None:
    for _ in range(3):
        exchange = secure.get()
        await exchange.until(lambda x: x.is_over)
        assert exchange.body == b"{}"
    assert secure.server.connections == 1
    assert secure.dispatcher.statistics.reachable


async def test_a_changed_certificate_leaves_no_connection_of_the_old_one_in_use(secure: World, tmp_path: Path) -> None:
    await secure.get().until(lambda x: x.is_over)
    old = secure.credentials.access
    secure.credentials.access = old._replace(endpoint=old.endpoint._replace(server_name="kubernetes"))
    await secure.get().until(lambda x: x.is_over)
    assert secure.server.connections == 2
    assert secure.dispatcher.statistics.connections_idle == 1


async def test_idle_connections_are_closed_after_a_while(world: World) -> None:
    await world.get().until(lambda x: x.is_over)
    pool = world.dispatcher.pool
    now = asyncio.get_running_loop().time()
    pool.expire(now + 30)
    assert "idle=1" in repr(pool)
    pool.expire(now + 61)
    assert "idle=0" in repr(pool)
    await world.server.cancelled.wait()


async def test_a_pipe_over_tls_carries_bytes_and_a_clean_end_of_the_api_server(secure: World) -> None:
    async def one(call: Call) -> None:
        await call.say(SWITCH % b"SPDY/3.1")
        await call.say(await call.hear())
        call.close()

    secure.server.answer = one
    exchange = spdy(secure)
    await exchange.until(lambda x: x.status)
    exchange.handler.on_data(b"abc")
    await exchange.until(lambda x: x.is_over)
    assert (exchange.body, exchange.frames[-1]) == (b"abc", "stop")
    assert exchange.is_ended
    assert exchange.reset_said is None


@pytest.mark.covers("U-04")
async def test_a_pipe_over_tls_loses_nothing_when_it_ends_while_the_caller_does_not_read(secure: World) -> None:
    async def much(call: Call) -> None:
        await call.say(SWITCH % b"SPDY/3.1" + b"x" * 2_000)
        await asyncio.sleep(0.1)  # reading is paused by now, and the rest waits inside TLS
        await call.say(b"x" * 100_000)
        call.close()
        await asyncio.sleep(0.05)
        call.close_socket()  # as Go does: without waiting for the other end's close_notify

    secure.server.answer = much
    exchange = spdy(secure, window=1000)
    await exchange.until(lambda x: x.body)
    await asyncio.sleep(0.3)  # for the end to arrive; there is nothing to see of it while reading is paused
    exchange.give_room(1 << 20)
    await exchange.until(lambda x: x.is_over)
    assert len(exchange.body) == 102_000
    assert exchange.is_ended


@pytest.mark.covers("P-03")
async def test_an_answer_over_tls_loses_nothing_when_the_connection_ends_while_the_caller_does_not_read(
    secure: World,
) -> None:
    async def much(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 22000\r\nConnection: close\r\n\r\n" + b"x" * 2_000)
        await asyncio.sleep(0.1)
        await call.say(b"x" * 20_000)
        call.close()
        await asyncio.sleep(0.05)
        call.close_socket()

    secure.server.answer = much
    exchange = secure.get(window=1000)
    await exchange.until(lambda x: x.body)
    await asyncio.sleep(0.3)
    exchange.give_room(1 << 20)
    await exchange.until(lambda x: x.is_over)
    assert exchange.reset_said is None
    assert len(exchange.body) == 22_000


@pytest.mark.covers("P-03")
async def test_a_pipe_over_tls_that_ends_without_a_close_notify_is_cut(secure: World) -> None:
    async def cut(call: Call) -> None:
        await call.say(SWITCH % b"SPDY/3.1" + b"abc")
        await call.hear(1)
        call.cut()

    secure.server.answer = cut
    exchange = spdy(secure)
    await exchange.until(lambda x: x.body == b"abc")
    exchange.handler.on_data(b"x")
    await exchange.until(lambda x: x.is_over)
    assert exchange.reset_said is not None
    assert (exchange.reset_said.code, exchange.reset_said.after) == (Code.UPSTREAM_BROKEN, 3)


async def test_an_api_server_that_does_not_follow_the_callers_end_is_left_after_a_while(
    secure: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentk.kube_api.upgrade.LINGER_S", 0.05)
    secure.server.answer = echo
    exchange = spdy(secure)
    await exchange.until(lambda x: x.status)
    exchange.handler.on_data(b"abc")
    exchange.handler.on_end(False)
    await exchange.until(lambda x: x.is_over)
    assert exchange.body == b"abc"
    assert exchange.reset_said is not None
    assert exchange.reset_said.code is Code.CANCELLED
    await secure.server.cancelled.wait()


async def test_a_question_of_agentks_own_goes_the_way_of_all_requests(world: World) -> None:
    async def answer(call: Call) -> None:
        await call.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        await asyncio.sleep(0.01)
        await call.say(b"0\r\n\r\n")

    world.server.answer = answer
    assert await Question().ask(world.dispatcher, b"/version", 5) == (200, b"{}", "")
    assert world.server.calls[0].target == b"/version"


async def test_a_question_that_is_late_is_cancelled_at_the_api_server(world: World) -> None:
    async def never(call: Call) -> None:
        assert await call.hear() == b""

    world.server.answer = never
    answer = await Question().ask(world.dispatcher, b"/version", 0.05)
    assert answer.status == 0
    assert answer.reason == "no answer within 0.05 s"
    await world.server.cancelled.wait()


async def test_a_burst_dials_as_many_as_it_needs_and_keeps_them(world: World) -> None:
    go = asyncio.Event()

    async def slow(call: Call) -> None:
        await go.wait()
        await call.say(OK)

    world.server.answer = slow
    exchanges = [world.get() for _ in range(20)]
    await world.server.arrived(20)
    go.set()
    for exchange in exchanges:
        await exchange.until(lambda x: x.is_over)
    assert world.dispatcher.statistics.connections_idle == 20
    assert world.dispatcher.statistics.dials == 20


@pytest.mark.covers("T-14")
async def test_a_cancelled_request_does_not_wait_for_its_dial(world: World, tmp_path: Path) -> None:
    context = Authority(tmp_path).client_context()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.credentials.access = access(f"https://127.0.0.1:{silent.getsockname()[1]}", "", context, None)
        exchange = world.get()
        await asyncio.sleep(0.02)
        exchange.handler.on_reset(Reset(Code.CANCELLED))
        await asyncio.sleep(0.02)
        assert len(world.dispatcher.dials) == 0
    assert exchange.frames == []
