"""TLS for byte pipes: what came before the API server's end is delivered, however slowly the caller reads.

uvloop's own TLS drops what it has received and not yet delivered when the connection ends while reading is paused: up to
256 KiB at the end of a ``kubectl cp`` (its sslproto.pyx, eof_received). The standard library's keeps it. Here it runs on
uvloop's sockets, with a smaller read buffer than its 256 KiB; plain requests stay on uvloop's, which costs a tenth of the memory.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import Any, TypeVar

AnyProtocol = TypeVar("AnyProtocol", bound=asyncio.Protocol)


class _PatientTls(sslproto.SSLProtocol):
    """The standard library's, on a transport that has no private ``_force_close``."""

    max_size = 64 * 1024  # bytes read at once

    _transport: Any
    _set_state: Any  # typeshed leaves these out
    _sslobj: Any

    def _abort(self, exc: BaseException | None = None) -> None:
        self._set_state(sslproto.SSLProtocolState.UNWRAPPED)
        if self._transport is not None:
            self._transport.abort()

    def _call_eof_received(self) -> None:
        """Only for an end that TLS itself has said; without it the bytes may be cut short, and the connection is lost."""
        try:
            said = self._sslobj.read(1) == b""
        except ssl.SSLError:
            said = False
        if said:
            super()._call_eof_received()  # type: ignore[misc]

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        if self._transport is not None:
            self._transport.abort()


async def connect(
    factory: Callable[[], AnyProtocol], host: str, port: int, context: ssl.SSLContext, server_name: str | None
) -> AnyProtocol:
    """A connection whose handshake is done, as its protocol. Raises OSError, ssl.SSLError; cancelled, it leaves nothing open."""
    loop = asyncio.get_running_loop()
    protocol = factory()
    shaken: asyncio.Future[None] = loop.create_future()
    tls = _PatientTls(loop, protocol, context, shaken, server_side=False, server_hostname=server_name)
    transport, _ = await loop.create_connection(lambda: tls, host, port)
    try:
        await shaken
    except BaseException:
        transport.abort()
        raise
    return protocol
