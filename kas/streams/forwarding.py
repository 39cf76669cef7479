"""port-forward: two SPDY streams for each connection, ``data`` and ``error``, joined by a request id; straight, or through a WebSocket.

client-go's tools/portforward: kubectl prints what comes in the error stream once the data stream has ended. Without a connection there is
no stream to say anything in, and kubectl tells that it has lost the pod.
"""

from __future__ import annotations

from kas.streams.spdy import SpdyFrames, last_data, reset
from kas.streams.tap import Failure, NotUnderstood, Tap
from kas.streams.websocket import BINARY, CONTINUATION, frame, head_size, server_frame_size

MAX_CONNECTIONS = 1024  # at a time, in one port-forward
SETTLE_S = 0.5  # kubectl ends as soon as the connection does, be its other goroutines done with printing or not
_MASK_BYTES = 4


class ForwardTap(SpdyFrames):
    """port-forward over SPDY. Each open connection is told; it ends as broken."""

    settle_s = SETTLE_S

    def __init__(self) -> None:
        super().__init__(b"portforward.k8s.io")
        self._by_request: dict[bytes, dict[bytes, int]] = {}  # its streams by type
        self._requests: dict[int, bytes] = {}  # by error stream
        self._open: set[int] = set()  # error streams that the server has accepted

    def _knows_all(self) -> bool:
        return False

    def _opened(self, stream: int, headers: dict[bytes, bytes]) -> None:
        kind, request = headers.get(b"streamtype", b""), headers.get(b"requestid", b"")
        if kind == b"error":
            if len(self._by_request) == MAX_CONNECTIONS or request in self._by_request:
                raise NotUnderstood
            self._by_request[request] = {kind: stream}
            self._requests[stream] = request
        elif streams := self._by_request.get(request):
            streams[kind] = stream

    def _accepted(self, stream: int) -> None:
        if stream in self._requests:
            self._open.add(stream)

    def _heard(self, stream: int) -> None:
        self._ended(stream)  # it is an error stream: the server has said what was wrong

    def _ended(self, stream: int) -> None:
        if (request := self._requests.pop(stream, None)) is not None:
            self._by_request.pop(request)
            self._open.discard(stream)

    def _is_told(self) -> bool:
        return not self._open

    def _failure(self, failure: Failure) -> bytes:
        said = failure.text.encode()
        told = b""
        for error in sorted(self._open):
            data = self._by_request[self._requests[error]].get(b"data")
            told += (b"" if data is None else reset(data)) + last_data(error, said)
        return told


class TunnelTap(Tap):
    """The same SPDY as a byte stream in the messages of a WebSocket (k8s.io/apimachinery/pkg/util/httpstream/wsstream, KEP-4006)."""

    settle_s = SETTLE_S

    def __init__(self) -> None:
        self._inner = ForwardTap()
        super().__init__(b"")
        self._client = _ClientBytes()

    def from_client(self, data: bytes) -> None:
        """Learns the numbers of the streams."""
        if not self._is_blind:
            try:
                self._inner.from_client(self._client.taken(data))
            except NotUnderstood:
                self._is_blind = True

    def _size(self, buffer: bytes, at: int) -> int:
        return server_frame_size(buffer, at)

    def _look(self, buffer: bytes, at: int, size: int) -> None:
        if at + size > len(buffer):
            raise NotUnderstood  # of a message so large the tap sees only the beginning; API servers do not write such
        if buffer[at] & 0x0F in (BINARY, CONTINUATION):
            self._inner.from_server(buffer[at + head_size(buffer[at + 1]) : at + size])

    def _is_told(self) -> bool:
        return True

    def _failure(self, failure: Failure) -> bytes:
        """Only between two frames of the SPDY within."""
        told = b"" if self._inner.rest() else self._inner.failure(failure)
        return frame(BINARY, told) if told else b""


class _ClientBytes:
    """What the messages of a client hold, as one stream of bytes: heads dropped, masks taken off (RFC 6455 section 5.2)."""

    def __init__(self) -> None:
        self._head = b""  # of a frame, while it has not come whole
        self._left = 0  # bytes of the payload still to come
        self._mask = bytes(_MASK_BYTES)  # turned to where the payload has got
        self._counts = False  # control frames do not

    def taken(self, data: bytes) -> bytes:
        """The bytes that ``data`` adds. Raises NotUnderstood."""
        found = []
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._counts:
                    found.append(self._unmasked(piece))
                continue
            self._head += data[at : at + 1]
            at += 1
            self._begin()
        return b"".join(found)

    def _begin(self) -> None:
        head = self._head
        if len(head) < 2:
            return
        if not head[1] & 0x80 or head[0] & 0x70:
            raise NotUnderstood
        length = head[1] & 0x7F
        size = head_size(length)
        if len(head) == size + _MASK_BYTES:
            self._left = length if size == 2 else int.from_bytes(head[2:size], "big")
            self._mask = head[size:]
            self._counts = head[0] & 0x0F in (BINARY, CONTINUATION)
            self._head = b""

    def _unmasked(self, piece: bytes) -> bytes:
        count = len(piece)
        mask = self._mask * (count // _MASK_BYTES + 1)
        turned = count % _MASK_BYTES
        self._mask = self._mask[turned:] + self._mask[:turned]
        plain = int.from_bytes(piece, "little") ^ int.from_bytes(mask[:count], "little")
        return plain.to_bytes(count, "little")
