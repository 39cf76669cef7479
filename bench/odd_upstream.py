"""What nginx cannot play: an endless watch, and a sink for uploads. Behind the nginx that plays the API server.

A watch answers its head and one event; with ``every_ms=N`` in its query, one numbered event each N ms, of about ``bytes=N`` and with
the moment of its making; none while nobody takes them. An upload is counted and thrown away. Run as ``python odd_upstream.py PORT``;
ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import uvloop

_EVERY = re.compile(rb"every_ms=(\d+)")
_BYTES = re.compile(rb"bytes=(\d+)")
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
        self._is_stuck = False
        self._filling = b""

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
            self._watch(_EVERY.search(head), _BYTES.search(head))
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

    def pause_writing(self) -> None:
        """Events have nowhere to go."""
        self._is_stuck = True

    def resume_writing(self) -> None:
        """They have again."""
        self._is_stuck = False

    def _watch(self, every: re.Match[bytes] | None, size: re.Match[bytes] | None) -> None:
        self._transport.write(_WATCH_HEAD)
        self._filling = b"x" * (int(size[1]) if size else 0)
        self._event(int(every[1]) / 1000 if every else 0.0)

    def _event(self, pause_s: float) -> None:
        if not self._is_stuck:
            self._number += 1
            said = (self._number, time.monotonic(), self._filling)
            event = (
                b'{"type": "MODIFIED", "object": {"kind": "Endpoints", "number": %d, "at": %f, "filling": "%b"}}\n'
                % said
            )
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
