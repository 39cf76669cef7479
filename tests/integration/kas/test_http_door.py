"""A small HTTP door on a real socket: what aiohttp would let through or wait for, and this door does not."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry

from kas.http_door import DoorLimits, open_door, plain
from kas.metrics import Door, Metrics

LIMITS = DoorLimits(head_s=0.2, request_s=0.3, keep_alive_s=5, max_connections=4, max_body_bytes=1000)


class Client:
    """Speaks bytes to the door."""

    def __init__(self, port: int, metrics: Metrics) -> None:
        self.port = port
        self.metrics = metrics

    @asynccontextmanager
    async def connection(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass

    async def say(self, request: bytes) -> bytes:
        """Everything that the door answers until it closes; it is asked to."""
        async with self.connection() as (reader, writer):
            writer.write(request)
            async with asyncio.timeout(5):
                try:
                    return await reader.read()
                except ConnectionResetError:
                    return b""


@pytest.fixture
async def client():
    async def hello(request):
        return plain("hello\n")

    async def slow(request):
        await asyncio.sleep(60)

    async def broken(request):
        raise RuntimeError("a secret")

    async def take(request):
        return plain(f"{len(await request.read())}\n")

    metrics = Metrics(CollectorRegistry())
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    routes = {"/hello": hello, "/slow": slow, "/broken": broken}
    async with open_door(Door.MANAGEMENT, routes, listener, metrics.doors, posts={"/take": take}, limits=LIMITS):
        yield Client(port, metrics)


async def ended(reader: asyncio.StreamReader) -> None:
    """The door closes the connection soon, without an answer."""
    async with asyncio.timeout(2):
        with suppress(ConnectionError):
            assert await reader.read() == b""


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1", body: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: x", "Connection: close", *headers, "", body]
    return "\r\n".join(lines).encode()


async def test_a_path_is_answered(client):
    answer = await client.say(get("/hello?query=ignored"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"hello\n"
    assert b"Cache-Control: no-store" in head
    assert b"\r\nServer: kas\r\n" in head


async def test_head_has_no_body(client):
    answer = await client.say(get("/hello", method="HEAD"))
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 6" in answer


@pytest.mark.parametrize("path", ["/", "/Hello", "/hello/", "//hello", "/./hello", "/%68ello", "/x/../hello"])
async def test_only_the_raw_path_counts(client, path):
    answer = await client.say(get(path))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "there is nothing here"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
async def test_other_methods_are_refused(client, method):
    answer = await client.say(get("/hello", method=method))
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET, HEAD" in answer


@pytest.mark.parametrize(
    "request_",
    [
        get("/hello", "Content-Length: 3", body="abc"),
        get("/hello", "Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\n\r\n"),
        get("/hello", "Content-Length: 3", "Transfer-Encoding: chunked", body="0\r\n\r\n"),
        get("/hello", "Content-Length: 3", "Content-Length: 4", body="abc"),
        get("/hello", "X: " + "a" * 20_000),
        get("/hello", *(f"X{n}: a" for n in range(100))),
        get("/" + "a" * 20_000),
        get("/hello", "X : a"),
        get("/hello", " folded"),
        b"rubbish\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\nHost: a\n\n",
    ],
)
async def test_what_is_not_a_plain_request_is_refused_and_the_connection_closed(client, request_):
    answer = await client.say(request_)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert answer.count(b"HTTP/1.") == 1
    assert b"aiohttp" not in answer
    assert b"Python" not in answer


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2"])
async def test_other_versions_of_http_are_refused(client, version):
    answer = await client.say(get("/hello", version=version))
    assert answer[8:13] in (b" 505 ", b" 400 ")


async def test_a_fault_of_ours_is_a_line_without_details(client, caplog):
    answer = await client.say(get("/broken"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer
    assert [record.message for record in caplog.records] == ["request failed"]


@pytest.mark.covers("S-13")
@pytest.mark.parametrize("first", [b"", b"GET /hello HTTP/1.1\r\nHost: x\r\n"])
async def test_a_slow_head_is_cut_off(client, first):
    async with client.connection() as (reader, writer):
        writer.write(first)
        await ended(reader)
    assert client.metrics.doors.refused[Door.MANAGEMENT].value == 1


@pytest.mark.covers("S-13")
async def test_a_head_that_trickles_is_cut_off_all_the_same(client):
    async with client.connection() as (reader, writer):
        with suppress(ConnectionError):
            for byte in get("/hello"):
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)
                if reader.at_eof() or writer.is_closing():
                    break
        await ended(reader)


async def test_a_slow_head_of_a_later_request_is_cut_off(client):
    async with client.connection() as (reader, writer):
        writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"hello\n")
        await asyncio.sleep(0.4)  # idle: nothing happens
        writer.write(b"GET /hello HTTP/1.1\r\n")
        await ended(reader)


async def test_an_idle_connection_answers_again(client):
    async with client.connection() as (reader, writer):
        for _ in range(3):
            writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"hello\n")
            await asyncio.sleep(0.25)


async def test_a_request_that_takes_too_long_is_cut_off(client):
    assert await client.say(get("/slow")) == b""


@pytest.mark.covers("S-13")
async def test_connections_beyond_the_limit_are_closed_and_others_go_on(client):
    async with client.connection() as (reader, writer):
        others = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(3)]
        assert await client.say(get("/hello")) == b""
        writer.write(get("/hello"))
        assert (await reader.read()).endswith(b"hello\n")
        for _, other in others:
            other.close()
    assert client.metrics.doors.refused[Door.MANAGEMENT].value >= 1


async def test_nothing_is_left_when_the_door_closes():
    async def hello(request):
        return plain("hello\n")

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with open_door(Door.MANAGEMENT, {"/": hello}, listener, Metrics().doors):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"hello\n")
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert len(asyncio.all_tasks()) == 1


async def test_a_post_gets_the_whole_body_by_length_or_in_chunks(client):
    by_length = get("/take", "Content-Length: 5", method="POST", body="hello")
    assert (await client.say(by_length)).endswith(b"\r\n\r\n5\n")
    chunked = get("/take", "Transfer-Encoding: chunked", method="POST", body="3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    assert (await client.say(chunked)).endswith(b"\r\n\r\n7\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/take", "Content-Length: 1001", method="POST", body="x" * 1001), b"413"),
        (get("/take", "Content-Length: 99999999999", method="POST"), b"413"),
        (get("/take", "Transfer-Encoding: chunked", method="POST", body=f"3e9\r\n{'x' * 1001}\r\n0\r\n\r\n"), b"413"),
        (get("/take", "Content-Length: 5", "Content-Encoding: gzip", method="POST", body="hello"), b"415"),
        (get("/take"), b"405"),
        (get("/take", "Content-Length: 5", method="PUT", body="hello"), b"400"),
        (get("/hello", "Content-Length: 5", method="POST", body="hello"), b"400"),
    ],
)
async def test_a_body_that_is_too_large_or_not_wanted_is_refused(client, request_bytes, status):
    assert (await client.say(request_bytes)).startswith(b"HTTP/1.1 " + status)


async def test_a_body_that_does_not_come_is_not_waited_for(client):
    assert await client.say(get("/take", "Content-Length: 5", method="POST", body="he")) == b""
