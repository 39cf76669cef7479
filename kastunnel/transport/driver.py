"""Runs a Link over one stream after another: reads envelopes into it, gives its events to the handlers, writes what it says.

All frames that wait in one turn of the event loop leave in one envelope, because messages cost, not bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from kastunnel.link.errors import LinkError, StreamSilent
from kastunnel.link.events import Event, Kind
from kastunnel.link.frames import Open
from kastunnel.link.handler import Exchange, Handler
from kastunnel.link.link import Link, Stream
from kastunnel.transport.duplex import Duplex, StreamLost

_DISPATCH: dict[Kind, Callable[[Handler, Any], None]] = {
    Kind.HEAD: lambda handler, head: handler.on_head(head),
    Kind.DATA: lambda handler, data: handler.on_data(data),
    Kind.END: lambda handler, stopped: handler.on_end(stopped),
    Kind.RESET: lambda handler, reset: handler.on_reset(reset),
    Kind.ROOM: lambda handler, _: handler.on_room(),
    Kind.STOP: lambda handler, code: handler.on_stop(code),
}


class Driver:
    """Drives one Link for its whole life.

    ``opened`` is asked for the handler of each request that the other end opens; ``about_link`` hears welcome, refusal, drain
    and bye. Both must return at once.
    """

    __slots__ = ("_about_link", "_alarm", "_alarm_at", "_has_output", "_loop", "_opened", "_waiter", "link")

    def __init__(
        self,
        link: Link,
        *,
        opened: Callable[[Open, Exchange], Handler] | None = None,
        about_link: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.link = link
        self._opened = opened
        self._about_link = about_link
        self._loop = asyncio.get_running_loop()
        self._has_output = True
        self._waiter: asyncio.Future[None] | None = (
            None  # of the writer; an asyncio.Event would hold a deque for each link
        )
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        link.on_output = self._wake

    async def run(self, duplex: Duplex) -> None:
        """Drive the link over ``duplex`` until the stream is lost; ``link.begin_stream`` was called for it.

        Raises StreamLost, StreamSilent, or LinkError (the link is over); always leaves the link detached, unless a newer
        stream has begun meanwhile. Cancelled, it leaves the link detached too.
        """
        attach = self.link.attach
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(duplex, attach), name="link-read")
                group.create_task(self._write(duplex, attach), name="link-write")
        except BaseExceptionGroup as group_error:
            raise _gravest(group_error) from group_error
        finally:
            if self.link.attach == attach:
                self.link.end_stream()
            self._disarm()

    async def _read(self, duplex: Duplex, attach: int) -> None:
        link = self.link
        while True:
            data = await duplex.read()
            if link.attach != attach:
                raise StreamLost("a newer stream has taken over")
            self.dispatch(link.receive(data, self._loop.time()))
            if self._alarm is None or link.deadline() < self._alarm_at - 0.01:
                self._arm()

    async def _write(self, duplex: Duplex, attach: int) -> None:
        link = self.link
        self._has_output = True
        while True:
            if not self._has_output:
                self._waiter = self._loop.create_future()
                await self._waiter
            await asyncio.sleep(0)  # what else is said in this turn of the loop goes along
            self._has_output = False
            while link.attach == attach:
                now = self._loop.time()
                link.tick(now)
                envelope = link.next_envelope(now)
                if envelope is None:
                    break
                await duplex.write(envelope)
            if link.attach != attach:
                raise StreamLost("a newer stream has taken over")
            self._arm()

    def dispatch(self, events: Iterable[Event]) -> None:
        """Give ``events`` to the handlers of their requests, in order."""
        for event in events:
            request, kind, value = event
            if request is None:
                self._about_link(event)
            elif kind is Kind.OPENED:
                if self._opened is not None and isinstance(value, Open):
                    request.handler = self._opened(value, request)
            else:
                _DISPATCH[kind](request.handler, value)

    def _arm(self) -> None:
        """Wake the writer at the link's deadline. A deadline that moves later is found out when the alarm rings: cheaper than moving it."""
        due = self.link.deadline()
        if self._alarm is not None:
            if self._alarm_at <= due:
                return
            self._alarm.cancel()
        if self.link.stream is Stream.NONE:
            return
        self._alarm_at = due
        self._alarm = self._loop.call_at(due + 0.001, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake()

    def _wake(self) -> None:
        self._has_output = True
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def _gravest(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what ended a stream, what matters most: a bug, a broken rule, silence, a lost stream."""
    flat: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            flat.append(error)
    order = (StreamLost, StreamSilent, LinkError)
    return max(flat, key=lambda error: order.index(type(error)) if type(error) in order else len(order))
