"""What a frame from the other end does to a request. One method a kind; everything is checked, nothing is trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kastunnel.link import codec
from kastunnel.link.errors import LinkError, RequestError, TooManyOpen, Unsupported
from kastunnel.link.events import Event, Kind
from kastunnel.link.frames import Code, Hop, Open
from kastunnel.link.incoming import Said
from kastunnel.link.limits import INLINE_BODY
from kastunnel.link.request import Request
from kastunnel.v1 import link_pb2 as pb

if TYPE_CHECKING:
    from kastunnel.link.link import Link


class Hearing:
    """Turns frames about requests into changes of their state, and into events for their users."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def frame(self, frame: pb.Frame) -> None:
        """Hear one frame about a request. Raises LinkError for one that was never opened."""
        link = self._link
        number = frame.request
        kind = frame.WhichOneof("kind")
        request = link.requests.get(number)
        if request is None:
            if kind == "open" and number > link.highest_heard:
                self._open(number, frame.open)
            elif number > (link.highest_heard if link.hears(number) else link.highest_said):
                raise LinkError(f"{kind} for request {number}, which was never opened")
            return  # over: late, and dropped
        if request.outgoing.reset is not None and kind not in ("credit", "reset"):
            return  # crossed with our Reset
        hear = _BY_KIND.get(kind)
        try:
            if hear is None:
                if not frame.skippable:
                    raise Unsupported(f"unknown frame for request {number}")
            else:
                hear(self, request, frame)
        except RequestError as error:
            link.fail(request, error.code, f"the other end broke the protocol: {error}")
        else:
            link.tidy(request)

    def _open(self, number: int, message: pb.Open) -> None:
        link = self._link
        if not link.hears(number) or link.uids is None:  # agentk opens none before the feature AGENT_OPENS is in force
            raise LinkError(f"the other end may not open request {number}")
        link.highest_heard = number
        request = Request(link, codec.read_uid(message.uid), opener=False)
        request.number = number
        link.requests[number] = request
        try:
            opened = self._admit(request, message)
        except RequestError as error:
            # Nothing has run: whoever asked may ask elsewhere.
            request.reset(error.code, str(error), hop=Hop.AGENTK, not_run=True)
            return
        if opened is None:
            request.reset(Code.TOO_LATE, "this request has run already", hop=Hop.AGENTK)
            return
        link.events.append(Event(request, Kind.OPENED, opened))
        link.tidy(request)

    def _admit(self, request: Request, message: pb.Open) -> Open | None:
        """The Open if it may run, None if it has run; raises RequestError if it is refused."""
        link = self._link
        if len(link.requests) > link.limits.max_requests:
            raise TooManyOpen(f"more than {link.limits.max_requests} requests are open on this link")
        if len(message.body) > INLINE_BODY:
            raise RequestError("more body than an Open may carry")
        opened = codec.read_open(message, link.features)
        if link.uids is not None and not link.uids.begin(request.uid):
            return None
        into = request.incoming
        into.step(Said.HEAD)
        into.accept(0, message.body)
        if message.end:
            into.finish(len(message.body))
        return opened

    def _open_again(self, request: Request, frame: pb.Frame) -> None:
        """Resent after a cut: only what is new of its body counts."""
        message = frame.open
        if request.opener or codec.read_uid(message.uid) != request.uid:
            raise LinkError(f"request {request.number} is another one already")
        self._body(request, 0, message.body, message.end)

    def _head(self, request: Request, frame: pb.Frame) -> None:
        message = frame.head
        if not request.opener:
            raise RequestError("a head from the end that asked")
        if len(message.body) > INLINE_BODY:
            raise RequestError("more body than a Head may carry")
        into = request.incoming
        if not into.step(Said.HEAD):
            self._body(request, 0, message.body, message.end)
            return
        if not (message.status == 101 or 200 <= message.status <= 599):
            raise RequestError(f"status {message.status}")
        body = into.accept(0, message.body)
        if message.end:
            into.finish(len(message.body))
        self._link.events.append(Event(request, Kind.HEAD, codec.read_head(message)._replace(body=body)))

    def _data(self, request: Request, frame: pb.Frame) -> None:
        message = frame.data
        self._body(request, message.offset, message.data, message.end)

    def _body(self, request: Request, offset: int, data: bytes, end: bool) -> None:
        into = request.incoming
        into.step(Said.DATA)
        new = into.accept(offset, data)
        if new:
            self._link.events.append(Event(request, Kind.DATA, new))
        elif into.credit_due and into.stop is not None:
            self._link.say_control(request)
        if end and into.finish(offset + len(data)):
            self._link.events.append(Event(request, Kind.END, False))

    def _end(self, request: Request, frame: pb.Frame) -> None:
        message = frame.end
        if request.incoming.finish(message.total):
            self._link.events.append(Event(request, Kind.END, message.stopped))

    def _reset(self, request: Request, frame: pb.Frame) -> None:
        self._link.lose(request, codec.read_reset(frame.reset))

    def _credit(self, request: Request, frame: pb.Frame) -> None:
        self.credited(request, frame.credit.limit)

    def credited(self, request: Request, limit: int) -> None:
        """The other end takes bytes below ``limit``."""
        out = request.outgoing
        out.newest_limit = limit
        if limit <= out.limit:
            return
        out.limit = limit
        if out.pending:
            self._link.say(request)
        self._link.note_credit(request)
        self.give_room(request)

    def give_room(self, request: Request) -> None:
        """Tell the user once that it may go on, if it was kept waiting."""
        out = request.outgoing
        if out.starved and out.room > 0:
            out.starved = False
            if not out.end and out.reset is None:
                self._link.events.append(Event(request, Kind.ROOM))

    def _stop(self, request: Request, frame: pb.Frame) -> None:
        self.stopped(request, codec.known_code(frame.stop.code))

    def stopped(self, request: Request, code: Code) -> None:
        """The other end wants no more bytes: discard what was not said, and end here."""
        out = request.outgoing
        if out.stopped or out.end_said:
            return
        if not out.end:
            self._link.events.append(Event(request, Kind.STOP, code))
        out.stopped = True
        out.discard()
        out.end = True
        self._link.say(request)

    def _release(self, request: Request, frame: pb.Frame) -> None:
        into = request.incoming
        into.release(frame.release.limit, frame.release.seen)
        if into.credit_due:
            self._link.say_control(request)


_BY_KIND: Mapping[str | None, Callable[[Hearing, Request, pb.Frame], None]] = {
    "open": Hearing._open_again,  # noqa: SLF001 - the table of this class
    "head": Hearing._head,  # noqa: SLF001
    "data": Hearing._data,  # noqa: SLF001
    "end": Hearing._end,  # noqa: SLF001
    "reset": Hearing._reset,  # noqa: SLF001
    "credit": Hearing._credit,  # noqa: SLF001
    "stop": Hearing._stop,  # noqa: SLF001
    "release": Hearing._release,  # noqa: SLF001
}
