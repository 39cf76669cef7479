"""What clients send: one reader per connection, which never looks at a second request before the first is over.

The head's end is searched here (llhttp knows no bound), the request line and the framing are checked on raw bytes, then llhttp
gets exactly the head, for its strictness with fields. Upgrades are decided by our own check, never by llhttp's exception.

Clients repeat themselves: on one connection the fields are often those of the request before, byte for byte, a token of a kilobyte
among them. What was found in them then is found in them now, so only the request line is looked at.
"""

from __future__ import annotations

import re

import httptools

from kastunnel.http import fields, limits
from kastunnel.http.body import ChunkedBody
from kastunnel.http.errors import BadMessage, Kind
from kastunnel.http.fields import REQUEST_FATES, Fate
from kastunnel.http.target import METHODS, check_target

_request_line = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.([01])\r\n").match
_any_request_line = re.compile(rb"([!-~]+) ([^ \r\n]+)(?: (HTTP/[0-9]+\.[0-9]+))?\r?\n").match
# Everything but control characters; CR and LF are counted apart.
_ALLOWED = bytes(byte for byte in range(256) if byte in b"\t\r\n" or (byte >= 0x20 and byte != 0x7F))
_stray_line_end = re.compile(rb"(?<!\r)\n|\r(?!\n)").search
_good_host = re.compile(rb"[!-+\--.0-?A-\[\]-~]+").fullmatch  # visible, without / @ , and \
_LOCAL_METHODS = METHODS | {b"OPTIONS"}  # OPTIONS is answered by the door itself
_HOP_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade"})

VIA_PSEUDONYM = b"kas"
"""How kas calls itself in Via; a request that carries it has been here before."""

_KEEP = Fate.KEEP
_DROP = Fate.DROP
_HOST = Fate.HOST
_AUTHORIZATION = Fate.AUTHORIZATION
_HEAD, _NONE, _COUNTED, _CHUNKED, _PIPE = range(5)
_MAX_REMEMBERED = 4 * 1024  # bytes of fields


class RequestHead:
    """One request's head, checked and cleaned. Only what differs from the defaults is set, which makes it cheap.

    ``headers`` are ready for a link: no hop-by-hop, identity, credential, cookie, framing or Host field; with ``upgrade``
    they hold one Upgrade field, which tells agentk what to ask for.
    """

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    host: bytes
    http_1_0 = False
    body_length: int | None = 0
    """0: no body. None: chunked, length unknown."""
    upgrade: bytes | None = None
    """``websocket`` or ``SPDY/3.1``, or None."""
    keep_alive = True
    """The client lets the connection live."""
    expect_continue = False
    """The client waits for 100 (Continue) before it sends the body."""
    authorization = b""
    """The value of the only Authorization field: a secret."""
    impersonation: list[tuple[bytes, bytes]] = []  # noqa: RUF012  # never changed in place
    """The Impersonate fields as they came; a name with ``_`` is not to be understood, only refused."""
    origin: bytes | None = None
    """The value of Origin; never passed on."""
    repeatable = b""
    """The fields as they came, where they say nothing about this request alone: no body, no upgrade, nothing rare. They hold the secret."""

    def field(self, name: bytes) -> bytes:
        """The first value of the field ``name`` (lower case), or ``b""``. For logs: it walks the list."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return b""


class RequestReader:
    """Reads the requests of one connection, strictly one after the other.

    ``feed`` what was read; ``head`` until it returns one; ``body`` after each ``feed`` until ``complete``; ``next`` when the
    answer has been written. Bytes of a following request wait unparsed (``has_more``): the connection should stop reading
    meanwhile. After an upgrade request's head the body is whatever comes, raw, and never complete.

    Every method may raise BadMessage, after which the connection is to be answered and closed.
    """

    __slots__ = ("_before", "_buffer", "_chunks", "_left", "_mode", "_searched", "body_bytes", "complete")

    def __init__(self) -> None:
        self._buffer = b""
        self._searched = 0
        self._mode = _HEAD
        self._left = 0
        self._chunks: ChunkedBody | None = None
        self._before: RequestHead | None = None  # whose fields may come again
        self.complete = False
        self.body_bytes = 0  # read so far of the current body

    @property
    def has_more(self) -> bool:
        """Bytes wait that belong to a later request, or to an upgraded stream that has not been asked for yet."""
        return bool(self._buffer)

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not yet taken: of this body, or of what follows it."""
        return len(self._buffer)

    @property
    def is_idle(self) -> bool:
        """Between requests, with nothing of the next one."""
        return self._mode == _HEAD and not self._buffer

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self._buffer = self._buffer + data if self._buffer else data

    def head(self) -> RequestHead | None:
        """The next head once it is whole."""
        buffer = self._buffer
        if not buffer:
            return None
        end = buffer.find(b"\r\n\r\n", self._searched)
        if end < 0 or end > limits.MAX_HEAD - 4:
            self._check_begun(buffer)
            return None
        end += 4
        raw = buffer if end == len(buffer) else buffer[:end]
        head = _parse(raw, self._before)
        if head.repeatable:
            self._before = head
        self._buffer = buffer[end:]
        self._searched = 0
        self.body_bytes = 0
        length = head.body_length
        if head.upgrade is not None:
            self._mode = _PIPE
        elif length is None:
            self._chunks = ChunkedBody()
            self._mode = _CHUNKED
        elif length == 0:
            self._mode = _NONE
            self.complete = True
        else:
            self._left = length
            self._mode = _COUNTED
        return head

    def body(self) -> bytes:
        """What has come of the body since the last call, often the read itself."""
        data = self._buffer
        mode = self._mode
        if not data or mode == _HEAD or self.complete:
            return b""
        if mode == _COUNTED:
            left = self._left
            if len(data) < left:
                self._left = left - len(data)
                self._buffer = b""
            else:
                self.complete = True
                self._buffer = data[left:]
                if self._buffer:
                    data = data[:left]
        elif (chunks := self._chunks) is not None and mode == _CHUNKED:
            data = chunks.feed(data)
            self._buffer = chunks.leftover
            if chunks.done:
                self.complete = True
                self._chunks = None
        else:
            self._buffer = b""
        self.body_bytes += len(data)
        return data

    def next(self) -> None:
        """The answer has been written: the next request may be read. Only after ``complete``."""
        if not self.complete:
            raise BadMessage(Kind.MALFORMED, "the body was not read to its end")
        self.complete = False
        self._mode = _HEAD

    def _check_begun(self, buffer: bytes) -> None:
        """Refuse early what can never become a head; the same refusals, in the same order, as for a whole head."""
        part = buffer[: limits.MAX_HEAD]
        if fields.is_token(part[:1]) is None:
            raise BadMessage(Kind.MALFORMED, "request line")
        line_end = part.find(b"\n", 0, limits.MAX_REQUEST_LINE)
        if line_end >= 0:
            if self._searched <= line_end:
                _parse_line(part)
        elif len(part) >= limits.MAX_REQUEST_LINE:
            raise _endless_line(part)
        # A CR at the very end may still get its LF.
        if (stray := _stray_line_end(part, max(0, self._searched - 1))) and stray.end() < len(part):
            raise BadMessage(Kind.MALFORMED, "line end")
        if len(buffer) > limits.MAX_HEAD:
            raise BadMessage(Kind.HEAD_TOO_LARGE)
        self._searched = max(0, len(buffer) - 3)


class _Collector:
    """Takes the fields from llhttp, in order."""

    __slots__ = ("found", "on_header")

    def __init__(self) -> None:
        self.found: list[tuple[bytes, bytes]] = []
        found = self.found.append

        def on_header(name: bytes, value: bytes) -> None:
            found((name, value))

        self.on_header = on_header


def _parse_line(raw: bytes) -> re.Match[bytes]:
    """Method, target and minor version; refusals in the order in which a reader finds them."""
    line = _request_line(raw)
    if line is None or line.end() > limits.MAX_REQUEST_LINE or line[1] not in _LOCAL_METHODS:
        raise _why_refused(raw)
    check_target(line[2])
    return line


def _why_refused(raw: bytes) -> BadMessage:
    if fields.is_token(raw[:1]) is None:
        return BadMessage(Kind.MALFORMED, "request line")
    line_end = raw.find(b"\n", 0, limits.MAX_REQUEST_LINE)
    if line_end < 0:
        return _endless_line(raw)
    line = _any_request_line(raw)
    if line is None or fields.is_token(line[1]) is None:
        return BadMessage(Kind.MALFORMED, "request line")
    method, target, version = line.groups()
    if version is None:
        return BadMessage(Kind.VERSION, "no version")
    if method != b"CONNECT":  # its target has another form, but the method alone decides
        check_target(target)
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        return BadMessage(Kind.VERSION)
    if not raw.startswith(b"\r\n", line_end - 1):
        return BadMessage(Kind.MALFORMED, "line end")
    return BadMessage(Kind.METHOD)


def _endless_line(raw: bytes) -> BadMessage:
    """No line ends within the limit. A bare CR in it is told first: where less had come at once, it was told already."""
    part = raw[: limits.MAX_REQUEST_LINE]
    if (stray := _stray_line_end(part)) and stray.end() < len(part):
        return BadMessage(Kind.MALFORMED, "line end")
    return BadMessage(Kind.LINE_TOO_LONG)


def _parse(raw: bytes, before: RequestHead | None = None) -> RequestHead:
    line = _parse_line(raw)
    method, target, minor = line.groups()
    fields_as_they_came = raw[line.end() :]
    if (
        before is not None
        and fields_as_they_came == before.repeatable
        and method == before.method
        and before.http_1_0 is (minor == b"0")
    ):
        return _repeated(before, target)
    breaks = raw.count(b"\r\n")
    if raw.count(b"\n") != breaks or raw.count(b"\r") != breaks or raw.translate(None, _ALLOWED):
        raise BadMessage(Kind.MALFORMED, "control character")
    if breaks - 2 > limits.MAX_HEADERS_COUNT:
        raise BadMessage(Kind.HEAD_TOO_LARGE, "fields")
    if len(raw) > limits.MAX_HEADER_LINE and max(map(len, raw.split(b"\r\n"))) > limits.MAX_HEADER_LINE:
        raise BadMessage(Kind.HEAD_TOO_LARGE, "line")
    collector = _Collector()
    try:
        httptools.HttpRequestParser(collector).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # decided below, from the fields themselves
    except httptools.HttpParserError:
        raise BadMessage(Kind.MALFORMED) from None
    head = RequestHead()
    head.method, head.target = method, target
    if minor == b"0":
        head.http_1_0 = True
        head.keep_alive = False
    is_plain = _clean(head, collector.found)
    if is_plain and len(fields_as_they_came) <= _MAX_REMEMBERED:
        head.repeatable = fields_as_they_came
    return head


def _repeated(before: RequestHead, target: bytes) -> RequestHead:
    """Another request with the same fields. They are shared: nobody changes a head's list in place."""
    head = RequestHead()
    head.__dict__.update(before.__dict__)
    head.target = target
    return head


def _clean(head: RequestHead, found: list[tuple[bytes, bytes]]) -> bool:
    """Fill ``head`` from the fields, in one pass; what is rare is collected and judged afterwards. Whether there was nothing rare."""
    kept = []
    host: bytes | None = None
    rare: _Rare | None = None
    authorized = False
    fates = REQUEST_FATES
    for item in found:
        fate = fates[item[0]]
        if fate is _KEEP:
            kept.append(item)
        elif fate is _HOST:
            if host is not None:
                raise BadMessage(Kind.HOST, "host twice")
            host = item[1].strip(b" \t")
        elif fate is _AUTHORIZATION:
            if authorized:
                raise BadMessage(Kind.CREDENTIALS)
            authorized = True
            head.authorization = item[1].strip(b" \t")
        elif fate is not _DROP:
            if rare is None:
                rare = _Rare()
            rare.take(fate, item, kept)
    if host is None or _good_host(host) is None:
        raise BadMessage(Kind.HOST)
    head.host = host
    head.headers = kept
    if rare is not None:
        rare.judge(head)
    return rare is None


class _Rare:
    """The fields that most requests do not have, and what they do to the head."""

    __slots__ = ("codings", "connection", "expect", "impersonation", "length", "origin", "upgrades", "websocket")

    def __init__(self) -> None:
        self.length: bytes | None = None
        self.codings: list[bytes] = []
        self.connection: list[bytes] = []
        self.upgrades: list[bytes] = []
        self.expect: list[bytes] = []
        self.impersonation: list[tuple[bytes, bytes]] = []
        self.origin: bytes | None = None
        self.websocket: list[tuple[Fate, bytes]] = []

    def take(self, fate: Fate, item: tuple[bytes, bytes], kept: list[tuple[bytes, bytes]]) -> None:
        value = item[1].strip(b" \t")
        match fate:
            case Fate.CONTENT_LENGTH:
                if self.length is not None:
                    raise BadMessage(Kind.FRAMING, "content-length twice")
                self.length = value
            case Fate.CONNECTION:
                self.connection.append(value)
            case Fate.TRANSFER_ENCODING:
                self.codings.append(value.lower())
            case Fate.UPGRADE:
                self.upgrades.append(value)
            case Fate.EXPECT:
                self.expect.append(value.lower())
            case Fate.IMPERSONATE:
                self.impersonation.append((item[0], value))
            case Fate.ORIGIN:
                if self.origin is not None:
                    raise BadMessage(Kind.MALFORMED, "origin twice")
                self.origin = value
            case Fate.VIA:
                _check_loop(value)
                kept.append(item)
            case Fate.WEBSOCKET_KEY | Fate.WEBSOCKET_VERSION:
                self.websocket.append((fate, value))
                kept.append(item)
            case Fate.WEBSOCKET_PROTOCOL:
                if b"base64url.bearer.authorization.k8s.io." in value.lower():
                    raise BadMessage(Kind.BEARER_SUBPROTOCOL)
                kept.append(item)
            case _:
                raise BadMessage(Kind.MALFORMED, "field name")

    def judge(self, head: RequestHead) -> None:
        self._judge_framing(head)
        options = fields.connection_options(self.connection) if self.connection else set()
        if not options <= _HOP_OPTIONS:
            head.headers = fields.without(head.headers, options - _HOP_OPTIONS)
        if b"close" in options:
            head.keep_alive = False
        if self.expect:
            if self.expect != [b"100-continue"]:
                raise BadMessage(Kind.EXPECTATION)
            head.expect_continue = not head.http_1_0 and head.body_length != 0
        if self.upgrades or b"upgrade" in options:
            self._judge_upgrade(head, options)
        head.impersonation = self.impersonation
        head.origin = self.origin

    def _judge_framing(self, head: RequestHead) -> None:
        length = self.length
        if self.codings:
            if self.codings != [b"chunked"] or length is not None or head.http_1_0:
                raise BadMessage(Kind.FRAMING, "transfer-encoding")
            head.body_length = None
        elif length is not None:
            if not length.isdigit() or len(length) > limits.MAX_CONTENT_LENGTH_DIGITS_COUNT:
                raise BadMessage(Kind.FRAMING, "content-length")
            head.body_length = int(length)

    def _judge_upgrade(self, head: RequestHead, options: set[bytes]) -> None:
        if len(self.upgrades) != 1 or b"upgrade" not in options or head.http_1_0:
            raise BadMessage(Kind.UPGRADE, "needs Upgrade and Connection: upgrade, each once, in HTTP/1.1")
        protocol = fields.known_protocol(self.upgrades[0])
        if not protocol:
            raise BadMessage(Kind.UPGRADE, "protocol")
        if head.body_length != 0 or self.expect:
            raise BadMessage(Kind.UPGRADE, "body")
        if protocol == b"websocket":
            keys = [value for fate, value in self.websocket if fate is Fate.WEBSOCKET_KEY]
            versions = [value for fate, value in self.websocket if fate is Fate.WEBSOCKET_VERSION]
            if head.method != b"GET" or len(keys) != 1 or len(keys[0]) != 24 or versions != [b"13"]:
                raise BadMessage(Kind.UPGRADE, "websocket handshake")
        elif head.method not in (b"POST", b"GET"):
            raise BadMessage(Kind.UPGRADE, "method")
        head.upgrade = protocol
        head.headers.append((b"Upgrade", protocol))


def _check_loop(via: bytes) -> None:
    for hop in via.split(b","):
        if hop.split()[1:2] == [VIA_PSEUDONYM]:
            raise BadMessage(Kind.LOOP)
