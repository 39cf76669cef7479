"""The client's side of a SPDY upgrade, for tests: what kubectl ≤ 1.29 does."""

from __future__ import annotations

import asyncio
import json
import ssl
from types import TracebackType
from typing import Any, Self

from kas.demo.practice_cluster import PracticeCluster, spdy

from .conftest import LIMIT_S


class SpdyClient:
    """One upgraded connection; ``async with`` opens and closes it."""

    def __init__(self, cluster: PracticeCluster, path: str, protocols: tuple[str, ...]) -> None:
        self._cluster = cluster
        self._path = path
        self._protocols = protocols
        self._spdy = spdy.Spdy(client=True)
        self.head = b""
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=str(self._cluster.ca_file))
        port = int(self._cluster.url.rpartition(":")[2])
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        lines = [
            f"POST {self._path} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {self._cluster.token}",
            "Connection: Upgrade",
            "Upgrade: SPDY/3.1",
            "Content-Length: 0",
            *(f"X-Stream-Protocol-Version: {protocol}" for protocol in self._protocols),
        ]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(LIMIT_S):
            self.head = await self._reader.readuntil(b"\r\n\r\n")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass

    @property
    def status(self) -> int:
        """Of the answer to the upgrade."""
        return int(self.head.split()[1])

    def open(self, **headers: str) -> int:
        """Open a stream."""
        stream = self._spdy.open(headers)
        self.received[stream] = b""
        self._writer.write(self._spdy.taken())
        return stream

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes on a stream."""
        self._spdy.data(stream, data, fin=fin)
        self._writer.write(self._spdy.taken())

    async def until(self, *streams: int) -> None:
        """Read until these streams are ended or reset, or everything is."""
        async with asyncio.timeout(LIMIT_S):
            while not set(streams) <= self.ended | self.reset:
                if not await self._read_once():
                    return

    async def until_received(self, stream: int, data: bytes) -> None:
        """Read until ``data`` has come on a stream."""
        async with asyncio.timeout(LIMIT_S):
            while data not in self.received[stream]:
                assert await self._read_once()

    async def _read_once(self) -> bool:
        data = await self._reader.read(65536)
        for event in self._spdy.feed(data):
            match event:
                case spdy.DataReceived(stream, piece, fin):
                    self.received[stream] += piece
                    if fin:
                        self.ended.add(stream)
                case spdy.StreamReset(stream, _):
                    self.reset.add(stream)
        self._writer.write(self._spdy.taken())
        return bool(data)

    def told(self, stream: int) -> dict[str, Any]:
        """The Status on an error stream."""
        status: dict[str, Any] = json.loads(self.received[stream])
        return status
