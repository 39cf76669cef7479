"""port-forward: SPDY streams, straight or tunnelled through a WebSocket, joined to a pod's local ports.

For each connection the client opens two streams with the same ``requestid``: ``error`` (we tell there why it failed)
and ``data``.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from aiohttp.web import BaseRequest, WebSocketResponse

from kas.demo.practice_cluster import channels, spdy
from kas.demo.practice_cluster.byte_streams import ByteStream, TakenOver, WebSocketMessages
from kas.demo.practice_cluster.environment import LOCAL_ADDRESS
from kas.demo.practice_cluster.pods import RunningPod
from kas.demo.practice_cluster.spdy_streams import SpdyStreams
from kas.demo.practice_cluster.status import bad_request

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
READ_BYTES = 32 * 1024
MAX_PIECES_AHEAD = 16  # per connection, of up to 32 KiB: then the whole forward waits, as SPDY has no credit
MAX_MESSAGE_BYTES = 4 * 1024 * 1024


async def forward(request: BaseRequest, pod: RunningPod) -> None:
    """Serve a port-forward until the client is gone."""
    stream = await _accept(request)
    streams = SpdyStreams(stream)
    try:
        async with asyncio.TaskGroup() as group:
            await Forward(streams, pod, group).run()
    except* (spdy.SpdyError, ConnectionError):
        pass  # a client that speaks nonsense, or is gone, loses its connection
    finally:
        await streams.close()


async def _accept(request: BaseRequest) -> ByteStream:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return TakenOver.of(request, channels.upgrade_headers(channels.negotiated(request, (PROTOCOL,))))
    if TUNNEL_PROTOCOL not in request.headers.get("Sec-WebSocket-Protocol", ""):
        raise bad_request(f"unable to upgrade: the subprotocol {TUNNEL_PROTOCOL} is needed")
    socket = WebSocketResponse(protocols=(TUNNEL_PROTOCOL,), max_msg_size=MAX_MESSAGE_BYTES, compress=False)
    await socket.prepare(request)
    return WebSocketMessages(socket)


@dataclass
class Connection:
    """One forwarded connection: its two streams, and what the client has sent and the program not yet taken."""

    port: int
    error: int
    data: int
    sent: asyncio.Queue[bytes]  # empty bytes: the client has ended its direction


class Forward:
    """All connections of one port-forward; ``group`` runs them."""

    def __init__(self, streams: SpdyStreams, pod: RunningPod, group: asyncio.TaskGroup) -> None:
        self._streams = streams
        self._pod = pod
        self._group = group
        self._errors: dict[str, int] = {}  # request id → error stream
        self._connections: dict[int, tuple[Connection, asyncio.Task[None]]] = {}  # by data stream

    async def run(self) -> None:
        """Serve until the client is gone; then the connections are cancelled. Raises SpdyError, ConnectionError."""
        async for event in self._streams.events():
            match event:
                case spdy.StreamOpened(stream, headers, _):
                    self._opened(stream, headers)
                case spdy.DataReceived(stream, data, fin):
                    await self._received(stream, data, fin)
                case spdy.StreamReset(stream, _):
                    self._dropped(stream)
        for _, task in self._connections.values():
            task.cancel()

    def _opened(self, stream: int, headers: dict[str, str] | object) -> None:
        assert isinstance(headers, dict)  # noqa: S101 the codec makes a dict
        request_id = headers.get("requestid", "")
        if headers.get("streamtype") == "error":
            self._errors[request_id] = stream
            return
        port = headers.get("port", "")
        number = int(port) if port.isdigit() else 0
        connection = Connection(number, self._errors.pop(request_id, 0), stream, asyncio.Queue(MAX_PIECES_AHEAD))
        task = self._group.create_task(self._serve(connection), name=f"port {number}")
        self._connections[stream] = (connection, task)
        task.add_done_callback(lambda _: self._connections.pop(stream, None))

    async def _received(self, stream: int, data: bytes, fin: bool) -> None:
        if stream not in self._connections:
            return
        connection, task = self._connections[stream]
        for piece in ([data] if data else []) + ([b""] if fin else []):
            if not connection.sent.full():
                connection.sent.put_nowait(piece)
                continue
            put = self._group.create_task(connection.sent.put(piece))
            await asyncio.wait([put, task], return_when=asyncio.FIRST_COMPLETED)
            put.cancel()

    def _dropped(self, stream: int) -> None:
        if stream in self._connections:
            self._connections[stream][1].cancel()

    async def _serve(self, connection: Connection) -> None:
        port = self._pod.ports.get(connection.port, connection.port)
        try:
            reader, writer = await asyncio.open_connection(LOCAL_ADDRESS, port)
        except (OSError, OverflowError) as error:
            message = f"error forwarding port {connection.port} to the pod: {error}"
            await self._streams.send(connection.error, message.encode(), fin=True)
            await self._streams.reset(connection.data)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_to_program(connection.sent, writer))
                group.create_task(self._to_client(connection, reader))
        except* OSError:
            await self._streams.reset(connection.data)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _to_client(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(READ_BYTES):
            await self._streams.send(connection.data, data)
        await self._streams.send(connection.data, b"", fin=True)
        await self._streams.send(connection.error, b"", fin=True)


async def _to_program(sent: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    while data := await sent.get():
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
