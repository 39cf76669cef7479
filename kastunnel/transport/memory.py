"""Two joined Duplexes in memory, with knobs for what networks do. Shipped: tests of both programs run over it."""

from __future__ import annotations

import asyncio
from collections import deque

from kastunnel.transport.duplex import StreamLost


class MemoryDuplex:
    """One end. ``capacity`` envelopes may be on the way before ``write`` waits."""

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._arrived: deque[bytes] = deque()
        self._changed = asyncio.Condition()
        self._other: MemoryDuplex = self
        self.lost = False
        self.frozen = False  # nothing moves, nobody is told: a silent drop

    async def read(self) -> bytes:
        """The next envelope, in order."""
        async with self._changed:
            await self._changed.wait_for(lambda: (self._arrived and not self.frozen) or self.lost)
            if not self._arrived:
                raise StreamLost("cut")
            envelope = self._arrived.popleft()
            self._changed.notify_all()
            return envelope

    async def write(self, envelope: bytes) -> None:
        """Hand an envelope to the other end."""
        other = self._other
        async with other._changed:  # noqa: SLF001 - the two ends are one thing
            await other._changed.wait_for(lambda: self.lost or other.frozen or len(other._arrived) < other._capacity)  # noqa: SLF001
            if self.lost:
                raise StreamLost("cut")
            if not other.frozen:
                other._arrived.append(envelope)  # noqa: SLF001
                other._changed.notify_all()  # noqa: SLF001

    async def cut(self, *, keep: int = 0) -> None:
        """Break the stream at both ends; of what is on the way to each, the first ``keep`` envelopes still arrive."""
        for end in (self, self._other):
            async with end._changed:  # noqa: SLF001
                end.lost = True
                while len(end._arrived) > keep:  # noqa: SLF001
                    end._arrived.pop()  # noqa: SLF001
                end._changed.notify_all()  # noqa: SLF001


def joined(capacity: int = 16) -> tuple[MemoryDuplex, MemoryDuplex]:
    """The two ends of one stream."""
    one, other = MemoryDuplex(capacity), MemoryDuplex(capacity)
    one._other, other._other = other, one  # noqa: SLF001
    return one, other
