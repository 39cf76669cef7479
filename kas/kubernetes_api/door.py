"""The kubectl door: accepts connections within its caps, keeps every time limit with one sweep, and goes down in order.

Connections are accepted here and not by ``create_server``, because only so do those count that are still shaking hands, the oldest
stranger can make room for a new one, and a certificate can be replaced without cutting anybody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Self

from kas.clock import Clock, system_clock
from kas.errors import AccessDenied, IssuerUnavailable, KasError, Unauthenticated
from kas.kubernetes_api import request_log
from kas.kubernetes_api.admission import Wish
from kas.kubernetes_api.audited import record_of
from kas.kubernetes_api.connection import Connection
from kas.kubernetes_api.ports import AccessGate, Audit, Upstream
from kas.kubernetes_api.relay import Relay
from kas.kubernetes_api.replies import Reply
from kas.kubernetes_api.settings import DoorSettings
from kas.kubernetes_api.waiting import Waiting
from kas.limits.limits import Limits, LimitSettings
from kas.metrics import Door, Metrics, Outcome
from kastunnel.toolkit.logs import fields
from kastunnel.toolkit.tasks import TaskOwner

log = logging.getLogger(__name__)

BACKLOG = 1024
SHUTDOWN_S = 2.0  # for the peer's half of the end of TLS
KEEP_ALIVE = (  # a client that vanished without a word is found within two minutes, also behind an idle watch
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


class KubernetesApiDoor:
    """``async with`` it, then ``start``; ``drain`` before leaving lets open requests end. Leaving ends all of them.

    ``settings`` may be replaced at any time. ``metrics`` and ``gate`` and ``upstream`` belong to the caller.
    """

    def __init__(
        self,
        gate: AccessGate,
        upstream: Upstream,
        settings: DoorSettings | None = None,
        metrics: Metrics | None = None,
        *,
        limits: Limits | None = None,
        audit: Audit | None = None,
        wall_clock: Clock = system_clock,
    ) -> None:
        self.gate = gate
        self.upstream = upstream
        self.audit = audit
        self.wall_clock = wall_clock
        self.settings = settings or DoorSettings()
        self.metrics = metrics or Metrics()
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time
        self.limits = limits or Limits(LimitSettings(), self.metrics.limits, self.clock)
        self.tasks = TaskOwner("kubernetes api")
        self.is_draining = False
        self.observe_head = self.metrics.head_s.observe
        self._tls: ssl.SSLContext | None = None
        self._listening: list[socket.socket] = []
        self._acceptors: list[asyncio.Task[None]] = []
        self._connections: set[Connection] = set()
        self._strangers: dict[Connection, asyncio.Task[None] | None] = {}  # no valid token yet; the oldest first
        self._orphans: dict[Relay, float] = {}
        self._rechecking: set[Relay] = set()
        self._changed = asyncio.Event()  # a connection has gone
        self._next_recheck = 0.0
        self._boot = os.urandom(4).hex()
        self._count = 0

    def __repr__(self) -> str:
        return (
            f"<KubernetesApiDoor connections={len(self._connections)} strangers={len(self._strangers)}"
            f" requests={self.open_requests} draining={self.is_draining}>"
        )

    async def __aenter__(self) -> Self:
        self.tasks.spawn(self._sweep(), name="sweep")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Listening

    async def start(
        self, host: str, port: int, tls: ssl.SSLContext | None, *, reuse_port: bool = False
    ) -> Sequence[tuple[str, int]]:
        """Listen on every address of ``host`` (empty: all) and return them. Raises OSError. ``tls`` is None only in tests."""
        self.use_tls(tls)
        found = await self.loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            listening = _listen(family, address, reuse_port=reuse_port)
            self._listening.append(listening)
            self._acceptors.append(self.tasks.spawn(self._accept(listening), name="accept"))
        return [listening.getsockname()[:2] for listening in self._listening]

    def use_tls(self, tls: ssl.SSLContext | None) -> None:
        """Shake hands with this context from now on; connections that are open stay as they are."""
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])  # a client without ALPN is served all the same
        self._tls = tls

    async def stop_listening(self) -> None:
        """Accept nothing more; what is open goes on. Idempotent."""
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.cancel()
        await asyncio.gather(*acceptors, return_exceptions=True)
        listening, self._listening = self._listening, []
        for each in listening:
            each.close()

    def drain(self) -> None:
        """From now on each answer is the last of its connection, and idle connections are closed."""
        self.is_draining = True
        for connection in list(self._connections):
            if connection.relay is None and connection.waiting is Waiting.REQUEST and connection.reader.is_idle:
                connection.close()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until no request is open; False if some still are after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.open_requests:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """End everything now. Idempotent."""
        self.is_draining = True
        await self.stop_listening()
        for connection in list(self._connections):
            if connection.relay is not None:
                connection.relay.end_now()
        for orphan in list(self._orphans):
            orphan.end_orphan()
        await asyncio.sleep(0)  # what was just written leaves before the connections are aborted
        for connection in list(self._connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self.tasks.close()

    @property
    def open_requests(self) -> int:
        """Requests that are going on, upgraded streams included."""
        return sum(1 for connection in self._connections if connection.relay is not None) + len(self._orphans)

    @property
    def open_connections(self) -> int:
        """Connections, those included that are still shaking hands."""
        return len(self._connections)

    async def _accept(self, listening: socket.socket) -> None:
        opened = self.metrics.doors.opened[Door.KUBERNETES]
        while True:
            while len(self._connections) >= self.settings.max_connections:
                self._changed.clear()  # new ones wait in the kernel
                await self._changed.wait()
            try:
                accepted, address = await self.loop.sock_accept(listening)
            except OSError as error:  # out of descriptors, or the peer is gone already
                log.warning("a connection could not be accepted", extra=fields(error=str(error), door="kubernetes api"))
                await asyncio.sleep(0.1)
                continue
            opened.value += 1
            connection = Connection(self, f"{address[0]}:{address[1]}")
            self._connections.add(connection)
            handshake = self.tasks.spawn(self._greet(connection, accepted), name="handshake")
            self._strangers[connection] = handshake
            # Not in the task itself: one that is cancelled before its first step runs nothing.
            handshake.add_done_callback(partial(self._greeted, connection, accepted))
            if len(self._strangers) > self.settings.max_unauthenticated_connections:
                self._turn_away_oldest()

    async def _greet(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            if self._tls is None:
                await self.loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await self.loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=self._tls,
                    ssl_handshake_timeout=self.settings.tls_handshake_s,
                    ssl_shutdown_timeout=SHUTDOWN_S,
                )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            log.debug("no handshake", extra=fields(peer=connection.peer, error=str(error), door="kubernetes api"))

    def _greeted(self, connection: Connection, accepted: socket.socket, _: asyncio.Task[None]) -> None:
        if connection.transport is None:
            accepted.close()
            self.forget(connection)
        elif connection in self._strangers:
            self._strangers[connection] = None

    def _turn_away_oldest(self) -> None:
        """Strangers cannot take every place: who has not shown a token for the longest time makes room."""
        connection, handshake = next(iter(self._strangers.items()))
        del self._strangers[connection]
        self.metrics.doors.refused[Door.KUBERNETES].value += 1
        if connection.transport is not None:
            connection.transport.abort()
        elif handshake is not None:
            handshake.cancel()

    # What connections and relays say

    def next_request_id(self) -> str:
        """16 characters, unique as far as eight random ones per start of kas go; for logs, never a secret."""
        self._count += 1
        return f"{self._boot}{self._count & 0xFFFFFFFF:08x}"

    def authenticated(self, connection: Connection) -> None:
        """A valid token has come over this connection: it is no stranger any more."""
        connection.is_authenticated = True
        self._strangers.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._connections.discard(connection)
        self._strangers.pop(connection, None)
        self._changed.set()

    def over(self, relay: Relay, outcome: Outcome, reason: str, code: str, hop: str) -> None:
        """A request is over, however it ended."""
        self.metrics.requests.done(outcome, relay.status)
        if relay.is_orphan:
            self._orphans.pop(relay, None)
        if self.is_draining:
            self._changed.set()
        now = self.clock()
        if self.audit is not None and relay.is_recorded:
            self.audit.add(record_of(relay, "request", self.wall_clock(), now, outcome, reason, code, hop))
        request_log.over(relay, outcome, reason, code, hop, self.settings, now)

    def switched(self, relay: Relay) -> None:
        """A request has become a stream both ways, which may last for hours before it is ``over``."""
        if self.audit is not None:
            self.audit.add(record_of(relay, "upgrade_begun", self.wall_clock(), self.clock(), None))
        request_log.switched(relay)

    def unread(self, connection: Connection, reply: Reply, detail: str, request_id: str) -> None:
        """Something came that is not a request."""
        if self.audit is not None and not self.audit.refuses:
            self.audit.event(
                "bad_request", request_id=request_id, peer=connection.peer, status=reply.status, reason=detail
            )
        request_log.unread(connection, reply, detail, request_id)

    def adopt(self, orphan: Relay, until: float) -> None:
        """Its connection has gone, its stream may still end by itself for a moment."""
        self._orphans[orphan] = until

    # The sweep

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.sweep_s)
            now = self.clock()
            for connection in [each for each in self._connections if each.deadline <= now]:
                try:
                    connection.on_deadline()
                except Exception:  # a bug in one request must not stop every time limit of the door
                    log.exception("a time limit could not be kept", extra=fields(peer=connection.peer))
                    if connection.transport is not None:
                        connection.transport.abort()
            for orphan in [orphan for orphan, until in self._orphans.items() if until <= now]:
                orphan.end_orphan()
            if now >= self._next_recheck:
                self._next_recheck = now + self.settings.recheck_s
                self._recheck(now)

    def _recheck(self, now: float) -> None:
        """Look again at the grants behind requests that go on: a revocation ends open streams too."""
        young = now - self.settings.recheck_s
        for connection in list(self._connections):
            relay = connection.relay
            if relay is None or relay.started > young or relay in self._rechecking:
                continue
            wish = relay.wish
            if wish is None or relay.access is None:
                continue
            newest = self.gate.admitted(wish.agent_id, wish.token, is_open=True)
            if newest is None:
                self._rechecking.add(relay)
                self.tasks.spawn(self._ask_again(relay, wish), name="recheck")
            else:
                relay.recheck(newest)

    async def _ask_again(self, relay: Relay, wish: Wish) -> None:
        try:
            relay.recheck(await self.gate.admit(wish.agent_id, wish.token, is_open=True))
        except (Unauthenticated, AccessDenied) as error:
            relay.end_access(error)
        except IssuerUnavailable:
            pass  # nobody has said no: what is open goes on, what is new is refused
        except KasError as error:
            log.warning("a grant could not be looked at again", extra=fields(error=str(error)))
        finally:
            self._rechecking.discard(relay)


def _listen(family: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for level, option, value in KEEP_ALIVE:  # accepted sockets inherit them on Linux
            listening.setsockopt(level, option, value)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
