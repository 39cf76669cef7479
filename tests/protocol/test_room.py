"""Whoever found no room is told once there is some, however the bytes came that took it."""

from __future__ import annotations

import pytest

from kastunnel.link.limits import INITIAL_WINDOW
from kastunnel.link.link import Side
from kastunnel.v1 import link_pb2 as pb
from tests.protocol.ends import End, Heard, opening

SIZES = [0, 1, INITIAL_WINDOW - 1, INITIAL_WINDOW]


def takes_all(end: End, number: int = 1) -> None:
    """The other end has read everything: it acknowledges it, and grants a window more."""
    end.hear()
    end.tell(
        pb.Frame(request=number, credit=pb.Credit(limit=2 * INITIAL_WINDOW)),
        ack=end.link._numbering._said,
    )


def told(heard: Heard) -> int:
    return heard.said.count(("room", None))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("more", [0, 1])
def test_the_body_that_came_with_an_open_may_have_taken_all_of_the_room(size: int, more: int) -> None:
    kas = End(Side.KAS)
    request, heard = kas.ask(b"x" * size, end=False)
    request.send(b"x" * more)
    was_full = request.room <= 0
    takes_all(kas)
    assert request.room > 0
    assert told(heard) == was_full


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("more", [0, 1])
def test_so_may_the_body_that_came_with_a_head(size: int, more: int) -> None:
    agentk = End(Side.AGENTK)
    (event,) = agentk.tell(opening(1))
    request, heard = event.request, agentk.handlers[1]
    assert request is not None
    request.send_head(200, [], b"x" * size)
    request.send(b"x" * more)
    was_full = request.room <= 0
    takes_all(agentk)
    assert request.room > 0
    assert told(heard) == was_full
