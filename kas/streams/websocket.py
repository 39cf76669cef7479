"""exec and attach over WebSocket (RFC 6455): messages whose first byte is a channel; 3 is the error stream.

k8s.io/apimachinery/pkg/util/remotecommand and k8s.io/apiserver/pkg/util/wsstream: channels 0 to 4 are stdin, stdout, stderr, error, resize.
"""

from __future__ import annotations

import struct
from base64 import b64encode

from kas.streams.tap import Failure, NotUnderstood, Tap

_CONTINUATION, _TEXT, _BINARY, _CLOSE = 0, 1, 2, 8
_FIN, _RESERVED, _MASKED = 0x80, 0x70, 0x80
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
        have = len(buffer) - at
        if have < 2:
            return 0
        if buffer[at] & _RESERVED or buffer[at + 1] & _MASKED:
            raise NotUnderstood  # an extension, or a server that masks
        length = buffer[at + 1]
        head = 2
        if length == 126:
            head = 4
            length = struct.unpack_from("!H", buffer, at + 2)[0] if have >= 4 else 0
        elif length == 127:
            head = 10
            length = struct.unpack_from("!Q", buffer, at + 2)[0] if have >= 10 else 0
        return head + length if have >= head + min(length, 1) else 0

    def _look(self, buffer: bytes, at: int, size: int) -> None:
        opcode = buffer[at] & 0x0F
        if opcode == _CLOSE:
            self._is_closed = True
        elif opcode in (_TEXT, _BINARY):
            head = {126: 4, 127: 10}.get(buffer[at + 1], 2)
            if size > head + 1 and buffer[at + head] == (ord("3") if self._is_base64 else _ERROR_CHANNEL):
                self._has_status = True
        if opcode <= _BINARY:
            self._in_message = not buffer[at] & _FIN

    def _is_told(self) -> bool:
        return self._has_status

    def _failure(self, failure: Failure) -> bytes:
        """A message on the error channel, and the end of the connection as the API server writes it: any other hides the message."""
        if self._has_status or self._is_closed or self._in_message:
            return b""
        said = failure.status if self.says_status else failure.text.encode()
        text, raw = (_TEXT, b"3" + b64encode(said)), (_BINARY, bytes([_ERROR_CHANNEL]) + said)
        return _frame(*(text if self._is_base64 else raw)) + _frame(_CLOSE, struct.pack("!H", _NORMAL_CLOSURE))


def _frame(opcode: int, payload: bytes) -> bytes:
    """A whole message of less than 64 KiB, from a server."""
    length = len(payload)
    head = (
        struct.pack("!BB", _FIN | opcode, length) if length < 126 else struct.pack("!BBH", _FIN | opcode, 126, length)
    )
    return head + payload
