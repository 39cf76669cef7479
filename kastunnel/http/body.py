"""Bodies in transfer coding ``chunked``, decoded strictly and within bounds.

llhttp is not used here: it has no bound on extensions and trailers and does not say where a body ended.
"""

from __future__ import annotations

import re

from kastunnel.http import limits
from kastunnel.http.errors import BadMessage, Kind
from kastunnel.http.fields import TOKEN

_EXTENSION = rb"(?:;[\t -~\x80-\xff]{0,%d})?" % limits.MAX_CHUNK_EXTENSION
_VALUE = rb"[\t -~\x80-\xff]*"
_size_line = re.compile(rb"([0-9A-Fa-f]{1,16})(" + _EXTENSION + rb")\r\n").match
_size_line_begun = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:" + _EXTENSION + rb"\r?)?)?").fullmatch
_trailer_line = re.compile(rb"(?:" + TOKEN + rb":" + _VALUE + rb")?\r\n").match
_trailer_line_begun = re.compile(rb"(?:" + TOKEN + rb"(?::" + _VALUE + rb"\r?)?|\r)?").fullmatch

_SIZE, _PAYLOAD, _PAYLOAD_END, _TRAILERS, _DONE = range(5)


class ChunkedBody:
    """Decodes one body. ``feed`` until ``done``; what came behind the body is then in ``leftover``."""

    __slots__ = ("_extensions", "_kept", "_kind", "_left", "_state", "_trailers", "leftover")

    def __init__(self, kind: Kind = Kind.CHUNK) -> None:
        self._kind = kind
        self._state = _SIZE
        self._left = 0  # of the payload of this chunk
        self._kept = b""  # the beginning of a line
        self._extensions = 0
        self._trailers = 0
        self.leftover = b""

    @property
    def done(self) -> bool:
        """The last chunk and the trailers, which are dropped, have been read."""
        return self._state == _DONE

    def feed(self, data: bytes) -> bytes:
        """The payload in ``data``, often ``data`` itself. BadMessage where the coding is broken or over a bound."""
        if self._left > len(data):
            self._left -= len(data)
            return data
        if self._kept:
            data = self._kept + data
            self._kept = b""
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            state = self._state
            if state == _PAYLOAD:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._state = _PAYLOAD_END
            elif state == _SIZE:
                after = self._read_size(data, at)
                if after == at:
                    break
                at = after
            elif state == _PAYLOAD_END:
                if data.startswith(b"\r\n", at):
                    self._state = _SIZE
                    at += 2
                elif data[at:] == b"\r":
                    self._kept = b"\r"
                    break
                else:
                    raise BadMessage(self._kind, "no line end after a chunk")
            elif state == _TRAILERS:
                after = self._read_trailer(data, at)
                if after == at:
                    break
                at = after
            else:
                self.leftover = self.leftover + data[at:]
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_size(self, data: bytes, at: int) -> int:
        line = _size_line(data, at)
        if line is None:
            if _size_line_begun(data[at : at + limits.MAX_CHUNK_EXTENSION + 32]) is None:
                raise BadMessage(self._kind, "chunk size")
            self._kept = data[at:]
            return at
        digits, extension = line.groups()
        if extension:
            self._extensions += len(extension)
            if self._extensions > limits.MAX_CHUNK_EXTENSIONS_TOTAL:
                raise BadMessage(self._kind, "chunk extensions")
        self._left = int(digits, 16)
        self._state = _PAYLOAD if self._left else _TRAILERS
        return line.end()

    def _read_trailer(self, data: bytes, at: int) -> int:
        line = _trailer_line(data, at)
        if line is None:
            rest = data[at : at + limits.MAX_TRAILERS + 1]
            if len(rest) + self._trailers > limits.MAX_TRAILERS or _trailer_line_begun(rest) is None:
                raise BadMessage(self._kind, "trailers")
            self._kept = rest
            return at
        after = line.end()
        self._trailers += after - at
        if self._trailers > limits.MAX_TRAILERS:
            raise BadMessage(self._kind, "trailers")
        if after - at == 2:
            self._state = _DONE
        return after
