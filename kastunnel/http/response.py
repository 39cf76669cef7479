"""What an API server answers: one parser per response.

Why our own rules around llhttp: it cannot be told that a reply is to HEAD, never ends a close-delimited body, reads unknown
transfer codings until close, and takes bytes behind a response for the next one. Here HEAD, 204 and 304 end at their heads,
interim responses are swallowed, and whatever follows the end is *excess*: the connection must be dropped.
"""

from __future__ import annotations

import re

import httptools

from kastunnel.http import fields, limits
from kastunnel.http.body import ChunkedBody
from kastunnel.http.errors import BadMessage, Kind
from kastunnel.http.fields import RESPONSE_FATES, Fate

_status_line = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [\t -~\x80-\xff]*)?\r\n").match
# Everything but control characters; CR and LF are counted apart.
_ALLOWED = bytes(byte for byte in range(256) if byte in b"\t\r\n" or (byte >= 0x20 and byte != 0x7F))
_KEEP = Fate.KEEP
_DROP = Fate.DROP
_CONTENT_LENGTH = Fate.CONTENT_LENGTH
_BEFORE_FINAL, _COUNTED, _CHUNKED, _UNTIL_CLOSE, _PIPE, _DONE = range(6)


class ResponseHead:
    """The final head of a response, cleaned: ``headers`` hold no framing, hop-by-hop field, cookie, CORS field or Location.

    ``body_length`` is what Content-Length says, None where the length is unknown; a reply to HEAD and a 304 may state one
    and have no body. ``keep_alive``: the API server lets the connection live. ``http_1_0``: it spoke HTTP/1.0.
    """

    __slots__ = ("body_length", "chunked", "headers", "http_1_0", "keep_alive", "status")

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        body_length: int | None,
        *,
        chunked: bool,
        keep_alive: bool,
        http_1_0: bool,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body_length = body_length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.http_1_0 = http_1_0


class ResponseParser:
    """Reads one response. ``feed`` every read to it, ``eof`` when the connection has ended.

    ``head`` is None until the final head is there, then the ResponseHead. ``complete``: the body has ended too (never on a
    101, from which ``feed`` returns what comes as it is). ``excess``: more came than the response. Only a connection whose
    response is ``reusable`` may carry another request. After a BadMessage the parser must not be used again.
    """

    __slots__ = (
        "_chunks",
        "_interim",
        "_is_head",
        "_kept",
        "_left",
        "_mode",
        "_searched",
        "_upgrade",
        "complete",
        "excess",
        "head",
    )

    def __init__(self, *, is_head: bool = False, upgrade: bytes = b"") -> None:
        """``is_head``: the request was HEAD. ``upgrade``: the protocol that was asked for, as sent."""
        self.head: ResponseHead | None = None
        self.complete = False
        self.excess = False
        self._is_head = is_head
        self._upgrade = upgrade
        self._mode = _BEFORE_FINAL
        self._kept = b""
        self._searched = 0
        self._interim = 0
        self._left = 0
        self._chunks: ChunkedBody | None = None

    @property
    def reusable(self) -> bool:
        """The connection may carry another request: all was read, nothing was left over, and the API server agrees."""
        return self.complete and not self.excess and self.head is not None and self.head.keep_alive

    def feed(self, data: bytes) -> bytes:
        """Take one read and return the body bytes in it, often ``data`` itself; ``b""`` while the head is incomplete.

        BadMessage for a response that must not be passed on; when ``head`` was there before, the body was broken on the way.
        """
        mode = self._mode
        if mode == _BEFORE_FINAL:
            data = self._read_heads(data)
            mode = self._mode
            if not data:
                return data
        if mode == _COUNTED:
            left = self._left
            size = len(data)
            if size < left:
                self._left = left - size
                return data
            self.complete = True
            self._mode = _DONE
            if size == left:
                return data
            self.excess = True
            return data[:left]
        if (chunks := self._chunks) is not None and mode == _CHUNKED:
            body = chunks.feed(data)
            if chunks.done:
                self.complete = True
                self._mode = _DONE
                self.excess = bool(chunks.leftover)
            return body
        if mode == _DONE:
            self.excess = True
            return b""
        return data

    def eof(self) -> None:
        """The connection has ended. BadMessage when the response had not: an end without a stated length is an abort."""
        if not self.complete and self._mode != _PIPE:
            raise BadMessage(Kind.RESPONSE_TRUNCATED)

    def _read_heads(self, data: bytes) -> bytes:
        """Read interim heads and the final one; return what follows it, ``b""`` while it is incomplete."""
        if self._kept:
            data = self._kept + data
            self._kept = b""
        while True:
            end = data.find(b"\r\n\r\n", self._searched)
            if end < 0 or end > limits.MAX_HEAD - 4:
                if len(data) > limits.MAX_HEAD:
                    raise BadMessage(Kind.RESPONSE_TOO_LARGE)
                _check_begun(data)
                self._kept = data
                self._searched = max(0, len(data) - 3)
                return b""
            end += 4
            self._searched = 0
            head = _parse(data[:end], self._upgrade)
            data = data[end:]
            if head is None:
                self._interim += 1
                if self._interim > limits.MAX_INTERIM_RESPONSES_COUNT:
                    raise BadMessage(Kind.RESPONSE_HEAD, "interim responses")
                if not data:
                    return b""
                continue
            self._begin_body(head)
            self.head = head
            if data and self._mode == _DONE:
                self.excess = True
                return b""
            return data

    def _begin_body(self, head: ResponseHead) -> None:
        status = head.status
        if status == 101:
            self._mode = _PIPE
        elif self._is_head or status == 204 or status == 304 or head.body_length == 0:
            self.complete = True
            self._mode = _DONE
        elif head.chunked:
            self._chunks = ChunkedBody(Kind.RESPONSE_CHUNK)
            self._mode = _CHUNKED
        elif head.body_length is not None:
            self._left = head.body_length
            self._mode = _COUNTED
        else:
            head.keep_alive = False
            self._mode = _UNTIL_CLOSE


class _Collector:
    """Takes the fields from llhttp, in order."""

    __slots__ = ("found", "on_header")

    def __init__(self) -> None:
        self.found: list[tuple[bytes, bytes]] = []
        found = self.found.append

        def on_header(name: bytes, value: bytes) -> None:
            found((name, value))

        self.on_header = on_header


def _check_begun(data: bytes) -> None:
    """Refuse early what can never become a head, so that a broken server is not waited for."""
    if not data.startswith(b"HTTP/1."[: len(data)]):
        raise BadMessage(Kind.RESPONSE_HEAD, "status line")
    lines = data.count(b"\n")
    if lines and (lines != data.count(b"\r\n") or _status_line(data) is None):
        raise BadMessage(Kind.RESPONSE_HEAD, "status line or line end")


def _parse(raw: bytes, upgrade: bytes) -> ResponseHead | None:
    """The cleaned head; None for an interim response."""
    line = _status_line(raw)
    if line is None:
        raise BadMessage(Kind.RESPONSE_HEAD, "status line")
    breaks = raw.count(b"\r\n")
    if raw.translate(None, _ALLOWED) or raw.count(b"\n") != breaks or raw.count(b"\r") != breaks:
        raise BadMessage(Kind.RESPONSE_HEAD, "control character")
    if breaks - 2 > limits.MAX_HEADERS_COUNT:
        raise BadMessage(Kind.RESPONSE_TOO_LARGE, "fields")
    collector = _Collector()
    try:
        httptools.HttpResponseParser(collector).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # decided below, from the fields themselves
    except httptools.HttpParserError:
        raise BadMessage(Kind.RESPONSE_HEAD) from None
    status = int(line[2])
    if status < 200:
        if status < 100:
            raise BadMessage(Kind.RESPONSE_STATUS)
        if status != 101:
            return None
    elif status > 599:
        raise BadMessage(Kind.RESPONSE_STATUS)
    return _clean(status, line[1] == b"0", collector.found, upgrade)


def _clean(status: int, http_1_0: bool, found: list[tuple[bytes, bytes]], upgrade: bytes) -> ResponseHead:
    kept = []
    length: bytes | None = None
    codings: list[bytes] = []
    connection: list[bytes] = []
    upgrades: list[bytes] = []
    for field in found:
        fate = RESPONSE_FATES[field[0]]
        if fate is _KEEP:
            kept.append(field)
        elif fate is _DROP:
            continue
        elif fate is _CONTENT_LENGTH:
            if length is not None:
                raise BadMessage(Kind.RESPONSE_FRAMING, "content-length twice")
            length = field[1].strip(b" \t")
        elif fate is Fate.TRANSFER_ENCODING:
            codings.append(field[1].strip(b" \t").lower())
        elif fate is Fate.CONNECTION:
            connection.append(field[1])
        elif fate is Fate.UPGRADE:
            upgrades.append(field[1])
        elif fate is Fate.LOCATION:
            if 300 <= status < 400 and status != 304:
                raise BadMessage(Kind.RESPONSE_REDIRECT)
        else:
            raise BadMessage(Kind.RESPONSE_HEAD, "field name")
    body_length = _length(length, codings, http_1_0)
    options: set[bytes] = set()
    if connection:
        options = _options(connection)
        others = options - {b"close", b"keep-alive", b"upgrade"}
        if others:
            kept = fields.without(kept, others)
    if status == 101:
        _check_switch(upgrade, upgrades, options, plain=not codings and not body_length)
    return ResponseHead(
        status,
        kept,
        body_length,
        chunked=bool(codings),
        keep_alive=not http_1_0 and status != 101 and b"close" not in options and not upgrade,
        http_1_0=http_1_0,
    )


def _length(length: bytes | None, codings: list[bytes], http_1_0: bool) -> int | None:
    if codings:
        if len(codings) != 1 or codings[0] != b"chunked" or length is not None or http_1_0:
            raise BadMessage(Kind.RESPONSE_FRAMING, "transfer-encoding")
        return None
    if length is None:
        return None
    if not length.isdigit() or len(length) > limits.MAX_CONTENT_LENGTH_DIGITS_COUNT:
        raise BadMessage(Kind.RESPONSE_FRAMING, "content-length")
    return int(length)


def _options(connection: list[bytes]) -> set[bytes]:
    try:
        return fields.connection_options(connection)
    except BadMessage:
        raise BadMessage(Kind.RESPONSE_HEAD, "connection") from None


def _check_switch(asked: bytes, answered: list[bytes], options: set[bytes], *, plain: bool) -> None:
    if (
        not asked
        or len(answered) != 1
        or answered[0].strip(b" \t").lower() != asked.lower()
        or b"upgrade" not in options
        or not plain
    ):
        raise BadMessage(Kind.RESPONSE_SWITCH)
