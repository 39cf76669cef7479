"""Requests of clients as bytes: what is read, what is cleaned, what is refused; whole and cut at every byte."""

from __future__ import annotations

import pytest

from kastunnel.http.errors import BadMessage, Kind
from kastunnel.http.request import RequestHead, RequestReader

HOST = b"Host: kas\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
SPDY = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"


def message(fields: bytes = b"", *, line: bytes = b"GET /version HTTP/1.1", body: bytes = b"") -> bytes:
    return line + b"\r\n" + HOST + fields + b"\r\n" + body


def read_head(data: bytes) -> RequestHead:
    reader = RequestReader()
    reader.feed(data)
    head = reader.head()
    assert head is not None
    return head


def outcome(*reads: bytes) -> object:
    """Everything that a connection would learn from these reads, answering each request as soon as it is complete."""
    reader = RequestReader()
    seen: list[object] = []
    head: RequestHead | None = None
    body = b""
    try:
        for data in reads:
            reader.feed(data)
            while True:
                if head is None:
                    head = reader.head()
                    if head is None:
                        break
                    seen.append(
                        (head.method, head.target, head.headers, head.body_length, head.upgrade, head.keep_alive)
                    )
                    seen.append((head.authorization, head.impersonation, head.origin, head.expect_continue, head.host))
                body += reader.body()
                if not reader.complete:
                    break
                seen.append(body)
                head, body = None, b""
                reader.next()
    except BadMessage as error:
        return [*seen, error.kind]
    return [*seen, body, reader.is_idle]


def one_byte_at_a_time(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def test_what_kubectl_sends_is_read_and_cleaned() -> None:
    head = read_head(
        b"GET /agents/1/api/v1/pods?limit=500 HTTP/1.1\r\nHost: kas:8443\r\nUser-Agent: kubectl/v1.33.1\r\n"
        b"Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json\r\nAuthorization: Bearer ci:1:xyz \r\n"
        b"Kubectl-Command: kubectl get\r\nAccept-Encoding: gzip\r\nX-Stream-Protocol-Version: v5\r\nX-Stream-Protocol-Version: v4\r\n\r\n"
    )
    assert (head.method, head.target, head.host) == (b"GET", b"/agents/1/api/v1/pods?limit=500", b"kas:8443")
    assert head.authorization == b"Bearer ci:1:xyz"
    assert head.headers == [
        (b"User-Agent", b"kubectl/v1.33.1"),
        (b"Accept", b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
        (b"Kubectl-Command", b"kubectl get"),
        (b"Accept-Encoding", b"gzip"),
        (b"X-Stream-Protocol-Version", b"v5"),
        (b"X-Stream-Protocol-Version", b"v4"),
    ]
    assert head.field(b"user-agent") == b"kubectl/v1.33.1"
    assert (head.body_length, head.upgrade, head.keep_alive, head.impersonation) == (0, None, True, [])


REFUSED: list[tuple[bytes, Kind]] = [
    # Framing (B21): what llhttp accepts, then what it refuses by itself.
    (message(b"Transfer-Encoding: gzip, chunked\r\n", body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b"Transfer-Encoding: ,chunked\r\n", body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b"Transfer-Encoding: chunked, identity\r\n", body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b"Transfer-Encoding: xchunked\r\n", body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b'Transfer-Encoding: "chunked"\r\n', body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b"Transfer-Encoding: \x0bchunked\r\n", body=b"0\r\n\r\n"), Kind.MALFORMED),
    (message(b"Transfer-Encoding:\r\n", body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b"Transfer-Encoding: identity\r\n"), Kind.FRAMING),
    (message(b"Transfer-Encoding: chunked\r\n", line=b"POST / HTTP/1.0", body=b"0\r\n\r\n"), Kind.FRAMING),
    (message(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", body=b"0\r\n\r\n"), Kind.MALFORMED),
    (message(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", body=b"0\r\n\r\n"), Kind.MALFORMED),
    (message(b"Content-Length: 3\r\nContent-Length: 3\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length: 3\r\nContent-Length: 4\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length: 3, 3\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length: +3\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length: -1\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length: 0x3\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length: 1_0\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length: 3 3\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length:\r\n", body=b"abc"), Kind.MALFORMED),
    (message(b"Content-Length: 00000000000000000003\r\n", body=b"abc"), Kind.FRAMING),
    (message(b"Content-Length: 18446744073709551616\r\n", body=b"abc"), Kind.MALFORMED),
    # Request lines (B17, B18, B23).
    (message(line=b"GET /version HTTP/0.9"), Kind.VERSION),
    (message(line=b"GET /version HTTP/1.2"), Kind.VERSION),
    (message(line=b"GET /version HTTP/2.0"), Kind.VERSION),
    (message(line=b"GET /version HTTP/10.1"), Kind.VERSION),
    (b"GET /version\r\n\r\n", Kind.VERSION),
    (message(line=b"GET /version RTSP/1.1"), Kind.MALFORMED),
    (message(line=b"GET /version http/1.1"), Kind.MALFORMED),
    (message(line=b"GET /version HTTP/1.1 "), Kind.MALFORMED),
    (message(line=b"GET  /version HTTP/1.1"), Kind.MALFORMED),
    (message(line=b"GET /version  HTTP/1.1"), Kind.MALFORMED),
    (message(line=b"GET\t/version HTTP/1.1"), Kind.MALFORMED),
    (message(line=b" GET /version HTTP/1.1"), Kind.MALFORMED),
    (message(line=b"GET /ver sion HTTP/1.1"), Kind.MALFORMED),
    (b"\r\n" + message(), Kind.MALFORMED),
    (b"\n" + message(), Kind.MALFORMED),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n", Kind.MALFORMED),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Kind.TARGET),
    (message(line=b"CONNECT kas:443 HTTP/1.1"), Kind.METHOD),
    (message(line=b"TRACE / HTTP/1.1"), Kind.METHOD),
    (message(line=b"FOO / HTTP/1.1"), Kind.METHOD),
    (message(line=b"get / HTTP/1.1"), Kind.METHOD),
    (message(line=b"FOO|BAR / HTTP/1.1"), Kind.METHOD),
    (message(line=b"GET\x80 / HTTP/1.1"), Kind.MALFORMED),
    (message(line=b"OPTIONS * HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET https://kas/version HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET kas:443 HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET version HTTP/1.1"), Kind.TARGET),
    # Targets (B19).
    (message(line=b"GET /a/../b HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /a/./b HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /a/.. HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /%2e%2e/x HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /a%2f..%2fb HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /%252e%252e/x HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /a%5c..%5cb HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /%00 HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /%zz HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /% HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /a%2 HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /a?b=%zz HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /a\\b HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /a#b HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /\xc3\xa4 HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /\x7f HTTP/1.1"), Kind.TARGET),
    (message(line=b"GET /" + b"a" * 16384 + b" HTTP/1.1"), Kind.LINE_TOO_LONG),
    # Fields (B14, B22, B25).
    (b"GET / HTTP/1.1\r\n\r\n", Kind.HOST),
    (b"GET / HTTP/1.0\r\n\r\n", Kind.HOST),
    (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Kind.HOST),
    (message(HOST), Kind.HOST),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Kind.HOST),
    (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Kind.HOST),
    (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Kind.HOST),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Kind.HOST),
    (message(b"X: a\r\n folded\r\n"), Kind.MALFORMED),
    (message(b"X: a\nY: b\r\n"), Kind.MALFORMED),
    (message(b"X: a\rY: b\r\n"), Kind.MALFORMED),
    (message(b"X: a\x00b\r\n"), Kind.MALFORMED),
    (message(b"X: a\x1bb\r\n"), Kind.MALFORMED),
    (message(b"X : a\r\n"), Kind.MALFORMED),
    (message(b"X\t: a\r\n"), Kind.MALFORMED),
    (message(b": a\r\n"), Kind.MALFORMED),
    (message(b"X\xe4: a\r\n"), Kind.MALFORMED),
    (message(b"no colon\r\n"), Kind.MALFORMED),
    (b"GET / HTTP/1.1\nHost: kas\n\n", Kind.MALFORMED),
    (b"GET / HTTP/1.1\r\n Host: kas\r\n\r\n", Kind.MALFORMED),
    (message(b"Expect: 200-ok\r\nContent-Length: 1\r\n", body=b"x"), Kind.EXPECTATION),
    (message(b"X: y\r\n" * 100), Kind.HEAD_TOO_LARGE),
    (message(b"X: " + b"y" * 17000 + b"\r\n"), Kind.HEAD_TOO_LARGE),
    (message((b"X: " + b"y" * 9000 + b"\r\n") * 8), Kind.HEAD_TOO_LARGE),
    # Credentials and identity (A-03, A-15, I-02 to I-06).
    (message(b"Authorization: Bearer ci:1:a\r\nAuthorization: Bearer ci:1:a\r\n"), Kind.CREDENTIALS),
    (message(b"Authorization:\r\nauthorization: Bearer ci:1:a\r\n"), Kind.CREDENTIALS),
    (message(WEBSOCKET + b"Sec-WebSocket-Protocol: v5.channel.k8s.io, Base64url.bearer.authorization.k8s.io.eHg\r\n"),
     Kind.BEARER_SUBPROTOCOL),
    (message(b"Impersonate-User : admin\r\n"), Kind.MALFORMED),
    (message(b"X: y\r\n Impersonate-User: admin\r\n"), Kind.MALFORMED),
    (message(b"X: y\nImpersonate-User: admin\r\n"), Kind.MALFORMED),
    *[
        (message(b"Connection: close, " + name + b"\r\n"), Kind.CONNECTION_OPTIONS)
        for name in (b"Impersonate-User", b"impersonate_group", b"Authorization", b"Host", b"Cookie", b"X-Remote-User",
                     b"X-Forwarded-For", b"Content-Length", b"Content-Type", b"Transfer-Encoding", b"not a token", b'"x"')
    ],
    (message(b"Connection: " + b",".join(b"X-%d" % n for n in range(1000)) + b"\r\n"), Kind.CONNECTION_OPTIONS),
    (message(b"Via: 1.0 fred, 1.1 kas\r\n"), Kind.LOOP),
    # Upgrades (B4).
    (message(WEBSOCKET.replace(b"websocket", b"h2c") + b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"), Kind.UPGRADE),
    (message(WEBSOCKET.replace(b"websocket", b"TLS/1.0")), Kind.UPGRADE),
    (message(WEBSOCKET.replace(b"websocket", b"tcp")), Kind.UPGRADE),
    (message(WEBSOCKET.replace(b"websocket", b"websocket, h2c")), Kind.UPGRADE),
    (message(WEBSOCKET + b"Upgrade: websocket\r\n"), Kind.UPGRADE),
    (message(WEBSOCKET.replace(b"Connection: Upgrade\r\n", b"")), Kind.UPGRADE),
    (message(WEBSOCKET.replace(b"Connection", b"Proxy-Connection")), Kind.UPGRADE),
    (message(WEBSOCKET.replace(b"Upgrade: websocket\r\n", b"")), Kind.UPGRADE),
    (message(WEBSOCKET.replace(b"Version: 13", b"Version: 8")), Kind.UPGRADE),
    (message(WEBSOCKET.replace(b"dGhl", b"")), Kind.UPGRADE),
    (message(WEBSOCKET + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), Kind.UPGRADE),
    (message(WEBSOCKET, line=b"POST /x HTTP/1.1"), Kind.UPGRADE),
    (message(WEBSOCKET, line=b"GET /x HTTP/1.0"), Kind.UPGRADE),
    (message(WEBSOCKET + b"Content-Length: 1\r\n", body=b"x"), Kind.UPGRADE),
    (message(WEBSOCKET + b"Transfer-Encoding: chunked\r\n", body=b"0\r\n\r\n"), Kind.UPGRADE),
    (message(SPDY, line=b"PUT /x HTTP/1.1"), Kind.UPGRADE),
    # Chunks (B22).
    *[
        (message(b"Transfer-Encoding: chunked\r\n", line=b"POST / HTTP/1.1", body=body), Kind.CHUNK)
        for body in (b"0x3\r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"3 \r\nabc\r\n0\r\n\r\n", b"1_0\r\n", b"\r\n",
                     b"3\nabc\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"3\r\nabc\n0\r\n\r\n", b"3;a\nb\r\nabc\r\n0\r\n\r\n",
                     b"ffffffffffffffff0\r\n", b"-1\r\n", b"3;" + b"x" * 257 + b"\r\nabc\r\n0\r\n\r\n",
                     b"0\r\nX: y\n\r\n", b"0\r\n folded: x\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
                     (b"1;" + b"x" * 250 + b"\r\na\r\n") * 100)
    ],
]  # fmt: skip


@pytest.mark.covers(
    "S-01", "S-09", "S-10", "S-11", "S-17", "A-03", "A-15", "I-02", "I-03", "I-04", "I-06", "Z-01", "Z-02", "Z-06"
)
@pytest.mark.parametrize(("data", "kind"), REFUSED)
def test_refused_requests_whole_and_cut_at_every_byte(data: bytes, kind: Kind) -> None:
    whole = outcome(data)
    assert isinstance(whole, list)
    refusal = whole[-1]
    assert isinstance(refusal, Kind)
    # Framing errors that llhttp finds first have its name: the same answer.
    assert (
        refusal is kind
        or (refusal.status == kind.status == 400 and Kind.FRAMING in (refusal, kind))
        or (kind is Kind.MALFORMED and refusal is Kind.FRAMING)
    )
    assert outcome(*one_byte_at_a_time(data)) == whole
    if len(data) < 600:
        for at in range(1, len(data)):
            assert outcome(data[:at], data[at:]) == whole


PASSED = [
    message(),
    message(line=b"GET /api/v1/namespaces%2Fkube-system//secrets;x:y?a=b&a=%2F+c HTTP/1.1"),
    message(line=b"GET /a/...b/..c/.d?x=/../ HTTP/1.1"),
    message(line=b"DELETE /x HTTP/1.1", fields=b"Content-Length: 3\r\n", body=b"abc"),
    message(line=b"GET /x HTTP/1.1", fields=b"Content-Length: 3 \r\n", body=b"abc"),
    message(line=b"POST /x HTTP/1.1", fields=b"Transfer-Encoding: Chunked \r\n", body=b"3;e=1\r\nabc\r\n0\r\nImpersonate-User: x\r\n\r\n"),
    message(b"Content-Length: 0\r\n") + message(),
    message(line=b"GET / HTTP/1.0"),
    message(b"Connection: close\r\n"),
    message(b"X: \xff\xfe\r\n"),
    message(WEBSOCKET, body=b"early bytes"),
    message(SPDY, line=b"POST /x HTTP/1.1"),
    message(SPDY + b"Content-Length: 0\r\n", line=b"POST /x HTTP/1.1"),
    message(b"Expect: 100-Continue\r\nContent-Length: 1\r\n", body=b"x"),
    message(b"Authorization: Bearer ci:1:" + b"x" * 16384 + b"\r\n"),
]  # fmt: skip


@pytest.mark.covers("A-07")
@pytest.mark.parametrize("data", PASSED)
def test_requests_that_pass_are_read_alike_however_they_are_cut(data: bytes) -> None:
    whole = outcome(data)
    assert isinstance(whole, list)
    assert not isinstance(whole[-1], Kind)
    assert outcome(*one_byte_at_a_time(data)) == whole
    if len(data) < 600:
        for at in range(1, len(data)):
            assert outcome(data[:at], data[at:]) == whole


@pytest.mark.covers("I-07")
def test_trailers_are_dropped() -> None:
    chunked = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nImpersonate-User: admin\r\n\r\n"
    reader = RequestReader()
    reader.feed(message(b"Transfer-Encoding: chunked\r\n", line=b"POST /x HTTP/1.1", body=chunked))
    head = reader.head()
    assert head is not None
    assert reader.body() == b"abcde"
    assert reader.complete
    assert head.impersonation == []


@pytest.mark.covers("S-05")
def test_a_pipelined_request_is_not_looked_at_before_the_first_is_over() -> None:
    reader = RequestReader()
    reader.feed(message(b"Content-Length: 2\r\n", body=b"hi") + b"not HTTP at all\r\n\r\n")
    assert reader.head() is not None
    assert reader.body() == b"hi"
    assert reader.complete
    assert reader.has_more
    assert reader.body() == b""
    reader.next()
    with pytest.raises(BadMessage):
        reader.head()


def test_next_is_refused_before_the_body_has_been_read() -> None:
    reader = RequestReader()
    reader.feed(message(b"Content-Length: 2\r\n"))
    reader.head()
    with pytest.raises(BadMessage):
        reader.next()


@pytest.mark.covers("S-06")
def test_bytes_behind_an_upgrade_head_wait_as_they_are() -> None:
    reader = RequestReader()
    reader.feed(message(WEBSOCKET, body=b"GET / HTTP/1.1\r\n\r\n"))
    head = reader.head()
    assert head is not None
    assert head.upgrade == b"websocket"
    assert (b"Upgrade", b"websocket") in head.headers
    assert b"connection" not in {name.lower() for name, _ in head.headers}
    assert reader.has_more
    assert reader.body() == b"GET / HTTP/1.1\r\n\r\n"
    assert not reader.complete


@pytest.mark.covers("I-01", "I-02", "I-05", "I-11")
@pytest.mark.parametrize("extra", [b"", WEBSOCKET, SPDY])
@pytest.mark.parametrize(
    "name", [b"Impersonate-User", b"impersonate-user", b"IMPERSONATE-USER", b"Impersonate_User", b"Impersonate-Extra-x", b"Impersonate-Uid"]
)  # fmt: skip
def test_impersonation_is_seen_in_every_spelling_and_never_passed_on(name: bytes, extra: bytes) -> None:
    head = read_head(message(name + b": admin\r\n" + extra))
    assert head.impersonation == [(name, b"admin")]
    assert all(b"mpersonate" not in key for key, _ in head.headers)


DROPPED = [
    b"X-Remote-User", b"x-remote-group", b"X_Remote_Extra_scopes", b"X-Forwarded-For", b"X_Forwarded_Host", b"Forwarded",
    b"X-Real-IP", b"X-Client-Cert-Subject", b"X-SSL-Client-S-DN", b"X-WEBAUTH-USER", b"Gitlab-Agent-Id", b"Proxy-Authorization",
    b"Proxy-Connection", b"Cookie", b"Keep-Alive", b"TE", b"Trailer", b"HTTP2-Settings", b"X-HTTP-Method-Override", b"Transfer_Encoding",
    b"Content_Length", b"Authorization_", b"X-CSRF-Token", b"X-Request-Id",
]  # fmt: skip


@pytest.mark.covers("I-14", "Z-04", "A-14")
@pytest.mark.parametrize("name", DROPPED)
def test_dropped_fields(name: bytes) -> None:
    head = read_head(message(name + b": x\r\n"))
    assert head.headers == ([(name, b"x")] if name == b"Authorization_" else [])


def test_fields_named_by_connection_are_removed_and_others_stay() -> None:
    head = read_head(
        message(b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nx_hop: 1\r\nX-Stay: 1\r\nVia: 1.1 fred\r\n")
    )
    assert head.headers == [(b"X-Stay", b"1"), (b"Via", b"1.1 fred")]


def test_a_refusal_never_repeats_what_was_sent() -> None:
    reader = RequestReader()
    reader.feed(message(b"X: secret\x00\r\n"))
    with pytest.raises(BadMessage) as refusal:
        reader.head()
    assert "secret" not in f"{refusal.value}{refusal.value!r}{refusal.value.detail}"
