"""A request that wants to become a byte pipe: exec, attach, port-forward and what the API server's proxy passes on."""

from __future__ import annotations

import asyncio

from agentk.kube_api.access import Access
from agentk.kube_api.carrier import Home
from agentk.kube_api.connection import Connection
from agentk.kube_api.request import PlainRequest
from kastunnel.http.response import ResponseHead
from kastunnel.link.frames import Code, Open
from kastunnel.link.handler import Exchange
from kastunnel.toolkit.vanished import is_vanished

# Seconds for the API server to end a TLS pipe after the caller's end, which TLS cannot pass on. Clients of Kubernetes end
# within the protocol (a FIN flag, a close frame), so by then the API server has long said its last bytes.
LINGER_S = 10.0


class UpgradeRequest(PlainRequest):
    """Until the 101 a request without a body on a fresh connection; from then on bytes both ways, opaque."""

    __slots__ = ("_early", "_is_down_ended", "_is_pipe", "_is_up_ended", "_linger")

    def __init__(
        self, home: Home, wanted: Open, exchange: Exchange, access: Access, limit_s: float, protocol: bytes
    ) -> None:
        super().__init__(home, wanted, exchange, access, limit_s, protocol)
        self._is_pipe = False
        self._is_up_ended = False
        self._is_down_ended = False
        self._linger: asyncio.TimerHandle | None = None
        self._early: list[bytes] = []

    def begin(self, wanted: Open, head: bytes, connection: Connection | None) -> None:
        """Send the head on a fresh connection, always. Bytes that the caller sent behind it wait for the 101."""
        del connection
        if wanted.body:
            self._early.append(wanted.body)
        self._is_up_ended = wanted.end
        self._waiting.append(head)
        self.dial()

    # From the link

    def on_data(self, data: bytes) -> None:
        """Bytes for the pipe, or, while there is none, for later (as much as the link's credit allows)."""
        if self.is_over or self._is_up_ended:
            self.exchange.consumed(len(data))
        elif self._is_pipe:
            self.write(data, len(data))
        else:
            self._early.append(data)

    def on_end(self, stopped: bool) -> None:
        """The caller's side has ended: half-close where that exists."""
        if self.is_over or self._is_up_ended:
            return
        self._is_up_ended = True
        if self._is_pipe:
            self._end_up()

    # From the API server

    def receive(self, data: bytes) -> None:
        """Raw bytes once the pipe is open."""
        if self._is_pipe:
            self.exchange.send(data)
            self.pause_if_full()
        else:
            super().receive(data)

    def _answer(self, head: ResponseHead, body: bytes) -> None:
        if head.status != 101:
            self._early.clear()  # the caller's bytes were meant for another protocol
            self._is_upload_done = self._is_up_ended
            super()._answer(head, body)
            return
        self._is_pipe = self._is_head_said = True
        self.deadline = 0.0
        self._home.statistics.upgrades += 1
        self.exchange.send_head(101, head.headers)  # alone: clients lose bytes that arrive in one read with it
        if body:
            self.exchange.send(body)
        early, self._early = self._early, []
        for data in early:
            self.write(data, len(data))
        if self._is_up_ended:
            self._end_up()
        self.pause_if_full()

    def _stop_upload(self) -> None:
        self._is_up_ended = True
        super()._stop_upload()

    def _end_up(self) -> None:
        connection = self.connection
        if connection is None:
            return
        if self._is_down_ended:
            self._close()
        elif connection.is_tls:
            self._linger = self._home.loop.call_later(LINGER_S, self._lingered)
        elif connection.transport.can_write_eof():
            connection.transport.write_eof()

    def _lingered(self) -> None:
        self._linger = None
        if not self.is_over:
            self.fail(Code.CANCELLED, "the caller ended its side and the API server did not follow", after_data=True)

    # Ends

    def eof(self) -> bool:
        """The API server has said all: pass it on. Without TLS the caller may go on."""
        if not self._is_pipe or self.connection is None:
            return False
        self._is_down_ended = True
        self.exchange.end()
        if self._is_up_ended:
            self._close()
            return False
        if not self.connection.is_tls:
            return True
        self._is_up_ended = True
        self.exchange.stop(Code.CANCELLED)  # nothing can be written any more
        self._close()
        return False

    def lost(self, error: Exception | None) -> None:
        """Without an end said in the protocol (a TLS close, a FIN) a pipe is cut, not closed."""
        if not self._is_pipe:
            super().lost(error)
            return
        self.connection = None
        if self._is_down_ended:
            if not self._is_up_ended:
                self.exchange.stop(Code.UPSTREAM_BROKEN)
            self.finish()
        else:
            self.fail(Code.UPSTREAM_BROKEN, "the connection to the API server was cut", after_data=True)

    def look(self) -> None:
        """Whether the API server is there still: called now and then."""
        if self.connection is not None and is_vanished(self.connection.transport):
            reason = "the API server takes nothing any more: the way to it is cut"
            self.fail(Code.UPSTREAM_BROKEN, reason, after_data=True)

    def _close(self) -> None:
        self.let_go(reusable=False)
        self.finish()

    def finish(self) -> None:
        """Also let go of the timer and of early bytes."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._early = []
        super().finish()
