"""exec and attach over SPDY/3.1: one stream each for error, stdin, stdout, stderr and resize, named in the client's SYN_STREAM.

draft-mbelshe-httpbis-spdy-00 sections 2.2 and 2.6 for frames and header blocks; client-go's tools/remotecommand for their use.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from kas.streams.spdy_dictionary import DICTIONARY
from kas.streams.tap import Failure, NotUnderstood, Tap

MAX_HEADERS = 64 * 1024  # bytes of a header block, compressed or not
_HEAD = 8
_CONTROL = 0x80
_VERSION = 3
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _HEADERS = 1, 2, 3, 8
_BEFORE_BLOCK = {_SYN_STREAM: 10, _HEADERS: 4}  # bytes of the frame before its header block
_FIN = 0x01


class SpdyTap(Tap):
    """Says nothing before every stream of ``wanted`` was opened by the client and accepted by the server."""

    def __init__(self, protocol: bytes, wanted: Iterable[str]) -> None:
        """``wanted``: types of the streams besides ``error`` that the client will open."""
        super().__init__(protocol)
        self._wanted = frozenset({"error", *wanted})
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._said = b""  # by the client, of a frame that has not come whole
        self._skip = 0  # bytes of the client's that are no concern of ours
        self._streams: dict[str, int] = {}  # by type
        self._accepted: set[int] = set()
        self._ended: set[int] = set()  # by the server
        self._has_status = False

    # The client's direction: which stream is which

    def from_client(self, data: bytes) -> None:
        """Learns the numbers of the streams; after the last one it looks no more."""
        if self._is_blind or self._wanted <= self._streams.keys():
            return
        if len(data) <= self._skip:
            self._skip -= len(data)
            return
        buffer = self._said + data[self._skip :]
        self._skip = at = 0
        try:
            while len(buffer) - at >= _HEAD:
                size = self._size(buffer, at)
                kind = _kind(buffer, at)
                if kind in _BEFORE_BLOCK:
                    if size > MAX_HEADERS:
                        raise NotUnderstood
                    if at + size > len(buffer):
                        break
                    self._opened(kind, buffer[at + _HEAD : at + size])
                at += size
        except (NotUnderstood, zlib.error, struct.error):
            self._is_blind = True
            self._said = b""
            return
        self._skip = max(0, at - len(buffer))
        self._said = buffer[at:]

    def _opened(self, kind: int, content: bytes) -> None:
        """One compressed block follows another: each must be read, or the next cannot be."""
        block = self._inflate.decompress(content[_BEFORE_BLOCK[kind] :], MAX_HEADERS)
        if self._inflate.unconsumed_tail or self._inflate.eof:
            raise NotUnderstood
        if kind == _SYN_STREAM:
            stream = struct.unpack_from("!I", content)[0] & 0x7FFFFFFF
            for name, value in _pairs(block):
                if name == b"streamtype":
                    self._streams.setdefault(value.decode("latin-1"), stream)

    # The server's direction

    def _size(self, buffer: bytes, at: int) -> int:
        if len(buffer) - at < _HEAD:
            return 0
        if buffer[at] & _CONTROL and (buffer[at] & 0x7F, buffer[at + 1]) != (0, _VERSION):
            raise NotUnderstood
        return _HEAD + int.from_bytes(buffer[at + 5 : at + 8], "big")

    def _look(self, buffer: bytes, at: int, size: int) -> None:
        kind = _kind(buffer, at)
        if kind is None:
            stream = int.from_bytes(buffer[at : at + 4], "big")
            if size > _HEAD and stream == self._streams.get("error"):
                self._has_status = True
        elif kind in (_SYN_REPLY, _RST_STREAM):
            stream = int.from_bytes(buffer[at + 8 : at + 12], "big") & 0x7FFFFFFF
            if kind == _SYN_REPLY:
                self._accepted.add(stream)
            else:
                self._ended.add(stream)
        else:
            return
        if buffer[at + 4] & _FIN and kind != _RST_STREAM:
            self._ended.add(stream)

    def _is_told(self) -> bool:
        error = self._streams.get("error")
        return self._has_status or error is None or error in self._ended

    def _failure(self, failure: Failure) -> bytes:
        """The ends of the outputs, then the failure with the end of the error stream: clients read that when the outputs have ended."""
        if self._is_told() or not self._accepted.issuperset(map(self._streams.get, self._wanted)):
            return b""
        outputs = [self._streams[kind] for kind in ("stdout", "stderr") if kind in self._wanted]
        ends = b"".join(_data(stream, b"") for stream in outputs if stream not in self._ended)
        said = failure.status if self.says_status else failure.text.encode()
        return ends + _data(self._streams["error"], said)


def _kind(buffer: bytes, at: int) -> int | None:
    """Of a control frame; None: data."""
    return int.from_bytes(buffer[at + 2 : at + 4], "big") if buffer[at] & _CONTROL else None


def _data(stream: int, data: bytes) -> bytes:
    """The last DATA frame of a stream."""
    return struct.pack("!II", stream, _FIN << 24 | len(data)) + data


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and values of a decompressed header block. Raises struct.error or NotUnderstood for a broken one."""
    count, at = struct.unpack_from("!I", block)[0], 4
    for _ in range(count):
        pair: list[bytes] = []
        for _ in range(2):
            length = struct.unpack_from("!I", block, at)[0]
            at += 4 + length
            if at > len(block):
                raise NotUnderstood
            pair.append(block[at - length : at])
        yield pair[0], pair[1]
