"""What every request on its way to the API server has: a connection sooner or later, backpressure both ways, one end."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import Protocol

from agentk.kube_api.access import Access
from agentk.kube_api.connection import Connection, is_tls_failure
from agentk.kube_api.pool import DialFailed, Pool
from agentk.kube_api.statistics import Statistics
from kastunnel.link.frames import Code, Headers, Hop, Reset, Uid
from kastunnel.link.handler import Exchange, Handler
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import TaskOwner

log = logging.getLogger(__name__)


class Home(Protocol):
    """What a request needs from those who sent it: the dispatcher."""

    pool: Pool
    statistics: Statistics
    dials: TaskOwner
    loop: asyncio.AbstractEventLoop

    def over(self, carrier: Carrier) -> None:
        """The request has ended and holds nothing any more."""

    def refused_credential(self) -> None:
        """The API server answered 401 to agentk itself."""


class Carrier(ABC):
    """One request: the link's Handler on one side, a connection's User on the other.

    Owns its connection from ``attach`` until ``let_go``. ``is_over``: it hears nothing, says nothing and holds nothing any more.
    """

    __slots__ = (
        "_access",
        "_dial",
        "_has_sent",
        "_home",
        "_is_reading_paused",
        "_unconsumed",
        "_waiting",
        "connection",
        "deadline",
        "exchange",
        "is_over",
        "limit_s",
        "request_id",
    )

    def __init__(self, home: Home, exchange: Exchange, access: Access, limit_s: float, request_id: str) -> None:
        self._home = home
        self._access = access
        self.exchange = exchange
        self.limit_s = limit_s
        self.deadline = home.loop.time() + limit_s if limit_s else 0.0  # until the head; 0.0 = none
        self.request_id = request_id
        self.connection: Connection | None = None
        self.is_over = False
        self._dial: asyncio.Task[None] | None = None
        self._has_sent = False  # something may have reached the API server
        self._is_reading_paused = False
        self._waiting: list[bytes] = []  # framed, for a connection that is still being made
        self._unconsumed = 0  # bytes of the link's that the API server has not taken

    # Making the connection

    def dial(self) -> None:
        """Get a fresh connection, then send what waits."""
        self._dial = self._home.dials.spawn(self._dialled(), name="dial")

    async def _dialled(self) -> None:
        try:
            connection = await self._home.pool.dial(self._access)
        except DialFailed as failure:
            if not self.is_over:
                self.fail(failure.code, failure.reason, not_run=not self._has_sent)
            return
        self._dial = None
        if self.is_over:
            connection.abort()
        else:
            self.attach(connection)

    def attach(self, connection: Connection) -> None:
        """Take the connection and send what waits."""
        self.connection = connection
        connection.user = self
        self._has_sent = True
        waiting = self._waiting
        connection.transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))
        self._waiting = []
        if self._unconsumed and not connection.is_write_paused:
            self.drained()

    def let_go(self, *, reusable: bool) -> None:
        """The connection goes back to the pool, or is closed in an orderly way."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self._is_reading_paused:
            self._is_reading_paused = False
            connection.resume_reading()
        if reusable and not connection.is_write_paused and not connection.is_narrow:
            self._home.pool.give_back(connection, self._home.loop.time())
        else:
            connection.close()

    # Backpressure

    def write(self, framed: bytes, count: int) -> None:
        """Send ``framed``, which holds ``count`` bytes of the link's; they are credited again once they have left."""
        connection = self.connection
        if connection is None:
            self._waiting.append(framed)
            self._unconsumed += count
            return
        connection.transport.write(framed)
        if connection.is_write_paused:
            self._unconsumed += count
        else:
            self.exchange.consumed(count)

    def drained(self) -> None:
        """The API server takes bytes again."""
        count, self._unconsumed = self._unconsumed, 0
        if count:
            self.exchange.consumed(count)

    def pause_if_full(self) -> None:
        """Stop reading from the API server while the link has no room."""
        if self.exchange.room <= 0 and not self._is_reading_paused and self.connection is not None:
            self._is_reading_paused = True
            self.connection.pause_reading()

    def on_room(self) -> None:
        """Read on."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            if self.connection is not None:
                self.connection.resume_reading()

    # From the API server

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Bytes came."""

    @abstractmethod
    def eof(self) -> bool:
        """The API server has said all; True to go on writing to it."""

    @abstractmethod
    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""

    # Ends

    def fail(
        self, code: Code, reason: str, *, hop: Hop = Hop.API_SERVER, not_run: bool = False, after_data: bool = False
    ) -> None:
        """Say why the request has failed and let go of everything."""
        self._home.statistics.failed[code] += 1
        log.info("request failed", extra=fields(request_id=self.request_id, code=code.name, reason=reason))
        exchange = self.exchange
        self.abandon()
        exchange.reset(code, reason, hop=hop, not_run=not_run, after_data=after_data)

    def abandon(self) -> None:
        """End the request at the API server in this tick. Idempotent."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()
        task, self._dial = self._dial, None
        if task is not None and task is not asyncio.current_task(self._home.loop):
            task.cancel()
        self.finish()

    def finish(self) -> None:
        """The request is over, well or not. Idempotent."""
        if not self.is_over:
            self.is_over = True
            self.exchange = OVER  # the link's end of the request refers to us: without this, each request is a cycle
            self._waiting = []
            self.deadline = 0.0
            self._home.over(self)

    def timed_out(self) -> None:
        """The deadline has passed without a head."""
        self.fail(
            Code.TIMEOUT,
            f"the API server did not begin to answer within {self.limit_s:g} s",
            not_run=not self._has_sent,
        )

    def broken(self, error: Exception | None) -> None:
        """The connection has ended before any of the answer was said."""
        if is_tls_failure(error):
            self.fail(Code.UPSTREAM_TLS, "TLS with the API server failed before it answered")
        else:
            self.fail(Code.UPSTREAM_BROKEN, "the API server closed the connection before it answered")

    def on_reset(self, reset: Reset) -> None:
        """The caller, kas or the link has given up: so does the API server, now."""
        self.abandon()


class _Over:
    """The exchange of a request that is over: takes everything, does nothing."""

    handler: Handler
    uid = Uid(0, 0)
    room = 0

    def send_head(
        self, status: int, headers: Headers, body: bytes = b"", *, end: bool = False, body_length: int | None = None
    ) -> None:
        """Nothing."""

    def send(self, data: bytes) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def reset(
        self, code: Code, reason: str = "", *, hop: Hop = Hop.HOP_UNSET, not_run: bool = False, after_data: bool = False
    ) -> None:
        """Nothing."""

    def consumed(self, count: int) -> None:
        """Nothing."""

    def stop(self, code: Code) -> None:
        """Nothing."""


OVER = _Over()
