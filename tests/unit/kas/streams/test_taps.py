"""The taps: every byte passes as it came, and a failure is said between two frames or not at all."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.demo.practice_cluster import spdy
from kas.streams.choosing import tap_of
from kas.streams.forwarding import ForwardTap, TunnelTap
from kas.streams.spdy import SpdyTap
from kas.streams.tap import MAX_HELD, Failure, Tap
from kas.streams.websocket import WebSocketTap
from kastunnel.http.classify import request_info

FAILURE = Failure("kas: agent 7: gone", b'{"status":"Failure","message":"kas: agent 7: gone"}')
EXEC = b"/api/v1/namespaces/d/pods/p/exec?command=stdin%3Dtrue&stdin=true&stdout=true"
FORWARD = b"/api/v1/namespaces/d/pods/p/portforward"


def message(payload: bytes, *, opcode: int = 2, fin: bool = True) -> bytes:
    first = (0x80 if fin else 0) | opcode
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in pairwise(places):
        yield data[begin:end]


class Session:
    """Both ends of a SPDY exec, with a tap between them."""

    def __init__(self, *types: str, protocol: bytes = b"v4.channel.k8s.io", step: int = 1 << 20) -> None:
        self.tap = SpdyTap(protocol, types)
        self.client, self.server = spdy.Spdy(client=True), spdy.Spdy()
        self.step = step
        self.seen: list[spdy.Event] = []  # by the client
        self.streams: dict[str, int] = {}

    def open(self, *types: str) -> None:
        for kind in types:
            self.streams[kind] = self.client.open({"streamtype": kind, "other": "x" * 50})
        said = self.client.taken()
        for at in range(0, len(said), self.step):
            self.tap.from_client(said[at : at + self.step])
        for event in self.server.feed(said):
            self.server.answer(event.stream)
        self.flush()

    def flush(self) -> None:
        said = self.server.taken()
        for at in range(0, len(said), self.step):
            self.seen += self.client.feed(self.tap.from_server(said[at : at + self.step]))

    def fail(self) -> list[spdy.Event]:
        return self.client.feed(self.tap.failure(FAILURE))


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_spdy_the_outputs_end_and_the_error_stream_tells(step):
    session = Session("stdin", "stdout", "stderr", step=step)
    session.open("error", "stdin", "stdout", "stderr")
    session.server.data(session.streams["stdout"], b"out")
    session.flush()
    assert session.fail() == [
        spdy.DataReceived(session.streams["stdout"], b"", True),
        spdy.DataReceived(session.streams["stderr"], b"", True),
        spdy.DataReceived(session.streams["error"], FAILURE.status, True),
    ]


def test_spdy_an_output_that_has_ended_is_not_ended_again():
    session = Session("stdout", "stderr")
    session.open("error", "stdout", "stderr")
    session.server.data(session.streams["stdout"], b"out", fin=True)
    session.server.reset(session.streams["stderr"])
    session.flush()
    assert [event.stream for event in session.fail()] == [session.streams["error"]]


def test_spdy_the_old_protocols_have_text():
    session = Session("stdout", protocol=b"channel.k8s.io")
    session.open("error", "stdout")
    assert session.fail()[-1].data == FAILURE.text.encode()
    assert not session.tap.is_unfinished


@pytest.mark.covers("U-14")
def test_spdy_nothing_is_said_before_every_stream_is_there():
    session = Session("stdout", "stderr")
    assert not session.tap.is_unfinished
    session.open("error", "stdout")
    assert session.fail() == []
    session.open("stderr")
    assert session.fail()


def test_spdy_nothing_is_said_after_the_api_server_has_told():
    session = Session("stdout")
    session.open("error", "stdout")
    assert session.tap.is_unfinished
    session.server.data(session.streams["error"], b'{"status":"Success"}')
    session.flush()
    assert not session.tap.is_unfinished
    assert session.fail() == []


@pytest.mark.covers("U-14")
def test_spdy_what_has_not_come_whole_is_kept_back_and_dropped_at_a_failure():
    session = Session("stdout")
    session.open("error", "stdout")
    session.server.data(session.streams["stdout"], b"a" * 100)
    said = session.server.taken()
    assert session.tap.from_server(said[:-1]) == b""
    told = session.tap.failure(FAILURE)
    assert told.endswith(FAILURE.status)
    assert session.tap.rest() == said[:-1]


@pytest.mark.covers("U-14")
def test_within_a_frame_too_large_to_keep_nothing_is_said():
    large = struct.pack("!II", 3, 2 * MAX_HELD) + b"x" * (2 * MAX_HELD)
    session = Session("stdout")
    session.open("error", "stdout")
    assert session.tap.from_server(large[:100]) == large[:100]
    assert session.fail() == []
    assert session.tap.from_server(large[100:]) == large[100:]
    assert session.fail()
    tap = WebSocketTap(b"v5.channel.k8s.io")
    large = message(b"\x01" + b"x" * 2 * MAX_HELD)
    assert tap.from_server(large[:20]) == large[:20]
    assert tap.failure(FAILURE) == b""
    assert tap.from_server(large[20:]) == large[20:]
    assert tap.failure(FAILURE)


@pytest.mark.parametrize(
    "said",
    [
        b"\x80\x02\x00\x01" + bytes(20),  # another version
        struct.pack("!HHI", 0x8003, 1, 20) + b"\x00" * 10 + b"not zlib!!",
        struct.pack("!HHI", 0x8003, 1, 1 << 20),
        struct.pack("!HHI", 0x8003, 1, 3) + b"abc",
    ],
)
def test_spdy_a_client_that_is_not_understood_is_left_alone(said):
    tap = SpdyTap(b"v4.channel.k8s.io", ["stdout"])
    assert tap.from_server(b"kept") == b""
    tap.from_client(said)
    assert tap.from_server(b"!") == b"kept!"
    assert tap.failure(FAILURE) == b""
    assert not tap.is_unfinished


def test_websocket_a_message_on_the_error_channel_and_a_normal_end():
    tap = WebSocketTap(b"v5.channel.k8s.io")
    assert tap.from_server(message(b"\x01")) == message(b"\x01")
    assert tap.is_unfinished
    assert tap.failure(FAILURE) == message(b"\x03" + FAILURE.status) + b"\x88\x02\x03\xe8"
    assert WebSocketTap(b"channel.k8s.io").failure(FAILURE).startswith(message(b"\x03" + FAILURE.text.encode()))
    assert WebSocketTap(b"v4.base64.channel.k8s.io").failure(FAILURE).startswith(b"\x81\x453ey")


@pytest.mark.parametrize(
    ("said", "unfinished"),
    [
        (message(b"\x03" + b'{"status":"Success"}'), False),
        (message(b"\x03" + b'{"status":"Success"}' + b" " * 200), False),
        (message(b"", opcode=8), True),
        (message(b"\x01half", fin=False), True),
        (b"\xc2\x01\x01", False),  # compressed
        (b"\x82\x81\x00\x00\x00\x00\x01", False),  # masked
    ],
)
def test_websocket_where_nothing_is_said(said, unfinished):
    tap = WebSocketTap(b"v4.channel.k8s.io")
    assert tap.from_server(said) == said
    assert tap.failure(FAILURE) == b""
    assert tap.is_unfinished is unfinished


def test_websocket_an_empty_message_on_the_error_channel_tells_nothing():
    tap = WebSocketTap(b"v4.channel.k8s.io")
    tap.from_server(message(b"\x03"))
    assert tap.is_unfinished


def test_websocket_between_fragments_nothing_is_said_and_after_them_it_is():
    tap = WebSocketTap(b"v4.channel.k8s.io")
    tap.from_server(message(b"\x01a", fin=False) + message(b"", opcode=9) + message(b"b", opcode=0, fin=False))
    assert tap.failure(FAILURE) == b""
    tap.from_server(message(b"c", opcode=0))
    assert tap.failure(FAILURE)


FRAMES = st.one_of(
    st.builds(message, st.binary(max_size=300), opcode=st.sampled_from([0, 1, 2, 9, 10]), fin=st.booleans()),
    st.builds(lambda stream, flags, data: struct.pack("!II", stream, flags << 24 | len(data)) + data,
              st.integers(0, 9), st.integers(0, 3), st.binary(max_size=300)),
    st.binary(max_size=40),
    st.just(message(b"\x01" * (MAX_HELD + 5))),
)  # fmt: skip


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 100_000), max_size=20), st.booleans())
def test_no_byte_is_changed_lost_or_moved(frames, cuts, is_spdy):
    data = b"".join(frames)
    tap: Tap = SpdyTap(b"v4.channel.k8s.io", ["stdout"]) if is_spdy else WebSocketTap(b"v5.channel.k8s.io")
    came = b""
    for piece in pieces(data, cuts):
        came += tap.from_server(piece)
        assert data.startswith(came)
        assert len(tap._held) <= MAX_HELD
    assert came + tap.rest() == data


@given(st.lists(st.binary(max_size=200), max_size=6), st.lists(st.integers(0, 2000), max_size=20), st.integers(1, 50))
def test_spdy_wherever_it_is_cut_the_client_can_read_it(outputs, cuts, step):
    session = Session("stdout", step=step)
    session.open("error", "stdout")
    for data in outputs:
        session.server.data(session.streams["stdout"], data)
    said = session.server.taken()
    place = sorted(cut % (len(said) + 1) for cut in cuts)
    upto = said[: place[-1]] if place else said
    came = b"".join(session.tap.from_server(piece) for piece in pieces(upto, cuts))
    *events, told = session.client.feed(came + session.tap.failure(FAILURE))
    assert told == spdy.DataReceived(session.streams["error"], FAILURE.status, True)
    heard = b"".join(event.data for event in events if isinstance(event, spdy.DataReceived))
    assert b"".join(outputs).startswith(heard)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 40))
def test_spdy_whatever_either_end_says_nothing_breaks(client, server, step):
    tap = SpdyTap(b"v4.channel.k8s.io", ["stdout"])
    for at in range(0, max(len(client), len(server)), step):
        tap.from_client(client[at : at + step])
        tap.from_server(server[at : at + step])
    tap.failure(FAILURE)


@pytest.mark.parametrize(
    ("target", "upgrade", "field", "kind"),
    [
        (EXEC, b"websocket", (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io"), WebSocketTap),
        (EXEC, b"SPDY/3.1", (b"X-Stream-Protocol-Version", b"v4.channel.k8s.io"), SpdyTap),
        (EXEC, b"SPDY/3.1", (b"Date", b"now"), SpdyTap),
        (EXEC.replace(b"exec", b"attach"), b"SPDY/3.1", (b"x-stream-protocol-version", b"v4.channel.k8s.io"), SpdyTap),
        (EXEC, b"websocket", (b"Sec-WebSocket-Protocol", b"SPDY/3.1+portforward.k8s.io"), None),
        (EXEC, b"SPDY/3.1", (b"X-Stream-Protocol-Version", b"v9.channel.k8s.io"), None),
        (FORWARD, b"SPDY/3.1", (b"Date", b"now"), None),
        (FORWARD, b"SPDY/3.1", (b"X-Stream-Protocol-Version", b"portforward.k8s.io"), ForwardTap),
        (FORWARD, b"websocket", (b"Sec-WebSocket-Protocol", b"SPDY/3.1+portforward.k8s.io"), TunnelTap),
        (FORWARD, b"websocket", (b"Sec-WebSocket-Protocol", b"v4.channel.k8s.io"), None),
        (EXEC.replace(b"exec", b"proxy/exec"), b"websocket", (b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io"), None),
    ],
)  # fmt: skip
def test_which_stream_gets_which_tap(target, upgrade, field, kind):
    tap = tap_of(request_info(b"GET", target), upgrade, target, [field])
    assert type(tap) is (type(None) if kind is None else kind)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (b"stdout=true&stderr=1&stdin=T", {"error", "stdin", "stdout", "stderr"}),
        (b"command=stdin%3Dtrue&stdout=false&stderr=yes&xstdin=true", {"error"}),
        (b"tty=true&stdin=true&stdout=true&stderr=true", {"error", "stdin", "stdout"}),
    ],
)
def test_which_streams_a_session_has(query, wanted):
    target = EXEC.partition(b"?")[0] + b"?" + query
    tap = tap_of(request_info(b"POST", target), b"SPDY/3.1", target, [])
    assert isinstance(tap, SpdyTap)
    assert tap._wanted == wanted


def test_a_compressed_websocket_gets_none():
    fields = [(b"Sec-WebSocket-Protocol", b"v5.channel.k8s.io"), (b"Sec-WebSocket-Extensions", b"permessage-deflate")]
    assert tap_of(request_info(b"GET", EXEC), b"websocket", EXEC, fields) is None
