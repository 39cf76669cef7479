"""The one way in which kas asks forges and issuers over HTTP: bounded in time and size, without cookies, redirects or surprises.

Answers of other machines are hostile until checked: a body is cut at its limit, JSON must be of the kind that was asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp

from kas.errors import KasError
from kastunnel.toolkit.answers import TooLarge, whole_body
from kastunnel.toolkit.proxies import Proxy, proxy_for

MAX_BYTES = 1024 * 1024
TIMEOUT_S = 10.0
MAX_CONNECTIONS = 100
_PORTS = {"https": 443, "http": 80}
MAX_CONNECTIONS_PER_HOST = 20


class PeerUnavailable(KasError):
    """A server that kas asks cannot be used right now."""

    def __init__(self, *args: object, retry_after_s: float = 0.0) -> None:
        super().__init__(*args)
        self.retry_after_s = retry_after_s  # what it asked for; 0: nothing


class Reply(NamedTuple):
    """An answer of less than 500. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outbound:
    """Owns the connections; ``async with`` it. Several tasks may ask at once; a cancellation closes the connection it used."""

    def __init__(self, version: str = "dev") -> None:
        self._agent = f"kas/{version}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, limit_per_host=MAX_CONNECTIONS_PER_HOST),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": self._agent, "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, url: str, **options: Any) -> Reply:
        """See ``ask``."""
        return await self.ask("GET", url, **options)

    async def get_json(self, url: str, **options: Any) -> tuple[int, Any]:
        """The status and what the body says; None where it is empty. Raises PeerUnavailable, also where it is not JSON."""
        reply = await self.ask("GET", url, **options)
        return reply.status, read_json(reply, url)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_bytes: int = MAX_BYTES,
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> Reply:
        """Ask once; redirects are answers. ``tls``: what to trust instead of the machine's own certificates.

        Raises PeerUnavailable if it cannot be reached in ``timeout_s``, answers 429 or 5xx, or more than ``max_bytes``. The message
        names the host, never a path, header or token.
        """
        if self._session is None:
            raise RuntimeError("outside of its `async with`")
        host = _checked_host(url)
        proxy = proxy_of(url)
        try:
            async with asyncio.timeout(timeout_s):
                async with self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    ssl=True if tls is None else tls,
                    proxy=None if proxy is None else f"http://{proxy}",
                    proxy_headers=None if proxy is None else proxy.headers,
                ) as answer:
                    said = {name.lower(): value for name, value in answer.headers.items()}
                    if answer.status == 429 or answer.status >= 500:
                        raise PeerUnavailable(
                            f"{host} answers {answer.status}", retry_after_s=_seconds(said.get("retry-after"))
                        )
                    return Reply(answer.status, said, await whole_body(answer, max_bytes))
        except TimeoutError:
            raise PeerUnavailable(f"{host} does not answer within {timeout_s:g} s") from None
        except aiohttp.ClientHttpProxyError as error:
            raise PeerUnavailable(f"{host} cannot be reached: the proxy {proxy} answers {error.status}") from None
        except aiohttp.ClientConnectorCertificateError:
            raise PeerUnavailable(f"{host} shows a certificate that is not trusted: name its CA in ca_file") from None
        except TooLarge as error:
            raise PeerUnavailable(f"{host} answers with {error}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PeerUnavailable(f"{host} cannot be reached: {type(error).__name__}") from None


def read_json(reply: Reply, url: str) -> Any:
    """What the body says; None where it is empty. Raises PeerUnavailable."""
    if not reply.body:
        return None
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        raise PeerUnavailable(
            f"{urlsplit(url).hostname} answers {reply.status} with something that is not JSON"
        ) from None


def proxy_of(url: str) -> Proxy | None:
    """The proxy of HTTPS_PROXY and NO_PROXY for this address. Raises PeerUnavailable where they cannot be understood."""
    parts = urlsplit(url)
    try:
        return proxy_for(parts.hostname or "", parts.port or _PORTS[parts.scheme], os.environ)
    except ValueError as error:
        raise PeerUnavailable(f"{parts.hostname} is not asked: {error}") from None


def tls_context(ca_file: Any) -> ssl.SSLContext | None:
    """What trusts only the certificates in ``ca_file``; None: the machine's own. Raises OSError or ssl.SSLError."""
    return None if ca_file is None else ssl.create_default_context(cafile=str(ca_file))


def _checked_host(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)):
        return host if parts.port is None else f"{host}:{parts.port}"
    raise PeerUnavailable(f"{host or 'the address'} is not asked: https was expected")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _seconds(text: str | None) -> float:
    return (
        float(min(int(text), 3600)) if text is not None and text.isascii() and text.isdigit() and len(text) < 9 else 0.0
    )
