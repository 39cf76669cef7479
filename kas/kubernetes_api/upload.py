"""The client's direction of a request that is not complete in its Open: a body that still comes, or an upgraded stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kas.kubernetes_api.replies import Refusal, Refused
from kas.streams.tap import Tap
from kastunnel.link.handler import Exchange

if TYPE_CHECKING:
    from kas.kubernetes_api.connection import Connection


class Upload:
    """Moves bytes from the connection's reader to the exchange, and stops reading the client where there is no room."""

    __slots__ = ("_connection", "_exchange", "_max_bytes", "is_open", "is_starved", "is_waiting", "sent", "tap")

    def __init__(self, connection: Connection, exchange: Exchange, max_bytes: int | None, *, is_pipe: bool) -> None:
        """``is_pipe``: nothing is moved before ``begin_pipe``, for the answer decides what the bytes are."""
        self._connection = connection
        self._exchange = exchange
        self._max_bytes = max_bytes
        self.sent = 0  # bytes that left for the cluster
        self.is_open = True
        self.is_waiting = is_pipe
        self.is_starved = False
        self.tap: Tap | None = None

    def begin_pipe(self, tap: Tap | None) -> None:
        """The switch has been answered. ``tap`` looks on from here."""
        self.is_waiting = False
        self.tap = tap
        if self._connection.reader.waiting:
            self.pump()

    def pump(self) -> int:
        """Move what has come; the number of bytes moved. BadMessage for a broken body; Refused for one that is too large."""
        if not self.is_open or self.is_waiting:
            return 0
        connection = self._connection
        exchange = self._exchange
        if exchange.room <= 0:
            self._starve()
            return 0
        reader = connection.reader
        data = reader.body()
        if data:
            if self._max_bytes is not None and reader.body_bytes > self._max_bytes:
                raise Refused(Refusal.BODY_TOO_LARGE)
            exchange.send(data)
            if self.tap is not None:
                self.tap.from_client(data)
            self.sent += len(data)
            connection.door.metrics.requests.to_cluster.value += len(data)
        if reader.complete:
            self.is_open = False
            self.is_starved = False
            exchange.end()
        elif exchange.room <= 0:
            self._starve()
        else:
            self.is_starved = False
            connection.resume_reading()
        return len(data)

    def stop(self) -> None:
        """The API server wants no more: the rest stays unread, and the connection will be closed after the answer."""
        self.is_open = False
        if not self.is_waiting:
            self._connection.pause_reading()

    def _starve(self) -> None:
        self.is_starved = True
        self._connection.pause_reading()
