"""The answer as it is written to the client: its head, the framing of its body, and how it is broken off."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Self

from kastunnel.http.render import render_response_head
from kastunnel.http.request import RequestHead
from kastunnel.link.frames import Head

if TYPE_CHECKING:
    from kas.kubernetes_api.connection import Connection


class BadAnswer(Exception):
    """What came over the link is not an answer that may be passed on; the message says why, for the log."""


class Framing(Enum):
    """How the client knows where the body ends."""

    NONE = auto()  # no body: HEAD, 204, 304
    COUNTED = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()  # HTTP/1.0 only; every failure is then a reset
    PIPE = auto()  # after a 101


_NONE, _COUNTED, _CHUNKED, _UNTIL_CLOSE, _PIPE = Framing
_CLOSE = b"Connection: close\r\n"


class Answer:
    """An answer whose head has been rendered. ``left`` of a counted body is still to come."""

    __slots__ = ("framing", "keep_alive", "left")

    def __init__(self, framing: Framing, left: int, *, keep_alive: bool) -> None:
        self.framing = framing
        self.left = left
        self.keep_alive = keep_alive

    @classmethod
    def begin(
        cls, head: Head, request: RequestHead, request_id: str, more: bytes = b"", *, keep_alive: bool
    ) -> tuple[Self, bytes]:
        """The answer, and its first bytes: the head with the body that came with it; after a 101 the head alone.

        ``more``: whole lines for the head. Raises BadAnswer, or BadMessage for a field that cannot be written.
        """
        status, headers, body, end, length = head
        own = b"X-Request-Id: %b\r\n%b" % (request_id.encode(), more)
        if status == 101:
            return cls._switch(head, request, own)
        if not 200 <= status <= 599:
            raise BadAnswer("status")
        if 300 <= status < 400 and status != 304 and any(name.lower() == b"location" for name, _ in headers):
            raise BadAnswer("redirect")
        if request.method == b"HEAD" or status == 204 or status == 304:
            if body:
                raise BadAnswer("a body where none may be")
            framing, left = _NONE, 0
            line = b"" if length is None or status == 204 else b"Content-Length: %d\r\n" % length
        elif end or length is not None:
            if length is None:
                length = len(body)
            framing, left = _COUNTED, length - len(body)
            if left < 0 or (end and left):
                raise BadAnswer("more or less than the stated length")
            line = b"Content-Length: %d\r\n" % length
        elif request.http_1_0:
            framing, left, line, keep_alive = _UNTIL_CLOSE, 0, b"", False
        else:
            framing, left, line = _CHUNKED, 0, b"Transfer-Encoding: chunked\r\n"
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
        if not keep_alive:
            line += _CLOSE
        return cls(framing, left, keep_alive=keep_alive), render_response_head(status, headers, own, line) + body

    @classmethod
    def _switch(cls, head: Head, request: RequestHead, own: bytes) -> tuple[Self, bytes]:
        if request.upgrade is None or head.end:
            raise BadAnswer("a switch that was not asked for")
        line = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % request.upgrade
        return cls(_PIPE, 0, keep_alive=False), render_response_head(101, head.headers, line, own)

    def encode(self, data: bytes) -> bytes:
        """``data`` as it is to be written. Raises BadAnswer where there cannot be so much."""
        framing = self.framing
        if framing is _CHUNKED:
            return b"%x\r\n%b\r\n" % (len(data), data)
        if framing is _COUNTED:
            self.left -= len(data)
            if self.left < 0:
                raise BadAnswer("more than the stated length")
        elif framing is _NONE:
            raise BadAnswer("a body where none may be")
        return data

    @property
    def is_whole(self) -> bool:
        """As much has come as was stated."""
        return self.left == 0

    def break_off(self, connection: Connection) -> None:
        """Let the client see that this is not the end.

        Where it shows (no last chunk, fewer bytes than stated, a stream protocol that was not ended), what was written may
        still leave, so that the last lines of a broken log arrive; else only a reset can tell.
        """
        if self.framing is _CHUNKED or self.framing is _PIPE or (self.framing is _COUNTED and self.left > 0):
            connection.close()
        else:
            connection.abort()
