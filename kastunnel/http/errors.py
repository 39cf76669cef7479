"""Messages that are refused: each kind with the answer that a door gives for it.

After any of them the connection is closed: where a message cannot be trusted, neither can what follows it.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import NamedTuple


class Answer(NamedTuple):
    """What the client of a door reads."""

    status: int
    text: str


@unique
class Kind(Enum):
    """Why a message is refused; the value is the answer. Requests first, then responses of an API server (all 502)."""

    MALFORMED = Answer(400, "the request is not well-formed HTTP/1.1")
    TARGET = Answer(400, "the request target must be a plain path with valid percent-encoding and no dot segments")
    FRAMING = Answer(400, "the length of the request body is not stated in exactly one valid way")
    CHUNK = Answer(400, "the chunked request body is not well-formed")
    HOST = Answer(400, "exactly one valid Host header is needed")
    CONNECTION_OPTIONS = Answer(400, "the Connection header names a field that must not be removed")
    UPGRADE = Answer(400, "only complete WebSocket and SPDY/3.1 upgrade requests without a body are accepted")
    BEARER_SUBPROTOCOL = Answer(400, "send the token in the Authorization header, not as a WebSocket subprotocol")
    CREDENTIALS = Answer(401, "exactly one Authorization header is expected")
    METHOD = Answer(405, "the method is not supported")
    BODY_TOO_LARGE = Answer(413, "the request body is too large")
    LINE_TOO_LONG = Answer(414, "the request line is longer than 16 KiB")
    EXPECTATION = Answer(417, "the only supported expectation is 100-continue")
    HEAD_TOO_LARGE = Answer(431, "the request head is larger than 64 KiB, has a line over 16 KiB or over 100 fields")
    VERSION = Answer(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    LOOP = Answer(508, "the request has already passed through kas")

    RESPONSE_HEAD = Answer(502, "the API server's response head is not well-formed HTTP/1.x")
    RESPONSE_TOO_LARGE = Answer(502, "the API server's response head is too large")
    RESPONSE_STATUS = Answer(502, "the API server's response has a status outside 200 to 599")
    RESPONSE_FRAMING = Answer(502, "the length of the API server's response is not stated in exactly one valid way")
    RESPONSE_CHUNK = Answer(502, "the API server's chunked response is not well-formed")
    RESPONSE_REDIRECT = Answer(502, "the API server's response is a redirect, which is never followed or passed on")
    RESPONSE_SWITCH = Answer(502, "the API server switched to a protocol that was not asked for")
    RESPONSE_TRUNCATED = Answer(502, "the API server's response ended before it was complete")

    @property
    def status(self) -> int:
        """The status code of the answer."""
        return self.value.status

    @property
    def text(self) -> str:
        """One sentence for the user, without anything from the message itself."""
        return self.value.text


class BadMessage(Exception):
    """A message is refused: answer ``kind`` and close the connection.

    ``detail`` names the offending field or rule for logs; it never holds a value from the message.
    """

    def __init__(self, kind: Kind, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.kind.text} ({self.detail})" if self.detail else self.kind.text
