"""Responses of API servers: what passes, what is refused, and where one ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kastunnel.http.errors import BadMessage, Kind
from kastunnel.http.response import ResponseParser

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def read(*reads: bytes, is_head: bool = False, upgrade: bytes = b"", eof: bool = False) -> tuple[ResponseParser, bytes]:
    parser = ResponseParser(is_head=is_head, upgrade=upgrade)
    body = b"".join([parser.feed(data) for data in reads])
    if eof:
        parser.eof()
    return parser, body


def outcome(*reads: bytes, is_head: bool = False, upgrade: bytes = b"", eof: bool = True) -> object:
    """Everything a user of the parser can see at the end, with the body bytes seen before a refusal."""
    parser = ResponseParser(is_head=is_head, upgrade=upgrade)
    body = b""
    refused: Kind | None = None
    try:
        for data in reads:
            body += parser.feed(data)
        if eof:
            parser.eof()
    except BadMessage as error:
        refused = error.kind
    head = parser.head and (parser.head.status, parser.head.headers, parser.head.body_length, parser.head.keep_alive)
    if refused is not None:
        return refused, head
    return head, body, parser.complete, parser.excess, parser.reusable


def one_byte_at_a_time(message: bytes) -> list[bytes]:
    return [message[at : at + 1] for at in range(len(message))]


def test_a_small_answer_is_complete_in_one_read() -> None:
    parser, body = read(OK)
    assert parser.head is not None
    assert (parser.head.status, parser.head.headers, parser.head.body_length) == (200, [], 2)
    assert body == b"hi"
    assert parser.reusable


def test_body_reads_are_not_copied() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
    data = b"12345678"
    assert parser.feed(data) is data
    assert parser.complete


def test_what_an_api_server_says_to_its_clients_passes_and_the_rest_does_not() -> None:
    parser, _ = read(
        b'HTTP/1.1 200 OK\r\nAudit-Id: a\r\nWarning: 299 - "x"\r\nWarning: 299 - "y"\r\nETag: "e"\r\nRetry-After: 1\r\n'
        b"X-Kubernetes-Pf-Flowschema-Uid: u\r\nContent-Type: application/json;stream=watch\r\nContent-Encoding: gzip\r\n"
        b"Server: nginx\r\nAlt-Svc: h3\r\nSet-Cookie: a=b\r\nset_cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n"
        b"Trailer: X\r\nLocation: /x\r\nX-Request-Id: 1\r\nContent-Length: 0\r\n\r\n"
    )
    assert parser.head is not None
    assert parser.head.headers == [
        (b"Audit-Id", b"a"),
        (b"Warning", b'299 - "x"'),
        (b"Warning", b'299 - "y"'),
        (b"ETag", b'"e"'),
        (b"Retry-After", b"1"),
        (b"X-Kubernetes-Pf-Flowschema-Uid", b"u"),
        (b"Content-Type", b"application/json;stream=watch"),
        (b"Content-Encoding", b"gzip"),
    ]


@pytest.mark.parametrize(
    ("message", "is_head", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", True, 10),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True, None),
        (b"HTTP/1.1 200 OK\r\n\r\n", True, None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, None),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nLocation: /x\r\n\r\n", False, 10),
        (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", False, 0),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", False, 0),
    ],
)
def test_responses_that_end_at_their_heads(message: bytes, is_head: bool, length: int | None) -> None:
    parser, body = read(message, is_head=is_head)
    assert parser.complete
    assert body == b""
    assert parser.head is not None
    assert parser.head.body_length == length
    assert read(message + b"HTTP/1.1 200 OK\r\n", is_head=is_head)[0].excess


REFUSED = [
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Kind.RESPONSE_FRAMING),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", Kind.RESPONSE_FRAMING),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Kind.RESPONSE_FRAMING),
    (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Kind.RESPONSE_FRAMING),
    (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 00000000000000000002\r\n\r\nhi", None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", None),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
    (b"HTTP/1.1 999 X\r\n\r\n", Kind.RESPONSE_STATUS),
    (b"HTTP/1.1 600 X\r\n\r\n", Kind.RESPONSE_STATUS),
    (b"HTTP/1.1 099 X\r\n\r\n", None),
    (b"HTTP/2.0 200 OK\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/0.9 200 OK\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"RTSP/1.1 200 OK\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"ICY 200 OK\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1  200 OK\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"\r\nHTTP/1.1 200 OK\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"garbage\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\nX: a\x1bb\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\n: a\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nhi", Kind.RESPONSE_HEAD),
    (b"HTTP/1.1 301 X\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n", Kind.RESPONSE_REDIRECT),
    (b"HTTP/1.1 308 X\r\nlocation: /\r\nContent-Length: 0\r\n\r\n", Kind.RESPONSE_REDIRECT),
    (b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Kind.RESPONSE_SWITCH),
    (b"HTTP/1.1 101 X\r\n\r\n", None),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", Kind.RESPONSE_CHUNK),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n", Kind.RESPONSE_TOO_LARGE),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 65536 + b"\r\n\r\n", Kind.RESPONSE_TOO_LARGE),
    (b"HTTP/1.1 103 Early\r\n\r\n" * 9 + OK, Kind.RESPONSE_HEAD),
]


@pytest.mark.covers("S-18", "S-08", "S-12", "P-06")
@pytest.mark.parametrize(("message", "kind"), REFUSED)
def test_refused_responses_whole_and_split_at_every_byte(message: bytes, kind: Kind | None) -> None:
    with pytest.raises(BadMessage) as refusal:
        read(message, eof=True)
    assert refusal.value.kind.status == 502
    assert kind in {None, refusal.value.kind}
    if len(message) < 1000:
        for at in range(len(message)):
            assert outcome(message[:at], message[at:]) == outcome(message)
    assert outcome(*one_byte_at_a_time(message)) == outcome(message)


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_interim_responses_are_swallowed(status: bytes) -> None:
    parser, body = read(b"HTTP/1.1 " + status + b"\r\nLink: x\r\n\r\n" + OK)
    assert body == b"hi"
    assert parser.reusable


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4\r\n\r\n"


def test_a_switch_that_was_asked_for_is_followed_by_raw_bytes() -> None:
    parser, body = read(SWITCH + b"\x80\x03", b"more", upgrade=b"SPDY/3.1", eof=True)
    assert parser.head is not None
    assert parser.head.status == 101
    assert parser.head.headers == [(b"X-Stream-Protocol-Version", b"v4")]
    assert body == b"\x80\x03more"
    assert not parser.reusable


@pytest.mark.covers("S-08")
@pytest.mark.parametrize(
    "message",
    [
        SWITCH.replace(b"SPDY/3.1", b"websocket"),
        SWITCH.replace(b"SPDY/3.1", b"SPDY/3.1, h2c"),
        SWITCH.replace(b"Upgrade: SPDY/3.1\r\n", b""),
        SWITCH.replace(b"Connection: Upgrade\r\n", b""),
        SWITCH.replace(b"X-Stream", b"Content-Length: 3\r\nX-Stream"),
        SWITCH.replace(b"X-Stream", b"Upgrade: SPDY/3.1\r\nX-Stream"),
    ],
)
def test_another_switch_than_asked_for_is_refused(message: bytes) -> None:
    with pytest.raises(BadMessage):
        read(message, upgrade=b"SPDY/3.1")


@pytest.mark.covers("S-07", "S-08", "T12")
def test_any_other_answer_to_an_upgrade_is_read_to_its_end_and_the_connection_not_used_again() -> None:
    parser, body = read(OK, upgrade=b"websocket")
    assert body == b"hi"
    assert parser.complete
    assert not parser.reusable


@pytest.mark.parametrize(
    "message",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil close",
        b"HTTP/1.0 200 OK\r\n\r\nuntil close",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ],
)
def test_an_end_without_a_stated_length_is_an_abort(message: bytes) -> None:
    parser, _ = read(message)
    with pytest.raises(BadMessage) as refusal:
        parser.eof()
    assert refusal.value.kind is Kind.RESPONSE_TRUNCATED


@pytest.mark.parametrize(
    "message",
    [
        OK + b"HTTP/1.1 200 OK\r\n",
        OK + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
        b"HTTP/1.1 204 X\r\n\r\nx",
    ],
)
def test_bytes_behind_a_response_spoil_the_connection_and_not_the_response(message: bytes) -> None:
    whole, body = read(message)
    assert whole.complete
    assert whole.excess
    assert not whole.reusable
    assert outcome(*one_byte_at_a_time(message))[:2] == (outcome(message)[0], body)  # type: ignore[index]


@pytest.mark.parametrize("field", [b"Connection: close", b"connection: Close, x"])
def test_a_server_that_closes_is_not_used_again(field: bytes) -> None:
    parser, _ = read(OK.replace(b"Content-Length", field + b"\r\nContent-Length"))
    assert parser.complete
    assert not parser.reusable
    assert not read(OK.replace(b"1.1", b"1.0"))[0].reusable


PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/1.1 103 Early\r\n\r\n", b"HTTP/1.0 404 X\r\n",
        b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n",
        b"X: y\r\n", b"\r\n", b"\n", b"\r", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\x00", b"A: b\r\n", b" ", b":",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(PIECES, max_size=9), cuts=st.lists(st.integers(0, 200), max_size=6), upgrade=st.booleans())
def test_the_way_a_response_is_cut_into_reads_changes_nothing(
    pieces: list[bytes], cuts: list[int], upgrade: bool
) -> None:
    message = b"".join(pieces)
    bounds = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    reads = [message[a:b] for a, b in itertools.pairwise(bounds)]
    asked = b"websocket" if upgrade else b""
    assert outcome(*reads, upgrade=asked) == outcome(message, upgrade=asked)
