"""The direction of a request in which this end speaks: what was handed over, what was said, what the other end has.

``acked <= said <= handed``. Bytes are kept from ``acked`` on; a cut rewinds ``said`` to where the other end stands.
"""

from __future__ import annotations

from collections import deque

from kastunnel.link.credit import Budget, Window
from kastunnel.link.frames import Head, Open, Reset
from kastunnel.link.limits import INITIAL_WINDOW


class Outgoing:
    """Owns the handed bytes until the other end has received them."""

    __slots__ = (
        "acked",
        "end",
        "end_acked",
        "end_said",
        "handed",
        "head",
        "head_acked",
        "head_said",
        "hold",
        "kept",
        "limit",
        "newest_limit",
        "pending",
        "quiet_at",
        "reset",
        "reset_said",
        "said",
        "starved",
        "stopped",
    )

    def __init__(self, budget: Budget) -> None:
        self.head: Open | Head | None = None  # until acknowledged; without its body, which is in ``pending``
        self.head_said = False
        self.head_acked = False
        self.pending: deque[bytes] | None = None  # handed, not said on this attach
        self.kept: deque[bytes] | None = None  # said, not acknowledged; begins at ``acked``
        self.handed = 0
        self.said = 0
        self.acked = 0
        self.limit = INITIAL_WINDOW  # the other end's credit …
        self.newest_limit = INITIAL_WINDOW  # … and the newest it said: what Release must have seen
        self.hold = Window(budget)  # what we are ready to keep unacknowledged, whatever credit a hostile peer grants
        self.end = False
        self.end_said = False
        self.end_acked = False
        self.stopped = False
        self.reset: Reset | None = None
        self.reset_said = False
        self.starved = False
        self.quiet_at = -1  # ``said`` at the last look for idle credit

    @property
    def room(self) -> int:
        """Bytes that the source may still hand over; may be negative after an overshoot."""
        return min(self.limit, self.acked + self.hold.size) - self.handed

    def hand(self, data: bytes) -> None:
        """Take ``data`` to be said. Ownership of the bytes passes; they must not change. Where it takes the last room, more is told of."""
        if self.pending is None:
            self.pending = deque()
        self.pending.append(data)
        self.handed += len(data)
        if self.room <= 0:
            self.starved = True

    def has_something(self) -> bool:
        """A turn would say something now."""
        if self.head is not None and not self.head_said:
            return True
        if self.pending:
            return self.said < self.limit
        if self.reset is not None:
            return not self.reset_said
        return self.end and not self.end_said and self.head_said

    def take(self, maximum: int) -> bytes:
        """Say up to ``maximum`` bytes, within credit: a single chunk goes uncopied."""
        pending = self.pending
        if not pending:
            return b""
        allowed = min(maximum, self.limit - self.said)
        if allowed <= 0:
            return b""
        chunk = pending.popleft()
        size = len(chunk)
        if size > allowed:
            pending.appendleft(chunk[allowed:])
            chunk, size = chunk[:allowed], allowed
        elif pending and size < allowed:
            parts = [chunk]
            while pending and size + len(pending[0]) <= allowed:
                chunk = pending.popleft()
                parts.append(chunk)
                size += len(chunk)
            chunk = b"".join(parts)
        if self.kept is None:
            self.kept = deque()
        self.kept.append(chunk)
        self.said += size
        return chunk

    def discard(self) -> None:
        """Drop what was not said: the reader wants no more, or the request is over."""
        self.pending = None
        self.handed = self.said

    def received(self, upto: int) -> None:
        """The other end has the bytes below ``upto``: let go of them, and grow the hold if it was what kept the source waiting."""
        if upto <= self.acked:
            return
        kept = self.kept
        position = self.acked
        while kept:
            size = len(kept[0])
            if position + size > upto:
                if upto > position:
                    kept[0] = kept[0][upto - position :]
                break
            kept.popleft()
            position += size
        if self.starved and self.acked + self.hold.size < self.limit and self.handed >= self.acked + self.hold.size:
            self.hold.grow()
        self.acked = upto

    def rewind(self, upto: int) -> None:
        """After a cut: the other end has exactly the bytes below ``upto``; the rest is to be said again."""
        self.received(upto)
        if self.kept:
            if self.pending is None:
                self.pending = deque()
            self.pending.extendleft(reversed(self.kept))
        self.kept = None
        self.said = upto

    def release(self) -> None:
        """The request is over: let go of everything."""
        self.head = None
        self.pending = self.kept = None
        self.starved = False
        self.hold.shrink()
