"""The tap of port-forward: each connection that is open is told, over SPDY and over SPDY in a WebSocket; every byte passes as it came."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kas.demo.practice_cluster import spdy
from kas.streams.forwarding import MAX_CONNECTIONS, ForwardTap, TunnelTap
from kas.streams.tap import Failure, Tap

FAILURE = Failure("kas: the job is over", b"{}")
TEXT = FAILURE.text.encode()


def masked(payload: bytes, *, opcode: int = 2, fin: bool = True, mask: bytes = b"\x11\x22\x33\x44") -> bytes:
    """A frame of a WebSocket client."""
    first = (0x80 if fin else 0) | opcode
    length = len(payload)
    if length < 126:
        head = bytes([first, 0x80 | length])
    elif length < 1 << 16:
        head = struct.pack("!BBH", first, 0xFE, length)
    else:
        head = struct.pack("!BBQ", first, 0xFF, length)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def messages(data: bytes, size: int) -> bytes:
    """A server's bytes, each ``size`` of them a message."""
    said = b""
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        head = bytes([0x82, len(piece)]) if len(piece) < 126 else struct.pack("!BBH", 0x82, 126, len(piece))
        said += head + piece
    return said


class Forward:
    """Both ends of a port-forward with a tap between them; ``step`` bytes come at a time."""

    def __init__(self, *, tunnelled: bool, step: int = 1 << 20) -> None:
        self.tap: Tap = TunnelTap() if tunnelled else ForwardTap()
        self.tunnelled = tunnelled
        self.client, self.server = spdy.Spdy(client=True), spdy.Spdy()
        self.step = step

    def open(self, request: str, *, accept: bool = True, types: tuple[str, ...] = ("error", "data")) -> list[int]:
        streams = [
            self.client.open({"streamtype": kind, "port": "80", "requestid": request, "filler": "x" * 200})
            for kind in types
        ]
        self.client_says(accept=accept)
        self.server_says()
        return streams

    def client_says(self, *, accept: bool = True) -> None:
        said = self.client.taken()
        wire = masked(said) + masked(b"", opcode=9) if self.tunnelled and said else said
        for at in range(0, len(wire), self.step):
            self.tap.from_client(wire[at : at + self.step])
        for event in self.server.feed(said):
            if accept and isinstance(event, spdy.StreamOpened):
                self.server.answer(event.stream)

    def server_says(self) -> None:
        said = self.server.taken()
        wire = messages(said, 100) if self.tunnelled else said
        came = b"".join(self.tap.from_server(wire[at : at + self.step]) for at in range(0, len(wire), self.step))
        assert came == wire
        self.client.feed(said)

    def fail(self) -> list[spdy.Event]:
        told = self.tap.failure(FAILURE)
        if self.tunnelled and told:
            assert told[0] == 0x82
            told = told[4:] if told[1] == 126 else told[2:]
        return self.client.feed(told)


@pytest.fixture(params=[1, 7, 1 << 20], ids="step {}".format)
def step(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=[False, True], ids=["SPDY", "WebSocket"])
def forward(request: pytest.FixtureRequest, step: int) -> Forward:
    return Forward(tunnelled=request.param, step=step)


def test_each_open_connection_is_broken_off_and_told(forward: Forward) -> None:
    one, two = forward.open("0"), forward.open("1")
    forward.client.data(one[1], b"question" * 100)
    forward.client_says()
    forward.server.data(one[1], b"answer" * 100)
    forward.server_says()
    assert forward.fail() == [
        spdy.StreamReset(one[1], 5),
        spdy.DataReceived(one[0], TEXT, True),
        spdy.StreamReset(two[1], 5),
        spdy.DataReceived(two[0], TEXT, True),
    ]


def test_a_connection_that_has_ended_or_was_told_is_not_told_again(forward: Forward) -> None:
    ended, told, dropped, still = (forward.open(str(number)) for number in range(4))
    for stream in reversed(ended):
        forward.server.data(stream, b"", fin=True)
    forward.server.data(told[0], b"refused", fin=True)
    forward.server.reset(dropped[0])
    forward.server_says()
    assert [event.stream for event in forward.fail()] == [still[1], still[0]]


def test_without_a_connection_there_is_nowhere_to_say_anything(forward: Forward) -> None:
    assert forward.fail() == []
    forward.open("0", accept=False)
    assert forward.fail() == []
    assert not forward.tap.is_unfinished


def test_an_error_stream_without_data_is_told(forward: Forward) -> None:
    (error,) = forward.open("0", types=("error",))
    assert forward.fail() == [spdy.DataReceived(error, TEXT, True)]


def test_a_request_number_used_twice_is_not_understood(forward: Forward) -> None:
    forward.open("0")
    forward.open("0")
    assert forward.fail() == []


def test_many_connections_one_after_the_other_keep_nothing() -> None:
    forward = Forward(tunnelled=False)
    for number in range(MAX_CONNECTIONS + 10):
        error, _ = forward.open(str(number))
        forward.server.data(error, b"", fin=True)
        forward.server_says()
    assert isinstance(forward.tap, ForwardTap)
    assert not forward.tap._by_request
    assert not forward.tap._requests
    assert forward.open("last")
    assert forward.fail()


def test_too_many_connections_at_once_are_left_alone() -> None:
    forward = Forward(tunnelled=False)
    for number in range(MAX_CONNECTIONS + 1):
        forward.open(str(number))
    assert forward.fail() == []


def test_within_a_frame_of_the_spdy_in_a_websocket_nothing_is_said() -> None:
    forward = Forward(tunnelled=True)
    _, data = forward.open("0")
    forward.server.data(data, b"x" * 50)
    said = forward.server.taken()
    assert forward.tap.from_server(messages(said[:20], 100)) == messages(said[:20], 100)
    assert forward.tap.failure(FAILURE) == b""


@pytest.mark.parametrize(
    "said",
    [
        b"\x82\x02ab",  # not masked
        b"\xc2\x82\x00\x00\x00\x00ab",  # compressed
        masked(struct.pack("!HHI", 0x8003, 1, 20) + b"\x00" * 10 + b"not zlib!!"),
    ],
)
def test_a_client_that_is_not_understood_is_left_alone(said: bytes) -> None:
    forward = Forward(tunnelled=True)
    forward.open("0")
    forward.tap.from_client(said)
    assert forward.fail() == []
    assert forward.tap.from_server(b"\x82\x01a") == b"\x82\x01a"


def test_a_message_too_large_to_keep_passes_and_the_tap_says_nothing_more() -> None:
    forward = Forward(tunnelled=True)
    forward.open("0")
    large = struct.pack("!BBQ", 0x82, 127, 200_000) + b"x" * 200_000
    assert forward.tap.from_server(large[:100]) + forward.tap.from_server(large[100:]) == large
    assert forward.tap.failure(FAILURE) == b""


@given(
    st.lists(st.binary(max_size=70_000), min_size=1, max_size=4),
    st.binary(min_size=4, max_size=4),
    st.integers(1, 9000),
    st.booleans(),
)
def test_masks_are_taken_off_wherever_a_message_is_cut(payloads, mask, step, control):
    tap = TunnelTap()
    wire = b""
    for number, payload in enumerate(payloads):
        wire += masked(payload, opcode=2 if number == 0 else 0, fin=number == len(payloads) - 1, mask=mask)
        wire += masked(b"ping", opcode=9, mask=mask) if control else b""
    plain = b"".join(tap._client.taken(wire[at : at + step]) for at in range(0, len(wire), step))
    assert plain == b"".join(payloads)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 40), st.booleans())
def test_whatever_either_end_says_nothing_breaks_and_nothing_is_changed(client, server, step, tunnelled):
    tap: Tap = TunnelTap() if tunnelled else ForwardTap()
    came = b""
    for at in range(0, max(len(client), len(server)), step):
        tap.from_client(client[at : at + step])
        came += tap.from_server(server[at : at + step])
    tap.failure(FAILURE)
    assert came + tap.rest() == server
