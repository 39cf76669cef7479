"""Who speaks next: the order in which what the requests of a link have to say goes into envelopes.

Credit, StopSending and Reset overtake, and never their own Open. Opens leave in number order. Bodies take turns (deficit
round robin with one TURN a round), so a bulk transfer delays a small answer by one turn, not by its size. Where nobody else
waits, the rest of the envelope is one turn: frames cost, not bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kastunnel.link import codec
from kastunnel.link.frames import Code, Open, Reset
from kastunnel.link.limits import INLINE_BODY, TURN
from kastunnel.link.request import Request


class Record(NamedTuple):
    """What an envelope said of a request, kept until the other end has acknowledged the envelope."""

    request: Request
    upto: int
    head: bool = False
    end: bool = False
    reset: bool = False


class Speaking:
    """The queues of one link. Each request stands at most once in each.

    Lists, not deques: they are short, and an idle link has thirty of them for one empty deque.
    """

    __slots__ = ("_control", "_next_number", "_opens", "_requests", "_turns")

    def __init__(self, requests: dict[int, Request], first_number: int) -> None:
        self._requests = requests
        self._next_number = first_number
        self._control: list[Request] = []
        self._opens: list[Request] = []  # to be opened: first those to be said again, by number, then new ones
        self._turns: list[Request] = []

    def __bool__(self) -> bool:
        return bool(self._control or self._opens or self._turns)

    @property
    def highest(self) -> int:
        """Newest number that was given; below the first if none."""
        return self._next_number - 2

    def open(self, request: Request) -> None:
        """``request`` wants to be opened."""
        self._opens.append(request)

    def reopen(self, requests: Iterable[Request]) -> None:
        """The Opens of these never arrived: they go first, in number order."""
        self._opens[:0] = sorted(requests, key=lambda request: request.number)

    @property
    def waiting(self) -> int:
        """How many wait to be opened, those included that were cancelled meanwhile."""
        return len(self._opens)

    def unopened(self) -> list[Request]:
        """Those that have no number yet."""
        return [request for request in self._opens if not request.number and not request.over]

    def turn(self, request: Request) -> None:
        """``request`` has a head, a body, an end or a late Reset to say."""
        if not request.queued_turn and (request.outgoing.head_said or not request.opener):
            request.queued_turn = True
            self._turns.append(request)

    def control(self, request: Request) -> None:
        """``request`` has a Credit, a StopSending or an immediate Reset to say."""
        if not request.queued_control:
            request.queued_control = True
            self._control.append(request)

    def clear(self) -> None:
        """Forget who wanted to speak; those that wait to be opened stay."""
        for request in self._control:
            request.queued_control = False
        for request in self._turns:
            request.queued_turn = False
        self._control.clear()
        self._turns.clear()
        self._opens = [request for request in self._opens if not request.number]

    def fill(self, frames: list[bytes], records: list[Record], maximum: int) -> None:
        """Append frames of about ``maximum`` bytes together, and the records of what they say."""
        size = 0
        while self._control and size < maximum:
            size += self._say_control(self._control.pop(0), frames, records)
        while self._opens and size < maximum:
            size += self._say_open(self._opens.pop(0), frames, records)
        while self._turns and size < maximum:
            request = self._turns.pop(0)
            request.queued_turn = False
            turn = TURN if self._turns else max(TURN, maximum - size)
            size += self._say_turn(request, frames, records, turn)

    def _say_control(self, request: Request, frames: list[bytes], records: list[Record]) -> int:
        request.queued_control = False
        number = request.number
        if not number:
            return 0  # said behind its Open
        size = 0
        into, out = request.incoming, request.outgoing
        if out.reset is not None and out.reset.after is None:
            if not out.reset_said:
                size = self._say_reset(request, frames, records)
        elif not into.ended and out.reset is None:
            if into.credit_due:
                frames.append(codec.credit_frame(number, into.grant()))
                size = 16
            if into.stop is not None and not into.stop_said:
                into.stop_said = True
                frames.append(codec.stop_frame(number, into.stop))
                size += 16
        return size

    def _say_reset(self, request: Request, frames: list[bytes], records: list[Record]) -> int:
        out = request.outgoing
        out.reset_said = True
        frame = codec.reset_frame(request.number, out.reset or Reset(Code.INTERNAL))
        frames.append(frame)
        records.append(Record(request, out.said, reset=True))
        return len(frame)

    def _say_open(self, request: Request, frames: list[bytes], records: list[Record]) -> int:
        if request.outgoing.head is None:
            return 0  # cancelled before it was opened: vanishes
        if not request.number:
            request.number = self._next_number
            self._next_number += 2
            self._requests[request.number] = request
        size = self._say_turn(request, frames, records)
        if request.incoming.credit_due or request.incoming.stop is not None or request.outgoing.reset is not None:
            self.control(request)
        return size

    def _say_turn(self, request: Request, frames: list[bytes], records: list[Record], turn: int = TURN) -> int:
        out = request.outgoing
        number = request.number
        size = 0
        head = out.head
        if head is not None and not out.head_said:
            body = out.take(INLINE_BODY) if out.pending else b""
            end = out.end and not out.pending and not out.stopped
            if isinstance(head, Open):
                frame = codec.open_frame(number, request.uid, head, body, end)
            else:
                frame = codec.head_frame(number, head, body, end)
            out.head_said = True
            out.end_said = end
            frames.append(frame)
            records.append(Record(request, out.said, True, end))
            size = len(frame)
        if out.pending:
            offset = out.said
            data = out.take(turn)
            if data:
                end = out.end and not out.pending
                out.end_said = end
                frame = codec.data_frame(number, offset, data, end)
                frames.append(frame)
                records.append(Record(request, out.said, False, end))
                size += len(frame)
        if not out.pending:
            if out.reset is not None:
                if not out.reset_said:
                    size += self._say_reset(request, frames, records)
            elif out.end and not out.end_said and out.head_said:
                out.end_said = True
                frames.append(codec.end_frame(number, out.said, out.stopped))
                records.append(Record(request, out.said, False, True))
                size += 8
        if out.has_something():
            self.turn(request)
        return size
