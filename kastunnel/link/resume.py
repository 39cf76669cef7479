"""After a cut both ends say how far each request has got, and go on from there.

Instead of replaying what may have been lost: positions are absolute, so one exchange settles every request, whatever was
on the way. What an end says here is what it has received, and what it has said that the other must know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kastunnel.link import codec
from kastunnel.link.errors import LinkError, RequestError
from kastunnel.link.frames import Code, Hop, Reset
from kastunnel.link.incoming import Phase
from kastunnel.link.limits import INITIAL_WINDOW, POSITIONS_BYTES, POSITIONS_PER_FRAME
from kastunnel.link.request import Request
from kastunnel.v1 import link_pb2 as pb

if TYPE_CHECKING:
    from kastunnel.link.link import Link


def take(link: Link) -> list[bytes]:
    """This end's positions as frames, the last one marked. Everything said in them counts as said."""
    frames: list[bytes] = []
    message = pb.Positions(highest_opened=link.highest_heard)
    size = 0
    for request in link.requests.values():
        position = _position(request)
        size += position.ByteSize() + 4
        if len(message.list) == POSITIONS_PER_FRAME or size > POSITIONS_BYTES:
            frames.append(pb.Frame(positions=message).SerializeToString())
            message = pb.Positions(highest_opened=link.highest_heard)
            size = 0
        message.list.append(position)
    message.last = True
    frames.append(pb.Frame(positions=message).SerializeToString())
    return frames


def _position(request: Request) -> pb.Position:
    into, out = request.incoming, request.outgoing
    position = pb.Position(
        request=request.number,
        uid=pb.Uid(origin=request.uid.origin, counter=request.uid.counter),
        head=into.phase is not Phase.NOTHING,
        offset=into.received,
        end=into.ended,
        limit=into.granted,
    )
    if into.stop is not None:
        into.stop_said = True
        position.stop.code = codec.enum(into.stop)
    if out.reset is not None:
        position.reset.CopyFrom(codec.reset_message(out.reset))
    return position


class Listing:
    """The other end's list as it comes; a partial one is dropped with its stream."""

    __slots__ = ("_positions",)

    def __init__(self) -> None:
        self._positions: list[pb.Position] = []

    def hear(self, link: Link, message: pb.Positions) -> bool:
        """Take one frame of it; True when it was the last, and the link has gone on from it."""
        if len(message.list) > POSITIONS_PER_FRAME:
            raise LinkError("too many positions in a frame")
        self._positions.extend(message.list)
        if len(self._positions) > 2 * link.limits.max_requests + POSITIONS_PER_FRAME:
            raise LinkError("more positions than requests")
        if not message.last:
            return False
        _apply(link, self._positions, message.highest_opened)
        self._positions = []
        return True


def _apply(link: Link, positions: list[pb.Position], highest_opened: int) -> None:
    listed: set[int] = set()
    for position in positions:
        listed.add(position.request)
        request = link.requests.get(position.request)
        if request is not None:  # else we are done with it: all of ours was acknowledged
            try:
                _apply_position(link, request, position)
            except RequestError as error:
                link.fail(request, error.code, f"the other end broke the protocol: {error}")
    lost = [request for number, request in link.requests.items() if number not in listed]
    link.reopen([request for request in lost if _never_arrived(link, request, highest_opened)])
    for request in lost:
        if request.outgoing.head_said or not request.opener:
            _forgotten(link, request)


def _apply_position(link: Link, request: Request, position: pb.Position) -> None:
    out, into = request.outgoing, request.incoming
    if codec.read_uid(position.uid) != request.uid:
        raise LinkError(f"request {request.number} is another one at the other end")
    reset = codec.read_reset(position.reset) if position.HasField("reset") else None
    if reset is not None and (reset.after is None or reset.after <= into.received or out.reset is not None):
        link.lose(request, reset)
        return
    if reset is not None:
        _awaits_reset(link, request)
        return
    if position.offset < out.acked:
        raise LinkError(f"request {request.number}: the other end has lost bytes that it acknowledged")
    if position.offset > out.said or (position.end and not out.end):
        raise RequestError("a position beyond what was said")
    if out.head_acked and not position.head:
        raise LinkError(f"request {request.number}: the other end has lost a head that it acknowledged")
    if not position.head and (request.opener or position.offset or position.end):
        raise RequestError("a position without a head")
    out.head_said = position.head
    if position.head:
        out.head_acked = True
        out.head = None
    out.rewind(position.offset)
    out.end_said = out.end_acked = position.end
    out.reset_said = False
    if (out.reset is not None and out.reset.after is None) or (out.stopped and not position.end):
        out.discard()  # nobody waits for what the cut would have us say again
    if position.HasField("stop") and not position.end:
        link.hearing.stopped(request, codec.known_code(position.stop.code))
    link.hearing.credited(request, position.limit)
    link.hearing.give_room(request)
    link.say_again(request)
    link.tidy(request)


def _awaits_reset(link: Link, request: Request) -> None:
    """The other end's source broke: its last bytes and then its Reset will follow. It wants nothing more from us but credit."""
    out = request.outgoing
    out.release()
    out.handed = out.acked = out.said
    out.head_said = out.head_acked = out.end = out.end_said = True
    link.say_again(request)


def _never_arrived(link: Link, request: Request, highest_opened: int) -> bool:
    """True if the Open of ``request`` is to be said again; one that was cancelled meanwhile vanishes."""
    if not request.opener or request.number <= highest_opened:
        return False
    out = request.outgoing
    if out.acked or out.head is None:
        raise LinkError(f"request {request.number}: the other end has lost an Open that it acknowledged")
    if out.reset is not None:
        link.drop(request)
        return False
    out.head_said = out.end_said = out.end_acked = False
    out.rewind(0)
    request.incoming.granted = INITIAL_WINDOW
    request.incoming.stop_said = False
    request.incoming.credit_due = request.incoming.window.size > INITIAL_WINDOW
    return True


def _forgotten(link: Link, request: Request) -> None:
    """The other end is done with ``request``: it has all that we said. If we are not, it has failed."""
    out, into = request.outgoing, request.incoming
    if out.reset is None and not (into.ended and out.end):
        code = Code.UPSTREAM_BROKEN if request.opener else Code.CANCELLED
        hop = Hop.AGENTK if request.opener else Hop.ENTRY
        link.lose(request, Reset(code, "the other end no longer knows this request", hop))
    else:
        link.drop(request)
