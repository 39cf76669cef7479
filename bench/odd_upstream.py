"""What nginx cannot play: an endless watch, and a sink for uploads. Behind the nginx that plays the API server.

A watch answers its head and one event; with ``every_ms=N`` in its query, one numbered event each N ms. An upload is counted
and thrown away. Run as ``python odd_upstream.py PORT``; ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

_EVERY = re.compile(rb"every_ms=(\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WATCH_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class Odd(asyncio.BufferedProtocol):
    """One connection."""

    buffer = bytearray(1 << 20)  # of all connections: what it holds is looked at before the next read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection from nginx."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own
        self._head = b""
        self._missing = 0
        self._taken = 0
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of a body only count; a head is collected until it is complete."""
        if self._missing:
            self._count(nbytes)
            return
        self._head += bytes(self.buffer[:nbytes])
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not found:
            return
        self._head = b""
        if b"watch=1" in head.partition(b"\r\n")[0]:
            self._watch(_EVERY.search(head))
            return
        length = _LENGTH.search(head)
        self._missing, self._taken = int(length[1]) if length else 0, 0
        self._count(len(rest))

    def _count(self, size: int) -> None:
        self._taken += size
        self._missing -= size
        if self._missing <= 0:
            body = b'{"bytes": %d}' % self._taken
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._transport.write(head + body)

    def _watch(self, every: re.Match[bytes] | None) -> None:
        self._transport.write(_WATCH_HEAD)
        self._event(int(every[1]) / 1000 if every else 0.0)

    def _event(self, pause_s: float) -> None:
        self._number += 1
        event = b'{"type": "MODIFIED", "object": {"kind": "Endpoints", "number": %d}}\n' % self._number
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        if pause_s:
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._event, pause_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The watcher has gone."""
        if self._timer is not None:
            self._timer.cancel()


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Odd, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
