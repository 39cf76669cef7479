"""Chunked bodies: equal to a reference, however they are cut, and bounded."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastunnel.http.body import ChunkedBody
from kastunnel.http.errors import BadMessage, Kind

extensions = st.sampled_from([b"", b";a", b";a=b", b';a="\t x"', b";"])
chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=40), extensions, st.booleans()), max_size=6)
trailers = st.lists(st.sampled_from([b"X: y", b"Impersonate-User: admin", b"Y:"]), max_size=3)


def encoded(parts: list[tuple[bytes, bytes, bool]], ends: list[bytes]) -> bytes:
    out = b""
    for payload, extension, upper in parts:
        digits = b"%X" % len(payload) if upper else b"00%x" % len(payload)
        out += digits + extension + b"\r\n" + payload + b"\r\n"
    return out + b"0\r\n" + b"".join(end + b"\r\n" for end in ends) + b"\r\n"


@given(chunks, trailers, st.binary(max_size=5), st.lists(st.integers(0, 300), max_size=8))
def test_decoding_equals_the_reference_however_it_is_cut(
    parts: list[tuple[bytes, bytes, bool]], ends: list[bytes], behind: bytes, cuts: list[int]
) -> None:
    data = encoded(parts, ends) + behind
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    body = ChunkedBody()
    assert b"".join(body.feed(data[a:b]) for a, b in itertools.pairwise(bounds)) == b"".join(part[0] for part in parts)
    assert body.done
    assert body.leftover == behind


@given(chunks, st.integers(0, 300), st.binary(min_size=1, max_size=3), st.lists(st.integers(0, 300), max_size=4))
def test_a_spoilt_body_is_refused_or_read_alike_however_it_is_cut(
    parts: list[tuple[bytes, bytes, bool]], at: int, spoil: bytes, cuts: list[int]
) -> None:
    data = encoded(parts, [])
    at %= len(data)
    data = data[:at] + spoil + data[at + 1 :]
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]

    def outcome(reads: list[bytes]) -> object:
        body = ChunkedBody()
        try:
            payload = b"".join([body.feed(read) for read in reads])
        except BadMessage as error:
            return error.kind
        return payload, body.done, body.leftover

    assert outcome([data[a:b] for a, b in itertools.pairwise(bounds)]) == outcome([data])


def test_a_read_inside_a_chunk_is_not_copied() -> None:
    body = ChunkedBody()
    body.feed(b"ffff\r\n")
    data = b"x" * 1000
    assert body.feed(data) is data


@pytest.mark.covers("S-17")
@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b"0"),
        (b"1;", b"x"),
        (b"", b"1;" + b"x" * 200 + b"\r\na\r\n"),
        (b"0\r\nX: ", b"y"),
        (b"0\r\n", b"X: y\r\n"),
    ],
)
def test_overhead_is_bounded(start: bytes, piece: bytes) -> None:
    body = ChunkedBody(Kind.RESPONSE_CHUNK)

    def endless() -> None:
        body.feed(start)
        for _ in range(100_000):
            body.feed(piece)

    with pytest.raises(BadMessage) as refusal:
        endless()
    assert refusal.value.kind is Kind.RESPONSE_CHUNK
