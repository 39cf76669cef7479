"""Counts by key: requests per second as a bucket of tokens, and streams that are open now. Keys that are idle are forgotten."""

from __future__ import annotations

from collections.abc import Hashable

MAX_KEYS = 50_000  # about 200 bytes each
IDLE_S = 60.0


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
        self._used: dict[Hashable, _Usage] = {}

    def __len__(self) -> int:
        return len(self._used)

    def take(self, key: Hashable, now: float) -> float:
        """Count one request and return 0; or count nothing and return how long until there is room for it."""
        if not self.per_s:
            return 0.0
        used = self._used.get(key)
        if used is None:
            used = self._add(key, now)
        left = used.left + (now - used.at) * self.per_s
        if left > self.burst:
            left = self.burst
        used.at = now
        if left < 1.0:
            used.left = left
            return (1.0 - left) / self.per_s
        used.left = left - 1.0
        return 0.0

    def wait_s(self, key: Hashable, now: float) -> float:
        """What ``take`` would return; counts nothing."""
        used = self._used.get(key)
        if not self.per_s or used is None:
            return 0.0
        left = min(self.burst, used.left + (now - used.at) * self.per_s)
        return 0.0 if left >= 1.0 else (1.0 - left) / self.per_s

    def give_back(self, key: Hashable) -> None:
        """A request that was counted did not happen."""
        if self.per_s and (used := self._used.get(key)) is not None:
            used.left += 1.0

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
        if len(self._used) >= self._max_keys:
            self._forget(now)
        used = self._used[key] = _Usage(self.burst, now)
        return used

    def _forget(self, now: float) -> None:
        """Those who have used nothing lately; where all are busy, the older half of those without streams."""
        kept = {
            key: used
            for key, used in self._used.items()
            if used.streams or self.wait_s(key, now) or now - used.at < IDLE_S
        }
        if len(kept) > self._max_keys // 2:
            streaming = {key: used for key, used in kept.items() if used.streams}
            newer = list(kept.items())[-(self._max_keys // 2) :]
            kept = {**streaming, **dict(newer)}
        self._used = kept
