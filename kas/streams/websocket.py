"""exec and attach over WebSocket (RFC 6455): messages whose first byte is a channel; 3 is the error stream.

k8s.io/apimachinery/pkg/util/remotecommand and k8s.io/apiserver/pkg/util/wsstream: channels 0 to 4 are stdin, stdout, stderr, error, resize.
"""

from __future__ import annotations

import struct
from base64 import b64encode

from kas.streams.tap import Failure, NotUnderstood, Tap

CONTINUATION, TEXT, BINARY, CLOSE = 0, 1, 2, 8
FIN, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_ERROR_CHANNEL = 3
_NORMAL_CLOSURE = 1000


class WebSocketTap(Tap):
    """Needs no look at the client's direction: every channel is there from the start."""

    def __init__(self, protocol: bytes) -> None:
        super().__init__(protocol)
        self._is_base64 = b"base64." in protocol
        self._in_message = False  # between the fragments of one
        self._has_status = False
        self._is_closed = False

    def from_client(self, data: bytes) -> None:
        """Nothing to learn."""

    def _size(self, buffer: bytes, at: int) -> int:
        return server_frame_size(buffer, at)

    def _look(self, buffer: bytes, at: int, size: int) -> None:
        opcode = buffer[at] & 0x0F
        if opcode == CLOSE:
            self._is_closed = True
        elif opcode in (TEXT, BINARY):
            head = head_size(buffer[at + 1])
            if size > head + 1 and buffer[at + head] == (ord("3") if self._is_base64 else _ERROR_CHANNEL):
                self._has_status = True
        if opcode <= BINARY:
            self._in_message = not buffer[at] & FIN

    def _is_told(self) -> bool:
        return self._has_status

    def _failure(self, failure: Failure) -> bytes:
        """A message on the error channel, and the end of the connection as the API server writes it: any other hides the message."""
        if self._has_status or self._is_closed or self._in_message:
            return b""
        said = failure.status if self.says_status else failure.text.encode()
        text, raw = (TEXT, b"3" + b64encode(said)), (BINARY, bytes([_ERROR_CHANNEL]) + said)
        return frame(*(text if self._is_base64 else raw)) + frame(CLOSE, struct.pack("!H", _NORMAL_CLOSURE))


def server_frame_size(buffer: bytes, at: int) -> int:
    """Of the frame that begins there; 0: too little has come to tell. Raises NotUnderstood for an extension, or a server that masks."""
    have = len(buffer) - at
    if have < 2:
        return 0
    if buffer[at] & _RESERVED or buffer[at + 1] & _MASKED:
        raise NotUnderstood
    length = buffer[at + 1]
    head = head_size(length)
    if have < head:
        return 0
    size = head + (length if head == 2 else int.from_bytes(buffer[at + 2 : at + head], "big"))
    return size if have >= min(size, head + 1) else 0


def head_size(length: int) -> int:
    """Bytes of a head without a mask, from the seven bits that say a length or how it is said."""
    return {126: 4, 127: 10}.get(length, 2)


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole message, from a server."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", FIN | opcode, length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", FIN | opcode, 126, length)
    else:
        head = struct.pack("!BBQ", FIN | opcode, 127, length)
    return head + payload
