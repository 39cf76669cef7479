"""One connection of a client: reads one request at a time, keeps its time limits, and writes what the relay says.

There is one deadline per connection, looked at by the door's sweep: setting it costs one look at the clock, no timer.
"""

from __future__ import annotations

import asyncio
import fcntl
import termios
from math import inf
from typing import TYPE_CHECKING, cast

from kas.kubernetes_api import flow, replies
from kas.kubernetes_api.credentials import read_credential
from kas.kubernetes_api.relay import Relay
from kas.kubernetes_api.replies import Refusal, Reply
from kas.kubernetes_api.waiting import Waiting
from kas.metrics import Outcome
from kastunnel.http.errors import BadMessage
from kastunnel.http.request import RequestReader
from kastunnel.toolkit.vanished import LOOK_S, is_vanished

if TYPE_CHECKING:
    from kas.kubernetes_api.door import KubernetesApiDoor

MAX_WAITING = 64 * 1024  # unread bytes kept for later; then we stop reading and let TCP hold the rest
HIGH_WATER = 256 * 1024  # bytes in user space for a client that reads slowly

FIRST_LOOK_S, LAST_LOOK_S = 0.005, 0.25  # whether what is written was taken, when closing


class Connection(asyncio.Protocol):
    """Owned by its door from accept to ``connection_lost``. Must not be used from outside the loop's thread."""

    __slots__ = (
        "_advancing",
        "_credential",
        "_reading_paused",
        "deadline",
        "door",
        "is_authenticated",
        "is_closing",
        "is_write_paused",
        "peer",
        "reader",
        "relay",
        "transport",
        "waiting",
    )

    def __init__(self, door: KubernetesApiDoor, peer: str) -> None:
        self.door = door
        self.peer = peer
        self.transport: asyncio.Transport | None = None
        self.reader = RequestReader()
        self.relay: Relay | None = None
        self.waiting = Waiting.REQUEST
        self.deadline = inf
        self.is_authenticated = False
        self.is_closing = False
        self.is_write_paused = False
        self._reading_paused = False
        self._advancing = False
        self._credential: tuple[bytes, tuple[int, bytes]] | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.peer} waiting={self.waiting.name} relay={self.relay!r} closing={self.is_closing}>"

    def read_credential(self, authorization: bytes) -> tuple[int, bytes]:
        """As `credentials.read_credential`. Most connections say the same with every request, and an ID token is a kilobyte."""
        known = self._credential
        if known is None or known[0] != authorization:
            known = self._credential = authorization, read_credential(authorization)
        return known[1]

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done: the first head must come soon."""
        self.transport = cast("asyncio.Transport", transport)
        flow.bound(self.transport, HIGH_WATER)
        self.wait_for(Waiting.REQUEST, self.door.settings.head_s)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head, of a body, or of an upgraded stream."""
        if self.is_closing:
            return  # read and dropped, so that the answer is not destroyed by a reset
        reader = self.reader
        reader.feed(data)
        relay = self.relay
        if relay is None:
            self.advance()
        else:
            relay.on_body_arrived()
        if reader.waiting > MAX_WAITING:
            self.pause_reading()

    def eof_received(self) -> None:
        """The client closes; no client of Kubernetes half-closes TLS, so that is its end."""

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer comes."""
        self.is_write_paused = True
        if (relay := self.relay) is not None:
            relay.on_write_paused()

    def resume_writing(self) -> None:
        """The client has read: what it took may be credited again."""
        self.is_write_paused = False
        if (relay := self.relay) is not None:
            relay.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or we have closed."""
        self.is_closing = True
        self.deadline = inf
        self.door.forget(self)
        if (relay := self.relay) is not None:
            self.relay = None
            relay.on_client_gone()

    # Requests, one after the other

    def advance(self) -> None:
        """Begin the next request if it is there, and further ones while they are answered at once."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self.relay is None and not self.is_closing:
                head = self.reader.head()
                if head is None:
                    break
                relay = self.relay = Relay(self, head)
                relay.start()
        except BadMessage as bad:
            self.refuse(bad)
        finally:
            self._advancing = False
        if self.relay is None and not self.is_closing and self.reader.has_more and self.waiting is Waiting.REQUEST:
            self.wait_for(Waiting.HEAD, self.door.settings.head_s)

    def refuse(self, bad: BadMessage) -> None:
        """Answer what is not a request, and close."""
        self._refuse_unread(replies.for_message(bad), bad.detail)

    def _refuse_unread(self, reply: Reply, detail: str) -> None:
        door = self.door
        request_id = door.next_request_id()
        door.metrics.requests.bad_requests.value += 1
        door.metrics.requests.done(Outcome.REFUSED, reply.status)
        self.door.unread(self, reply, detail, request_id)
        answer = replies.render(reply, hop="kas", request_id=request_id, as_text=False, is_head=False, close=True)
        self.write(answer)
        self.close_slowly()

    def finished(self, *, keep_alive: bool) -> None:
        """The relay has written its whole answer. Only with ``keep_alive`` may another request follow."""
        self.relay = None
        if not keep_alive or self.door.is_draining:
            self.close_slowly()
            return
        self.reader.next()
        self.wait_for(Waiting.REQUEST, self.idle_limit_s)
        if self._reading_paused:
            self.resume_reading()
        if self.reader.has_more:
            self.advance()

    @property
    def idle_limit_s(self) -> float:
        """Strangers are not kept as long as callers."""
        settings = self.door.settings
        return settings.keep_alive_idle_s if self.is_authenticated else min(settings.head_s, settings.keep_alive_idle_s)

    # What the relay uses

    def write(self, data: bytes) -> None:
        """Write, without waiting; look at ``is_write_paused`` afterwards. Nothing happens where the client is gone already."""
        # uvloop raises on a transport whose connection_lost is still to come, and a link's callback must not raise.
        if (transport := self.transport) is not None and not transport.is_closing():
            transport.write(data)

    def wait_for(self, waiting: Waiting, limit_s: float) -> None:
        """Set the one deadline; it replaces the one before."""
        self.waiting = waiting
        self.deadline = self.door.clock() + limit_s

    def wait_for_nothing(self) -> None:
        """No time limit: it goes on for long, or it is not the client's turn. Whether the client is there is looked at now and then."""
        self.waiting = Waiting.NOTHING
        self.deadline = self.door.clock() + LOOK_S

    def pause_reading(self) -> None:
        """Let TCP hold what the client sends."""
        transport = self.transport
        if not self._reading_paused and not self.is_closing and transport is not None and not transport.is_closing():
            self._reading_paused = True
            transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def close(self) -> None:
        """Close once the client has taken what is written; abort if it does not in time. A caller may read as slowly as ever.

        Until then what comes is read and dropped: a ping at a closed socket would be answered with a reset, which destroys what is
        still on its way. TLS has two more seconds for its own end, too few for a slow reader.
        """
        settings = self.door.settings
        self.is_closing = True
        transport = self.transport
        if transport is None:
            return
        if self.is_authenticated and _untaken(transport):
            self.resume_reading()
            self.wait_for(Waiting.END, settings.write_stall_s)
            self._close_when_taken(FIRST_LOOK_S)
        else:
            self.wait_for(Waiting.END, settings.linger_s)
            transport.close()

    def _close_when_taken(self, look_s: float) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if _untaken(transport):
            self.door.loop.call_later(look_s, self._close_when_taken, min(2 * look_s, LAST_LOOK_S))
        else:
            self.wait_for(Waiting.END, self.door.settings.linger_s)
            transport.close()

    def close_slowly(self) -> None:
        """Close after an answer: at once if all was read, else when the client has read it and closes, or after a while."""
        if self.reader.complete and not self.reader.has_more:
            self.close()
            return
        self.is_closing = True
        self.resume_reading()
        self.wait_for(Waiting.END, self.door.settings.linger_s)

    def close_later(self, delay_s: float) -> None:
        """Close when the client has had time to act on what was written; what it says meanwhile is read and dropped."""
        self.is_closing = True
        self.resume_reading()
        self.wait_for(Waiting.END, delay_s + self.door.settings.linger_s)
        self.door.loop.call_later(delay_s, self._close_if_open)

    def _close_if_open(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.close()

    def abort(self) -> None:
        """Close so that the client cannot take it for an end: what is written in this tick still leaves, nothing else does."""
        if not self.is_closing:
            self.is_closing = True
            self.wait_for(Waiting.END, self.door.settings.linger_s)
            if self.transport is not None:
                # uvloop sends what was written in this turn of the loop at its end; an abort now would lose it.
                self.door.loop.call_soon(self.transport.abort)

    # The sweep

    def on_deadline(self) -> None:
        """The deadline has passed."""
        waiting = self.waiting
        relay = self.relay
        self.wait_for_nothing()
        if waiting is Waiting.NOTHING:
            if self.transport is not None and is_vanished(self.transport):
                self.transport.abort()
        elif waiting is Waiting.HEAD:
            self._refuse_unread(replies.REFUSALS[Refusal.HEAD_TIMEOUT], "time")
        elif relay is not None and waiting is not Waiting.END:
            relay.on_deadline(waiting)
        elif waiting is Waiting.REQUEST:
            self.close()
        elif self.transport is not None:
            self.transport.abort()


def _untaken(transport: asyncio.Transport) -> bool:
    """Whether bytes are still on this machine: in user space, or in the kernel because the client has not taken them."""
    if transport.get_write_buffer_size():
        return True
    try:
        waiting: bytes = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError, AttributeError):  # closed meanwhile
        return False
    return any(waiting)
