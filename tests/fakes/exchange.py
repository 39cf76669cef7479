"""An Exchange without a link: keeps what an HTTP end says, and lets the test say the other end's part through ``handler``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kastunnel.link.frames import Code, Headers, Hop, Reset, Uid
from kastunnel.link.handler import Handler


class FakeExchange:
    """``window`` bytes may be said before ``give_room``. After its end or a reset it records nothing more."""

    def __init__(self, window: int = 1 << 20) -> None:
        self.handler: Handler
        self.uid = Uid(0, 0)
        self.status = 0
        self.headers: Headers = ()
        self.body = b""
        self.body_length: int | None = None
        self.frames: list[str] = []  # "head", "head+end", "data", "end", "reset", in order
        self.reset_said: Reset | None = None
        self.consumed_bytes = 0
        self.stopped: Code | None = None
        self.is_ended = False
        self._window = window
        self._happened = asyncio.Event()

    @property
    def room(self) -> int:
        return self._window - len(self.body)

    @property
    def is_over(self) -> bool:
        return self.is_ended or self.reset_said is not None

    def send_head(
        self, status: int, headers: Headers, body: bytes = b"", *, end: bool = False, body_length: int | None = None
    ) -> None:
        assert not self.is_over
        assert not self.status
        assert len(body) <= 64 * 1024
        self.status, self.headers, self.body, self.body_length, self.is_ended = status, headers, body, body_length, end
        self._record("head+end" if end else "head")

    def send(self, data: bytes) -> None:
        assert not self.is_over
        assert self.status
        assert data
        self.body += data
        self._record("data")

    def end(self) -> None:
        assert not self.is_over
        assert self.status
        self.is_ended = True
        self._record("end")

    def reset(
        self, code: Code, reason: str = "", *, hop: Hop = Hop.HOP_UNSET, not_run: bool = False, after_data: bool = False
    ) -> None:
        if self.reset_said is None:
            self.reset_said = Reset(code, reason, hop, not_run, len(self.body) if after_data else None)
            self._record("reset")

    def consumed(self, count: int) -> None:
        self.consumed_bytes += count
        self._happened.set()

    def stop(self, code: Code) -> None:
        self.stopped = code
        self._record("stop")

    # What the test does

    def header(self, name: bytes) -> list[bytes]:
        """The values of every field of that name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def give_room(self, count: int) -> None:
        """The other end's reader has taken some."""
        was_full = self.room <= 0
        self._window += count
        if was_full and self.room > 0:
            self.handler.on_room()

    async def until(self, predicate: Callable[[FakeExchange], object], timeout_s: float = 5.0) -> None:
        """Wait until it holds of this exchange, for example ``lambda x: x.is_over``."""
        async with asyncio.timeout(timeout_s):
            while not predicate(self):
                self._happened.clear()
                await self._happened.wait()

    def _record(self, frame: str) -> None:
        self.frames.append(frame)
        self._happened.set()
