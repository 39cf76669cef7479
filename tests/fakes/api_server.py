"""A stand-in for an API server on a real socket: keeps every request head, and answers with whatever bytes the test likes."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from tests.support.raw_server import serving

Answer = Callable[["Call"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Call:
    """One request as the server sees it; ``say`` and ``hear`` are the raw connection."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.head = head
        self.number = number  # of the connection, from 1
        self._reader = reader
        self._writer = writer
        line, *rest = head[:-4].split(b"\r\n")
        self.method, self.target, self.version = line.split(b" ")
        self.headers = [tuple(field.split(b": ", 1)) for field in rest]

    def header(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    async def body(self) -> bytes:
        """The whole body, de-chunked without any strictness."""
        if self.header(b"Content-Length"):
            return await self._reader.readexactly(int(self.header(b"Content-Length")[0]))
        got = b""
        if self.header(b"Transfer-Encoding"):
            while size := int(await self._reader.readline(), 16):
                got += await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
        return got

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def hear(self, count: int = 65536) -> bytes:
        """Some raw bytes; b"" at the client's end, also when it was not orderly."""
        try:
            return await self._reader.read(count)
        except (ConnectionError, ssl.SSLError):
            return b""

    async def hear_exactly(self, count: int) -> bytes:
        return await self._reader.readexactly(count)

    def half_close(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    def close_socket(self) -> None:
        """FIN, whatever TLS is waiting for."""
        # uvloop's own idea of a socket cannot be shut down.
        with socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno())) as same:
            same.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """RST, where there are bytes unread or unsent; else as abrupt as it gets."""
        self._writer.transport.abort()


async def well(call: Call) -> None:
    """Read the body and say 200."""
    await call.body()
    await call.say(OK)


class FakeApiServer:
    """``async with``; ``answer`` is called for each request of each connection and may be replaced at any time."""

    def __init__(self, answer: Answer = well, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.connections = 0
        self.open_connections = 0
        self.cancelled = asyncio.Event()  # a client went away, in whatever way
        self._tls = tls
        self._happened = asyncio.Event()
        self._running = AsyncExitStack()
        self.port = 0

    @property
    def heads(self) -> list[bytes]:
        return [call.head for call in self.calls]

    async def arrived(self, count: int = 1) -> None:
        """Wait until so many requests have been seen."""
        async with asyncio.timeout(5):
            while len(self.calls) < count:
                self._happened.clear()
                await self._happened.wait()

    async def gone(self, count: int = 1) -> None:
        """Wait until so many connections have been opened and all of them have ended."""
        async with asyncio.timeout(5):
            while self.connections < count or self.open_connections:
                self._happened.clear()
                await self._happened.wait()

    async def __aenter__(self) -> Self:
        self.port = await self._running.enter_async_context(serving(self._serve, self._tls))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        number = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                call = Call(head, reader, writer, number)
                self.calls.append(call)
                self._happened.set()
                await self.answer(call)
        finally:
            self.open_connections -= 1
            self._happened.set()
            self.cancelled.set()
