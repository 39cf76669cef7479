"""How a request comes, in which pieces and behind which others, changes nothing about what is made of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kastunnel.http.errors import BadMessage, Kind
from kastunnel.http.request import RequestHead, RequestReader
from tests.unit.kastunnel.http.test_request import HOST, SPDY, WEBSOCKET, message, outcome

PIECES = st.sampled_from(
    [
        b"GET /x HTTP/1.1\r\n", b"POST /x HTTP/1.0\r\n", b"GET /../ HTTP/2.0\r\n", b"CONNECT x HTTP/1.1\r\n", b"GET /\r\n",
        HOST, WEBSOCKET, SPDY,
        b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
        b"X-A: b\r\n", b"\r\n", b"\n",
        b"\r", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\x00", b" ", b":", b"(", b"Expect: 100-continue\r\n",
        b"Authorization: Bearer a\r\n",
        b"a" * 9000, b"Y: " + b"b" * 30000,
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    start=st.sampled_from([b"", message(), b"POST /x HTTP/1.1\r\n" + HOST]),
    pieces=st.lists(PIECES, max_size=9),
    cuts=st.lists(st.integers(0, 70000), max_size=6),
)
@pytest.mark.covers("S-02")
def test_the_way_requests_are_cut_into_reads_changes_nothing(
    start: bytes, pieces: list[bytes], cuts: list[int]
) -> None:
    data = start + b"".join(pieces)
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    assert outcome(*(data[a:b] for a, b in itertools.pairwise(bounds))) == outcome(data)


@pytest.mark.parametrize("cut", [3, 6, 8, 16382, 16383, 16384, 16385, 30000])
@pytest.mark.parametrize(
    ("begin", "kind"), [(b"GET /\rx", Kind.MALFORMED), (b"GET /" + b"a" * 16378 + b"\r", Kind.LINE_TOO_LONG)]
)
@pytest.mark.covers("S-02")
def test_a_line_without_end_is_judged_alike_however_it_comes(begin: bytes, kind: Kind, cut: int) -> None:
    """The first has a bare CR in the line, the second one at its limit, where what follows is not looked at."""
    data = begin + b"b" * 30000 + b"\r\n\r\n"
    assert outcome(data[:cut], data[cut:]) == outcome(data) == [kind]


def everything(head: RequestHead) -> dict[str, object]:
    """All that is known of a head."""
    return {name: getattr(head, name) for name in dir(head) if not name.startswith("_") and name != "field"}


def read_after(before: list[bytes], head: bytes) -> object:
    """What a reader makes of the head, after others on the same connection; a refusal by its kind and detail."""
    reader = RequestReader()
    for one in before:
        try:
            reader.feed(one)
            reader.head()
            reader.next()
        except BadMessage:
            reader = RequestReader()  # the connection is closed
    reader.feed(head)
    try:
        found = reader.head()
    except BadMessage as refusal:
        return refusal.kind, refusal.detail
    assert found is not None
    return everything(found)


LINES = [
    b"GET /version HTTP/1.1", b"GET /api/v1/pods?limit=500 HTTP/1.1", b"GET /version HTTP/1.0", b"HEAD /version HTTP/1.1",
    b"DELETE /x HTTP/1.1", b"GET /a/../b HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET http://x/ HTTP/1.1", b"OPTIONS /x HTTP/1.1",
]  # fmt: skip
BLOCKS = [
    HOST, HOST + b"Authorization: Bearer a\r\n", HOST + b"Authorization: Bearer b\r\n", HOST + b"Accept: */*\r\nX-A: b\r\n",
    HOST + b"Cookie: a=b\r\n", HOST + b"Content-Length: 0\r\n", HOST + b"Connection: close\r\n", HOST + WEBSOCKET, HOST + SPDY,
    HOST + b"Impersonate-User: x\r\n", HOST + b"Origin: https://x\r\n", HOST + b"Via: 1.1 x\r\n", HOST + b"X: " + b"y" * 5000 + b"\r\n",
    HOST + HOST, b"", HOST + b"Bad Name: x\r\n", HOST + b"Authorization: a\r\nAuthorization: a\r\n",
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(before=st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(BLOCKS)), max_size=4), data=st.data())
@pytest.mark.covers("S-02")
def test_what_came_before_on_the_connection_changes_nothing(
    before: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    said = [line + b"\r\n" + block + b"\r\n" for line, block in before]
    blocks = [block for _, block in before] + BLOCKS[:3]  # most often one that came before
    head = data.draw(st.sampled_from(LINES)) + b"\r\n" + data.draw(st.sampled_from(blocks)) + b"\r\n"
    assert read_after(said, head) == read_after([], head)


@settings(max_examples=500, deadline=None)
@given(target=st.from_regex(rb"/(?:[!-~]|%[0-9A-F]{2})*", fullmatch=True))
@pytest.mark.covers("S-02")
def test_a_target_is_judged_alike_whether_or_not_its_fields_have_come_before(target: bytes) -> None:
    """Behind known fields llhttp does not see it: our own check must leave nothing for llhttp to refuse."""
    head = message(line=b"GET " + target + b" HTTP/1.1")
    assert read_after([message()], head) == read_after([], head)


def test_known_fields_are_not_read_again_and_one_byte_of_difference_is_seen() -> None:
    reader = RequestReader()
    heads = []
    for token in (b"a", b"a", b"b"):
        reader.feed(message(b"Authorization: Bearer " + token + b"\r\n"))
        head = reader.head()
        assert head is not None
        heads.append(head)
        reader.next()
    assert heads[1].headers is heads[0].headers
    assert [head.authorization for head in heads] == [b"Bearer a", b"Bearer a", b"Bearer b"]
