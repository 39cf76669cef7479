"""Who says how much before the next one's turn."""

from __future__ import annotations

from typing import Any

from kastunnel.link.limits import ENVELOPE_TARGET, KIB, MAX_WINDOW, TURN
from kastunnel.link.link import Side
from kastunnel.v1 import link_pb2 as pb
from tests.protocol.ends import End

CHUNK = b"x" * (16 * KIB)


def asked(kas: End) -> Any:
    """A request that may say as much as any, and has said its Open."""
    request, _ = kas.ask(end=False)
    kas.hear()
    kas.tell(pb.Frame(request=request.number, credit=pb.Credit(limit=MAX_WINDOW)))
    return request


def say(request: Any, size: int) -> None:
    for _ in range(size // len(CHUNK)):
        request.send(CHUNK)


def turns(kas: End) -> list[tuple[int, int]]:
    """Whose turn it was and how much was said, frame by frame."""
    return [(frame.request, len(frame.data.data)) for frame in kas.hear() if frame.WhichOneof("kind") == "data"]


def test_who_is_alone_fills_each_envelope_with_one_frame() -> None:
    kas = End(Side.KAS)
    only = asked(kas)
    say(only, ENVELOPE_TARGET + TURN)
    assert turns(kas) == [(only.number, ENVELOPE_TARGET), (only.number, TURN)]


def test_two_take_turns_and_who_is_left_goes_on_with_the_rest_of_the_envelope() -> None:
    kas = End(Side.KAS)
    large, small = asked(kas), asked(kas)
    say(large, 8 * TURN)
    say(small, TURN)
    said = turns(kas)
    assert said[:2] == [(large.number, TURN), (small.number, TURN)]
    assert said[2][1] > TURN
    assert sum(size for number, size in said if number == large.number) == 8 * TURN


def test_a_small_answer_waits_for_one_turn_of_a_large_one() -> None:
    kas = End(Side.KAS)
    large, small = asked(kas), asked(kas)
    say(large, 3 * TURN)
    say(small, len(CHUNK))
    assert turns(kas)[:2] == [(large.number, TURN), (small.number, len(CHUNK))]
