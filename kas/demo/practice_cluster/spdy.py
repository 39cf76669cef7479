"""SPDY/3.1 as Kubernetes uses it, sans I/O: bytes in, events out; calls in, bytes out.

Kubernetes uses no flow control (no window is ever announced or spent) and no server push. Either role is offered, so
that a test can play kubectl. Not for the open internet: the peer is trusted to be a Kubernetes client or server, but
every size it announces is bounded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from kas.streams.spdy_dictionary import DICTIONARY

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN = 0x01
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5  # RST_STREAM status codes
MAX_DATA_BYTES = 32 * 1024  # per DATA frame sent: what client-go's buffers are made for
MAX_FRAME_BYTES = 1 << 20  # per frame received: kubectl sends 32 KiB of data at most
MAX_HEADER_BYTES = 64 * 1024  # of one header block, decompressed


class SpdyError(Exception):
    """The peer does not speak SPDY/3.1; the connection is of no more use."""


@dataclass(frozen=True)
class StreamOpened:
    """The peer opened a stream (SYN_STREAM)."""

    stream: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclass(frozen=True)
class StreamAnswered:
    """The peer answered a stream that we opened (SYN_REPLY)."""

    stream: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclass(frozen=True)
class DataReceived:
    """Bytes on a stream; with ``fin``, the last ones in this direction."""

    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True)
class StreamReset:
    """The peer gave a stream up, in both directions (RST_STREAM)."""

    stream: int
    status: int


@dataclass(frozen=True)
class PingAnswered:
    """The peer answered our PING."""

    number: int


@dataclass(frozen=True)
class WentAway:
    """The peer opens no more streams (GOAWAY)."""

    last_stream: int
    status: int


Event = StreamOpened | StreamAnswered | DataReceived | StreamReset | PingAnswered | WentAway


class Spdy:
    """One end of one connection. Not safe for use by two tasks between an ``await``: there is none in here."""

    def __init__(self, *, client: bool = False) -> None:
        self._client = client
        self._received = bytearray()
        self._out: list[bytes] = []
        self._deflate = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._next_stream = 1 if client else 2
        self._next_ping = 1 if client else 2

    def feed(self, data: bytes) -> list[Event]:
        """What the peer said in ``data`` and whatever was left over before. Raises SpdyError.

        Pings are answered on the way: send ``taken()`` after each call.
        """
        self._received += data
        events: list[Event] = []
        position = 0
        while len(self._received) - position >= 8:
            head, length = struct.unpack_from("!II", self._received, position)
            flags, length = length >> 24, length & 0xFFFFFF
            if length > MAX_FRAME_BYTES:
                raise SpdyError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are read")
            if len(self._received) - position - 8 < length:
                break
            content = bytes(self._received[position + 8 : position + 8 + length])
            position += 8 + length
            if not head >> 31:
                events.append(DataReceived(head, content, bool(flags & FLAG_FIN)))
            elif (event := self._control(head, flags, content)) is not None:
                events.append(event)
        del self._received[:position]
        return events

    def taken(self) -> bytes:
        """Everything that is to be sent now."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> int:
        """Open a stream; its number."""
        stream = self._next_stream
        self._next_stream += 2
        self._send(SYN_STREAM, fin, struct.pack("!IIBB", stream, 0, 0, 0) + self._compressed(headers))
        return stream

    def answer(self, stream: int, headers: Mapping[str, str] | None = None, *, fin: bool = False) -> None:
        """Accept a stream that the peer opened."""
        self._send(SYN_REPLY, fin, struct.pack("!I", stream) + self._compressed(headers or {}))

    def data(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes, in frames of at most ``MAX_DATA_BYTES``; with ``fin`` end this direction."""
        position = 0
        while True:
            piece = data[position : position + MAX_DATA_BYTES]
            position += len(piece)
            last = position >= len(data)
            self._out.append(struct.pack("!II", stream, (FLAG_FIN if fin and last else 0) << 24 | len(piece)))
            self._out.append(piece)
            if last:
                return

    def reset(self, stream: int, status: int = CANCEL) -> None:
        """Give a stream up, in both directions."""
        self._send(RST_STREAM, False, struct.pack("!II", stream, status))

    def ping(self) -> int:
        """Ask for a sign of life; the number that the answer will carry."""
        number = self._next_ping
        self._next_ping += 2
        self._send(PING, False, struct.pack("!I", number))
        return number

    def go_away(self, last_stream: int = 0) -> None:
        """Say that no more streams will be accepted."""
        self._send(GOAWAY, False, struct.pack("!II", last_stream, 0))

    def _send(self, kind: int, fin: bool, content: bytes) -> None:
        flags = FLAG_FIN if fin else 0
        self._out.append(struct.pack("!HHI", 0x8000 | VERSION, kind, flags << 24 | len(content)) + content)

    def _control(self, head: int, flags: int, content: bytes) -> Event | None:
        version, kind = head >> 16 & 0x7FFF, head & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"a frame of SPDY version {version}; only 3 is spoken here")
        try:
            return self._decoded(kind, bool(flags & FLAG_FIN), content)
        except struct.error as error:
            raise SpdyError(f"a control frame of type {kind} is too short") from error

    def _decoded(self, kind: int, fin: bool, content: bytes) -> Event | None:
        match kind:
            case 1:  # SYN_STREAM
                stream = struct.unpack_from("!IIBB", content)[0] & 0x7FFFFFFF
                return StreamOpened(stream, self._headers(content[10:]), fin)
            case 2:  # SYN_REPLY
                (stream,) = struct.unpack_from("!I", content)
                return StreamAnswered(stream, self._headers(content[4:]), fin)
            case 3:  # RST_STREAM
                return StreamReset(*struct.unpack_from("!II", content))
            case 6:  # PING
                (number,) = struct.unpack_from("!I", content)
                if number % 2 == (1 if self._client else 0):
                    return PingAnswered(number)
                self._send(PING, False, content[:4])
            case 7:  # GOAWAY
                return WentAway(*struct.unpack_from("!II", content))
            case 8:  # HEADERS: Kubernetes sends none, but the compression is one stream for all blocks
                self._headers(content[4:])
        return None  # SETTINGS and WINDOW_UPDATE change nothing, for there is no flow control

    def _compressed(self, headers: Mapping[str, str]) -> bytes:
        block = [struct.pack("!I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                block += (struct.pack("!I", len(text)), text)
        return self._deflate.compress(b"".join(block)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def _headers(self, compressed: bytes) -> dict[str, str]:
        """Every block passes through here, for each one is needed to read the next."""
        try:
            block = self._inflate.decompress(compressed, MAX_HEADER_BYTES)
        except zlib.error as error:
            raise SpdyError(f"a header block cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"a header block of more than {MAX_HEADER_BYTES} bytes")
        headers, position = {}, 4
        try:
            (count,) = struct.unpack_from("!I", block)
            for _ in range(count):
                name, position = _text(block, position)
                headers[name], position = _text(block, position)
        except (struct.error, UnicodeDecodeError) as error:
            raise SpdyError(f"a header block is malformed: {error}") from error
        return headers


def _text(block: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("!I", block, position)
    end = position + 4 + length
    if end > len(block):
        raise SpdyError("a header is longer than its block")
    return block[position + 4 : end].decode(), end
