"""exec and attach over SPDY/3.1: one stream each for error, stdin, stdout, stderr and resize, named in the client's SYN_STREAM.

draft-mbelshe-httpbis-spdy-00 sections 2.2 and 2.6 for frames and header blocks; client-go's tools/remotecommand for their use.
"""

from __future__ import annotations

import struct
import zlib
from abc import abstractmethod
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


class SpdyFrames(Tap):
    """Reads the frames of both directions; what their streams are for is the subclass's to know."""

    def __init__(self, protocol: bytes) -> None:
        super().__init__(protocol)
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._said = b""  # by the client, of a frame that has not come whole
        self._skip = 0  # bytes of the client's that are no concern of ours

    @abstractmethod
    def _knows_all(self) -> bool:
        """The client will open no stream more that matters: it need not be looked at."""

    @abstractmethod
    def _opened(self, stream: int, headers: dict[bytes, bytes]) -> None:
        """By the client. Raises NotUnderstood."""

    @abstractmethod
    def _accepted(self, stream: int) -> None:
        """By the server."""

    @abstractmethod
    def _heard(self, stream: int) -> None:
        """The server sent data."""

    @abstractmethod
    def _ended(self, stream: int) -> None:
        """By the server, which says no more there."""

    # The client's direction: which stream is which

    def from_client(self, data: bytes) -> None:
        """Learns the numbers of the streams."""
        if self._is_blind or self._knows_all():
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
                    self._read_block(kind, buffer[at + _HEAD : at + size])
                at += size
        except (NotUnderstood, zlib.error, struct.error):
            self._is_blind = True
            self._said = b""
            return
        self._skip = max(0, at - len(buffer))
        self._said = buffer[at:]

    def _read_block(self, kind: int, content: bytes) -> None:
        """One compressed block follows another: each must be read, or the next cannot be."""
        block = self._inflate.decompress(content[_BEFORE_BLOCK[kind] :], MAX_HEADERS)
        if self._inflate.unconsumed_tail or self._inflate.eof:
            raise NotUnderstood
        if kind == _SYN_STREAM:
            self._opened(struct.unpack_from("!I", content)[0] & 0x7FFFFFFF, dict(_pairs(block)))

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
            if size > _HEAD:
                self._heard(stream)
        elif kind in (_SYN_REPLY, _RST_STREAM):
            stream = int.from_bytes(buffer[at + 8 : at + 12], "big") & 0x7FFFFFFF
            if kind == _SYN_REPLY:
                self._accepted(stream)
        else:
            return
        if kind == _RST_STREAM or buffer[at + 4] & _FIN:
            self._ended(stream)


class SpdyTap(SpdyFrames):
    """exec and attach. Says nothing before every stream of ``wanted`` was opened by the client and accepted by the server."""

    def __init__(self, protocol: bytes, wanted: Iterable[str]) -> None:
        """``wanted``: types of the streams besides ``error`` that the client will open."""
        super().__init__(protocol)
        self._wanted = frozenset({"error", *wanted})
        self._streams: dict[str, int] = {}  # by type
        self._open: set[int] = set()  # accepted by the server
        self._over: set[int] = set()  # ended by the server
        self._has_status = False

    def _knows_all(self) -> bool:
        return self._wanted <= self._streams.keys()

    def _opened(self, stream: int, headers: dict[bytes, bytes]) -> None:
        if kind := headers.get(b"streamtype"):
            self._streams.setdefault(kind.decode("latin-1"), stream)

    def _accepted(self, stream: int) -> None:
        self._open.add(stream)

    def _heard(self, stream: int) -> None:
        self._has_status |= stream == self._streams.get("error")

    def _ended(self, stream: int) -> None:
        self._over.add(stream)

    def _is_told(self) -> bool:
        error = self._streams.get("error")
        return self._has_status or error is None or error in self._over

    def _failure(self, failure: Failure) -> bytes:
        """The ends of the outputs, then the failure with the end of the error stream: clients read that when the outputs have ended."""
        if self._is_told() or not self._open.issuperset(map(self._streams.get, self._wanted)):
            return b""
        outputs = [self._streams[kind] for kind in ("stdout", "stderr") if kind in self._wanted]
        ends = b"".join(last_data(stream, b"") for stream in outputs if stream not in self._over)
        said = failure.status if self.says_status else failure.text.encode()
        return ends + last_data(self._streams["error"], said)


def _kind(buffer: bytes, at: int) -> int | None:
    """Of a control frame; None: data."""
    return int.from_bytes(buffer[at + 2 : at + 4], "big") if buffer[at] & _CONTROL else None


def last_data(stream: int, data: bytes) -> bytes:
    """The last DATA frame of a stream."""
    return struct.pack("!II", stream, _FIN << 24 | len(data)) + data


def reset(stream: int) -> bytes:
    """A frame that ends a stream unfinished (CANCEL)."""
    return struct.pack("!HHIII", _CONTROL << 8 | _VERSION, _RST_STREAM, 8, stream, 5)


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
