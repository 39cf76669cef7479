"""A little HTTP proxy that knows CONNECT, with knobs for how it misbehaves. It resolves names by its own table."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from tests.support.raw_server import serving


class ConnectProxy:
    """``async with``. ``routes``: host → (host, port) where it really goes; other hosts are answered 502.

    ``status`` other than 200 is its answer to everybody; ``authorization``, the value of its field, is demanded, else 407;
    ``delay_s`` before it answers; ``cut_after`` bytes of a tunnel both of its ends are cut. The knobs may be turned at any time.
    """

    def __init__(self, routes: dict[str, tuple[str, int]] | None = None) -> None:
        self.routes = routes or {}
        self.status = 200
        self.says = b""  # instead of an answer
        self.authorization = ""
        self.delay_s = 0.0
        self.cut_after: int | None = None
        self.asked: list[str] = []  # the targets of CONNECT
        self.shown: list[str] = []  # the values of Proxy-Authorization
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._running = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self.port = await self._running.enter_async_context(serving(self._connected))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    def cut(self) -> None:
        """Cut everything that is open."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        finally:
            self._writers.discard(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = line.split(" ")
        self.asked.append(target)
        shown = next(
            (field.partition(":")[2].strip() for field in fields if field.lower().startswith("proxy-auth")), ""
        )
        self.shown.append(shown)
        await asyncio.sleep(self.delay_s)
        to = self.routes.get(target.rpartition(":")[0])
        status = self.status
        if method != "CONNECT":
            status = 405
        elif self.authorization and shown != self.authorization:
            status = 407
        elif status == 200 and to is None:
            status = 502
        if status != 200 or to is None or self.says:
            writer.write(self.says or f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        there, on = await asyncio.open_connection(*to)
        self._writers.add(on)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, on, writer))
                group.create_task(self._pump(there, writer, on))
        except* OSError:
            pass
        finally:
            self._writers.discard(on)
            on.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, other: asyncio.StreamWriter) -> None:
        count = 0
        while data := await source.read(65536):
            count += len(data)
            if self.cut_after is not None and count > self.cut_after:
                to.transport.abort()
                other.transport.abort()
                return
            to.write(data)
            await to.drain()
        to.close()
