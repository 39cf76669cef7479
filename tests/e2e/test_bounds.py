"""What large, slow, many and broken requests cost kas and agentk: bounded memory, and nothing that is left behind.

Both are real programs with TLS on every leg; the API server and the clients are this process.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from weakref import WeakSet

import pytest
import uvloop
import yaml

from kastunnel.link.limits import INITIAL_WINDOW, LINK_BUDGET, MAX_WINDOW
from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT
from tests.fakes.certificates import Authority
from tests.support.product import Process, Product
from tests.support.raw_server import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture"),
]

MIB = 1 << 20
GIB = 1 << 30
SPARE = 64 * MIB  # beyond the windows
BLOCK = os.urandom(MIB)
SHORT, ABORTED, WATCHES = 100_000, 10_000, 1_000
EVENTS, EVENT_BYTES = 60, 16 * 1024
STALLED_S = 8
AHEAD = 192 * 1024  # that TLS, and a read that is larger than the window, keep of each watch while nobody at all reads
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


class Upstream:
    """An API server of a few paths. ``open`` counts connections, ``held`` the requests that are never answered."""

    def __init__(self) -> None:
        self.open = 0
        self.held = 0
        self.arrived: dict[bytes, asyncio.Event] = {}  # set when a request for the path is held
        self.received = b""  # the hash of what came up last
        self.watches: list[asyncio.StreamWriter] = []
        self.pause: Callable[[], Awaitable[None]] | None = None  # awaited in the middle of an upload

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head, reader, writer)
        finally:
            self.open -= 1

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = head.split(b" ", 2)[1]
        if b"/down" in path:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
            for _ in range(GIB // MIB):
                writer.write(BLOCK)
                await writer.drain()
        elif b"/up" in path:
            self.received = await hashed(reader, self.pause)
            writer.write(OK)
        elif b"watch=" in path:
            writer.write(STREAM)
            self.watches.append(writer)
            await reader.read(1)
            raise ConnectionResetError
        elif b"/never" in path:
            self.held += 1
            self.arrived.setdefault(path.rpartition(b"/")[2], asyncio.Event()).set()
            try:
                await reader.read(1)
            finally:
                self.held -= 1
            raise ConnectionResetError
        else:
            writer.write(OK)


async def hashed(reader: asyncio.StreamReader, pause: Callable[[], Awaitable[None]] | None = None) -> bytes:
    """The SHA-256 of the next GiB."""
    found, left = sha256(), GIB
    while left:
        data = await reader.read(min(left, MIB))
        if not data:
            raise ConnectionResetError
        left -= len(data)
        found.update(data)
        if pause is not None and left < GIB // 2:
            await pause()
            pause = None
    return found.digest()


def whole() -> bytes:
    found = sha256()
    for _ in range(GIB // MIB):
        found.update(BLOCK)
    return found.digest()


class Cost(NamedTuple):
    """Of one program."""

    resident: int
    files: int

    @classmethod
    def of(cls, process: Process) -> Cost:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return cls(int(found[1]) * 1024, len(os.listdir(f"/proc/{process.pid}/fd")))


class World:
    def __init__(self, product: Product, upstream: Upstream, token: bytes, tls: ssl.SSLContext) -> None:
        assert product.kas is not None
        self.product = product
        self.programs = (product.kas, *product.agentks)
        self.upstream = upstream
        self._token = token
        self._tls = tls
        self._writers: WeakSet[asyncio.StreamWriter] = WeakSet()
        self.port = int(product.kubernetes_url.rpartition(":")[2])

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self._tls, server_hostname="localhost", limit=2 * MIB
        )
        self._writers.add(writer)
        return reader, writer

    async def close(self) -> None:
        """Leave no connection open."""
        for writer in self._writers:
            writer.transport.abort()
        for _ in range(10):
            await asyncio.sleep(0)

    def request(self, path: bytes, method: bytes = b"GET", more: bytes = b"") -> bytes:
        return b"%b %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n%b\r\n" % (
            method,
            path,
            self._token,
            more,
        )

    def costs(self) -> list[Cost]:
        return [Cost.of(process) for process in self.programs]

    def open_requests(self) -> float:
        """What kas and agentk say that they have open, together."""
        found = 0.0
        for process in self.programs:
            with urllib.request.urlopen(f"{process.observability}/metrics") as answer:
                text = answer.read().decode()
            values = re.findall(r"^(?:kas|agentk)_requests_open ([0-9.e+]+)$", text, re.MULTILINE)
            assert len(values) == 1, text
            found += float(values[0])
        return found

    @asynccontextmanager
    async def bounded(self, growth: int) -> AsyncIterator[None]:
        """Neither program grows by more than so many bytes at any moment meanwhile."""
        before = [cost.resident for cost in self.costs()]
        most = list(before)

        async def look() -> None:
            while True:
                for index, cost in enumerate(self.costs()):
                    most[index] = max(most[index], cost.resident)
                await asyncio.sleep(0.05)

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()
        grown = [(after - base) // MIB for after, base in zip(most, before, strict=True)]
        print(f"grown by {grown} MiB of {growth // MIB}")
        assert max(grown) * MIB <= growth, grown

    async def until(self, condition: Callable[[], bool], limit_s: float = 30) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.05)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    authority = Authority(tmp_path)
    upstream = Upstream()
    options = {
        "logging": {"requests": "notable"},
        "kubernetes_api": {"limits": {"max_body_bytes": 2 * GIB}},
        "fair_use": {scope: {"max_streams": 2 * WATCHES} for scope in ("token", "project", "agent")},
    }
    async with serving(upstream.serve, authority.server_context()) as port:
        with Product(tmp_path / "product", options) as product:
            kubeconfig = tmp_path / "upstream.kubeconfig"
            cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority.ca)}
            kubeconfig.write_text(
                yaml.safe_dump(
                    {
                        "apiVersion": "v1",
                        "kind": "Config",
                        "clusters": [{"name": "c", "cluster": cluster}],
                        "users": [{"name": "u", "user": {"token": "upstream"}}],
                        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                        "current-context": "c",
                    }
                )
            )
            agent = await asyncio.to_thread(product.register, "bounds", CONFIG_PROJECT)
            config = json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}})
            await asyncio.to_thread(product.configure, agent, config)
            await asyncio.to_thread(product.start_agentk, agent, kubeconfig)
            token = (await asyncio.to_thread(product.job_token, JOBS_PROJECT)).read_bytes().strip()
            tls = ssl.create_default_context(cafile=product.ca_file)
            found = World(product, upstream, b"ci:%d:%b" % (agent.id, token), tls)
            await many(found, 50, 40)  # everything is loaded and warm
            try:
                yield found
            finally:
                await found.close()
                await asyncio.to_thread(product.close)


async def many(world: World, connections: int, each: int) -> None:
    """Short requests, one after the other on each connection."""
    asked = world.request(b"/api/v1/namespaces/default/pods/a")

    async def client() -> None:
        reader, writer = await world.client()
        for _ in range(each):
            writer.write(asked)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            await reader.readexactly(2)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(client())


@pytest.mark.covers("T-13")
async def test_a_gib_each_way_costs_windows_only_also_past_readers_that_stop(world: World) -> None:
    expected = await asyncio.to_thread(whole)

    async def stop() -> None:
        await asyncio.sleep(2)

    async with world.bounded(SPARE + 4 * MAX_WINDOW):
        reader, writer = await world.client()
        writer.write(world.request(b"/api/v1/down"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await hashed(reader, stop) == expected

        world.upstream.pause = stop
        writer.write(world.request(b"/api/v1/up", b"PUT", b"Content-Length: %d\r\n" % GIB))
        for _ in range(GIB // MIB):
            writer.write(BLOCK)
            await writer.drain()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert world.upstream.received == expected
        writer.close()


@pytest.mark.covers("T-12")
async def test_one_watch_of_a_thousand_that_does_not_read_costs_a_window_and_delays_nobody(world: World) -> None:
    event = b'{"type":"MODIFIED","object":"%b"}\n'
    chunks = [event % (b"%d" % n * (EVENT_BYTES // len(b"%d" % n))) for n in range(EVENTS)]

    every = b"".join(chunks)

    async def read(reader: asyncio.StreamReader) -> None:
        got = bytearray()  # kas may cut the chunks elsewhere
        while len(got) < len(every):
            got += await reader.readexactly(int(await reader.readline(), 16))
            await reader.readexactly(2)
        assert got == every

    async with world.bounded(SPARE + LINK_BUDGET + WATCHES * (INITIAL_WINDOW + AHEAD)):
        watching = []
        for _ in range(WATCHES):
            reader, writer = await world.client()
            writer.write(world.request(b"/api/v1/pods?watch=1"))
            watching.append((reader, writer))
        for reader, _ in watching:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        await world.until(lambda: len(world.upstream.watches) == WATCHES)
        # At first nobody reads, so that whatever may be kept anywhere is; then all but one do.
        for _, writer in watching:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        for chunk in chunks:
            for writer in world.upstream.watches:
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await asyncio.sleep(0)
        await asyncio.sleep(STALLED_S)
        for _, writer in watching[1:]:
            writer.transport.resume_reading()  # type: ignore[attr-defined]
        reading = [asyncio.create_task(read(reader)) for reader, _ in watching[1:]]
        async with asyncio.timeout(120):
            await asyncio.gather(*reading)
        for _, writer in watching:
            writer.transport.abort()
    await world.until(lambda: world.open_requests() == 0)


async def test_nothing_is_left_after_many_short_and_aborted_requests(world: World) -> None:
    before = world.costs()
    await many(world, 50, SHORT // 50)

    async def abort(client: int) -> None:
        """One of four in the middle of its head, one when the API server has it, the others as soon as they are sent."""
        for number in range(ABORTED // 50):
            name = b"%d-%d" % (client, number)
            asked = world.request(b"/api/v1/never/" + name)
            _, writer = await world.client()
            writer.write(asked[: len(asked) // 2] if number % 4 == 0 else asked)
            if number % 4 == 1:
                event = world.upstream.arrived.setdefault(name, asyncio.Event())
                async with asyncio.timeout(20):
                    await event.wait()
            writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for client in range(50):
            group.create_task(abort(client))
    await world.until(lambda: world.upstream.held == 0, limit_s=5)
    await world.until(lambda: world.open_requests() == 0)
    await many(world, 50, 40)
    await world.until(lambda: all(now.files <= old.files + 60 for now, old in zip(world.costs(), before, strict=True)))
    after = world.costs()
    print([(now.resident - old.resident) // MIB for now, old in zip(after, before, strict=True)], after)
    assert all(now.resident - old.resident <= SPARE for now, old in zip(after, before, strict=True))
    reader, writer = await world.client()
    writer.write(world.request(b"/api/v1/namespaces/default/pods/a"))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
