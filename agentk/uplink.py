"""Keeps agentk linked to kas: dials, resumes after a cut, backs off, follows a drain notice, says Bye.

A ``Session`` is the life of one link over as many streams as it takes. There is one, and while kas drains a second one:
the new link first, then the old one lives until its requests have ended.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from math import inf
from typing import Protocol

import grpc

from agentk.config import Settings
from agentk.errors import ConfigurationError
from kastunnel.link import greeting
from kastunnel.link.credit import Budget
from kastunnel.link.errors import LinkError, StreamSilent
from kastunnel.link.events import Event, Kind
from kastunnel.link.frames import Code, Hop, Open
from kastunnel.link.handler import Exchange, Handler
from kastunnel.link.limits import DETACH_MS, PROCESS_BUDGET
from kastunnel.link.link import Link, Side, Stream
from kastunnel.link.uids import UidMemory
from kastunnel.toolkit.backoff import full_jitter
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import TaskOwner
from kastunnel.transport import grpc as transport
from kastunnel.transport.driver import Driver
from kastunnel.transport.duplex import StreamLost

log = logging.getLogger(__name__)

WELCOME_S = 10.0  # a kas that accepts the connection but does not answer is as good as none
EAGER_S = 60.0  # for this long after the last link every pause is at most …
EAGER_PAUSE_S = 0.5  # … this, then …
PATIENT_PAUSE_S = 10.0  # … this
STEADY_S = 5.0  # attached for so long, the next loss begins eagerly again
BYE_S = 0.2  # for the last words to leave

# What gRPC says where dialling again does not help, and what does.
CURABLE = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not trusted: --ca-cert-file must hold the CA of what answers there, kas's own or a proxy's",
    ),
    ("Hostname Verification", "its certificate has another name: --kas-address must be as in agent_api.external_url"),
    ("WRONG_VERSION_NUMBER", "what answers there speaks no TLS: is this the port of agent_api?"),
    ("ALPN", "what answers there speaks no HTTP/2: is this the port of agent_api, and does the proxy pass gRPC?"),
    ("errors resolving", "the name in --kas-address, or that of the proxy, is unknown here"),
    # gRPC's words for a page of HTML or an error of a proxy in front
    ("http2 header with status", "what answers there is no agent door of kas: agentk doctor says more"),
    ("END_STREAM", "what answers there is no agent door of kas: agentk doctor says more"),
    ("Internal error from Core", "what answers there ended the stream at once: agentk doctor says more"),
    ("response code 407", "the proxy wants a login: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"),
    (
        "HTTP proxy returned",
        "the proxy does not let agentk through to kas: allow CONNECT to --kas-address, or name kas in NO_PROXY",
    ),
)


def remedy(reason: str) -> str:
    """What helps against a stream that was lost for ``reason``; empty where dialling again may."""
    return next((text for sign, text in CURABLE if sign in reason), "")


class Requests(Protocol):
    """Where requests go that kas opens: agentk.dispatcher.Dispatcher."""

    def opened(self, wanted: Open, exchange: Exchange) -> Handler:
        """The handler of a new request; at once."""


class Process:
    """What all links of this agentk share: who it is, what has run here, how much may be held."""

    def __init__(self) -> None:
        self.boot = secrets.randbits(64)
        self.boot_order = time.time_ns() // 1_000_000
        self.uids = UidMemory()
        self.budgets = (Budget(PROCESS_BUDGET), Budget(PROCESS_BUDGET))


class Session:
    """One link. ``run`` returns when it is over: ended by kas, broken, or drained."""

    def __init__(self, settings: Settings, requests: Requests, about: Mapping[str, str], process: Process) -> None:
        self._settings = settings
        self._about = about
        self._process = process
        self.link = Link(Side.AGENTK, uids=process.uids, budgets=process.budgets)
        self._driver = Driver(self.link, opened=requests.opened, about_link=self._hear)
        self._loop = asyncio.get_running_loop()
        self._tasks = TaskOwner("session")
        self._link_id = b""
        self._kas_id = ""
        self._given_up: tuple[bytes, ...] = ()  # links that kas need not keep for us any more; told at the next hello
        self._detach_s = DETACH_MS / 1000
        self._lost_at = self._loop.time()
        self._attached_at = 0.0
        self._refused: greeting.Refused | None = None
        self._over = False
        self.linked = asyncio.Event()
        self.draining = asyncio.Event()
        self.drain_window_s = 0.0  # all agents of a draining kas have so long to link elsewhere …
        self.drain_timeout_s = 0.0  # … and their requests so long to end

    @property
    def connected(self) -> bool:
        """Requests can come now."""
        return self.link.stream is Stream.READY

    async def run(self) -> None:
        """Dial and dial again. Cancelled, says Bye if it is linked; its requests end as failed either way."""
        try:
            while not self._over:
                await self._one_stream()
                if not self._over:
                    await self._pause()
        finally:
            self._driver.dispatch(self.link.close(Code.CANCELLED, "the link to kas is over", Hop.ENTRY))
            await self._tasks.close()

    async def _one_stream(self) -> None:
        self._refused = None
        address = self._settings.kas
        channel = call = None
        try:
            channel = transport.channel(address.target, self._credentials(), self._settings.proxy)
            call = transport.call(channel, self._settings.agent_token().decode())
            self.link.begin_stream(self.link.attach + 1, self._hello(), self._loop.time())
            driving = self._tasks.spawn(self._drive(transport.ClientDuplex(call)), name="stream")
            try:
                await asyncio.wait({driving})
            except asyncio.CancelledError:
                await self._say_bye()
                raise
        except ConfigurationError as error:  # a token or CA file that cannot be read now may be there at the next dial
            log.error("cannot dial kas", extra=fields(address=str(address), error=str(error)))
        finally:
            if call is not None:
                call.cancel()
            if channel is not None:
                await channel.close()

    async def _drive(self, duplex: transport.ClientDuplex) -> None:
        """Drive the link over one stream to its end, and note what that means for the link."""
        address = str(self._settings.kas)
        watchdog = self._loop.call_later(WELCOME_S, self._no_welcome, asyncio.current_task())
        try:
            await self._driver.run(duplex)
        except StreamLost as error:
            if self._refused is None and not self._over:
                self._lost(address, str(error))
        except StreamSilent:
            log.warning("kas was silent for too long", extra=fields(address=address))
        except LinkError as error:
            log.error("kas broke the protocol: the link is given up", extra=fields(address=address, reason=str(error)))
            self._give_up_link(str(error))
        except asyncio.CancelledError:
            if not self.linked.is_set():
                log.info("kas did not answer the hello", extra=fields(address=address, delay_s=WELCOME_S))
        finally:
            watchdog.cancel()
            if self.linked.is_set():
                self.linked.clear()
                self._lost_at = self._loop.time()

    def _lost(self, address: str, reason: str) -> None:
        if notice := remedy(reason):
            log.warning("kas cannot be dialled", extra=fields(address=address, reason=reason, notice=notice))
        else:
            log.info("stream to kas lost", extra=fields(address=address, reason=reason))

    def _no_welcome(self, task: asyncio.Task[None] | None) -> None:
        if not self.linked.is_set() and task is not None:
            task.cancel()

    def _hello(self) -> bytes:
        process = self._process
        if self._link_id and self._loop.time() - self._lost_at > self._detach_s:
            self._give_up_link("kas was away for longer than it keeps a link")
        hello = greeting.Hello(
            instance=self._settings.instance,
            boot=process.boot,
            boot_order=process.boot_order,
            attach=self.link.attach + 1,
            resume_link=self._link_id,
            ended_links=self._given_up,
            about=self._about,
        )
        return greeting.hello_frame(hello)

    def _give_up_link(self, reason: str) -> None:
        if self._link_id:
            self._given_up = (self._link_id,)
        self._link_id = b""
        self._driver.dispatch(self.link.forget_requests(Code.CANCELLED, reason, Hop.ENTRY))

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if not self._settings.kas.tls:
            return None
        return transport.trust(self._settings.kas_ca())

    # ---- what kas says about the link ---------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        value = event.value
        if event.kind is Kind.WELCOME:
            self._welcomed(greeting.read_welcome(value))  # type: ignore[arg-type]
        elif event.kind is Kind.REFUSAL:
            self._refuse(greeting.read_refusal(value))  # type: ignore[arg-type]
        elif event.kind is Kind.DRAIN:
            self.drain_window_s = getattr(value, "window_ms", 0) / 1000
            self.drain_timeout_s = getattr(value, "timeout_ms", 0) / 1000
            log.info("kas is going down: linking elsewhere first")
            self.draining.set()
        elif event.kind is Kind.BYE:
            reason = getattr(value, "reason", "")
            log.info("kas ended the link", extra=fields(reason=reason))
            self._over = True

    def _welcomed(self, welcome: greeting.Welcome) -> None:
        if welcome.attach != self.link.attach:
            raise LinkError("welcome for another attach")
        if welcome.resumed and welcome.link != self._link_id:
            raise LinkError("kas resumes a link that was not asked for")
        if welcome.resumed and welcome.kas_id != self._kas_id:
            raise LinkError("another kas resumes a link of ours")  # only with the feature CARRY
        self._kas_id = welcome.kas_id
        self._given_up = ()
        self.link.features = welcome.features
        self.link.peer_limits = welcome.limits
        self._link_id = welcome.link
        self._detach_s = welcome.detach_ms / 1000
        self._attached_at = self._loop.time()
        self.linked.set()
        log.info(
            "link resumed" if welcome.resumed else "linked to kas",
            extra=fields(
                address=str(self._settings.kas),
                kas_id=welcome.kas_id,
                attach=welcome.attach,
                requests=len(self.link.requests),
            ),
        )

    def _refuse(self, refused: greeting.Refused) -> None:
        self._refused = refused
        remedy = {
            Code.UNAUTHENTICATED: "make a new token with 'kas agent token create' and put it where agentk reads it",
            Code.UNSUPPORTED: "upgrade agentk or kas so that both speak one version of the link",
        }.get(refused.code, "dialling again")
        level = logging.INFO if refused.code is Code.DRAINING else logging.ERROR
        log.log(
            level, "kas refused the link", extra=fields(code=refused.code.name, reason=refused.reason, notice=remedy)
        )

    # ---- pauses and ends ----------------------------------------------------------------------------------------------

    async def _pause(self) -> None:
        now = self._loop.time()
        if self._attached_at and now - self._attached_at < STEADY_S and now - self._lost_at > EAGER_S:
            self._lost_at = now
        if self._refused is not None:
            ceiling = PATIENT_PAUSE_S if self._refused.code is not Code.DRAINING else EAGER_PAUSE_S
            await asyncio.sleep(self._refused.retry_after_ms / 1000 + full_jitter(ceiling))
        elif self._attached_at and now - self._attached_at >= STEADY_S and now - self._lost_at < 0.05:
            self._attached_at = 0.0  # a steady link was cut: dial at once
        else:
            ceiling = EAGER_PAUSE_S if now - self._lost_at < EAGER_S else PATIENT_PAUSE_S
            await asyncio.sleep(full_jitter(ceiling))

    async def drained(self) -> None:
        """Wait until the link has no request left, as long as kas allows, then say Bye."""
        deadline = self._loop.time() + (self.drain_timeout_s or inf)
        while self.link.requests and not self._over and self._loop.time() < deadline:  # noqa: ASYNC110 - seconds to hours, and nobody else waits for it
            await asyncio.sleep(0.2)
        await self._say_bye()
        self._over = True

    async def _say_bye(self) -> None:
        if self.connected:
            self.link.say_bye(Code.CANCELLED, "agentk is stopping")
            await asyncio.sleep(BYE_S)


class Uplink:
    """Always one session that takes new requests; others only until their requests have ended."""

    def __init__(self, settings: Settings, requests: Requests, about: Mapping[str, str]) -> None:
        self._settings = settings
        self._requests = requests
        self._about = about
        self._process = Process()
        self._sessions: list[Session] = []

    @property
    def connected(self) -> bool:
        """kas can send requests now."""
        return any(session.connected for session in self._sessions)

    async def run(self) -> None:
        """For ever; cancelled, every link says Bye."""
        async with asyncio.TaskGroup() as group:
            while True:
                session = Session(self._settings, self._requests, self._about, self._process)
                self._sessions.append(session)
                running = group.create_task(self._keep(session), name="session")
                draining = group.create_task(session.draining.wait(), name="drain-notice")
                await asyncio.wait({running, draining}, return_when=asyncio.FIRST_COMPLETED)
                if not draining.done():
                    draining.cancel()
                    await asyncio.sleep(full_jitter(EAGER_PAUSE_S))
                else:
                    group.create_task(self._retire(session, running), name="retire")
                    await asyncio.sleep(full_jitter(session.drain_window_s))  # not all agents of a kas at once

    async def _keep(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            self._sessions.remove(session)

    async def _retire(self, old: Session, running: asyncio.Task[None]) -> None:
        """Let ``old`` end once its successor is linked and its own requests are over."""
        while not running.done() and not any(other.connected for other in self._sessions if other is not old):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await old.drained()
        running.cancel()
