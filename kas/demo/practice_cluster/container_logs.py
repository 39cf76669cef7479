"""What containers print: kept by the line for ``logs``, passed on raw to whoever is attached."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

MAX_KEPT_BYTES = 4 * 1024 * 1024  # per container; the oldest lines go first
MAX_LINE_BYTES = 16 * 1024  # a longer line is kept in pieces, as container runtimes do
MAX_PIECES_AHEAD = 16  # that an attached client may lag behind before the container waits for it


@dataclass(frozen=True)
class Line:
    """One line with its newline, if it had one."""

    time: datetime
    text: bytes


class ContainerLog:
    """The output of one container, over all its restarts."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lines: deque[Line] = deque()
        self._kept_bytes = 0
        self._dropped = 0  # lines that are no longer kept
        self._partial = {"stdout": b"", "stderr": b""}
        self._news = asyncio.Event()
        self._ended = False
        self._attached: set[asyncio.Queue[tuple[str, bytes]]] = set()

    async def add(self, stream: str, data: bytes) -> None:
        """Take what was printed; waits while somebody attached does not read."""
        *whole, rest = (self._partial[stream] + data).split(b"\n")
        for text in whole:
            self._keep(text + b"\n")
        while len(rest) > MAX_LINE_BYTES:
            self._keep(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._partial[stream] = rest
        for queue in list(self._attached):
            await queue.put((stream, data))

    def flush(self) -> None:
        """Keep unfinished lines too: the process has ended."""
        for stream, text in self._partial.items():
            if text:
                self._keep(text)
                self._partial[stream] = b""

    def end(self) -> None:
        """Nothing more will be printed: followers end."""
        self.flush()
        self._ended = True
        self._tell()

    def kept(self) -> list[Line]:
        """The lines that are kept, oldest first."""
        return list(self._lines)

    async def follow(self, after: int) -> AsyncIterator[list[Line]]:
        """Lines as they come, beginning after the first ``after`` that ever were; ends when the container is gone."""
        position = after
        while True:
            news = self._news
            ended = self._ended
            skipped = max(position, self._dropped)
            if lines := list(self._lines)[skipped - self._dropped :]:
                position = skipped + len(lines)
                yield lines
            elif ended:
                return
            else:
                await news.wait()

    @property
    def count(self) -> int:
        """How many lines there ever were."""
        return self._dropped + len(self._lines)

    def attach(self) -> asyncio.Queue[tuple[str, bytes]]:
        """A queue of (stream, bytes) printed from now on; give it back with ``detach``."""
        queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(MAX_PIECES_AHEAD)
        self._attached.add(queue)
        return queue

    def detach(self, queue: asyncio.Queue[tuple[str, bytes]]) -> None:
        """Nobody reads ``queue`` any more: whoever waits to write to it goes on."""
        self._attached.discard(queue)
        while not queue.empty():
            queue.get_nowait()

    def _keep(self, text: bytes) -> None:
        self._lines.append(Line(self._now(), text))
        self._kept_bytes += len(text)
        while self._kept_bytes > MAX_KEPT_BYTES:
            self._kept_bytes -= len(self._lines.popleft().text)
            self._dropped += 1
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
