"""Heads as bytes, for agentk towards the API server and for kas towards its clients.

Neither writes what could be read as more than one head: what comes from the other end of a link is not trusted, so names
must be tokens, and CR, LF and NUL are refused wherever they stand. Values pass as bytes, unchanged.
"""

from __future__ import annotations

from http import HTTPStatus

from kastunnel.http.errors import BadMessage, Kind
from kastunnel.http.fields import RESPONSE_FATES, Fate, Headers, clean_for_api_server, is_token
from kastunnel.http.target import check_method, check_target

_STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_KEEP = Fate.KEEP


def render_request_head(
    method: bytes,
    target: bytes,
    headers: Headers,
    *,
    host: bytes,
    extra: Headers = (),
    body_length: int | None = 0,
    upgrade: bool = False,
) -> tuple[bytes, bytes]:
    """The head of a request to an API server, and the protocol it asks to switch to (``b""`` without ``upgrade``).

    ``headers`` are cleaned again (``clean_for_api_server``). ``extra`` comes last and as given: Authorization, Impersonate-*.
    ``body_length``: 0 for no body (stated where the method may have one), None for chunked. BadMessage for anything that
    must not be sent; nothing of it is then to be sent.
    """
    check_method(method)
    check_target(target)
    kept, protocol = clean_for_api_server(headers, upgrade=upgrade)
    out = [method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"]
    for name, value in kept:
        out += (name, b": ", value, b"\r\n")
    lines = 2 + len(kept) + len(extra)
    if upgrade:
        if body_length != 0:
            raise BadMessage(Kind.UPGRADE, "body")
        out += (b"Connection: Upgrade\r\nUpgrade: ", protocol, b"\r\n")
        lines += 2
    if body_length is None:
        out.append(b"Transfer-Encoding: chunked\r\n")
        lines += 1
    elif body_length > 0 or (method not in _NO_LENGTH_NEEDED):
        out.append(b"Content-Length: %d\r\n" % body_length)
        lines += 1
    for name, value in extra:
        if is_token(name) is None:
            raise BadMessage(Kind.MALFORMED, "field name")
        out += (name, b": ", value, b"\r\n")
    out.append(b"\r\n")
    return _whole(out, lines + 1, Kind.MALFORMED), protocol


_NO_LENGTH_NEEDED = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})


def render_response_head(status: int, headers: Headers, *extra: bytes) -> bytes:
    """The head of a response to a client, without the body.

    ``headers`` are cleaned again: hop-by-hop, cookies, CORS, framing and Location fields never pass, whoever sent them.
    ``extra`` are whole lines of our own with their line ends, none or several in one (framing, Connection,
    X-Request-Id). BadMessage (502) for anything else that must not be sent.
    """
    out = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    fates = RESPONSE_FATES
    lines = 2 + sum(more.count(b"\n") for more in extra)
    for name, value in headers:
        fate = fates[name]
        if fate is _KEEP:
            out += (name, b": ", value, b"\r\n")
            lines += 1
        elif fate is Fate.INVALID:
            raise BadMessage(Kind.RESPONSE_HEAD, "field name")
    out += extra
    out.append(b"\r\n")
    return _whole(out, lines, Kind.RESPONSE_HEAD)


def _whole(parts: list[bytes], lines: int, kind: Kind) -> bytes:
    """The parts joined, if they hold exactly the line ends that were put there."""
    head = b"".join(parts)
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise BadMessage(kind, "control character in a field value")
    return head
