"""One TCP or TLS connection to the API server, carrying at most one request at a time."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from agentk.kube_api.access import Endpoint

# A record of TLS; Linux makes it 32 KiB, which are 30 MB/s where the API server is a millisecond away.
NARROW_BYTES = 16 * 1024
WRITE_BUFFER_BYTES = 64 * 1024  # above it the link gives no more credit; the kernel's buffer comes on top


class User(Protocol):
    """The request that has a connection. Called by the connection only, in the order of the wire."""

    def receive(self, data: bytes) -> None:
        """Bytes came from the API server."""

    def eof(self) -> bool:
        """The API server has said all; True to go on writing to it (never on TLS)."""

    def lost(self, error: Exception | None) -> None:
        """The connection is gone; nothing more is called."""

    def drained(self) -> None:
        """The write buffer has room again."""


class Connection(asyncio.Protocol):
    """Owned by its ``user``, else by the pool. A byte, or the end, while it has no user ends it (B30)."""

    __slots__ = (
        "_forget",
        "_tcp",
        "endpoint",
        "idle_since",
        "is_narrow",
        "is_reused",
        "is_write_paused",
        "transport",
        "user",
    )

    def __init__(self, endpoint: Endpoint, forget: Callable[[Connection], None]) -> None:
        self.endpoint = endpoint
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._tcp = self.transport
        self.user: User | None = None
        self.is_reused = False
        self.is_narrow = False
        self.is_write_paused = False
        self.idle_since = 0.0
        self._forget = forget

    def __repr__(self) -> str:
        state = "in use" if self.user is not None else "idle"
        return f"<Connection {self.endpoint} {state} reused={self.is_reused}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what may wait for the API server."""
        self.transport = self._tcp = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def secured(self, tls: asyncio.Transport, tcp: asyncio.Transport) -> None:
        """In place of ``connection_made``, which ``start_tls`` does not call."""
        self.connection_made(tls)
        self._tcp = tcp

    def pause_reading(self) -> None:
        """Leave to the kernel what the API server says.

        Under TLS, not at it: uvloop's drops what it has received and not delivered when the connection ends while it is paused
        (sslproto.pyx, eof_received), which was the end of one ``kubectl cp`` in six.
        """
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._tcp.is_closing():
            self._tcp.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Give it to the user; a byte that nobody asked for makes the connection unusable."""
        user = self.user
        if user is None:
            self.transport.abort()
        else:
            user.receive(data)

    def eof_received(self) -> bool:
        """The user decides whether the other direction goes on."""
        return self.user is not None and self.user.eof()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the pool and the user, once."""
        self._forget(self)
        user, self.user = self.user, None
        if user is not None:
            user.lost(error)

    def pause_writing(self) -> None:
        """Called by the transport, also from within write()."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """Called by the transport."""
        self.is_write_paused = False
        if self.user is not None:
            self.user.drained()

    @property
    def is_tls(self) -> bool:
        """TLS cannot be half-closed."""
        return self.endpoint.tls is not None

    def narrow(self) -> None:
        """From now on little comes ahead of who reads it: for streams that last, of which there are many. It cannot be undone.

        uvloop takes up to 256 KiB from a socket at once, room on the link or not: a thousand watches that stall would be 256 MiB.
        """
        self.is_narrow = True
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)

    def close(self) -> None:
        """Take leave in an orderly way: what was written is still sent. Its user hears no more."""
        self.user = None
        self.transport.close()

    def abort(self) -> None:
        """End now, in this very tick: the API server cancels what it was doing. Its user hears no more."""
        self.user = None
        self.transport.abort()


def is_tls_failure(error: BaseException | None) -> bool:
    """Whether ``error``, or what it came from, is about TLS."""
    return isinstance(error, ssl.SSLError) or (error is not None and isinstance(error.__cause__, ssl.SSLError))
