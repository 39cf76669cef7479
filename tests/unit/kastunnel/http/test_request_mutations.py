"""Mutations of the framing fields, each as CL.TE and as TE.CL: refused, or read in the one way that no server behind can read otherwise."""

from __future__ import annotations

import itertools

import pytest

from kastunnel.http.errors import BadMessage
from kastunnel.http.request import RequestReader

_BLANKS = [b"", b" ", b"\t", b"\x0b", b"\x0c", b"\xa0", b"\xff", b"\x00", b"\r", b"\n", b"\r\n ", b"\r\n\t"]

NAMES = [
    b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer_Encoding", b"Transfer-\xc5\xbfncoding",
    b"Transfer Encoding", b"X-Transfer-Encoding", b"Transfer-Encoding-X", b"Transfer-Encodin\xc9", b'"Transfer-Encoding"',
    b"\xefTransfer-Encoding",
]  # fmt: skip
VALUES = [
    b"chunked", b"CHUNKED", b"Chunked", b"chunked,", b",chunked", b"chunked;q=1", b"xchunked", b"chunkedx", b"identity",
    b"identity, chunked", b"chunked, identity", b"chunked, chunked", b"gzip, chunked", b'"chunked"', b"'chunked'", b"chunk\xe9d",
    b"c\x00hunked", b"", b"0", b"true", b"cow", b"chunked\r\nTransfer-Encoding: cow", b"cow\r\nTransfer-Encoding: chunked",
    b"chunked\r\nConnection: Transfer-Encoding",
]  # fmt: skip


def lines() -> list[bytes]:
    """One Transfer-Encoding line each, a single thing wrong with it, or nothing."""
    found = [name + b": chunked" for name in NAMES]
    found += [b"Transfer-Encoding: " + value for value in VALUES]
    for blank in _BLANKS:
        if not blank.startswith(b"\r\n"):  # that would be the end of the head
            found.append(blank + b"Transfer-Encoding: chunked")
        found += [
            b"Transfer-Encoding" + blank + b": chunked",
            b"Transfer-Encoding:" + blank + b"chunked",
            b"Transfer-Encoding: chunked" + blank,
            b"Transfer-Encoding:" + blank + b": chunked",
            b"X: y" + blank + b"Transfer-Encoding: chunked",
            b"Transfer" + blank + b"-Encoding: chunked",
            b"Transfer-Encoding: chun" + blank + b"ked",
        ]
    return list(dict.fromkeys(found))


LENGTHS = [
    b"Content-Length: 5",
    b"Content-Length: 05",
    b"content_length: 5",
    b"Content-Length : 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"",
]


def test_there_are_enough_of_them() -> None:
    assert len(lines()) >= 100
    assert len(lines()) * (len(LENGTHS) * 2) >= 1000


@pytest.mark.covers("S-02")
@pytest.mark.parametrize("length", LENGTHS)
def test_no_mutation_of_the_framing_is_read_in_two_ways(length: bytes) -> None:
    body = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: kas\r\n\r\n"
    for line, is_first in itertools.product(lines(), (True, False)):
        pair = [each for each in ((line, length) if is_first else (length, line)) if each]
        reader = RequestReader()
        reader.feed(b"POST /x HTTP/1.1\r\nHost: kas\r\n" + b"\r\n".join(pair) + b"\r\n\r\n" + body)
        try:
            head = reader.head()
        except BadMessage:
            continue
        assert head is not None, line
        name, _, value = line.partition(b":")
        is_chunked = name.lower() == b"transfer-encoding"
        if is_chunked:
            # Accepted at all only as exactly this, and never beside a length.
            assert value.strip(b" \t").lower() == b"chunked", line
            assert length in (b"", b"content_length: 5"), line
            assert head.body_length is None, line
        else:
            assert head.body_length == (5 if length.startswith(b"Content-Length: ") else 0), (line, length)
        # Nothing that a server behind could take for framing goes on.
        for key, _ in head.headers:
            assert key.lower().replace(b"_", b"-") not in (b"transfer-encoding", b"content-length"), line
