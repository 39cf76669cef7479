"""Clients that wrk and curl cannot play: idle watches, a slow reader, one that checks what it gets, and the road that is cut."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from urllib.parse import urlsplit

from bench.load import Target
from bench.nginx import BULK_BYTES

AT_ONCE = 32  # TLS handshakes
PATIENCE_S = 30
ASK_S = 0.05
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


def trusting() -> ssl.SSLContext:
    """TLS without a look at the certificate: it is localhost that is measured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def request(target: Target, path: str) -> tuple[str, int, bytes]:
    """Host, port and head of a GET."""
    url = urlsplit(target.url)
    assert url.hostname is not None
    assert url.port is not None
    head = f"GET {url.path}{path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: {target.authorization}\r\n\r\n"
    return url.hostname, url.port, head.encode()


async def ask(target: Target, path: str, tls: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a GET and read the head of its answer, which must be a 200."""
    host, port, head = request(target, path)
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=1 << 18)
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200 "):
        writer.close()
        raise RuntimeError(f"{target.name}{path}: {answer.decode(errors='replace')}")
    return reader, writer


def until_allowed(target: Target, path: str) -> float:
    """Seconds until a GET is answered with 200, asked 20 times a second over one connection: asking must not be a load of its own."""
    url = urlsplit(target.url)
    connection = http.client.HTTPSConnection(url.netloc, context=trusting(), timeout=PATIENCE_S)
    begun = time.perf_counter()
    try:
        while time.perf_counter() - begun < PATIENCE_S:
            connection.request("GET", url.path + path, headers={"Authorization": target.authorization})
            with connection.getresponse() as answer:
                answer.read()
                if answer.status == 200:
                    return time.perf_counter() - begun
            time.sleep(ASK_S)
    finally:
        connection.close()
    raise RuntimeError(f"{target.name}{path}: never allowed")


@asynccontextmanager
async def watches(target: Target, path: str, count: int) -> AsyncIterator[None]:
    """``count`` watches that have had their first event and wait for the next."""
    tls = trusting()
    gate = asyncio.Semaphore(AT_ONCE)
    open_ones: list[asyncio.StreamWriter] = []

    async def begin() -> None:
        async with gate:
            reader, writer = await ask(target, path, tls)
            open_ones.append(writer)
            await reader.readuntil(b"}}\n")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(begin())
        yield
    finally:
        for writer in open_ones:
            writer.transport.abort()


@contextmanager
def slow_reader(target: Target, path: str, bytes_per_s: int) -> Iterator[None]:
    """A reader of a big answer who takes ``bytes_per_s``, in a thread of its own."""
    over = threading.Event()
    failed: list[Exception] = []
    host, port, head = request(target, path)

    def read() -> None:
        try:
            with socket.create_connection((host, port)) as plain, trusting().wrap_socket(plain) as secure:
                secure.sendall(head)
                while not over.wait(0.1):
                    if not secure.recv(bytes_per_s // 10):
                        raise RuntimeError("the answer to the slow reader ended")
        except Exception as error:  # noqa: BLE001 - raised again where the block ends
            failed.append(error)

    thread = threading.Thread(target=read, name="slow-reader")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]


class Road:
    """The TCP road between agentk and kas, which can be cut. Bytes pass both ways, with backpressure."""

    def __init__(self) -> None:
        self._ends: set[asyncio.StreamWriter] = set()
        self.cut_at = 0.0

    @asynccontextmanager
    async def open(self, listen_port: int, to_port: int) -> AsyncIterator[None]:
        """For the time of the block."""
        self._to = to_port
        server = await asyncio.start_server(self._carry, "127.0.0.1", listen_port, limit=1 << 18)
        try:
            yield
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        """Reset every connection that is open now, at both ends; new ones pass."""
        self.cut_at = time.perf_counter()
        for end in self._ends:
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()
        self._ends.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._to, limit=1 << 18)
        ends = {writer, onward_writer}
        self._ends |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, onward_writer))
                group.create_task(_pump(onward_reader, writer))
        finally:
            self._ends -= ends
            for end in ends:
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 18):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.transport.abort()


class Arrivals:
    """When bytes of one answer came."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def longest_pause_ms(self, since: float, until: float) -> float:
        """Between two arrivals of which one lies in the span."""
        near = [moment for moment in self.at if since - 0.5 <= moment <= until]
        pauses = [later - earlier for earlier, later in pairwise(near) if later >= since]
        if not pauses:
            raise RuntimeError("nothing came after the cut")
        return max(pauses) * 1000


async def checked_download(target: Target, path: str, arrivals: Arrivals) -> str:
    """The SHA-256 of a big answer; RuntimeError if it is not complete."""
    reader, writer = await ask(target, path, trusting())
    digest, missing = hashlib.sha256(), BULK_BYTES
    try:
        while missing and (data := await reader.read(1 << 18)):
            arrivals.at.append(time.perf_counter())
            digest.update(data)
            missing -= len(data)
    finally:
        writer.transport.abort()
    if missing:
        raise RuntimeError(f"{missing} bytes of the download were lost")
    return digest.hexdigest()


async def checked_watch(target: Target, path: str, arrivals: Arrivals) -> None:
    """Reads numbered events until cancelled; RuntimeError if one is lost, repeated, or the watch ends."""
    reader, writer = await ask(target, path, trusting())
    number = 0
    try:
        async for line in reader:
            if line.startswith(b"{"):
                arrivals.at.append(time.perf_counter())
                number += 1
                came = json.loads(line)["object"]["number"]
                if came != number:
                    raise RuntimeError(f"event {came} came in the place of {number}")
    finally:
        writer.transport.abort()
    raise RuntimeError(f"the watch ended after event {number}")
