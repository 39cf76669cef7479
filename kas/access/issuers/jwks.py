"""The public keys of an OpenID Connect issuer (Discovery 1.0 section 4, RFC 7517), fetched when needed and kept for a while."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

import jwt

from kas.errors import IssuerUnavailable
from kas.outbound import Outbound, PeerUnavailable
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

FRESH_S = 3600.0  # issuers publish a new key hours before they sign with it
STALE_S = (
    2 * 3600.0
)  # an issuer that cannot be reached keeps its keys so long; a key that it took back may count as long
UNKNOWN_S = 30.0  # between two questions because of a key that is not known: strangers choose `kid`
MAX_BYTES = 256 * 1024
MAX_KEYS = 100
MIN_RSA_BITS = 2048
_KINDS = {"RSA": "RS", "EC": "ES", "OKP": "EdDSA"}  # never "oct": a shared secret vouches for nobody


class Keys:
    """The keys of one issuer by their ids. Asked by several tasks at once it fetches once."""

    def __init__(
        self,
        name: str,
        issuer: str,
        jwks_url: str | None,
        outbound: Outbound,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float],
    ) -> None:
        """``jwks_url`` None: what the discovery document of ``issuer`` says. ``clock``: monotonic."""
        self._name = name
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._outbound = outbound
        self._tls = tls
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = -STALE_S
        self._tried = -STALE_S
        self._fetching = asyncio.Lock()

    async def key(self, kid: str, algorithm: str) -> jwt.PyJWK | None:
        """The key with this id if it can have made such a signature; None: the issuer has no such key. Raises IssuerUnavailable."""
        if self._clock() - self._fetched >= FRESH_S or kid not in self._keys:
            await self._refresh(kid)
        found = self._keys.get(kid)
        if found is None and kid == "" and len(self._keys) == 1:
            (found,) = self._keys.values()  # an issuer with a single key need not name it
        if found is None or not algorithm.startswith(_KINDS[str(found.key_type)]):
            return None
        return found

    async def count(self) -> int:
        """How many keys it publishes that can be used, asked now. Raises PeerUnavailable."""
        return len(_usable(await self._fetch()))

    async def _refresh(self, kid: str) -> None:
        async with self._fetching:
            now = self._clock()
            is_fresh = now - self._fetched < FRESH_S
            if (is_fresh and kid in self._keys) or now - self._tried < UNKNOWN_S:
                if now - self._fetched >= STALE_S:
                    raise IssuerUnavailable(f"the keys of the issuer {self._name} cannot be fetched right now")
                return
            self._tried = now
            try:
                self._keys = _usable(await self._fetch())
                self._fetched = now
            except PeerUnavailable as error:
                log.warning("keys of an issuer cannot be fetched", extra=fields(issuer=self._name, error=str(error)))
                if now - self._fetched >= STALE_S:
                    raise IssuerUnavailable(
                        f"the keys of the issuer {self._name} cannot be fetched right now"
                    ) from error

    async def _fetch(self) -> Any:
        url = self._jwks_url
        if url is None:
            document = await self._ask(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if document.get("issuer") != self._issuer:
                raise PeerUnavailable("its discovery document is another issuer's")
            url = document.get("jwks_uri")
            if not isinstance(url, str):
                raise PeerUnavailable("its discovery document names no jwks_uri")
        return await self._ask(url)

    async def _ask(self, url: str) -> dict[str, Any]:
        status, document = await self._outbound.get_json(url, max_bytes=MAX_BYTES, tls=self._tls)
        if status != 200 or not isinstance(document, dict):
            raise PeerUnavailable(f"it answers {status}, not with an object")
        return document


def _usable(document: dict[str, Any]) -> dict[str, jwt.PyJWK]:
    """Keys that may sign; others are left out, since issuers publish what we do not know yet. Raises PeerUnavailable if none is left."""
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise PeerUnavailable("its keys are not a list, or too many")
    found: dict[str, jwt.PyJWK] = {}
    for one in listed:
        if not isinstance(one, dict) or one.get("kty") not in _KINDS or one.get("use", "sig") != "sig":
            continue
        kid = one.get("kid", "")
        try:
            key = jwt.PyJWK(one)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if isinstance(kid, str) and (key.key_type != "RSA" or key.key.key_size >= MIN_RSA_BITS):
            found[kid] = key
    if not found:
        raise PeerUnavailable("it publishes no key that can be used")
    return found
