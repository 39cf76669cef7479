"""One link as kas holds it: over one stream after another, detached in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from kastunnel.link import greeting
from kastunnel.link.errors import LinkError, StreamSilent
from kastunnel.link.events import Event, Kind
from kastunnel.link.frames import Code, Hop, Open
from kastunnel.link.handler import Exchange, Handler
from kastunnel.link.link import Link, Stream
from kastunnel.toolkit.logs import fields
from kastunnel.transport.driver import Driver
from kastunnel.transport.duplex import Duplex, StreamLost

log = logging.getLogger(__name__)

BYE_S = 0.2  # for the last words to leave


class HeldLink:
    """Owns a Link and its Driver. ``number`` is its public name; the link id is a secret that is not kept, only its digest."""

    __slots__ = (
        "_driver",
        "_expiry",
        "_loop",
        "_stream",
        "about",
        "agent_id",
        "boot",
        "boot_order",
        "digest",
        "draining",
        "end_reason",
        "first_attach",
        "instance",
        "link",
        "number",
        "on_ready",
        "over",
        "peer",
        "said_bye",
        "token_id",
    )

    def __init__(
        self, number: int, digest: bytes, agent_id: int, token_id: int, hello: greeting.Hello, link: Link
    ) -> None:
        self.number = number
        self.digest = digest  # of the secret link id
        self.agent_id = agent_id
        self.token_id = token_id  # of the token that attached last: revoking it ends this link
        self.instance = hello.instance
        self.boot = hello.boot
        self.boot_order = hello.boot_order
        self.first_attach = hello.attach
        self.about: Mapping[str, str] = hello.about
        self.link = link
        self.peer = ""
        self.draining = False
        self.over = False
        self.end_reason = ""  # of a link that is over
        self.said_bye = False
        self.on_ready: Callable[[], None] = lambda: None
        self._driver = Driver(link, about_link=self._hear)
        self._stream: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<HeldLink {self.number} agent={self.agent_id} instance={self.instance} {self.link!r} draining={self.draining}>"

    @property
    def attached(self) -> bool:
        """A stream carries it now."""
        return self.link.stream is not Stream.NONE

    @property
    def takes_requests(self) -> bool:
        """New requests may be put on it."""
        return self.link.stream is Stream.READY and not self.draining and not self.over

    @property
    def cluster(self) -> str:
        """The uid of the cluster, as agentk says; empty where it may not know."""
        return self.about.get("cluster", "")

    def was_never_read(self, hello: greeting.Hello) -> bool:
        """Whether ``hello``, which begins a link, shows that agentk never read this one's welcome, and so cannot resume it.

        Its attaches count on within one session: this link's was an earlier one, never acknowledged.
        """
        is_same = self.instance == hello.instance and self.boot == hello.boot
        attach = self.link.attach
        return is_same and attach == self.first_attach < hello.attach and not self.link.is_acknowledged

    def open(self, request: Open, handler: Handler) -> Exchange | None:
        """Put a request on this link; None if agentk takes no more at once."""
        return self.link.open(request, handler)

    @property
    def is_full(self) -> bool:
        """agentk takes no more requests at once."""
        return self.link.is_full

    def _hear(self, event: Event) -> None:
        if event.kind is Kind.LISTED:
            self.on_ready()
        if event.kind is Kind.BYE:  # no resumption: what is still open has failed
            self.said_bye = True
            if self._stream is not None:
                self._stream.cancel()

    def take_over(self) -> None:
        """Believe the older stream no more: a newer one has come."""
        if self._stream is not None:
            self._stream.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    async def carry(self, duplex: Duplex, attach: int, welcome: bytes, first: bytes) -> None:
        """Carry the link over ``duplex`` until that is lost; ``first`` is the envelope with the hello.

        Ends the link, and raises nothing, if agentk breaks the protocol. Cancelled, it leaves the link detached.
        """
        self._stream = asyncio.current_task()
        link = self.link
        now = self._loop.time()
        try:
            link.begin_stream(attach, welcome, now)
            self._driver.dispatch(link.receive(first, now))
            await self._driver.run(duplex)
        except StreamLost as error:
            log.info("stream of a link lost", extra=self._fields(reason=str(error)))
        except StreamSilent:
            log.info("agent was silent for too long", extra=self._fields())
        except LinkError as error:
            log.warning("agent broke the protocol: its link ends", extra=self._fields(reason=str(error)))
            self.end(Code.PROTOCOL, f"the agent broke the protocol of the link: {error}")
        finally:
            if link.attach == attach:
                link.end_stream()

    def expires(self, alarm: asyncio.TimerHandle) -> None:
        """``alarm`` ends this link unless it is resumed before."""
        self._expiry = alarm

    def end(self, code: Code, reason: str) -> None:
        """End the link now: every request on it fails, and agentk is told if it can be. Idempotent."""
        if self.over:
            return
        self.over = True
        self.end_reason = reason
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._driver.dispatch(self.link.forget_requests(code, reason, Hop.AGENTK))
        if self.attached:
            self.link.say_bye(code, reason)
            if self._stream is not None:
                self._loop.call_later(BYE_S, self._stream.cancel)

    def _fields(self, reason: str = "") -> dict[str, object]:
        return fields(
            agent_id=self.agent_id,
            link=str(self.number),
            instance=self.instance,
            attach=self.link.attach,
            requests=len(self.link.requests),
            reason=reason,
        )
