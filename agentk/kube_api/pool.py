"""Kept-alive connections to the API server, the youngest first. Keyed by nothing but the endpoint: credentials are per request (B30)."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import cast

from agentk.kube_api.access import Access, Endpoint
from agentk.kube_api.connection import Connection
from agentk.kube_api.statistics import Statistics
from kastunnel.link.frames import Code
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

MAX_IDLE = 128  # connections; a burst's worth, at about 25 KiB each on TLS
IDLE_S = 60.0  # the API server closes idle connections after 90 s: we are first, so that none dies under a request
DIAL_TIMEOUT_S = 10.0  # for name, TCP and TLS together
# Found dead after 30 + 3 * 10 s without an acknowledgement: an idle watch sends nothing by itself.
KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class DialFailed(Exception):
    """No connection to the API server: nothing was sent to it."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Pool:
    """``take`` and ``give_back`` at once; ``dial`` for a fresh one. ``close`` ends them all."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Pool open={len(self._open)} idle={len(self._idle)} closed={self._closed}>"

    def take(self, endpoint: Endpoint) -> Connection | None:
        """An idle connection to exactly this endpoint, which now belongs to the caller; None: dial one."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.endpoint is endpoint and not connection.transport.is_closing():
                self._statistics.connections_idle = len(idle)
                connection.is_reused = True
                return connection
            connection.close()  # another address, certificate authority or client certificate is in force now
        self._statistics.connections_idle = 0
        return None

    def give_back(self, connection: Connection, now: float) -> None:
        """Keep it for another request. Only one whose response was read to its end, and nothing behind it, may come here."""
        connection.user = None
        if self._closed or len(self._idle) >= MAX_IDLE or connection.transport.is_closing():
            connection.close()
            return
        connection.idle_since = now
        self._idle.append(connection)
        self._statistics.connections_idle = len(self._idle)

    async def dial(self, access: Access) -> Connection:
        """A fresh connection that belongs to the caller. Raises DialFailed. Cancelled, it leaves nothing open."""
        endpoint = access.endpoint
        self._statistics.dials += 1
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                connection = await self._connect(endpoint)
        except (OSError, TimeoutError, ssl.CertificateError, UnicodeError) as error:
            failure = _failure(error)
            if self._statistics.reachable or self._statistics.dials == 1:
                log.warning("API server cannot be reached", extra=fields(address=str(endpoint), error=failure.reason))
            self._statistics.reachable = False
            raise failure from error
        if not self._statistics.reachable:
            log.info("API server can be reached", extra=fields(address=str(endpoint)))
            self._statistics.reachable = True
        self._open.add(connection)
        self._statistics.connections_open = len(self._open)
        _keep_alive(connection.transport)
        return connection

    async def _connect(self, endpoint: Endpoint) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(endpoint, self._forget)
        if endpoint.tls is None:
            await loop.create_connection(lambda: connection, endpoint.host, endpoint.port)
        else:
            tcp, _ = await loop.create_connection(asyncio.Protocol, endpoint.host, endpoint.port)
            name = endpoint.server_name or endpoint.host
            connection.secured(await _start_tls(tcp, connection, endpoint.tls, name), tcp)
        if connection.transport.is_closing():  # lost before anybody could hear of it
            raise ConnectionResetError
        return connection

    def expire(self, now: float) -> None:
        """Close what has been idle for ``IDLE_S``: those at the bottom, for the youngest are used first."""
        idle = self._idle
        old = 0
        while old < len(idle) and idle[old].idle_since + IDLE_S <= now:
            old += 1
        expired = idle[:old]
        del idle[:old]
        for connection in expired:
            connection.close()
        self._statistics.connections_idle = len(idle)

    def close(self) -> None:
        """End every connection now, those in use too."""
        self._closed = True
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection.user is None and connection in self._idle:
            self._idle.remove(connection)
        self._statistics.connections_open = len(self._open)
        self._statistics.connections_idle = len(self._idle)


async def _start_tls(
    tcp: asyncio.Transport, connection: Connection, context: ssl.SSLContext, name: str
) -> asyncio.Transport:
    """By hand, and not in ``create_connection``: the connection pauses what is under TLS. Takes ``tcp`` along where it fails."""
    if tcp.is_closing():
        raise ConnectionResetError
    try:
        tls = await asyncio.get_running_loop().start_tls(tcp, connection, context, server_hostname=name)
    except BaseException:
        tcp.abort()
        raise
    return cast("asyncio.Transport", tls)


def _failure(error: BaseException) -> DialFailed:
    """What the user reads: no addresses, they are in agentk's log."""
    if isinstance(error, TimeoutError):
        return DialFailed(Code.UPSTREAM_DIAL, f"the API server took no connection within {DIAL_TIMEOUT_S:g} s")
    if isinstance(error, ssl.SSLCertVerificationError):
        return DialFailed(Code.UPSTREAM_TLS, f"the API server's certificate is not trusted: {error.verify_message}")
    if isinstance(error, (ssl.SSLError, ssl.CertificateError)):
        return DialFailed(Code.UPSTREAM_TLS, f"TLS with the API server failed: {error.reason or type(error).__name__}")
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return DialFailed(Code.UPSTREAM_DIAL, "the API server's name cannot be resolved")
    if isinstance(error, ConnectionRefusedError):
        return DialFailed(Code.UPSTREAM_DIAL, "the API server refused the connection")
    if isinstance(error, ConnectionError):
        return DialFailed(Code.UPSTREAM_DIAL, "the connection to the API server was cut while it was being made")
    return DialFailed(Code.UPSTREAM_DIAL, "the API server cannot be reached")


def _keep_alive(transport: asyncio.BaseTransport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
