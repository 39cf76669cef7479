"""The link's stream over gRPC, for either end. Envelopes travel as bytes: the Link has its own codec.

Measured habits of grpc.aio that shape this file: a handler that waits in ``read`` gets EOF when the client cancels; after
``abort`` the server's stop does not wait for it; a channel that was refused backs off by itself, so each dial gets its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from kastunnel.link.limits import BEAT_S, ENVELOPE_ACCEPT
from kastunnel.transport.duplex import StreamLost

SERVICE = "kastunnel.v1.Tunnel"
METHOD = "Link"
TOKEN_KEY = "authorization"  # noqa: S105 - the key, not a token

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


Accept = Callable[[ServerDuplex, str, str], Awaitable[None]]


def server(accept: Accept) -> grpc.aio.Server:
    """A server whose one method hands each stream to ``accept(duplex, bearer token, peer)``; it ends when that returns."""

    async def link(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        token = ""
        for key, value in context.invocation_metadata() or ():
            if key == TOKEN_KEY and isinstance(value, str) and value.startswith("Bearer "):
                token = value.removeprefix("Bearer ")
        await accept(ServerDuplex(context), token, context.peer())

    method = grpc.stream_stream_rpc_method_handler(link, request_deserializer=_same, response_serializer=_same)
    made = grpc.aio.server(options=_OPTIONS)
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),))
    return made


def channel(
    address: str, credentials: grpc.ChannelCredentials | None, options: Sequence[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """A fresh channel to ``host:port``; without credentials in clear, for tests on localhost."""
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=(*_OPTIONS, *options))
    return grpc.aio.secure_channel(address, credentials, options=(*_OPTIONS, *options))


def call(channel: grpc.aio.Channel, token: str) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    """Open the stream; cancel the call to close it."""
    multi = channel.stream_stream(f"/{SERVICE}/{METHOD}", request_serializer=_same, response_deserializer=_same)
    return multi(metadata=((TOKEN_KEY, f"Bearer {token}"),))
