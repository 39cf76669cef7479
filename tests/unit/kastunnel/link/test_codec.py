"""What is written by hand is exactly what protobuf reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kastunnel.link import codec
from kastunnel.link.frames import AsAgent, Head, Impersonate, Open, Uid

number = st.integers(1, 2**63)
small = st.binary(max_size=300)
headers = st.lists(st.tuples(small, small), max_size=6)
text = st.text(max_size=40)
identity = st.one_of(
    st.just(AsAgent()),
    st.builds(
        Impersonate,
        st.text(min_size=1, max_size=20),
        st.lists(text, max_size=4).map(tuple),
        text,
        st.lists(st.tuples(text, st.lists(text, max_size=3).map(tuple)), max_size=3).map(tuple),
    ),
)
opens = st.builds(
    Open,
    identity=identity,
    method=small,
    target=small,
    headers=headers,
    upgrade=st.booleans(),
    body_length=st.none() | st.integers(0, 2**40),
    timeout_ms=st.integers(0, 2**32 - 1),
    needs=st.just(()),
    request_id=text,
    labels=st.dictionaries(text, text, max_size=3),
    trace_parent=text,
    trace_state=text,
)


@given(number, st.integers(0, 2**63), opens, small, st.booleans(), st.integers(0, 2**64 - 1), number)
def test_an_open_is_read_as_it_was_said(count, ack, wanted, body, end, origin, counter):
    uid = Uid(origin, counter)
    frame = codec.open_frame(count, uid, wanted, body, end)
    envelope = codec.read_envelope(codec.envelope(count, ack, [frame, frame]))
    assert (envelope.number, envelope.ack, len(envelope.frames)) == (count, ack, 2)
    assert envelope.frames[1].request == count
    assert codec.read_open(envelope.frames[1].open, frozenset()) == wanted._replace(body=body, end=end, uid=uid)


@given(
    number,
    st.builds(Head, st.integers(0, 2**32 - 1), headers, body_length=st.none() | st.integers(0, 2**40)),
    small,
    st.booleans(),
)
def test_a_head_is_read_as_it_was_said(count, head, body, end):
    (frame,) = codec.read_envelope(codec.envelope(1, 0, [codec.head_frame(count, head, body, end)])).frames
    assert frame.request == count
    assert codec.read_head(frame.head) == head._replace(body=body, end=end)


@given(number, st.integers(0, 2**63), st.binary(max_size=40_000), st.booleans())
def test_data_and_the_rest_are_read_as_they_were_said(count, offset, data, flag):
    frames = codec.read_envelope(
        codec.envelope(
            1,
            0,
            [
                codec.data_frame(count, offset, data, flag),
                codec.end_frame(count, offset, flag),
                codec.credit_frame(count, offset),
                codec.release_frame(count, offset, count),
            ],
        )
    ).frames
    assert {frame.request for frame in frames} == {count}
    assert (frames[0].data.offset, frames[0].data.data, frames[0].data.end) == (offset, data, flag)
    assert (frames[1].end.total, frames[1].end.stopped) == (offset, flag)
    assert frames[2].credit.limit == offset
    assert (frames[3].release.limit, frames[3].release.seen) == (offset, count)


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_protobufs(value):
    from kastunnel.v1 import link_pb2 as pb

    assert b"\x08" + codec.varint(value) == (pb.Envelope(number=value).SerializeToString() or b"\x08\x00")
