"""One request on a link, as one end sees it: the Exchange that its user holds, and the two directions behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kastunnel.link.frames import Code, Head, Headers, Hop, Reset, Uid
from kastunnel.link.handler import Handler
from kastunnel.link.incoming import Incoming
from kastunnel.link.limits import REASON_BYTES
from kastunnel.link.outgoing import Outgoing

if TYPE_CHECKING:
    from kastunnel.link.link import Link


class _Silent:
    """Hears what nobody waits for any more."""

    def on_head(self, head: Head) -> None:
        """Nothing."""

    def on_data(self, data: bytes) -> None:
        """Nothing."""

    def on_end(self, stopped: bool) -> None:
        """Nothing."""

    def on_reset(self, reset: Reset) -> None:
        """Nothing."""

    def on_room(self) -> None:
        """Nothing."""

    def on_stop(self, code: Code) -> None:
        """Nothing."""


SILENT: Handler = _Silent()


class Request:
    """Implements kastunnel.link.handler.Exchange.

    ``over`` means over for its user: no more events, and methods do nothing. The link may keep it a little longer, until
    the other end has received what was said.
    """

    __slots__ = (
        "handler",
        "incoming",
        "link",
        "number",
        "opener",
        "outgoing",
        "over",
        "queued_control",
        "queued_turn",
        "uid",
    )

    def __init__(self, link: Link, uid: Uid, *, opener: bool) -> None:
        self.link = link
        self.uid = uid
        self.handler: Handler = SILENT  # set by whoever opens, or by the driver for requests that the other end opened
        self.opener = opener
        self.number = 0  # none before the Open enters an envelope
        self.incoming = Incoming(link.receive_budget)
        self.outgoing = Outgoing(link.send_budget)
        self.over = False
        self.queued_control = False
        self.queued_turn = False

    def __repr__(self) -> str:
        out, into = self.outgoing, self.incoming
        state = "over" if self.over else "open"
        return (
            f"<Request {self.number} {state} out {out.acked}/{out.said}/{out.handed} of {out.limit}{' end' if out.end else ''}"
            f" in {into.consumed}/{into.received} of {into.granted} {into.phase.name.lower()}>"
        )

    @property
    def room(self) -> int:
        """Bytes that may still be said before the source should pause."""
        return self.outgoing.room

    def send_head(
        self, status: int, headers: Headers, body: bytes = b"", *, end: bool = False, body_length: int | None = None
    ) -> None:
        """Say the answer's head, once."""
        out = self.outgoing
        if self.over or out.head is not None or out.head_said:
            return
        out.head = Head(status, headers, b"", False, body_length)
        if not out.stopped:
            if body:
                out.hand(body)
            if end:
                out.end = True
        self.link.say(self)

    def send(self, data: bytes) -> None:
        """Say body bytes."""
        out = self.outgoing
        if self.over or out.end or not data:
            return
        out.hand(data)
        self.link.say(self)

    def end(self) -> None:
        """Say that this direction is complete."""
        out = self.outgoing
        if not self.over and not out.end:
            out.end = True
            self.link.say(self)

    def reset(
        self, code: Code, reason: str = "", *, hop: Hop = Hop.HOP_UNSET, not_run: bool = False, after_data: bool = False
    ) -> None:
        """Say that the request has failed, and be done with it: the handler hears no more."""
        self.fail(code, reason, hop=hop, not_run=not_run, after_data=after_data)
        self.handler = SILENT

    def fail(self, code: Code, reason: str, *, hop: Hop, not_run: bool = False, after_data: bool = False) -> None:
        """Say that the request has failed; the link has an event for the handler."""
        if self.over:
            return
        self.over = True
        out = self.outgoing
        if out.end_said and self.incoming.ended:
            return  # all is said both ways: nothing is left to fail
        if not out.head_said and out.head is None:
            after_data = False  # without a head there are no bytes to deliver first
        if not after_data:
            out.discard()
            if not self.opener and not out.head_said:
                out.head = None
        reason = reason.encode()[:REASON_BYTES].decode(errors="ignore")
        out.reset = Reset(code, reason, hop, not_run, out.handed if after_data else None)
        self.link.abandon(self)

    def consumed(self, count: int) -> None:
        """Received bytes have left for the reader."""
        if not self.over and self.incoming.consume(count):
            self.link.say_control(self)

    def stop(self, code: Code) -> None:
        """Ask the other end to end its body early."""
        into = self.incoming
        if self.over or into.stop is not None or into.ended:
            return
        into.stop = code
        into.consumed = into.received
        into.credit_due = True
        self.link.say_control(self)
