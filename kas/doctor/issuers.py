"""Those who vouch for jobs: whether kas can ask them, as it will, over kas/outbound.py."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from kas.access.issuers.jwks import Keys
from kas.config import GitlabIssuer, OidcIssuer
from kas.errors import KasError
from kas.outbound import Outbound, PeerUnavailable, proxy_of, tls_context
from kas.preflight import read_secret
from kastunnel.doctor.clocks import skew
from kastunnel.doctor.findings import Check, Finding, State, broken, ok, skipped, warning
from kastunnel.doctor.road import Road, Words, utc_now

# What is asked with an API token, by kind of forge: cheap, and 401 to a token that is not good.
API_PROBES: Mapping[str, tuple[str, str]] = {
    "gitlab": ("/api/v4/version", "Private-Token: {}"),
    "gitea": ("/api/v1/version", "Authorization: token {}"),
    "forgejo": ("/api/v1/version", "Authorization: token {}"),
    "github": ("/rate_limit", "Authorization: Bearer {}"),
}


class AskedIssuer:
    """One entry of ``issuers``."""

    def __init__(self, issuer: GitlabIssuer | OidcIssuer, outbound: Outbound) -> None:
        self._issuer = issuer
        self._outbound = outbound
        self._date = ""

    def checks(self) -> Iterator[Check]:
        """Whether it answers, and how its clock goes: tokens carry times."""
        name = f"issuer {self._issuer.name}"
        look = self._keys if isinstance(self._issuer, OidcIssuer) or self._issuer.audience else self._api
        yield Check(name, look)
        yield Check(f"{name}: clock", self._clock, (name,))
        if self._issuer.api_token_file is not None:
            yield Check(f"{name}: API token", self._token, (name,))

    async def _api(self) -> Finding:
        """GitLab's API, without a token: that it answers is enough."""
        url = f"{self._url}/api/v4/version"
        try:
            tls = tls_context(self._issuer.ca_file)
            reply = await self._outbound.get(url, tls=tls)
        except (OSError, ssl.SSLError) as error:
            return _bad_ca(error)
        except PeerUnavailable as error:
            return await why_not(url, tls, error)
        self._date = reply.headers.get("date", "")
        if reply.status in (200, 401, 403) and "json" in reply.headers.get("content-type", ""):
            return ok(f"{self._url} answers as GitLab does")
        return broken(
            f"{self._url} answers {reply.status}, not as GitLab does",
            "issuers: url is that of the instance, with its path if it has one",
        )

    async def _keys(self) -> Finding:
        """Discovery and keys, by the code that checks tokens."""
        issuer = self._issuer
        jwks_url = issuer.jwks_url if isinstance(issuer, OidcIssuer) else None
        url = jwks_url or f"{self._url.rstrip('/')}/.well-known/openid-configuration"
        try:
            tls = tls_context(issuer.ca_file)
            self._date = (await self._outbound.get(url, tls=tls)).headers.get("date", "")
            count = await Keys(issuer.name, self._url, jwks_url, self._outbound, tls, time.monotonic).count()
        except (OSError, ssl.SSLError) as error:
            return _bad_ca(error)
        except PeerUnavailable as error:
            return await why_not(url, tls, error)
        return ok(f"{self._url} publishes {count} keys that can be used")

    async def _clock(self) -> Finding:
        found = skew(self._issuer.name, self._date, utc_now())
        if found.state is not State.BROKEN:
            return found
        return broken(
            found.said, f"{found.remedy}; tokens are good only within leeway_s, {self._issuer.leeway_s:g} s here"
        )

    async def _token(self) -> Finding:
        path = self._issuer.api_token_file
        api = self._url if isinstance(self._issuer, GitlabIssuer) else self._issuer.api_url or "https://api.github.com"
        option = f"issuers, {self._issuer.name}: api_token_file"
        if path is None or self._issuer.type not in API_PROBES:
            return skipped("kas has no way to ask this type about jobs")
        return await token_works(self._outbound, self._issuer.type, api, path, option, self._issuer.ca_file)

    @property
    def _url(self) -> str:
        return self._issuer.url if isinstance(self._issuer, GitlabIssuer) else self._issuer.issuer_url


async def token_works(outbound: Outbound, kind: str, api: str, path: Any, option: str, ca_file: Any) -> Finding:
    """Whether the forge at ``api`` knows the token in the file; what it may read shows only where it is used."""
    try:
        token = read_secret(path, option)
    except KasError as error:
        return broken(str(error), "put the token there, for the user of kas alone")
    where, header = API_PROBES[kind]
    url = f"{api.rstrip('/')}{where}"
    name, _, value = header.format(token).partition(": ")
    try:
        tls = tls_context(ca_file)
        reply = await outbound.get(url, headers={name: value}, tls=tls)
    except (OSError, ssl.SSLError) as error:
        return _bad_ca(error)
    except PeerUnavailable as error:
        return await why_not(url, tls, error)
    if reply.status == 401:
        return broken(
            f"{urlsplit(api).hostname} does not know it (401)",
            f"it has expired or was revoked: make a new one for {option}",
        )
    if reply.status == 403:
        return warning(
            f"{urlsplit(api).hostname} knows it but shows it nothing (403)",
            "it may lack a scope: docs/issuers.md, docs/operating.md",
        )
    if reply.status != 200:
        return broken(f"{urlsplit(api).hostname} answers {reply.status}", "is this the API of the forge?")
    return ok(f"{urlsplit(api).hostname} knows it")


async def why_not(url: str, tls: ssl.SSLContext | None, error: PeerUnavailable) -> Finding:
    """The first hop to ``url`` that is broken; else what ``outbound`` said."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    def trusted() -> ssl.SSLContext | None:
        return None if parts.scheme != "https" else tls or ssl.create_default_context()

    try:
        proxy = proxy_of(url)
    except PeerUnavailable as mistake:
        return broken(str(mistake), "correct it: kas asks forges and issuers through it")
    road = Road("", host, port, Words("the url", "ca_file", host), trust=trusted, now=utc_now, proxy=proxy)
    for check in road.checks():
        found = await check.look()
        if found.state is State.BROKEN:
            return found
    return broken(str(error), f"look at {host}, and whether the url is right")


def _bad_ca(error: Exception) -> Finding:
    return broken(
        f"ca_file cannot be used: {getattr(error, 'strerror', None) or error}", "put PEM certificates of the CA there"
    )
