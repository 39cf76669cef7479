"""Bytes both ways after an upgrade: a connection taken over from aiohttp, or the messages of a WebSocket."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp import WSMsgType
from aiohttp.web import BaseRequest, WebSocketResponse

PAUSE_ABOVE_BYTES = 256 * 1024  # unread; the peer is not read from until they are taken
CLOSE_WITHIN_S = 5.0  # for the peer to take what is still to be sent


class ByteStream(Protocol):
    """Bytes both ways. One task reads; any may write, each call whole and in order."""

    async def read(self) -> bytes:
        """What has arrived, at least one byte; empty at the end, however it came."""
        ...

    async def write(self, data: bytes) -> None:
        """Send ``data``; waits while the peer does not read. Raises ConnectionError when it is gone."""
        ...

    async def close(self) -> None:
        """Send what is left, then end; idempotent."""
        ...


class TakenOver(asyncio.Protocol):
    """A connection that aiohttp has parsed the request of and that is now ours.

    When it is lost, aiohttp hears of it too and cancels the request's handler.
    """

    def __init__(self, transport: asyncio.Transport, before: asyncio.BaseProtocol) -> None:
        self._transport = transport
        self._before = before
        self._received = bytearray()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = asyncio.Event()

    @classmethod
    def of(cls, request: BaseRequest, headers: list[tuple[str, str]]) -> TakenOver:
        """Answer 101 with ``headers`` and take the connection over. Raises ConnectionError if it is gone."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        stream = cls(transport, request.protocol)
        lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers), "", ""]
        transport.write("\r\n".join(lines).encode("latin-1"))
        transport.set_protocol(stream)
        transport.resume_reading()
        return stream

    async def read(self) -> bytes:
        """See ByteStream."""
        while not self._received and not self._lost.is_set():
            self._news.clear()
            await self._news.wait()
        data = bytes(self._received)
        self._received.clear()
        if len(data) > PAUSE_ABOVE_BYTES and not self._lost.is_set():
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """See ByteStream."""
        if self._lost.is_set() or self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        await self._writable.wait()

    async def close(self) -> None:
        """See ByteStream."""
        self._transport.close()
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._lost.wait()
        except TimeoutError:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """From the transport."""
        self._received += data
        if len(self._received) > PAUSE_ABOVE_BYTES:
            self._transport.pause_reading()
        self._news.set()

    def pause_writing(self) -> None:
        """From the transport."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """From the transport."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """From the transport."""
        self._lost.set()
        self._news.set()
        self._writable.set()
        self._before.connection_lost(exc)


class WebSocketMessages:
    """The bytes of a WebSocket's binary messages, their boundaries forgotten."""

    def __init__(self, socket: WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        """See ByteStream."""
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return b""
            if message.data:
                return bytes(message.data)

    async def write(self, data: bytes) -> None:
        """See ByteStream."""
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        """See ByteStream."""
        await self._socket.close()
