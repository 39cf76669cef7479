"""ID tokens of OpenID Connect issuers (OpenID Connect Core 1.0 section 3.1.3.7): forges, CI services, Kubernetes, and any other.

A token counts if its issuer, audience, signature and times are right; that it was shown before is no objection, since a job shows it
with every request until it has exchanged it. Keys come from the configured issuer alone: ``jku``, ``x5u`` and ``jwk`` are not looked at.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jwt

from kas.access.caller import Caller
from kas.access.issuers.jwks import Keys
from kas.access.issuers.presets import BadClaim, Claims, Fields
from kas.clock import Clock
from kas.errors import Unauthenticated
from kas.names import check_project
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 16 * 1024
MAX_LIFE_S = 24 * 3600 + 60
_REQUIRED = ["exp", "iat", "iss", "aud"]


class OidcTokens:
    """An Issuer of ID tokens."""

    def __init__(
        self,
        name: str,
        issuer: str,
        audience: str,
        read: Callable[[Claims], Fields],
        keys: Keys,
        *,
        algorithms: Sequence[str],
        owners: Sequence[str] = (),
        is_public: bool = False,
        leeway_s: float = 60.0,
        clock: Clock,
    ) -> None:
        self.name = name
        self._issuer = issuer
        self._audience = audience
        self._read = read
        self._keys = keys
        self._algorithms = tuple(algorithms)
        self._owners = frozenset(owners)
        self._is_public = is_public
        self._leeway_s = leeway_s
        self._clock = clock

    def __repr__(self) -> str:
        return f"<OidcTokens {self.name} {self._issuer}>"

    async def caller(self, token: bytes) -> Caller | None:
        """See Issuer. Nothing is asked about a token that names another issuer."""
        if issuer_of(token) != self._issuer:
            return None
        header = _part(token, 0)
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if algorithm not in self._algorithms or not isinstance(kid, str) or len(kid) > 255 or "crit" in header:
            raise Unauthenticated(
                f"the ID token is not signed in a way that counts: {', '.join(self._algorithms)} was expected"
            )
        key = await self._keys.key(kid, algorithm)
        if key is None:
            raise Unauthenticated(f"the ID token is signed by a key that {self.name} does not publish")
        return self._caller(self._verified(token, key, algorithm))

    def _verified(self, token: bytes, key: jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        """The claims of a token whose signature, issuer, audience and times are right, by our clock. Raises Unauthenticated."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidAudienceError:
            raise Unauthenticated(
                f"the ID token is for another audience: ask {self.name} for one for {self._audience}"
            ) from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the ID token lacks the claim {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise Unauthenticated("the ID token is malformed, or its signature is wrong") from None
        self._check_times(claims)
        return claims

    def _check_times(self, claims: dict[str, Any]) -> None:
        now, leeway_s = self._clock(), self._leeway_s
        times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
        if not all(
            isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < 1 << 40 for one in times.values()
        ):
            raise Unauthenticated("the times of the ID token are no times")
        if now >= times["exp"] + leeway_s:
            raise Unauthenticated(f"the ID token has expired {now - times['exp']:.0f} s ago: take a fresh one")
        if max(times["iat"], times.get("nbf", 0)) > now + leeway_s:
            log.warning("an ID token is from the future: look at the clocks", extra=fields(issuer=self.name))
            raise Unauthenticated("the ID token is from the future: the clock of kas or of its issuer is wrong")
        if times["exp"] - times["iat"] > MAX_LIFE_S:
            raise Unauthenticated("the ID token lives for more than a day: a short-lived one was expected")

    def _caller(self, claims: dict[str, Any]) -> Caller:
        try:
            said = self._read(claims)
            project = check_project(said.pop("project"))
        except BadClaim as bad:
            raise Unauthenticated(f"the ID token cannot be used: {bad}") from None
        except ValueError:
            raise Unauthenticated("the ID token cannot be used: it does not say its project as GROUP/PROJECT") from None
        caller = Caller(
            issuer=self.name,
            project=project,
            expires_at=claims["exp"] + self._leeway_s,
            is_public_issuer=self._is_public,
            from_id_token=True,
            **said,
        )
        if not is_owned(caller, self._owners):
            raise Unauthenticated(
                f"the ID token is of a project whose owner may not use this kas (issuers, {self.name}: owners)"
            )
        return caller


def is_owned(caller: Caller, owners: frozenset[str]) -> bool:
    """Whether the caller's project is of one of the owners, by the path of a group or as ``id:`` and a group's id; none: of anybody."""
    if not owners:
        return True
    return any(group in owners for group in caller.groups()) or any(f"id:{one}" in owners for one in caller.group_ids)


def issuer_of(token: bytes) -> str | None:
    """Who made the token, as it says itself: for choosing whom to ask, never for believing. None: it is no JWT."""
    if len(token) > MAX_TOKEN_BYTES or token.count(b".") != 2:
        return None
    issuer = _part(token, 1).get("iss")
    return issuer if isinstance(issuer, str) else None


def _part(token: bytes, index: int) -> dict[str, Any]:
    part = token.split(b".")[index]
    try:
        value = json.loads(base64.b64decode(part + b"=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
