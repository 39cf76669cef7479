"""The way to one host and port, hop by hop: name, proxy, TCP, CONNECT, TLS and whose certificate, HTTP/2."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import NamedTuple

from kastunnel.doctor import certificates
from kastunnel.doctor.certificates import EXPIRED, NOT_YET, SOON_DAYS, WRONG_ADDRESS, WRONG_NAME, Certificate
from kastunnel.doctor.findings import Check, Finding, broken, ok, skipped, warning
from kastunnel.toolkit.hosts import host_port
from kastunnel.toolkit.proxies import Proxy

HOP_S = 10.0
MAX_PROXY_ANSWER_BYTES = 16 * 1024


class Words(NamedTuple):
    """How this way's options are called, for the remedies."""

    address: str  # the option that names host and port
    trust: str  # the option that names the CA
    listens: str  # what should listen there


class ProxySaysNo(OSError):
    """The proxy did not open a tunnel."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status
        self.line = line


class Road:
    """Each hop is a check; what it saw is kept for the next one. Nothing is sent over it but TLS's handshake and CONNECT."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        words: Words,
        *,
        trust: Callable[[], ssl.SSLContext | None],
        now: Callable[[], datetime],
        server_name: str | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        """``trust`` is called when TLS is looked at; None: in clear. ``server_name``: whom the certificate must name, else the host."""
        self._name = name
        self._host = host
        self._port = port
        self._words = words
        self._trust = trust
        self._now = now
        self._server_name = server_name or host
        self._proxy = proxy
        self.certificate: Certificate | None = None
        self.der = b""
        self._alpn: str | None = None

    def checks(self, *after: str, http2: bool = False) -> tuple[Check, ...]:
        """All hops in order, each after the one before it, the first after ``after``."""
        name, hops = self._name, [("DNS", self.dns), ("TCP", self.tcp)]
        if self._proxy is not None:
            hops.append(("CONNECT", self.connect))
        hops.append(("TLS", self.tls))
        if http2:
            hops.append(("HTTP/2", self.http2))
        found: list[Check] = []
        for hop, look in hops:
            found.append(Check(f"{name}: {hop}", look, (found[-1].name,) if found else after))
        return tuple(found)

    @property
    def _next(self) -> tuple[str, int]:
        """Where the first connection goes."""
        return (self._host, self._port) if self._proxy is None else (self._proxy.host, self._proxy.port)

    @property
    def _whom(self) -> str:
        return self._target if self._proxy is None else f"the proxy {self._proxy}"

    @property
    def _target(self) -> str:
        return host_port(self._host, self._port)

    # ---- hops ---------------------------------------------------------------------------------------------------------

    async def dns(self) -> Finding:
        """The name of the host, or of the proxy that leads there."""
        host, port = self._next
        if _is_address(host):
            return skipped(f"{host} is an address")
        try:
            async with asyncio.timeout(HOP_S):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            return broken(
                f"no answer about {host} within {HOP_S:g} s", "look at this machine's name servers (/etc/resolv.conf)"
            )
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                return broken(
                    f"nobody could be asked about {host}: {error.strerror}",
                    "look at this machine's name servers (/etc/resolv.conf), and whether a firewall or NetworkPolicy lets DNS through",
                )
            return broken(
                f"{host} is unknown here: {error.strerror}",
                f"correct {self._address_option}, or make the name known here",
            )
        except (OSError, UnicodeError) as error:
            return broken(f"{host} cannot be looked up: {error}", f"correct {self._address_option}")
        addresses = dict.fromkeys(str(one[4][0]) for one in found)
        of_proxy = f"; the proxy itself looks up {self._host}" if self._proxy is not None else ""
        return ok(f"{host} is {', '.join(addresses)}{of_proxy}")

    async def tcp(self) -> Finding:
        """A connection to the host, or to the proxy."""
        try:
            async with asyncio.timeout(HOP_S):
                _, writer = await asyncio.open_connection(*self._next)
        except TimeoutError:
            return broken(
                f"no answer from {self._whom} within {HOP_S:g} s",
                f"a firewall or NetworkPolicy drops it, or the machine is down; is {self._address_option} right?",
            )
        except ConnectionRefusedError:
            what = self._words.listens if self._proxy is None else "the proxy"
            return broken(
                f"{self._whom} refuses: nobody listens there", f"start {what}, or correct {self._address_option}"
            )
        except OSError as error:
            return broken(
                f"{self._whom} cannot be reached: {error.strerror or error}",
                f"look at the network, and {self._address_option}",
            )
        here, there = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        writer.transport.abort()
        return ok(f"{there[0]} port {there[1]} answers, seen from {here[0]}")

    async def connect(self) -> Finding:
        """The proxy opens a tunnel."""
        target, proxy = self._target, self._proxy
        try:
            async with self._open():
                return ok(f"{proxy} opens a tunnel to {target}")
        except ProxySaysNo as error:
            said = (
                f"{proxy} answers {error.status} to CONNECT {target}"
                if error.status
                else f"{proxy} is no HTTP proxy: {error.line}"
            )
            remedy = _PROXY_REMEDIES.get(error.status, _LOOK_AT_PROXY)
            return broken(said, remedy.format(host=self._host, address=self._words.address))
        except TimeoutError:
            return broken(
                f"{proxy} does not answer CONNECT {target} within {HOP_S:g} s",
                f"perhaps it cannot reach {self._host}: look at its log, or name {self._host} in NO_PROXY",
            )
        except OSError as error:
            return broken(
                f"{proxy} ends the connection: {_reason(error)}",
                "look at its log: is it an HTTP proxy that allows CONNECT?",
            )

    async def tls(self) -> Finding:
        """The handshake with what this program trusts, and whose certificate it is."""
        try:
            trusted = self._trust()
        except (ssl.SSLError, OSError) as error:
            return broken(
                f"{self._words.trust} cannot be used: {_reason(error)}", "put PEM certificates of the CA there"
            )
        if trusted is None:
            return skipped("in clear")
        try:
            peer = await self._greeted(trusted)
        except ssl.SSLCertVerificationError as error:
            return await self._refused(error, trusted)
        except ssl.SSLError as error:
            return broken(*self._no_tls(error))
        except TimeoutError:
            return broken(
                f"no answer to TLS within {HOP_S:g} s",
                f"does {self._words.listens} listen there, or something that speaks another protocol?",
            )
        except OSError as error:
            return broken(
                f"cut during the handshake: {_reason(error)}",
                f"something between cuts TLS, or what listens there speaks none: {self._words.listens} should",
            )
        self._alpn = peer.selected_alpn_protocol()
        self.der = peer.getpeercert(True) or b""
        said = peer.getpeercert()
        if not said:  # verification is switched off
            return warning(
                "the certificate is not checked (insecure-skip-tls-verify)", f"give the CA instead: {self._words.trust}"
            )
        self.certificate = certificates.described(said)
        left = self.certificate.not_after - self._now()
        if left.days < SOON_DAYS:
            return warning(f"{self.certificate}: it ends in {left.days} days", "renew it")
        return ok(f"{peer.version()}, {self.certificate}")

    async def http2(self) -> Finding:
        """What TLS agreed on for gRPC."""
        if self._alpn == "h2":
            return ok("agreed on in TLS (ALPN h2)")
        return broken(
            "what answers there does not speak HTTP/2 (ALPN)",
            "a proxy in front speaks HTTP/1.1 alone: pass TLS through, or switch HTTP/2 and gRPC on there "
            "(docs/operating.md, Behind a proxy or balancer); or this is the port of another door",
        )

    # ---- how ----------------------------------------------------------------------------------------------------------

    @property
    def _address_option(self) -> str:
        return self._words.address if self._proxy is None else "HTTPS_PROXY"

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[asyncio.StreamWriter]:
        """A connection to the host, through the proxy if there is one. Raises OSError, TimeoutError."""
        async with asyncio.timeout(HOP_S):
            reader, writer = await asyncio.open_connection(*self._next)
            try:
                if self._proxy is not None:
                    await _ask_for_tunnel(self._proxy, self._target, reader, writer)
                yield writer
            finally:
                writer.transport.abort()

    async def _shake_hands(self, context: ssl.SSLContext) -> ssl.SSLObject:
        async with self._open() as writer:
            await writer.start_tls(context, server_hostname=self._server_name)
            found: ssl.SSLObject = writer.get_extra_info("ssl_object")
            return found

    async def _greeted(self, trusted: ssl.SSLContext) -> ssl.SSLObject:
        """Once more without HTTP/2 where the peer refuses that: whether it is offered at all is a hop of its own."""
        try:
            return await self._shake_hands(trusted)
        except ssl.SSLCertVerificationError:
            raise
        except ssl.SSLError as error:
            if "no application protocol" not in str(error).lower().replace("_", " "):
                raise
            trusted.set_alpn_protocols(["http/1.1"])
            return await self._shake_hands(trusted)

    async def _whose(self) -> Certificate | None:
        """The certificate of whoever answers, trusted or not. Nothing is said to him."""
        try:
            der = (await self._shake_hands(certificates.curious())).getpeercert(True)
            if der is None:
                return None
            return certificates.described((await self._shake_hands(certificates.believing(der))).getpeercert() or {})
        except (OSError, TimeoutError, KeyError):
            return None

    async def _refused(self, error: ssl.SSLCertVerificationError, trusted: ssl.SSLContext) -> Finding:
        found = self.certificate = await self._whose()
        shown = str(found) if found is not None else "a certificate that cannot be read"
        if error.verify_code in (WRONG_NAME, WRONG_ADDRESS):
            return broken(
                f"{self._server_name} shows {shown}: it is for another name",
                f"use one of its names in {self._words.address}, or give {self._words.listens} a certificate for {self._server_name}",
            )
        if error.verify_code == EXPIRED:
            return broken(
                f"{shown} has expired; it is {self._now():%Y-%m-%d %H:%M} here",
                "renew it there; or is the clock here wrong?",
            )
        if error.verify_code == NOT_YET:
            return broken(
                f"{shown} is not valid yet; it is {self._now():%Y-%m-%d %H:%M} here", "set this machine's clock"
            )
        known = certificates.authorities(trusted)
        trusts = f"{self._words.trust} holds {known}" if known else "it is none that this machine trusts"
        return broken(
            f"{shown} is not trusted ({error.verify_message}): {trusts}",
            f"put the CA of {self._words.listens} into {self._words.trust}; if that is what is there already, "
            "something between answers with a certificate of its own: a proxy that re-encrypts or inspects TLS",
        )

    def _no_tls(self, error: ssl.SSLError) -> tuple[str, str]:
        reason = error.reason or str(error)
        if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"):
            return (
                "what answers there speaks no TLS",
                f"correct {self._words.address}: {self._words.listens} speaks TLS",
            )
        return (
            f"the handshake fails: {reason.lower().replace('_', ' ')}",
            f"is this {self._words.listens}? Look at its log",
        )


async def _ask_for_tunnel(
    proxy: Proxy, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_PROXY_ANSWER_BYTES:
        more = await reader.read(4096)
        if not more:
            break
        head += more
    line = head.partition(b"\r\n")[0].decode("ascii", "replace")
    version, _, rest = line.partition(" ")
    status = int(rest[:3]) if version.startswith("HTTP/1.") and rest[:3].isdigit() else 0
    if not 200 <= status < 300:
        raise ProxySaysNo(status, line[:80] or "it says nothing")


_LOOK_AT_PROXY = "look at the log of the proxy, or name {host} in NO_PROXY"
_PROXY_REMEDIES = {  # by its status; 0: it does not speak HTTP
    0: "HTTPS_PROXY must name an HTTP proxy",
    403: "have the proxy allow CONNECT to {host} and this port, or name {host} in NO_PROXY",
    405: "have the proxy allow CONNECT, or name {host} in NO_PROXY",
    407: "the proxy wants a login, or another one: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, percent-encoded",
    **dict.fromkeys((502, 503, 504), "the proxy cannot reach {host}: is {address} right, and known to the proxy?"),
}


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def utc_now() -> datetime:
    """This machine's clock."""
    return datetime.now(UTC)
