"""A request of agentk's own, asked through the dispatcher like any other: so what it finds out is true of others."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from kastunnel.link.frames import AsAgent, Code, Headers, Hop, Open, Uid
from kastunnel.link.handler import Exchange, Handler

MAX_ANSWER_BYTES = 64 * 1024


class Answer(NamedTuple):
    """What came back; ``status`` 0 with a reason if nothing did."""

    status: int
    body: bytes
    reason: str = ""


class Opens(Protocol):
    """The dispatcher."""

    def opened(self, wanted: Open, exchange: Exchange) -> Handler:
        """Send this request."""


class Question:
    """An Exchange that keeps the answer. One question each."""

    def __init__(self) -> None:
        self.handler: Handler
        self.uid = Uid(0, 0)
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._body = b""

    @property
    def room(self) -> int:
        """What is still taken of the answer."""
        return MAX_ANSWER_BYTES - len(self._body)

    def send_head(
        self, status: int, headers: Headers, body: bytes = b"", *, end: bool = False, body_length: int | None = None
    ) -> None:
        """Keep it."""
        self._status = status
        self._body = body
        if end:
            self.end()

    def send(self, data: bytes) -> None:
        """Keep it; a reader that is never resumed ends in the question's time limit."""
        self._body += data

    def end(self) -> None:
        """The answer is complete."""
        if not self._answer.done():
            self._answer.set_result(Answer(self._status, self._body))

    def reset(
        self, code: Code, reason: str = "", *, hop: Hop = Hop.HOP_UNSET, not_run: bool = False, after_data: bool = False
    ) -> None:
        """There is no answer."""
        if not self._answer.done():
            self._answer.set_result(Answer(0, b"", reason))

    def consumed(self, count: int) -> None:
        """A question has no body."""

    def stop(self, code: Code) -> None:
        """A question has no body."""

    async def ask(self, dispatcher: Opens, target: bytes, timeout_s: float) -> Answer:
        """GET ``target`` as agentk itself. Cancelled or late, the request ends at the API server too."""
        wanted = Open(
            identity=AsAgent(),
            method=b"GET",
            target=target,
            headers=((b"Accept", b"application/json"), (b"User-Agent", b"agentk")),
            end=True,
            body_length=0,
            request_id="agentk",
        )
        self.handler = dispatcher.opened(wanted, self)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer
        except TimeoutError:
            return Answer(0, b"", f"no answer within {timeout_s:g} s")
        finally:
            if not self._answer.done() or self._answer.cancelled():
                self.handler.on_stop(Code.CANCELLED)
