"""A small HTTP door: a few paths on a listener, served by aiohttp with the limits that it lacks.

Used where requests are rare and answers small (kubeconfigs, metrics); kubectl has a door of its own. aiohttp's own server would wait
for ever for a slow head, name its version, decode paths, unpack gzip, and read an unwanted body to its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from aiohttp.web_protocol import RequestHandler

from kas.errors import ConfigurationError
from kas.metrics import Door, DoorMetrics
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

Request = web.BaseRequest
Route = Callable[[Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What a peer may cost."""

    max_connections: int = 512
    """At once; more are closed at once."""
    tls_handshake_s: float = 10
    head_s: float = 10
    """From the connection, or the first byte of a later request, to the end of its head."""
    request_s: float = 30
    """From there until the answer has left."""
    keep_alive_s: float = 75
    """Between two requests; longer than the 60 s of common balancers."""
    max_field_bytes: int = 16 * 1024
    """One header, or the request line: a token of 8 KiB fits."""
    max_headers: int = 64
    max_body_bytes: int = 1024 * 1024
    """Of a POST. A push webhook of a large commit is some 100 KiB."""
    stop_s: float = 5
    """For requests that are going on when the door closes."""


def peer_of(request: Request) -> str:
    """Where the request comes from, as ``host:port``."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""


def answer(status: int, error: str, remedy: str, **headers: str) -> web.Response:
    """An error in one line of JSON. Keyword arguments are header names with ``_`` for ``-``."""
    text = json.dumps({"error": error, "remedy": remedy}) + "\n"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return plain(text, status, "application/json", **named)


def json_answer(value: Any, status: int = 200, **headers: str) -> web.Response:
    """A value as JSON."""
    return plain(json.dumps(value) + "\n", status, "application/json", **headers)


def plain(text: str, status: int = 200, content_type: str = "text/plain", **headers: str) -> web.Response:
    """An answer that nobody keeps."""
    said = {"Server": "kas", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **headers}
    return web.Response(text=text, status=status, content_type=content_type, headers=said)


@asynccontextmanager
async def open_door(
    door: Door,
    routes: Mapping[str, Route],
    listener: socket.socket,
    metrics: DoorMetrics,
    *,
    posts: Mapping[str, Route] | None = None,
    tls: ssl.SSLContext | None = None,
    limits: DoorLimits | None = None,
) -> AsyncIterator[None]:
    """Serve ``routes`` (raw path to what answers a GET) and ``posts`` on ``listener`` for as long as the block runs.

    What answers a POST reads its body with ``await request.read()``; one over the limit never gets there.

    Owns the listener from here on. Raises ConfigurationError where aiohttp has no C parser: the other one lets smuggling through.
    """
    if HttpRequestParser is HttpRequestParserPy:
        listener.close()
        raise ConfigurationError(
            "aiohttp was installed without its C parser: install a wheel, and unset AIOHTTP_NO_EXTENSIONS"
        )
    limits = limits or DoorLimits()
    server = _Server(door, routes, posts or {}, metrics, limits)
    loop = asyncio.get_running_loop()
    if listener.family == socket.AF_UNIX:
        listening = await loop.create_unix_server(server, sock=listener)
    else:
        listening = await loop.create_server(
            server, sock=listener, ssl=tls, ssl_handshake_timeout=None if tls is None else limits.tls_handshake_s
        )
    try:
        yield
    finally:
        listening.close()
        server.pre_shutdown()
        await server.shutdown(limits.stop_s)
        await listening.wait_closed()


class _Server(web.Server):
    """Makes the connections of one door."""

    def __init__(
        self,
        door: Door,
        routes: Mapping[str, Route],
        posts: Mapping[str, Route],
        metrics: DoorMetrics,
        limits: DoorLimits,
    ) -> None:
        super().__init__(
            self._dispatch,
            handler_cancellation=True,  # who has gone away needs no answer
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.keep_alive_s,
            lingering_time=0,
            max_field_size=limits.max_field_bytes,
            max_headers=limits.max_headers,
            max_line_size=limits.max_field_bytes,
        )
        self._routes = routes
        self._posts = posts
        self.door = door
        self.metrics = metrics
        self.limits = limits

    def __call__(self) -> RequestHandler:
        """The protocol of a new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)

    async def _dispatch(self, request: Request) -> web.Response:
        if request.version not in ((1, 0), (1, 1)):
            return _closing(answer(505, "this door speaks HTTP/1.1", "use HTTP/1.1"))
        path = request.raw_path.partition("?")[0]
        if request.method == hdrs.METH_POST and (taker := self._posts.get(path)) is not None:
            return await self._take(request, taker)
        if request.body_exists:
            return _closing(answer(400, "a request without a body was expected", "leave the body out"))
        route = self._routes.get(path)
        if route is None and path in self._posts:
            return answer(405, "this path answers POST", "use POST", Allow="POST")
        if route is None:
            return answer(404, "there is nothing here", f"known paths: {', '.join([*self._routes, *self._posts])}")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _closing(answer(405, "this path answers GET", "use GET", Allow="GET, HEAD"))
        return await route(request)

    async def _take(self, request: Request, taker: Route) -> web.Response:
        """Let ``taker`` answer once the whole body is there; it is kept by the request, so reading it again costs nothing."""
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            return _closing(answer(415, "a body without Content-Encoding was expected", "send it uncompressed"))
        limit = self.limits.max_body_bytes
        request = request.clone(client_max_size=limit)
        try:
            if (request.content_length or 0) <= limit:
                await request.read()
                return await taker(request)
        except web.HTTPRequestEntityTooLarge:
            pass
        return _closing(answer(413, f"the body is larger than {limit} bytes", "send less"))


class _Connection(RequestHandler):
    """One connection, which must be quick about its heads and take its answers."""

    __slots__ = ("_door", "_reads_head", "_timer")

    def __init__(self, server: _Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._door = server
        self._reads_head = True  # else it waits for one, or a request is going on
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it if there are too many."""
        super().connection_made(transport)
        door = self._door
        if len(door.connections) > door.limits.max_connections:
            self._abort()
            return
        door.metrics.opened[door.door].value += 1
        self._start(door.limits.head_s)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end."""
        super().connection_lost(exc)
        self._stop()

    def data_received(self, data: bytes) -> None:
        """A complete head starts the time of its request; the first bytes of one start the time of the head."""
        before = self._request_count
        super().data_received(data)
        if self.transport is None:
            return
        if self._request_count != before:
            self._reads_head = False
            self._start(self._door.limits.request_s)
        elif not self._reads_head and not self._is_busy:
            self._reads_head = True
            self._start(self._door.limits.head_s)

    def handle_error(
        self, request: Request, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What was not HTTP, or a fault of ours; neither is shown to the peer."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if status == 500:
            log.error("request failed", exc_info=exc, extra=fields(door=self._door.door, path=request.raw_path))
            return _closing(answer(500, "kas has failed on this request", "look into its log"))
        log.debug("bad request", extra=fields(door=self._door.door, peer=str(request.remote), reason=str(message)))
        return _closing(answer(status, "this is not an HTTP request that kas accepts", "check the client"))

    @property
    def _is_busy(self) -> bool:
        return self._request_in_progress or bool(self._messages)

    def _start(self, limit_s: float) -> None:
        self._stop()
        self._timer = asyncio.get_running_loop().call_later(limit_s, self._late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._reads_head or self._is_busy:
            self._abort()

    def _abort(self) -> None:
        self._door.metrics.refused[self._door.door].value += 1
        transport = self.transport
        self.force_close()
        if isinstance(transport, asyncio.Transport):
            transport.abort()


def _closing(response: web.Response) -> web.Response:
    response.force_close()
    return response
