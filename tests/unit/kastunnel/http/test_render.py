"""Heads that are written: complete, cleaned again, and never two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastunnel.http.errors import BadMessage
from kastunnel.http.render import render_request_head, render_response_head
from kastunnel.http.request import RequestReader
from kastunnel.http.response import ResponseParser

EXTRA = [
    (b"Authorization", b"Bearer sa"),
    (b"Impersonate-User", b"u"),
    (b"Impersonate-Group", b"g1"),
    (b"Impersonate-Group", b"g2"),
]


def test_a_request_for_the_api_server() -> None:
    head, protocol = render_request_head(
        b"GET", b"/api/v1/pods?watch=true", [(b"Accept", b"a"), (b"X", b"\xff")], host=b"kube:6443", extra=EXTRA
    )
    assert head == (
        b"GET /api/v1/pods?watch=true HTTP/1.1\r\nHost: kube:6443\r\nAccept: a\r\nX: \xff\r\n"
        b"Authorization: Bearer sa\r\nImpersonate-User: u\r\nImpersonate-Group: g1\r\nImpersonate-Group: g2\r\n\r\n"
    )
    assert protocol == b""


@pytest.mark.parametrize(
    ("method", "length", "line"),
    [
        (b"GET", 0, b""),
        (b"DELETE", 0, b""),
        (b"POST", 0, b"Content-Length: 0\r\n"),
        (b"PATCH", 7, b"Content-Length: 7\r\n"),
        (b"DELETE", 7, b"Content-Length: 7\r\n"),
        (b"PUT", None, b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_the_framing_of_a_request(method: bytes, length: int | None, line: bytes) -> None:
    head, _ = render_request_head(method, b"/x", [], host=b"k", body_length=length)
    assert head == method + b" /x HTTP/1.1\r\nHost: k\r\n" + line + b"\r\n"


def test_an_upgrade_request_has_no_body() -> None:
    headers = [(b"X-Stream-Protocol-Version", b"v5"), (b"X-Stream-Protocol-Version", b"v4"), (b"Upgrade", b"spdy/3.1")]
    head, protocol = render_request_head(b"POST", b"/x", headers, host=b"k", upgrade=True)
    assert head == (
        b"POST /x HTTP/1.1\r\nHost: k\r\nX-Stream-Protocol-Version: v5\r\nX-Stream-Protocol-Version: v4\r\n"
        b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n"
    )
    assert protocol == b"SPDY/3.1"
    with pytest.raises(BadMessage):
        render_request_head(b"POST", b"/x", headers, host=b"k", upgrade=True, body_length=None)
    with pytest.raises(BadMessage):
        render_request_head(b"POST", b"/x", [], host=b"k", upgrade=True)
    with pytest.raises(BadMessage):
        render_request_head(b"POST", b"/x", [(b"Upgrade", b"h2c")], host=b"k", upgrade=True)


@pytest.mark.covers("I-13", "I-14")
@pytest.mark.parametrize(
    "name",
    [b"Impersonate-User", b"impersonate_group", b"Authorization", b"X-Remote-User", b"Connection", b"Upgrade", b"Content-Length",
     b"Transfer-Encoding", b"Host", b"Cookie", b"X_Remote_Group"],
)  # fmt: skip
def test_identity_and_framing_in_the_header_list_of_a_hostile_kas_are_dropped(name: bytes) -> None:
    head, _ = render_request_head(b"GET", b"/x", [(name, b"close"), (b"A", b"b")], host=b"k", extra=EXTRA[:1])
    assert head == b"GET /x HTTP/1.1\r\nHost: k\r\nA: b\r\nAuthorization: Bearer sa\r\n\r\n"


@pytest.mark.covers("T-17")
@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"CONNECT", b"/x", []),
        (b"OPTIONS", b"/x", []),
        (b"GET /y HTTP/1.1\r\nX:", b"/x", []),
        (b"GET", b"/x HTTP/1.1\r\nImpersonate-User: admin\r\nX:", []),
        (b"GET", b"http://elsewhere/x", []),
        (b"GET", b"//../x", []),
        (b"GET", b"", []),
        (b"GET", b"/x", [(b"A", b"b\r\nImpersonate-User: admin")]),
        (b"GET", b"/x", [(b"A", b"b\nc")]),
        (b"GET", b"/x", [(b"A", b"b\0")]),
        (b"GET", b"/x", [(b"A: b\r\nImpersonate-User", b"admin")]),
        (b"GET", b"/x", [(b"Impersonate-User ", b"admin")]),
        (b"GET", b"/x", [(b"", b"admin")]),
    ],
)
def test_what_a_hostile_kas_cannot_have_sent(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadMessage):
        render_request_head(method, target, headers, host=b"k")


def test_our_own_fields_are_checked_too() -> None:
    with pytest.raises(BadMessage):
        render_request_head(b"GET", b"/x", [], host=b"k", extra=[(b"Impersonate-User", b"a\r\nb: c")])
    with pytest.raises(BadMessage):
        render_request_head(b"GET", b"/x", [], host=b"k", extra=[(b"Impersonate-Extra-a b", b"c")])


def test_a_response_for_a_client() -> None:
    head = render_response_head(
        200, [(b"Audit-Id", b"a"), (b"Set-Cookie", b"x"), (b"Connection", b"close")], b"Content-Length: 2\r\n"
    )
    assert head == b"HTTP/1.1 200 OK\r\nAudit-Id: a\r\nContent-Length: 2\r\n\r\n"
    assert render_response_head(599, []) == b"HTTP/1.1 599 \r\n\r\n"


@pytest.mark.covers("S-19")
@pytest.mark.parametrize(
    "field", [(b"Warning", b"a\r\nX: b"), (b"Warning", b"a\nb"), (b"A\r\nB", b"c"), (b"A: b", b"c"), (b"A", b"\0")]
)
def test_a_response_cannot_be_split(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(BadMessage):
        render_response_head(200, [field])


names = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"Impersonate-User", b"X_Remote_User", b"Connection", b"Cookie", b"Upgrade", b"Accept", b"te", b"HOST", b"Via"]
    ),
)
headers = st.lists(st.tuples(names, st.binary(max_size=12)), max_size=6)


@given(headers)
def test_whatever_comes_over_a_link_becomes_exactly_one_clean_request(found: list[tuple[bytes, bytes]]) -> None:
    try:
        head, _ = render_request_head(b"GET", b"/x", found, host=b"k")
    except BadMessage:
        return
    assert head.count(b"\r\n\r\n") == 1
    assert head.endswith(b"\r\n\r\n")
    for line in head.split(b"\r\n")[2:-2]:
        name = line.partition(b":")[0].lower().replace(b"_", b"-")
        assert not name.startswith((b"impersonate-", b"x-remote-", b"proxy-"))
        assert name not in {
            b"connection",
            b"cookie",
            b"upgrade",
            b"te",
            b"host",
            b"authorization",
            b"transfer-encoding",
        }
    reader = RequestReader()
    reader.feed(head)
    try:
        assert reader.head() is not None
    except BadMessage:
        # Stricter as a server than as a client: a control character or a bearer subprotocol in a value.
        return
    assert reader.complete
    assert not reader.has_more


@given(st.integers(200, 599), headers)
def test_whatever_comes_over_a_link_becomes_at_most_one_response(status: int, found: list[tuple[bytes, bytes]]) -> None:
    try:
        head = render_response_head(status, found, b"Content-Length: 0\r\n")
        parser = ResponseParser()
        parser.feed(head)
    except BadMessage:
        return
    assert parser.complete
    assert not parser.excess
