"""One real end of a link, and a hand that plays the other end frame by frame."""

from __future__ import annotations

from typing import Any

from kastunnel.link import codec, greeting
from kastunnel.link.events import Event, Kind
from kastunnel.link.frames import AsAgent, Open, Uid
from kastunnel.link.limits import PeerLimits
from kastunnel.link.link import Link, Side
from kastunnel.link.uids import UidMemory
from kastunnel.v1 import link_pb2 as pb


class Heard:
    """A Handler that writes down what it hears."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def on_head(self, head: Any) -> None:
        self.said.append(("head", head))

    def on_data(self, data: bytes) -> None:
        self.said.append(("data", bytes(data)))

    def on_end(self, stopped: bool) -> None:
        self.said.append(("end", stopped))

    def on_reset(self, reset: Any) -> None:
        self.said.append(("reset", reset))

    def on_room(self) -> None:
        self.said.append(("room", None))

    def on_stop(self, code: Any) -> None:
        self.said.append(("stop", code))


class End:
    """``link`` is real; ``tell`` plays what the other end says, ``hear`` returns what it would read."""

    def __init__(self, side: Side, *, limits: PeerLimits | None = None, uids: UidMemory | None = None) -> None:
        self.side = side
        counter = iter(range(1, 1_000_000))
        self.link = Link(
            side,
            next_uid=(lambda: Uid(9, next(counter))) if side is Side.KAS else None,
            uids=(uids or UidMemory()) if side is Side.AGENTK else None,
            limits=limits,
        )
        self.now = 100.0
        self.number = 0
        self.handlers: dict[int, Heard] = {}
        self.attach(1)

    def attach(self, count: int, *, listed: bool = True, positions: pb.Positions | None = None) -> None:
        """Begin a stream, and let the other end list what it has."""
        self.number = 0
        if self.side is Side.KAS:
            mine = greeting.welcome_frame(greeting.Welcome(b"l" * 16, count, True, "kas", 1))
            theirs = greeting.hello_frame(greeting.Hello("pod", 1, 1, count))
        else:
            mine = greeting.hello_frame(greeting.Hello("pod", 1, 1, count))
            theirs = greeting.welcome_frame(greeting.Welcome(b"l" * 16, count, count > 1, "kas", 1))
        self.link.begin_stream(count, mine, self.now)
        self.tell(pb.Frame.FromString(theirs))
        if listed:
            self.tell(pb.Frame(positions=positions or pb.Positions(last=True)))
            self.hear()

    def tell(self, *frames: pb.Frame, number: int | None = None, ack: int = 0) -> list[Event]:
        """The other end says ``frames`` in one envelope; the events are given to their handlers, and returned."""
        self.number += 1
        envelope = pb.Envelope(number=self.number if number is None else number, ack=ack, frames=frames)
        events = self.link.receive(envelope.SerializeToString(), self.now)
        for event in events:
            self._dispatch(event)
        return events

    def _dispatch(self, event: Event) -> None:
        request, kind, value = event
        if request is None:
            return
        if kind is Kind.OPENED:
            request.handler = self.handlers[request.number] = Heard()
            return
        getattr(request.handler, f"on_{kind.name.lower()}")(*([] if kind is Kind.ROOM else [value]))

    def hear(self) -> list[pb.Frame]:
        """All frames that the real end has to say now."""
        frames: list[pb.Frame] = []
        while (envelope := self.link.next_envelope(self.now)) is not None:
            frames.extend(codec.read_envelope(envelope).frames)
        return frames

    def ask(self, body: bytes = b"", *, end: bool = True) -> tuple[Any, Heard]:
        """kas opens a request, and its Open leaves."""
        heard = Heard()
        request = self.link.open(Open(AsAgent(), b"GET", b"/", [], body=body, end=end), heard)
        return request, heard


def opening(number: int = 1, counter: int = 1, **fields: Any) -> pb.Frame:
    """An Open as kas says it."""
    message = pb.Open(uid=pb.Uid(origin=5, counter=counter), method=b"GET", target=b"/", end=True)
    if "impersonate" not in fields and "service" not in fields and not fields.pop("nobody", False):
        message.as_agent.SetInParent()
    for name, value in fields.items():
        if isinstance(value, (pb.Impersonate, pb.Service)):
            getattr(message, name).CopyFrom(value)
        elif name == "needs":
            message.needs.extend(value)
        else:
            setattr(message, name, value)
    return pb.Frame(request=number, open=message)
