"""An end that breaks the rules costs its own request, or its own link; nothing is believed, nothing crashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kastunnel.link import greeting
from kastunnel.link.errors import LinkError, StreamSilent
from kastunnel.link.events import Kind
from kastunnel.link.frames import Code
from kastunnel.link.limits import INITIAL_WINDOW, INLINE_BODY, SILENCE_S, PeerLimits
from kastunnel.link.link import Side
from kastunnel.v1 import link_pb2 as pb
from tests.protocol.ends import End, opening


def head(number: int = 1, **fields: object) -> pb.Frame:
    return pb.Frame(request=number, head=pb.Head(status=200, **fields))


def data(offset: int, content: bytes, number: int = 1, end: bool = False) -> pb.Frame:
    return pb.Frame(request=number, data=pb.Data(offset=offset, data=content, end=end))


# ---- what ends the link


@pytest.mark.covers("T-16")
@pytest.mark.parametrize(
    ("name", "frames", "more"),
    [
        ("a number left out", [], {"number": 7}),
        ("frames without a number", [pb.Frame(drain=pb.Drain())], {"number": 0}),
        ("an acknowledgement of what was never said", [], {"ack": 99}),
        ("an answer to a request that was never opened", [head(41)], {}),
        ("an Open from the end that may not open", [opening(2)], {}),
        ("an unknown frame about the link", [pb.Frame()], {}),
        ("a welcome from an agent", [pb.Frame(welcome=pb.Welcome())], {}),
        ("a second list of positions", [pb.Frame(positions=pb.Positions(last=True))], {}),
    ],
)
def test_the_link_ends_at(name: str, frames: list[pb.Frame], more: dict[str, int]) -> None:
    kas = End(Side.KAS)
    with pytest.raises(LinkError):
        kas.tell(*frames, **more)


@given(st.binary(min_size=1, max_size=200))
@pytest.mark.covers("T-16", "T-17")
def test_garbage_is_a_broken_link_or_nothing_and_never_another_error(garbage: bytes) -> None:
    for side in Side:
        try:
            End(side).link.receive(garbage, 100.0)
        except LinkError:
            pass


def test_requests_before_the_complete_list_end_the_link() -> None:
    agentk = End(Side.AGENTK)
    agentk.attach(2, listed=False)
    with pytest.raises(LinkError):
        agentk.tell(opening())


@pytest.mark.parametrize("side", list(Side))
def test_nothing_is_said_before_the_greeting_and_no_greeting_twice(side: Side) -> None:
    end = End(side)
    with pytest.raises(LinkError):
        end.tell(pb.Frame(hello=pb.Hello(attach=1)) if side is Side.KAS else pb.Frame(welcome=pb.Welcome(version=1)))
    end = End(side)
    end.number = 0
    end.link.begin_stream(2, b"", end.now)
    with pytest.raises(LinkError):
        end.tell(pb.Frame(positions=pb.Positions(last=True)))


@pytest.mark.parametrize("field", ["envelope", "window", "silence_ms"])
def test_limits_below_what_the_protocol_needs_are_refused(field: str) -> None:
    with pytest.raises(LinkError):
        greeting.read_limits(pb.Limits(**{field: 1}))


def test_positions_with_long_reasons_stay_within_an_envelope() -> None:
    agentk = End(Side.AGENTK)
    for counter in range(1, 1200):
        agentk.tell(opening(2 * counter - 1, counter))
    for request in list(agentk.link.requests.values()):
        request.reset(Code.INTERNAL, "x" * 1024)
    agentk.link.begin_stream(2, b"", agentk.now)
    sizes = []
    while (envelope := agentk.link.next_envelope(agentk.now)) is not None:
        sizes.append(len(envelope))
    assert sum(sizes) > 1_000_000
    assert max(sizes) < 512 * 1024


def test_an_unknown_frame_that_may_be_skipped_is_skipped() -> None:
    kas = End(Side.KAS)
    kas.tell(pb.Frame(skippable=True))


def test_silence_is_a_lost_stream() -> None:
    kas = End(Side.KAS)
    kas.link.tick(kas.now + SILENCE_S - 1)
    with pytest.raises(StreamSilent):
        kas.link.tick(kas.now + SILENCE_S)


# ---- what ends only the request


@pytest.mark.covers("T-16")
@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("data before the head", [data(0, b"x")]),
        ("an end before the head", [pb.Frame(request=1, end=pb.End(total=0))]),
        ("a gap", [head(), data(5, b"x")]),
        ("more than was granted", [head(), data(0, b"x" * (INITIAL_WINDOW + 1))]),
        ("data after the end", [head(end=True), data(0, b"x")]),
        ("an end that is elsewhere", [head(), pb.Frame(request=1, end=pb.End(total=9))]),
        ("a status of no HTTP", [pb.Frame(request=1, head=pb.Head(status=99))]),
        ("more body than a head may carry", [head(body=b"x" * (INLINE_BODY + 1))]),
        ("an unknown frame", [pb.Frame(request=1)]),
    ],
)
def test_the_request_fails_and_the_link_goes_on_after(name: str, frames: list[pb.Frame]) -> None:
    kas = End(Side.KAS)
    _, heard = kas.ask(end=False)
    _, other = kas.ask()
    kas.hear()
    kas.tell(*frames)
    assert heard.said[-1][0] == "reset"
    assert heard.said[-1][1].code in (Code.PROTOCOL, Code.UNSUPPORTED)
    assert [frame.request for frame in kas.hear() if frame.HasField("reset")] == [1]
    kas.tell(head(3, end=True))
    assert other.said[-1][0] == "head"


@pytest.mark.covers("T-16")
def test_a_second_head_changes_nothing() -> None:
    kas = End(Side.KAS)
    _, heard = kas.ask()
    kas.hear()
    kas.tell(head(body=b"abc"), pb.Frame(request=1, head=pb.Head(status=500, body=b"abcd")))
    assert [said[0] for said in heard.said] == ["head", "data"]
    assert heard.said[1][1] == b"d"


def test_what_is_over_is_late_and_dropped() -> None:
    kas = End(Side.KAS)
    _, heard = kas.ask()
    kas.hear()
    kas.tell(head(end=True), ack=2)
    assert not kas.link.requests
    kas.tell(head(end=True), data(0, b"late"))
    assert len(heard.said) == 1


# ---- what agentk refuses


def refused(agentk: End) -> pb.Reset:
    (reset,) = [frame.reset for frame in agentk.hear() if frame.HasField("reset")]
    return reset


@pytest.mark.covers("T-17", "I-13")
@pytest.mark.parametrize(
    ("name", "frame", "code"),
    [
        ("a need that is not understood", opening(needs=[77]), Code.UNSUPPORTED),
        ("no identity", opening(nobody=True), Code.UNSUPPORTED),
        ("a service of kas", opening(service=pb.Service(name="x")), Code.UNSUPPORTED),
        ("nobody to impersonate", opening(impersonate=pb.Impersonate(groups=["g"])), Code.PROTOCOL),
        ("another cluster", opening(cluster="other"), Code.UNSUPPORTED),
        ("more body than an Open may carry", opening(body=b"x" * (INLINE_BODY + 1)), Code.PROTOCOL),
    ],
)
def test_agentk_refuses_and_says_that_nothing_has_run(name: str, frame: pb.Frame, code: Code) -> None:
    agentk = End(Side.AGENTK)
    assert not [event for event in agentk.tell(frame) if event.kind is Kind.OPENED]
    reset = refused(agentk)
    assert (reset.code, reset.not_run) == (code, True)


@pytest.mark.covers("T-17")
def test_an_identity_with_a_field_of_a_later_version_is_refused() -> None:
    unknown = bytes([0xF8, 0x3F, 1])  # field 1023, varint
    for identity in (
        b"\x1a" + bytes([len(unknown)]) + unknown,
        b"\x22" + bytes([len(unknown) + 3]) + b"\x0a\x01u" + unknown,
    ):
        agentk = End(Side.AGENTK)
        message = pb.Open.FromString(opening(nobody=True).open.SerializeToString() + identity)
        agentk.tell(pb.Frame(request=1, open=message))
        reset = refused(agentk)
        assert (reset.code, reset.not_run) == (Code.UNSUPPORTED, True)


def test_more_requests_than_agentk_takes_are_refused() -> None:
    agentk = End(Side.AGENTK, limits=PeerLimits(max_requests=1))
    agentk.tell(opening(1, 1), opening(3, 2))
    reset = refused(agentk)
    assert (reset.code, reset.not_run) == (Code.LIMIT, True)


def test_nothing_runs_twice() -> None:
    agentk = End(Side.AGENTK)
    (opened,) = agentk.tell(opening(1, counter=8))
    assert opened.request is not None
    opened.request.send_head(200, [], end=True)
    agentk.hear()
    agentk.tell(ack=2)
    assert not agentk.link.requests
    assert not agentk.tell(opening(3, counter=8))
    reset = refused(agentk)
    assert (reset.code, reset.not_run) == (Code.TOO_LATE, False)


# ---- positions that cannot be


@pytest.mark.parametrize("offset", [0, 2])
def test_bytes_that_were_acknowledged_and_are_now_missing_end_the_link(offset: int) -> None:
    kas = End(Side.KAS)
    request, _ = kas.ask(b"abcde", end=False)
    kas.hear()
    kas.tell(ack=2)
    assert request.outgoing.acked == 5
    kas.attach(2, listed=False)
    position = pb.Position(request=1, uid=pb.Uid(origin=9, counter=1), head=True, offset=offset, limit=INITIAL_WINDOW)
    with pytest.raises(LinkError):
        kas.tell(pb.Frame(positions=pb.Positions(list=[position], last=True, highest_opened=1)))


def test_a_position_beyond_what_was_said_fails_the_request() -> None:
    kas = End(Side.KAS)
    _, heard = kas.ask(b"abcde", end=False)
    kas.hear()
    position = pb.Position(request=1, uid=pb.Uid(origin=9, counter=1), head=True, offset=99, limit=INITIAL_WINDOW)
    kas.attach(2, positions=pb.Positions(list=[position], last=True, highest_opened=1))
    assert heard.said[-1][0] == "reset"


def test_another_request_under_the_same_number_ends_the_link() -> None:
    kas = End(Side.KAS)
    kas.ask()
    kas.hear()
    kas.attach(2, listed=False)
    position = pb.Position(request=1, uid=pb.Uid(origin=9, counter=55), head=True)
    with pytest.raises(LinkError):
        kas.tell(pb.Frame(positions=pb.Positions(list=[position], last=True, highest_opened=1)))
