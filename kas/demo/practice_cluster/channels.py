"""The channels of exec and attach (stdin, stdout, stderr, error, resize) over either transport.

Over SPDY each channel is a stream; over a WebSocket it is the first byte of each message. The last thing that the
server says is a ``Status`` on the error channel: v4 of both protocols puts the exit code there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import WSMsgType
from aiohttp.web import BaseRequest, WebSocketResponse

from kas.demo.practice_cluster import spdy
from kas.demo.practice_cluster.byte_streams import TakenOver
from kas.demo.practice_cluster.spdy_streams import SpdyStreams
from kas.demo.practice_cluster.status import bad_request

STDIN, STDOUT, STDERR, ERROR, RESIZE = 0, 1, 2, 3, 4
NAMES = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
CLOSE = 255  # v5 of the WebSocket protocol: [255, channel] ends a channel
SPDY_PROTOCOLS = ("v4.channel.k8s.io",)
WEBSOCKET_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
OPEN_WITHIN_S = 30.0  # for the client to open the streams that it announced
# For the client to take all output, which it may do slowly, and to end the connection after the last word.
GOODBYE_WITHIN_S = 30.0


@dataclass(frozen=True)
class Input:
    """Bytes for stdin."""

    data: bytes


@dataclass(frozen=True)
class InputEnded:
    """No more stdin."""


@dataclass(frozen=True)
class Resized:
    """The client's terminal has another size."""

    columns: int
    rows: int


Said = Input | InputEnded | Resized


@dataclass(frozen=True)
class Wanted:
    """Which channels the client asks for."""

    stdin: bool
    stdout: bool
    stderr: bool
    terminal: bool

    def numbers(self) -> set[int]:
        """The channels that there will be."""
        wanted = {STDIN: self.stdin, STDOUT: self.stdout, STDERR: self.stderr and not self.terminal}
        return {ERROR} | {number for number, value in wanted.items() if value}


class Channels(Protocol):
    """What exec and attach see of a client."""

    def said(self) -> AsyncIterator[Said]:
        """What the client says, until it is gone."""
        ...

    async def send(self, channel: int, data: bytes) -> None:
        """Send output; waits while the client does not read. Raises ConnectionError when it is gone."""
        ...

    async def finish(self, status: dict[str, Any]) -> None:
        """Say how it ended, after all output, and close. The connection is ours until then."""
        ...


async def accept(request: BaseRequest, wanted: Wanted) -> Channels:
    """Upgrade ``request`` to channels. Raises ApiError 400 if it is no upgrade that is spoken here."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _accept_websocket(request, wanted)
    protocol = negotiated(request, SPDY_PROTOCOLS)
    stream = TakenOver.of(request, upgrade_headers(protocol))
    channels = SpdyChannels(SpdyStreams(stream), wanted)
    await channels.opened()
    return channels


def negotiated(request: BaseRequest, spoken: tuple[str, ...]) -> str:
    """The client's first choice among ``spoken``. Raises ApiError 400 or 403."""
    if request.headers.get("Upgrade", "").upper() != "SPDY/3.1":
        raise bad_request("Upgrade request required")
    offered = [
        each.strip() for value in request.headers.getall("X-Stream-Protocol-Version", ()) for each in value.split(",")
    ]
    for protocol in offered:
        if protocol in spoken:
            return protocol
    raise bad_request(f"unable to upgrade: unable to negotiate protocol: client supports {offered}, server {spoken}")


def upgrade_headers(protocol: str) -> list[tuple[str, str]]:
    """Of the 101 to a SPDY upgrade."""
    return [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", protocol)]


class SpdyChannels:
    """Each channel is a stream, named by its ``streamtype`` header."""

    def __init__(self, streams: SpdyStreams, wanted: Wanted) -> None:
        self._streams = streams
        self._wanted = wanted
        self._events = streams.events()
        self._numbers: dict[int, int] = {}  # stream → channel
        self._ids: dict[int, int] = {}  # channel → stream

    async def opened(self) -> None:
        """Wait until the client has opened what it announced. Raises TimeoutError, ConnectionError, SpdyError."""
        expected = self._wanted.numbers() | ({RESIZE} if self._wanted.terminal else set())
        async with asyncio.timeout(OPEN_WITHIN_S):
            while not expected <= self._ids.keys():
                event = await anext(self._events, None)
                if event is None:
                    raise ConnectionResetError("the client is gone")
                if isinstance(event, spdy.StreamOpened):
                    number = NAMES.get(event.headers.get("streamtype", ""), ERROR)
                    self._numbers[event.stream], self._ids[number] = number, event.stream

    async def said(self) -> AsyncIterator[Said]:
        """See Channels."""
        size = b""
        async for event in self._events:
            match event:
                case spdy.DataReceived(stream, data, fin):
                    if self._numbers.get(stream) == STDIN:
                        if data:
                            yield Input(data)
                        if fin:
                            yield InputEnded()
                    elif self._numbers.get(stream) == RESIZE:
                        size += data
                        if resized := _resized(size):
                            size = b""
                            yield resized
                case spdy.StreamReset(stream, _):
                    if self._numbers.get(stream) == STDIN:
                        yield InputEnded()

    async def send(self, channel: int, data: bytes) -> None:
        """See Channels."""
        if (stream := self._ids.get(channel)) is not None:
            await self._streams.send(stream, data)

    async def finish(self, status: dict[str, Any]) -> None:
        """See Channels."""
        try:
            for channel in (STDOUT, STDERR):
                if (stream := self._ids.get(channel)) is not None:
                    await self._streams.send(stream, b"", fin=True)
            await self._streams.send(self._ids[ERROR], json.dumps(status).encode(), fin=True)
            # Closing now could make the kernel reset the connection, for input that nobody reads, before the client
            # has read its output: it ends the connection itself once it has.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_WITHIN_S):
                    async for event in self._events:
                        if isinstance(event, spdy.WentAway):
                            break
        finally:
            await self._streams.close()


async def _accept_websocket(request: BaseRequest, wanted: Wanted) -> Channels:
    socket = WebSocketResponse(
        protocols=WEBSOCKET_PROTOCOLS, max_msg_size=MAX_MESSAGE_BYTES, compress=False, timeout=GOODBYE_WITHIN_S
    )
    if not any(protocol in request.headers.get("Sec-WebSocket-Protocol", "") for protocol in WEBSOCKET_PROTOCOLS):
        raise bad_request(f"unable to upgrade: one of the subprotocols {', '.join(WEBSOCKET_PROTOCOLS)} is needed")
    await socket.prepare(request)
    channels = WebSocketChannels(socket)
    # As an API server does, to show that it is up: an empty message on the first channel that it writes to.
    await channels.send(min(wanted.numbers() - {STDIN}), b"")
    return channels


class WebSocketChannels:
    """Each message is for the channel that its first byte names."""

    def __init__(self, socket: WebSocketResponse) -> None:
        self._socket = socket

    async def said(self) -> AsyncIterator[Said]:
        """See Channels."""
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return
            channel, data = message.data[0] if message.data else ERROR, message.data[1:]
            if channel == STDIN and data:
                yield Input(data)
            elif channel == CLOSE and data == bytes([STDIN]):
                yield InputEnded()
            elif channel == RESIZE and (resized := _resized(data)):
                yield resized

    async def send(self, channel: int, data: bytes) -> None:
        """See Channels."""
        await self._socket.send_bytes(bytes([channel]) + data)

    async def finish(self, status: dict[str, Any]) -> None:
        """See Channels."""
        await self.send(ERROR, json.dumps(status).encode())
        await self._socket.close()


def _resized(data: bytes) -> Resized | None:
    try:
        size = json.loads(data)
        return Resized(int(size["Width"]), int(size["Height"]))
    except (ValueError, KeyError, TypeError):
        return None
