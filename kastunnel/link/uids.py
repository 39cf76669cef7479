"""Which requests have been run: agentk's memory that keeps anything from running twice."""

from __future__ import annotations

from collections import deque

from kastunnel.link.frames import Uid
from kastunnel.link.limits import UID_MEMORY_S

_BLOCK = 12  # 4,096 counters a block, one bit each: 300,000 remembered requests are about 40 KiB


class UidMemory:
    """Remembers uids from their end until UID_MEMORY_S later. One for a whole agentk: a request may come by another link.

    Counters of one opener come close together, so they are kept as bits of blocks; a block is forgotten as a whole.
    """

    def __init__(self, keep_s: float = UID_MEMORY_S) -> None:
        self._keep_s = keep_s
        self._blocks: dict[tuple[int, int], list[int]] = {}  # block → [bits, milliseconds of the newest end]
        self._order: deque[tuple[float, tuple[int, int]]] = (
            deque()
        )  # blocks by the time of their first end since looked at
        self._live: set[Uid] = set()

    def __repr__(self) -> str:
        return f"<UidMemory live={len(self._live)} blocks={len(self._blocks)}>"

    def begin(self, uid: Uid) -> bool:
        """Note that ``uid`` runs now; False if it runs already or has run."""
        if uid in self._live or self.has_ended(uid):
            return False
        self._live.add(uid)
        return True

    def end(self, uid: Uid, now: float) -> None:
        """Note that ``uid`` is over; ``now`` in seconds of any steady clock."""
        self._live.discard(uid)
        key = (uid.origin, uid.counter >> _BLOCK)
        bit = 1 << (uid.counter & ((1 << _BLOCK) - 1))
        block = self._blocks.get(key)
        if block is None:
            self._blocks[key] = [bit, int(now * 1000)]
            self._order.append((now + self._keep_s, key))
        else:
            block[0] |= bit
            block[1] = int(now * 1000)
        self._expire(now)

    def has_ended(self, uid: Uid) -> bool:
        """``uid`` has run and is over."""
        block = self._blocks.get((uid.origin, uid.counter >> _BLOCK))
        return block is not None and bool(block[0] >> (uid.counter & ((1 << _BLOCK) - 1)) & 1)

    def _expire(self, now: float) -> None:
        while self._order and self._order[0][0] <= now:
            _, key = self._order.popleft()
            expires = self._blocks[key][1] / 1000 + self._keep_s
            if expires <= now:
                del self._blocks[key]
            else:
                self._order.append((expires, key))
