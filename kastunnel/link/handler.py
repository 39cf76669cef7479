"""What a user of the link gives to it (Handler) and gets from it (Exchange), one of each per request.

The two HTTP ends are written against these alone, so that they can be tested without a link.
"""

from __future__ import annotations

from typing import Protocol

from kastunnel.link.frames import Code, Head, Headers, Hop, Reset, Uid


class Handler(Protocol):
    """Hears what the other end says about one request. Called in the order of the wire, never re-entrantly from an Exchange method.

    After ``on_reset`` nothing more is called. A method must not raise and must not block.
    """

    def on_head(self, head: Head) -> None:
        """The answer's head (only at the opener's end). ``head.body`` counts as data; with ``head.end`` it is all of it."""

    def on_data(self, data: bytes) -> None:
        """Body bytes, each once and in order. Say ``exchange.consumed(n)`` when they have left for the reader."""

    def on_end(self, stopped: bool) -> None:
        """All said in this direction. ``stopped``: cut short because we asked (``stop``); never a complete body."""

    def on_reset(self, reset: Reset) -> None:
        """The request has failed, here or there; it is over, also in our direction."""

    def on_room(self) -> None:
        """``exchange.room`` has become positive again: resume reading the source."""

    def on_stop(self, code: Code) -> None:
        """The other end wants no more bytes: stop reading the source. The link itself answers with a stopped End."""


class Exchange(Protocol):
    """One end of one request on a link. All methods return at once; after the request is over they do nothing."""

    handler: Handler
    uid: Uid

    @property
    def room(self) -> int:
        """Bytes that may still be said before the source should pause; may be negative after an overshoot of one read."""

    def send_head(
        self, status: int, headers: Headers, body: bytes = b"", *, end: bool = False, body_length: int | None = None
    ) -> None:
        """Say the answer's head, once (only at the answering end); ``body`` is at most 64 KiB."""

    def send(self, data: bytes) -> None:
        """Say body bytes. They are kept until the other end has received them; the caller must not change them."""

    def end(self) -> None:
        """Say that this direction is complete. Half-close: the other direction goes on."""

    def reset(
        self, code: Code, reason: str = "", *, hop: Hop = Hop.HOP_UNSET, not_run: bool = False, after_data: bool = False
    ) -> None:
        """Say that the request has failed. ``after_data``: behind the bytes already sent (a broken source), else at once.

        At once means that bytes not yet said are discarded. Nothing more is called on the handler.
        """

    def consumed(self, count: int) -> None:
        """``count`` received bytes have left for the reader: they may be credited again."""

    def stop(self, code: Code) -> None:
        """Ask the other end to end its body early; what still comes is counted and discarded by the link."""
