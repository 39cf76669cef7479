"""The SPDY codec, both roles played against each other."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.demo.practice_cluster import spdy
from kas.streams.spdy_dictionary import DICTIONARY


def test_the_dictionary_is_the_one_of_the_protocol():
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def test_a_stream_is_opened_answered_filled_and_ended():
    client, server = spdy.Spdy(client=True), spdy.Spdy()
    stream = client.open({"streamType": "stdin", "port": "80"})
    assert server.feed(client.taken()) == [spdy.StreamOpened(stream, {"streamtype": "stdin", "port": "80"})]
    server.answer(stream)
    server.data(stream, b"hello", fin=True)
    assert client.feed(server.taken()) == [
        spdy.StreamAnswered(stream, {}),
        spdy.DataReceived(stream, b"hello", fin=True),
    ]


def test_header_blocks_depend_on_the_ones_before():
    client, server = spdy.Spdy(client=True), spdy.Spdy()
    for number in range(4):
        stream = client.open({"streamtype": "data", "requestid": str(number)})
        (event,) = server.feed(client.taken())
        assert event == spdy.StreamOpened(stream, {"streamtype": "data", "requestid": str(number)})
    assert stream == 7


@given(st.lists(st.binary(max_size=70_000), max_size=5), st.integers(1, 5000))
def test_data_arrives_whole_however_it_is_cut(pieces: list[bytes], step: int):
    client, server = spdy.Spdy(client=True), spdy.Spdy()
    stream = client.open({})
    for piece in pieces:
        client.data(stream, piece)
    client.data(stream, b"", fin=True)
    wire = client.taken()
    events = [event for at in range(0, len(wire), step) for event in server.feed(wire[at : at + step])]
    received = [event for event in events if isinstance(event, spdy.DataReceived)]
    assert b"".join(event.data for event in received) == b"".join(pieces)
    assert [event.fin for event in received] == [False] * (len(received) - 1) + [True]
    assert all(len(event.data) <= spdy.MAX_DATA_BYTES for event in received)


def test_a_ping_is_answered_without_an_event_and_our_own_comes_back_as_one():
    client, server = spdy.Spdy(client=True), spdy.Spdy()
    number = client.ping()
    assert server.feed(client.taken()) == []
    assert client.feed(server.taken()) == [spdy.PingAnswered(number)]


def test_reset_and_go_away_are_told():
    client, server = spdy.Spdy(client=True), spdy.Spdy()
    stream = client.open({})
    client.reset(stream)
    client.go_away()
    assert server.feed(client.taken())[1:] == [spdy.StreamReset(stream, spdy.CANCEL), spdy.WentAway(0, 0)]


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="http"),
        pytest.param(struct.pack("!HHI", 0x8002, 1, 0), id="version 2"),
        pytest.param(struct.pack("!HHI", 0x8003, spdy.SYN_STREAM, 3) + b"abc", id="short"),
        pytest.param(struct.pack("!HHI", 0x8003, spdy.SYN_STREAM, 14) + bytes(14), id="not compressed"),
        pytest.param(struct.pack("!II", 1, spdy.MAX_FRAME_BYTES + 1), id="too long"),
    ],
)
def test_what_is_not_spdy_is_refused(wire: bytes):
    with pytest.raises(spdy.SpdyError):
        spdy.Spdy().feed(wire)


def test_a_header_block_that_inflates_without_end_is_refused():
    deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    block = deflate.compress(bytes(10 * spdy.MAX_HEADER_BYTES)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    content = struct.pack("!IIBB", 1, 0, 0, 0) + block
    with pytest.raises(spdy.SpdyError, match="more than"):
        spdy.Spdy().feed(struct.pack("!HHI", 0x8003, spdy.SYN_STREAM, len(content)) + content)


def test_a_header_longer_than_its_block_is_refused():
    deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    block = deflate.compress(struct.pack("!III", 1, 1000, 0)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    content = struct.pack("!I", 1) + block
    with pytest.raises(spdy.SpdyError):
        spdy.Spdy().feed(struct.pack("!HHI", 0x8003, spdy.SYN_REPLY, len(content)) + content)
