"""The direction of a request in which this end listens: what has come, what the reader has taken, what may still come."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from kastunnel.link.credit import Budget, Window
from kastunnel.link.errors import RequestError
from kastunnel.link.frames import Code
from kastunnel.link.limits import INITIAL_WINDOW


class Phase(Enum):
    """What a direction has heard so far."""

    NOTHING = 0
    BODY = 1
    DONE = 2


class Said(Enum):
    """What a frame says in a direction: Open and Head begin it, Data goes on, End ends it."""

    HEAD = 0
    DATA = 1
    END = 2


# The legal order of frames in one direction. What is not in here is a RequestError. After DONE, and for a repeated
# head, only overlap can come (resent after a cut): Incoming cuts it by offset, so it changes nothing.
LEGAL: Mapping[tuple[Phase, Said], Phase] = {
    (Phase.NOTHING, Said.HEAD): Phase.BODY,
    (Phase.BODY, Said.HEAD): Phase.BODY,
    (Phase.BODY, Said.DATA): Phase.BODY,
    (Phase.BODY, Said.END): Phase.DONE,
    (Phase.DONE, Said.HEAD): Phase.DONE,
    (Phase.DONE, Said.DATA): Phase.DONE,
    (Phase.DONE, Said.END): Phase.DONE,
}


class Incoming:
    """Positions are absolute byte offsets. ``granted`` is the newest limit that was said; it never falls but by Release."""

    __slots__ = ("consumed", "credit_due", "granted", "phase", "received", "stop", "stop_said", "window")

    def __init__(self, budget: Budget) -> None:
        self.phase = Phase.NOTHING
        self.received = 0
        self.consumed = 0
        self.granted = INITIAL_WINDOW
        self.window = Window(budget)
        self.credit_due = False
        self.stop: Code | None = None
        self.stop_said = False

    @property
    def ended(self) -> bool:
        """The other end has said all."""
        return self.phase is Phase.DONE

    def step(self, said: Said) -> bool:
        """Move on by the table; True if ``said`` is news and not a repetition. Raises RequestError if it is out of order."""
        before = self.phase
        after = LEGAL.get((before, said))
        if after is None:
            raise RequestError(f"{said.name} in phase {before.name}")
        self.phase = after
        return after is not before

    def accept(self, offset: int, data: bytes) -> bytes:
        """The part of ``data`` that is new. Raises RequestError on a gap, an overrun of credit, or bytes after the end."""
        received = self.received
        if offset > received:
            raise RequestError(f"gap: data at {offset}, expected {received}")
        upto = offset + len(data)
        if upto <= received:
            return b""
        if upto > self.granted:
            raise RequestError(f"credit overrun: data up to {upto}, granted {self.granted}")
        if self.phase is Phase.DONE:
            raise RequestError(f"data up to {upto} after the end at {received}")
        self.received = upto
        if self.stop is not None:  # counted, discarded and credited
            self.consumed = upto
            self.credit_due = True
            return b""
        return data[received - offset :] if offset < received else data

    def finish(self, total: int) -> bool:
        """The end is at ``total``; True if that is news. Raises RequestError if it is elsewhere than where the bytes end."""
        if total != self.received:
            raise RequestError(f"end at {total}, received {self.received}")
        news = self.step(Said.END)
        if news:
            self.window.shrink()
            self.credit_due = False
        return news

    def consume(self, count: int) -> bool:
        """The reader took ``count`` bytes; True if a Credit is now worth saying (half a window is free again)."""
        self.consumed += count
        if self.phase is Phase.DONE:
            return False
        window = self.window
        if self.consumed == self.received and self.granted - self.received < window.size // 2:
            window.grow()  # the reader keeps up and the sender was near starving
        if self.consumed + window.size - self.granted >= window.size // 2:
            self.credit_due = True
        return self.credit_due

    def grant(self) -> int:
        """The limit to say now; it becomes the newest one said."""
        self.credit_due = False
        self.granted = max(self.granted, self.consumed + self.window.size)
        return self.granted

    def release(self, limit: int, seen: int) -> None:
        """The sender gives credit back; void unless it has seen our newest limit (else Credit and Release cross). Never below what came."""
        if seen == self.granted and self.received <= limit < self.granted:
            self.granted = limit
            self.window.shrink()
            if self.consumed + self.window.size - limit >= self.window.size // 2:
                self.credit_due = True
