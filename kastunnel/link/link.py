"""Link: many requests over one stream that may break and be resumed. Bytes and method calls in, events and envelopes out.

A driver (kastunnel.transport.driver) reads streams into ``receive``, hands the events to the requests' handlers, and writes
what ``next_envelope`` returns. Times are seconds of any steady clock, given by the caller. Not thread-safe; nothing blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from kastunnel.link import codec, resume
from kastunnel.link.credit import Budget
from kastunnel.link.errors import LinkError
from kastunnel.link.events import Event, Kind
from kastunnel.link.frames import Code, Feature, Hop, Open, Reset, Uid
from kastunnel.link.handler import Handler
from kastunnel.link.hearing import Hearing
from kastunnel.link.limits import ENVELOPE_TARGET, INITIAL_WINDOW, LINK_BUDGET, RELEASE_IDLE_S, PeerLimits
from kastunnel.link.numbering import Numbering
from kastunnel.link.request import Request
from kastunnel.link.speaking import Record, Speaking
from kastunnel.link.uids import UidMemory
from kastunnel.v1 import link_pb2 as pb


class Side(Enum):
    """Who this end is. kas opens odd numbers; even ones, agentk's, are reserved for a later version."""

    KAS = 1
    AGENTK = 2


class Stream(Enum):
    """How far the current stream has got."""

    NONE = 0  # detached: requests live on, nothing is said
    LISTING = 1  # positions are exchanged; nothing else is said before the other end's complete list is in
    READY = 2


class Statistics(NamedTuple):
    """For metrics and people."""

    requests: int
    waiting: int
    receive_growth: int
    send_growth: int
    attach: int


GREETINGS = ("hello", "welcome", "refusal")
_LINK_KINDS = {"welcome": Kind.WELCOME, "refusal": Kind.REFUSAL, "drain": Kind.DRAIN, "bye": Kind.BYE}


class Link:
    """One end of a link.

    ``next_uid`` makes the identities of requests opened here (kas); ``uids`` remembers those that ran here (agentk).
    ``on_output`` is called whenever there may be something to say and there was nothing before: it must only wake the driver.
    """

    __slots__ = (
        "_grown",
        "_is_greeted",
        "_link_frames",
        "_listing",
        "_looked_at",
        "_next_uid",
        "_now",
        "_numbering",
        "attach",
        "events",
        "features",
        "hearing",
        "highest_heard",
        "limits",
        "on_output",
        "peer_limits",
        "receive_budget",
        "requests",
        "send_budget",
        "side",
        "speaking",
        "stream",
        "uids",
    )

    def __init__(
        self,
        side: Side,
        *,
        next_uid: Callable[[], Uid] | None = None,
        uids: UidMemory | None = None,
        limits: PeerLimits | None = None,
        features: frozenset[int] = frozenset(),
        budgets: tuple[Budget, Budget] | None = None,
        on_output: Callable[[], None] = lambda: None,
    ) -> None:
        self.side = side
        self.limits = limits or PeerLimits()
        self.peer_limits = PeerLimits()
        self.features = features
        self.uids = uids
        self.on_output = on_output
        receive, send = budgets or (None, None)
        self.receive_budget = Budget(LINK_BUDGET, receive)
        self.send_budget = Budget(LINK_BUDGET, send)
        self.requests: dict[int, Request] = {}  # by number; those without one wait in ``speaking``
        self.highest_heard = 0  # newest number that the other end has opened
        self.events: list[Event] = []
        self.speaking = Speaking(self.requests, first_number=1 if side is Side.KAS else 2)
        self.hearing = Hearing(self)
        self.stream = Stream.NONE
        self.attach = 0
        self._next_uid = next_uid
        self._now = 0.0
        self._grown: set[Request] = set()  # requests that hold more credit than INITIAL_WINDOW
        self._looked_at = 0.0  # when idle credit was last looked for
        self._begin_numbering()

    def __repr__(self) -> str:
        return f"<Link {self.side.name.lower()} {self.stream.name.lower()} attach={self.attach} requests={len(self.requests)}>"

    def statistics(self) -> Statistics:
        """Counts and bytes now."""
        waiting = len(self.speaking.unopened())
        return Statistics(len(self.requests), waiting, self.receive_budget.used, self.send_budget.used, self.attach)

    @property
    def is_acknowledged(self) -> bool:
        """At the newest attach the other end has acknowledged something: it has read what this end began with."""
        return self._numbering.is_acknowledged

    # ---- streams ------------------------------------------------------------------------------------------------------

    def begin_stream(self, attach: int, greeting: bytes, now: float) -> None:
        """A new stream: everything older is void from here on. ``greeting`` (a hello or welcome frame) goes first, then positions."""
        self.attach = attach
        self.stream = Stream.LISTING
        self._now = now
        self._begin_numbering()
        self.speaking.clear()
        self._link_frames.append(greeting)
        self._link_frames.extend(resume.take(self))
        self.on_output()

    def end_stream(self) -> None:
        """The stream is lost, or not to be believed any more: the link is detached, its requests live on."""
        self.stream = Stream.NONE

    def _begin_numbering(self) -> None:
        self._numbering = Numbering(self._now)
        self._link_frames: list[bytes] = []
        self._listing = resume.Listing()
        self._is_greeted = False

    def close(self, code: Code, reason: str, hop: Hop) -> list[Event]:
        """The link is over: end every request as failed. ``not_run`` tells those whose Open never left."""
        self.end_stream()
        events = self.forget_requests(code, reason, hop)
        self.speaking.clear()
        return events

    def forget_requests(self, code: Code, reason: str, hop: Hop) -> list[Event]:
        """The requests of the old link are over: it will not be resumed."""
        self._lose_all(code, reason, hop)
        return self._taken_events()

    def _lose_all(self, code: Code, reason: str, hop: Hop) -> None:
        for request in self.speaking.unopened():
            self.lose(request, Reset(code, reason, hop, not_run=True))
        for request in list(self.requests.values()):
            self.lose(request, Reset(code, reason, hop))
        self.highest_heard = 0

    def say_drain(self, window_ms: int, timeout_ms: int) -> None:
        """Ask agentk to open a link elsewhere; this one lives until its requests end, ``timeout_ms`` at most."""
        self._queue(pb.Frame(drain=pb.Drain(window_ms=window_ms, timeout_ms=timeout_ms)).SerializeToString())

    def say_bye(self, code: Code, reason: str) -> None:
        """This link is over and will not be resumed."""
        self._queue(pb.Frame(bye=pb.Bye(code=codec.enum(code), reason=reason)).SerializeToString())

    def _queue(self, frame: bytes) -> None:
        self._link_frames.append(frame)
        self.on_output()

    # ---- what users do ------------------------------------------------------------------------------------------------

    def open(self, request: Open, handler: Handler) -> Request | None:
        """Open a request; None if the other end takes no more at once. Its body may go on with ``send`` unless ``request.end``."""
        if self._next_uid is None:
            raise AssertionError("this end opens no requests")
        if self.is_full:
            return None
        opened = Request(self, self._next_uid(), opener=True)
        opened.handler = handler
        out = opened.outgoing
        if request.body:
            out.hand(request.body)
        out.end = request.end
        out.head = request._replace(body=b"", end=False) if request.body else request
        self.speaking.open(opened)
        self.on_output()
        return opened

    @property
    def is_full(self) -> bool:
        """The other end takes no more requests at once."""
        return len(self.requests) + self.speaking.waiting >= self.peer_limits.max_requests

    def say(self, request: Request) -> None:
        """``request`` has a head, bytes or an end to say."""
        self.speaking.turn(request)
        self.on_output()

    def say_control(self, request: Request) -> None:
        """``request`` has a Credit or a StopSending to say."""
        self.speaking.control(request)
        self.on_output()

    def abandon(self, request: Request) -> None:
        """``request`` was reset by its user: say so, unless nobody has heard of it."""
        if request.opener and not request.outgoing.head_said:
            request.outgoing.release()
            request.incoming.window.shrink()
            self.drop(request)
        elif request.outgoing.reset is not None and request.outgoing.reset.after is None:
            self.say_control(request)
        else:
            self.say(request)

    # ---- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Hear one envelope. Raises LinkError if nothing on this link can be trusted any more."""
        self._now = now
        envelope = codec.read_envelope(data)
        for record in self._numbering.hear(envelope, len(data), now):
            self._acknowledged(record)
        if self._numbering.owes_much:
            self.on_output()
        for frame in envelope.frames:
            if not frame.request:
                self._link_frame(frame)
            elif self.stream is not Stream.READY:
                raise LinkError("a request before the complete list of positions")
            else:
                self.hearing.frame(frame)
        return self._taken_events()

    def _link_frame(self, frame: pb.Frame) -> None:
        kind = frame.WhichOneof("kind")
        if kind in GREETINGS:
            self._greeted(kind)
        elif not self._is_greeted:
            raise LinkError(f"{kind} before the greeting")
        if kind == "positions":
            if self.stream is not Stream.LISTING:
                raise LinkError("a second list of positions")
            if self._listing.hear(self, frame.positions):
                self.stream = Stream.READY
                self.events.append(Event(None, Kind.LISTED))
                self.on_output()
        elif kind in _LINK_KINDS:
            if self.side is Side.KAS and kind == "drain":
                raise LinkError("drain from an agent")
            if kind == "welcome" and not frame.welcome.resumed:  # at once: what follows is about the new link
                self._lose_all(Code.CANCELLED, "kas no longer knows this link", Hop.ENTRY)
            self.events.append(Event(None, _LINK_KINDS[kind], getattr(frame, kind)))
        elif kind != "hello" and not frame.skippable:
            raise LinkError(f"unknown frame about the link: {kind}")

    def _greeted(self, kind: str) -> None:
        """The first thing said about a link, once: hello by agentk, welcome or refusal by kas."""
        if self._is_greeted or (kind == "hello") is (self.side is Side.AGENTK):
            raise LinkError(f"{kind} out of place")
        self._is_greeted = True

    def _acknowledged(self, record: Record) -> None:
        request, upto, head, end, reset = record
        if reset:
            self.drop(request)
            return
        out = request.outgoing
        if head:
            out.head = None
            out.head_acked = True
        if upto > out.acked:
            out.received(upto)
            if out.starved:
                self.hearing.give_room(request)
        if end:
            out.end_acked = True
            self.tidy(request)

    def _taken_events(self) -> list[Event]:
        events = self.events
        if events:
            self.events = []
        return events

    # ---- ends of requests ---------------------------------------------------------------------------------------------

    def tidy(self, request: Request) -> None:
        """Forget ``request`` if both directions have ended and all that was said is acknowledged."""
        if request.incoming.ended and request.outgoing.end_acked and request.outgoing.reset is None:
            self.drop(request)

    def drop(self, request: Request) -> None:
        """Forget ``request``; idempotent."""
        request.over = True
        if self.requests.pop(request.number, None) is None:
            return
        request.outgoing.release()
        request.incoming.window.shrink()
        self._grown.discard(request)
        if self.uids is not None:
            self.uids.end(request.uid, self._now)

    def lose(self, request: Request, reset: Reset) -> None:
        """``request`` has failed elsewhere: tell its user, unless it has heard and said all, and forget it."""
        if not request.over and not (request.incoming.ended and request.outgoing.end):
            self.events.append(Event(request, Kind.RESET, reset))
        request.outgoing.release()
        request.incoming.window.shrink()
        request.over = True
        self.drop(request)

    def fail(self, request: Request, code: Code, reason: str) -> None:
        """``request`` has failed here: tell its user and the other end."""
        hop = Hop.AGENTK if request.opener else Hop.ENTRY
        if not request.over and not (request.incoming.ended and request.outgoing.end):
            self.events.append(Event(request, Kind.RESET, Reset(code, reason, hop)))
        request.fail(code, reason, hop=hop)

    def reopen(self, requests: list[Request]) -> None:
        """The Opens of these never arrived."""
        self.speaking.reopen(requests)

    def say_again(self, request: Request) -> None:
        """After positions: whatever ``request`` still has to say."""
        out, into = request.outgoing, request.incoming
        if out.reset is not None and out.reset.after is None:
            self.speaking.control(request)
            return
        if into.credit_due or (into.stop is not None and not into.stop_said):
            self.speaking.control(request)
        if out.has_something():
            self.speaking.turn(request)

    def hears(self, number: int) -> bool:
        """``number`` is one of those that the other end opens."""
        return number % 2 == (1 if self.side is Side.AGENTK else 0)

    @property
    def highest_said(self) -> int:
        """Newest number that this end has opened."""
        return self.speaking.highest

    # ---- sending ------------------------------------------------------------------------------------------------------

    def next_envelope(self, now: float) -> bytes | None:
        """The next envelope to write, of about ENVELOPE_TARGET bytes; None if there is nothing to say now."""
        if self.stream is Stream.NONE:
            return None
        frames: list[bytes] = []
        records: list[Record] = []
        size = 0
        while self._link_frames and size < ENVELOPE_TARGET:
            frame = self._link_frames.pop(0)
            frames.append(frame)
            size += len(frame)
        if self.stream is Stream.READY and self.speaking:
            self.speaking.fill(frames, records, min(ENVELOPE_TARGET, self.peer_limits.envelope // 2) - size)
        numbering = self._numbering
        if not frames and not numbering.owes_word(now, self.peer_limits.silence_ms):
            return None
        return codec.envelope(numbering.say(records, is_empty=not frames, now=now), numbering.heard, frames)

    def deadline(self) -> float:
        """When ``tick`` and ``next_envelope`` must be called again at the latest, if nothing else happens."""
        if self.stream is Stream.NONE:
            return float("inf")
        due = self._numbering.deadline(self.limits.silence_ms, self.peer_limits.silence_ms)
        return min(due, self._looked_at + RELEASE_IDLE_S) if self._grown else due

    def tick(self, now: float) -> None:
        """Let time pass: give idle credit back. Raises StreamSilent if nothing was heard for too long."""
        self._now = now
        if self.stream is Stream.NONE:
            return
        self._numbering.check_silence(self.limits.silence_ms, now)
        if self._grown and now - self._looked_at >= RELEASE_IDLE_S:
            self._looked_at = now
            if self.stream is Stream.READY and Feature.RELEASE in self.features:
                self._release_idle_credit()

    def note_credit(self, request: Request) -> None:
        """``request`` was granted bytes; if many, look later whether it still needs them."""
        if request.outgoing.limit - request.outgoing.said > INITIAL_WINDOW:
            if not self._grown:
                self._looked_at = self._now
            self._grown.add(request)

    def _release_idle_credit(self) -> None:
        for request in list(self._grown):
            out = request.outgoing
            if out.said != out.quiet_at or out.pending or out.end or request.over:
                out.quiet_at = out.said
                if out.end or request.over:
                    self._grown.discard(request)
                continue
            self._grown.discard(request)
            out.limit = out.said + INITIAL_WINDOW
            out.hold.shrink()
            self._queue(codec.release_frame(request.number, out.limit, out.newest_limit))
