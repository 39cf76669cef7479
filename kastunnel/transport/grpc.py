"""The link's stream over gRPC, for either end. Envelopes travel as bytes: the Link has its own codec.

Measured habits of grpc.aio that shape this file: a handler that waits in ``read`` gets EOF when the client cancels; after
``abort`` the server's stop does not wait for it; a channel that was refused backs off by itself, so each dial gets its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from typing import Any

import grpc
import grpc.aio

from kastunnel.link.limits import BEAT_S, ENVELOPE_ACCEPT
from kastunnel.toolkit.proxies import Proxy
from kastunnel.transport.duplex import StreamLost

SERVICE = "kastunnel.v1.Tunnel"
METHOD = "Link"
TOKEN_KEY = "authorization"  # noqa: S105 - the key, not a token
DATE_KEY = "date"  # kas's clock, as in HTTP: for agentk doctor

_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", ENVELOPE_ACCEPT + 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", int(2 * BEAT_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(BEAT_S * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),  # a fresh connection per dial, without gRPC's own back-off
    ("grpc.enable_retries", 0),
    ("grpc.so_reuseport", 1),
)


def _same(data: bytes) -> bytes:
    return data


class ServerDuplex:
    """The stream as the server's handler sees it. Lives inside the handler: see ``TunnelHandler``."""

    def __init__(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        self._context = context

    async def read(self) -> bytes:
        """The next envelope."""
        try:
            data = await self._context.read()
        except (grpc.aio.BaseError, grpc.aio.UsageError) as error:
            raise StreamLost("the stream failed") from error
        if not isinstance(data, bytes):  # EOF: the client has cancelled, finished or gone
            raise StreamLost("the stream ended")
        return data

    async def write(self, envelope: bytes) -> None:
        """Send one envelope."""
        try:
            await self._context.write(envelope)
        except (grpc.aio.BaseError, grpc.aio.UsageError) as error:
            raise StreamLost("the stream failed") from error


class ClientDuplex:
    """The stream as agentk's call sees it."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self._call = call

    async def read(self) -> bytes:
        """The next envelope."""
        try:
            data = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise StreamLost(f"{error.code().name.lower()}: {error.details()}") from error
        if not isinstance(data, bytes):
            raise StreamLost("the stream ended")
        return data

    async def write(self, envelope: bytes) -> None:
        """Send one envelope."""
        try:
            await self._call.write(envelope)
        except grpc.aio.AioRpcError as error:
            raise StreamLost(f"{error.code().name.lower()}: {error.details()}") from error
        except grpc.aio.UsageError as error:
            raise StreamLost("the stream is closed") from error
        except asyncio.InvalidStateError as error:  # the call is over already; read would say why
            code, details = await self._call.code(), await self._call.details()
            raise StreamLost(f"{code.name.lower()}: {details}") from error

    async def date(self) -> str:
        """kas's clock when the stream began, as in RFC 9110 section 5.6.7; "" if it does not say. Ask after the first ``read``."""
        try:
            found = await self._call.initial_metadata()
        except grpc.aio.AioRpcError:
            return ""
        return next((str(value) for key, value in found if key == DATE_KEY), "")


Accept = Callable[[ServerDuplex, str, str], Awaitable[None]]


def server(accept: Accept, clock: Callable[[], float] | None = None) -> grpc.aio.Server:
    """A server whose one method hands each stream to ``accept(duplex, bearer token, peer)``; it ends when that returns.

    ``clock``: unix seconds, told to each peer.
    """

    async def link(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        token = ""
        for key, value in context.invocation_metadata() or ():
            if key == TOKEN_KEY and isinstance(value, str) and value.startswith("Bearer "):
                token = value.removeprefix("Bearer ")
        if clock is not None:
            try:
                await context.send_initial_metadata(((DATE_KEY, formatdate(clock(), usegmt=True)),))
            except (grpc.aio.BaseError, grpc.aio.UsageError):  # it has gone already
                return
        await accept(ServerDuplex(context), token, context.peer())

    method = grpc.stream_stream_rpc_method_handler(link, request_deserializer=_same, response_serializer=_same)
    made = grpc.aio.server(options=_OPTIONS)
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),))
    return made


def channel(address: str, credentials: grpc.ChannelCredentials | None, proxy: Proxy | None = None) -> grpc.aio.Channel:
    """A fresh channel to ``host:port``, through ``proxy`` or none; without credentials in clear, for tests on localhost.

    gRPC's own look at the environment is switched off: it reads https_proxy and no_proxy in lower case only, and by rules of its own.
    """
    by = ("grpc.enable_http_proxy", 0) if proxy is None else ("grpc.http_proxy", proxy.url)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=(*_OPTIONS, by))
    return grpc.aio.secure_channel(address, credentials, options=(*_OPTIONS, by))


def trust(ca: bytes | None) -> grpc.ChannelCredentials:
    """TLS towards a server whose certificate comes from ``ca``, PEM; None: from a public CA."""
    return grpc.ssl_channel_credentials(root_certificates=ca)


def call(channel: grpc.aio.Channel, token: str) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    """Open the stream; cancel the call to close it."""
    multi = channel.stream_stream(f"/{SERVICE}/{METHOD}", request_serializer=_same, response_deserializer=_same)
    return multi(metadata=((TOKEN_KEY, f"Bearer {token}"),))
