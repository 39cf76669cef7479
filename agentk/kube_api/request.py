"""A plain request: the head at once, both bodies at the same time, the answer as one frame where it is small."""

from __future__ import annotations

import asyncio
import re

from agentk.kube_api.access import Access
from agentk.kube_api.carrier import Carrier, Home
from agentk.kube_api.connection import Connection
from kastunnel.http.errors import BadMessage
from kastunnel.http.response import ResponseHead, ResponseParser
from kastunnel.link.frames import Code, Head, Hop, Open
from kastunnel.link.handler import Exchange
from kastunnel.link.limits import INLINE_BODY

HOLD_S = 0.005  # a small answer that came in pieces is held so long to be said in one frame; nobody notices
CREDENTIAL_WARNING = (b"Warning", b'299 kas "agentk: the API server refused the agent\'s own credential"')
# Streams that last and say little at once. Not `watch=False`, as some clients say with each list.
_FOLLOWING = re.compile(rb"[?&](?:watch|follow)=[1tT]")
_IDEMPOTENT = frozenset({b"GET", b"HEAD"})


class PlainRequest(Carrier):
    """From Open to the end of the answer."""

    __slots__ = (
        "_held",
        "_hold_timer",
        "_is_answered",
        "_is_chunked",
        "_is_following",
        "_is_head_said",
        "_is_proxied",
        "_is_upload_done",
        "_left",
        "_parser",
        "_retry",
    )

    def __init__(
        self, home: Home, wanted: Open, exchange: Exchange, access: Access, limit_s: float, protocol: bytes = b""
    ) -> None:
        super().__init__(home, exchange, access, limit_s, wanted.request_id)
        self._parser = ResponseParser(is_head=wanted.method == b"HEAD", upgrade=protocol)
        self._is_answered = False  # some byte of an answer has come
        self._is_head_said = False
        self._is_upload_done = False
        self._is_chunked = False
        self._left = 0  # of the stated body
        self._held: list[bytes] | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._retry = b""  # what to send once more if a kept connection turns out to be dead
        # A 401 that came through the API server's proxy is a service's, not about agentk's credential.
        self._is_proxied = b"/proxy" in wanted.target
        self._is_following = _FOLLOWING.search(wanted.target) is not None

    def begin(self, wanted: Open, head: bytes, connection: Connection | None) -> None:
        """Send the head, and what is there of the body, on ``connection``, or on one that is yet to be made."""
        body = wanted.body
        sent = len(body)
        message = head
        length = upload_length(wanted)
        if length is None:
            self._is_chunked = True
            if body:
                message = b"%b%x\r\n%b\r\n" % (head, sent, body)
        else:
            self._left = length - sent
            if body:
                message = head + body
        self._is_upload_done = wanted.end
        if connection is None:
            self._waiting.append(message)
            self._unconsumed = sent
            self.dial()
            return
        if wanted.end and not body and wanted.method in _IDEMPOTENT:
            self._retry = message
        self.connection = connection
        self._has_sent = True
        connection.user = self
        if self._is_following:
            connection.narrow()
        connection.transport.write(message)
        if sent:
            if connection.is_write_paused:
                self._unconsumed = sent
            else:
                self.exchange.consumed(sent)

    def attach(self, connection: Connection) -> None:
        """See Carrier."""
        if self._is_following:
            connection.narrow()
        super().attach(connection)

    # From the link

    def on_head(self, head: Head) -> None:
        """Never: the answering end is here."""

    def on_data(self, data: bytes) -> None:
        """Send it on; the time limit runs from the last byte of the upload."""
        count = len(data)
        if self.is_over or self._is_upload_done:
            self.exchange.consumed(count)
            return
        if self.deadline:
            self.deadline = self._home.loop.time() + self.limit_s
        if self._is_chunked:
            self.write(b"%x\r\n%b\r\n" % (count, data), count)
            return
        self._left -= count
        if self._left < 0:
            self.fail(Code.PROTOCOL, "the request body is longer than stated", hop=Hop.AGENTK)
        else:
            self.write(data, count)

    def on_end(self, stopped: bool) -> None:
        """The body is complete; a stopped one never is, and then the answer has come already."""
        if self.is_over or self._is_upload_done:
            return
        self._is_upload_done = True
        if stopped:
            return
        if self._is_chunked:
            self.write(b"0\r\n\r\n", 0)
        elif self._left:
            self.fail(Code.PROTOCOL, "the request body is shorter than stated", hop=Hop.AGENTK)

    def on_stop(self, code: Code) -> None:
        """Nobody reads the answer any more: cancel it at the API server."""
        exchange, was_done = self.exchange, self._is_upload_done
        self.abandon()
        if not was_done:
            exchange.stop(code)

    # From the API server

    def receive(self, data: bytes) -> None:
        """Parse, and say what came."""
        parser = self._parser
        try:
            body = parser.feed(data)
        except BadMessage as bad:
            self._bad(bad)
            return
        if not self._is_head_said:
            self._is_answered = True
            head = parser.head
            if head is not None:
                self._answer(head, body)
            return
        if body:
            self.exchange.send(body)
        if parser.complete:
            self.exchange.end()
            self._answered()
        else:
            self.pause_if_full()

    def _answer(self, head: ResponseHead, body: bytes) -> None:
        """The head is here, with what came behind it; it is said now, or held for a moment if the whole answer is small."""
        if self._parser.complete:
            if self._held is not None:
                self._held.append(body)
                body = b"".join(self._held)
            self._say(head, body, end=True)
            return
        length = head.body_length
        if length is not None and length <= INLINE_BODY:
            if self._held is None:
                self._held = [body]
                self.deadline = 0.0
                self._hold_timer = self._home.loop.call_later(HOLD_S, self._hold_no_longer)
            else:
                self._held.append(body)
            return
        self._say(head, body, end=False)

    def _hold_no_longer(self) -> None:
        self._hold_timer = None
        head = self._parser.head
        if self._held is not None and head is not None and not self.is_over:
            self._say(head, b"".join(self._held), end=False)

    def _say(self, head: ResponseHead, body: bytes, *, end: bool) -> None:
        self._is_head_said = True
        self.deadline = 0.0
        if self._held is not None:
            self._held = None
            if self._hold_timer is not None:
                self._hold_timer.cancel()
                self._hold_timer = None
        if head.status == 401 and not self._is_proxied:
            head.headers.append(CREDENTIAL_WARNING)
            self._home.refused_credential()
        exchange = self.exchange
        length = head.body_length
        if end:
            if body and length is None:
                length = len(body)
            if len(body) <= INLINE_BODY:
                exchange.send_head(head.status, head.headers, body, end=True, body_length=length)
            else:
                exchange.send_head(head.status, head.headers, body_length=length)
                exchange.send(body)
                exchange.end()
            self._answered()
            return
        if len(body) <= INLINE_BODY:
            exchange.send_head(head.status, head.headers, body, body_length=length)
        else:
            exchange.send_head(head.status, head.headers, body_length=length)
            exchange.send(body)
        if head.status >= 400 and not self._is_upload_done:
            self._stop_upload()  # at once: a server that closes with our bytes unread would take its answer back
        self.pause_if_full()

    def _answered(self) -> None:
        """All of the answer is said: keep the connection if all of the request was, too."""
        if self._is_upload_done:
            self.let_go(reusable=self._parser.reusable)
        else:
            self._stop_upload()
            self.let_go(reusable=False)
        self.finish()

    def _stop_upload(self) -> None:
        self._is_upload_done = True
        self._parser.excess = True  # the API server still waits for bytes on this connection: never again
        self.exchange.stop(Code.LIMIT)

    # Ends

    def eof(self) -> bool:
        """An end between messages is nothing, an end within one is a loss; either way there is nothing more to write."""
        return False

    def lost(self, error: Exception | None) -> None:
        """The connection is gone while the request had it."""
        self.connection = None
        if self._is_head_said:
            self.fail(Code.UPSTREAM_BROKEN, "the API server broke off its answer", after_data=True)
        elif self._retry and not self._is_answered:
            # Closed by the API server just when it was used. Reading twice is harmless; only a fresh connection is sure.
            self._waiting = [self._retry]
            self._retry = b""
            self._home.statistics.retries += 1
            self.dial()
        elif self._is_answered:
            self.fail(Code.UPSTREAM_BROKEN, "the API server broke off its answer")
        else:
            self.broken(error)

    def finish(self) -> None:
        """Also let go of what is held."""
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        self._held = None
        super().finish()

    def _bad(self, bad: BadMessage) -> None:
        if self._is_head_said:
            self.fail(Code.UPSTREAM_BROKEN, bad.kind.text, after_data=True)
        else:
            self.fail(Code.UPSTREAM_BAD, bad.kind.text)


def upload_length(wanted: Open) -> int | None:
    """The length of the request's body; None: in chunks, for it is not known yet."""
    return len(wanted.body) if wanted.end and wanted.body_length is None else wanted.body_length
