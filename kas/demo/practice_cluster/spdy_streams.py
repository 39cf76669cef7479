"""SPDY over a byte stream: the server's side of the upgrades of exec, attach and port-forward."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kas.demo.practice_cluster import spdy
from kas.demo.practice_cluster.byte_streams import ByteStream


class SpdyStreams:
    """One SPDY connection. One task iterates over ``events``; any may send."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._spdy = spdy.Spdy()

    async def events(self) -> AsyncIterator[spdy.Event]:
        """What the client says, until it is gone; its streams are accepted. Raises SpdyError."""
        while data := await self._stream.read():
            events = self._spdy.feed(data)
            for event in events:
                if isinstance(event, spdy.StreamOpened):
                    self._spdy.answer(event.stream)
            await self._flush()
            for event in events:
                yield event

    async def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes on a stream; waits while the client does not read. Raises ConnectionError when it is gone."""
        self._spdy.data(stream, data, fin=fin)
        await self._flush()

    async def reset(self, stream: int) -> None:
        """Give a stream up."""
        self._spdy.reset(stream)
        await self._flush()

    async def close(self) -> None:
        """Say goodbye and end the connection."""
        self._spdy.go_away()
        try:
            await self._flush()
        except ConnectionError:
            pass  # the client was faster
        await self._stream.close()

    async def _flush(self) -> None:
        if out := self._spdy.taken():
            await self._stream.write(out)
