"""Counts by key: requests per second as a bucket of tokens, and streams that are open now. Keys that are idle are forgotten."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

MAX_KEYS = 50_000  # about 200 bytes each


class _Usage:
    """Of one key. ``left`` of the bucket at ``at``."""

    __slots__ = ("at", "left", "streams")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at
        self.streams = 0


class Rates:
    """Buckets that fill with ``per_s`` up to ``burst``; 0: no limit. Not thread-safe."""

    def __init__(self, per_s: float, burst: float, max_streams: int = 0, max_keys: int = MAX_KEYS) -> None:
        self.per_s = per_s
        self.burst = burst
        self.max_streams = max_streams
        self._max_keys = max_keys
        self._used: OrderedDict[Hashable, _Usage] = OrderedDict()  # the least recently used first

    def __len__(self) -> int:
        return len(self._used)

    def wait_s(self, key: Hashable, now: float) -> float:
        """0: there is room for one more request; else how long until there is. Takes nothing."""
        if not self.per_s:
            return 0.0
        used = self._used.get(key)
        if used is None:
            return 0.0
        left = min(self.burst, used.left + (now - used.at) * self.per_s)
        return 0.0 if left >= 1.0 else (1.0 - left) / self.per_s

    def take(self, key: Hashable, now: float) -> None:
        """Count one request."""
        if not self.per_s:
            return
        used = self._used.get(key)
        if used is None:
            used = self._add(key, now)
        else:
            self._used.move_to_end(key)
            used.left = min(self.burst, used.left + (now - used.at) * self.per_s)
            used.at = now
        used.left -= 1.0

    def is_full(self, key: Hashable) -> bool:
        """Whether no more streams may be opened."""
        used = self._used.get(key)
        return bool(self.max_streams) and used is not None and used.streams >= self.max_streams

    def open(self, key: Hashable, now: float) -> None:
        """Count a stream."""
        if self.max_streams:
            (self._used.get(key) or self._add(key, now)).streams += 1

    def close(self, key: Hashable) -> None:
        """A stream is over."""
        used = self._used.get(key)
        if used is not None and used.streams:
            used.streams -= 1

    def _add(self, key: Hashable, now: float) -> _Usage:
        used = self._used[key] = _Usage(self.burst, now)
        if len(self._used) > self._max_keys:
            self._forget_one()
        return used

    def _forget_one(self) -> None:
        """The least recently used one without streams; among so many there is one near the front."""
        for key, used in self._used.items():
            if not used.streams:
                del self._used[key]
                return
