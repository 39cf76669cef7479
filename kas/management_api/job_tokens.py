"""Tokens for jobs over HTTPS: asked for with a project's secret, exchanged for an ID token, given back when the job is over."""

from __future__ import annotations

import json
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import NamedTuple, Protocol

from aiohttp import web

from kas.access.caller import Caller
from kas.access.grants import Grant
from kas.access.issuers.own_tokens import claims_of
from kas.errors import IssuerUnavailable, StoreUnavailable, TooManyRequests, Unauthenticated
from kas.http_door import Request, Route, answer, peer_of, plain
from kas.management_api.exchange import Exchange, ExchangeError, read_exchange, render_answer
from kas.management_api.job_claims import BadWish, NotClaimable, allowed_claims, read_wish
from kas.store import InvalidValue, Refused, RegistrationRecord
from kas.store.records import JobClaims, JobTokenRecord
from kastunnel.toolkit.logs import fields

log = logging.getLogger(__name__)

TOKENS = "/kas/v1/job-tokens"
REVOKE = "/kas/v1/job-tokens/revoke"
EXCHANGE = "/kas/v1/token"
MAX_PER_ID_TOKEN = (
    100  # job tokens that one ID token is exchanged for: those of many processes, and a bound for the database
)
MAX_ID_TOKENS = 20_000  # remembered for that, about 150 bytes each
_bearer = re.compile(r"bearer ([!-~]+)", re.IGNORECASE).fullmatch  # exactly one space, visible ASCII


class Verifier(Protocol):
    """What is needed of the gate. Both raise Unauthenticated, or IssuerUnavailable."""

    async def identify(self, token: bytes) -> Caller:
        """Who holds the token."""

    async def grants(self, token: bytes) -> Sequence[Grant]:
        """One for each agent that the holder may use."""


class JobTokenStore(Protocol):
    """kas.store's ``job_tokens``. Raises StoreUnavailable."""

    async def create(
        self, claims: JobClaims, ttl_s: float, registration_id: int | None = None
    ) -> tuple[JobTokenRecord, str]:
        """A new token and its secret."""

    async def find(self, token: bytes) -> JobTokenRecord | None:
        """The token with this secret if it is in force."""

    async def revoke(self, token_id: int, actor: str = "") -> None:
        """End it now; ``actor``: who does it."""


class RegistrationStore(Protocol):
    """kas.store's ``registrations``. Raises StoreUnavailable."""

    async def find(self, secret: bytes) -> RegistrationRecord | None:
        """The active one with this secret."""

    async def note_use(self, registration: RegistrationRecord) -> None:
        """Remember that it was used now. Never fails."""


class Limits(Protocol):
    """What is needed of kas.limits."""

    def asking(self, peer: str, token: bytes) -> AbstractContextManager[None]:
        """Around a look at a token. Raises TooManyRequests."""


class Lives(NamedTuple):
    """How long tokens are in force, seconds; see job_tokens and access in kas.yaml."""

    exchanged_s: float
    max_exchanged_s: float
    max_s: float  # of those that a registration gets


class JobTokens:
    """Makes and ends job tokens. ``lives`` is asked each time, since a reload may change them."""

    def __init__(
        self,
        gate: Verifier,
        tokens: JobTokenStore,
        registrations: RegistrationStore,
        lives: Callable[[], Lives],
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._gate = gate
        self._tokens = tokens
        self._registrations = registrations
        self._lives = lives
        self._exchanged: OrderedDict[bytes, int] = OrderedDict()  # SHA-256 of an ID token to how often

    async def identify(self, request: Request, token: bytes) -> Caller:
        """Who shows the token. Raises Unauthenticated, IssuerUnavailable, or TooManyRequests."""
        with self._limits.asking(peer_of(request), token):
            return await self._gate.identify(token)

    @property
    def posts(self) -> Mapping[str, Route]:
        """What answers a POST, by path."""
        return {TOKENS: _in_words(self._issue), REVOKE: _in_words(self._revoke), EXCHANGE: self._token}

    async def exchanged(
        self, caller: Caller, id_token: bytes, ttl_s: float | None = None
    ) -> tuple[JobTokenRecord, str]:
        """A token for the holder of ``id_token``, who was found to be ``caller``.

        Raises TooManyRequests, InvalidValue, or StoreUnavailable.
        """
        lives = self._lives()
        digest = sha256(id_token).digest()
        count = self._exchanged.pop(digest, 0)
        if count >= MAX_PER_ID_TOKEN:
            self._exchanged[digest] = count
            raise TooManyRequests(
                f"this ID token was exchanged {count} times already: keep the token, or take a fresh one",
                retry_after_s=60,
            )
        made = await self._tokens.create(claims_of(caller), min(ttl_s or lives.exchanged_s, lives.max_exchanged_s))
        log.info("ID token exchanged", extra=fields(caller=str(caller), issuer=caller.issuer, token_id=made[0].id))
        self._exchanged[digest] = count + 1
        if len(self._exchanged) > MAX_ID_TOKENS:
            self._exchanged.popitem(last=False)
        return made

    async def _token(self, request: Request) -> web.Response:
        """RFC 8693; its errors are those of RFC 6749 section 5.2."""
        try:
            wanted = read_exchange(request.content_type, await request.read())
            record, token = await self._for_id_token(request, wanted)
        except ExchangeError as error:
            more = {"Retry-After": "5"} if error.status == 503 else {}
            return plain(error.render(), error.status, "application/json", **more)
        return plain(render_answer(token, record.expires_at - record.created_at), content_type="application/json")

    async def _for_id_token(self, request: Request, wanted: Exchange) -> tuple[JobTokenRecord, str]:
        token = wanted.subject_token.encode()
        try:
            caller = await self.identify(request, token)
            if not caller.from_id_token:
                reason = "subject_token: this is no ID token, and is not exchanged: use it as it is"
                raise ExchangeError("invalid_request", reason)
            return await self.exchanged(caller, token, wanted.ttl_s)
        except Unauthenticated as error:
            raise ExchangeError("invalid_request", f"subject_token: {error}") from None
        except InvalidValue as error:
            raise ExchangeError("invalid_request", str(error)) from None
        except TooManyRequests as error:
            raise ExchangeError("invalid_request", str(error), 429) from None
        except (IssuerUnavailable, StoreUnavailable) as error:
            raise ExchangeError("temporarily_unavailable", str(error), 503) from None

    async def _issue(self, request: Request) -> web.Response:
        secret = bearer(request).encode()
        with self._limits.asking(peer_of(request), secret):
            registration = await self._registrations.find(secret)
            if registration is None:
                raise Unauthenticated
        wish = read_wish(await request.read())
        claims = allowed_claims(wish, registration)
        max_ttl_s = min(registration.max_ttl_s, self._lives().max_s)
        if wish.ttl_s is not None and wish.ttl_s > max_ttl_s:
            raise NotClaimable("ttl_s", f"it is {max_ttl_s:.0f} at most for this secret", "ask for a shorter life")
        record, token = await self._tokens.create(claims, wish.ttl_s or max_ttl_s, registration.id)
        await self._registrations.note_use(registration)
        about = fields(project=claims["project"], token_id=record.id, registration_id=registration.id)
        log.info("job token issued to a project", extra=about)
        said = {"token": token, "expires_at": record.expires_at, "id": record.id}
        return plain(json.dumps(said) + "\n", 201, "application/json")

    async def _revoke(self, request: Request) -> web.Response:
        token = bearer(request).encode()
        with self._limits.asking(peer_of(request), token):
            record = await self._tokens.find(token)
            if record is None:
                raise Unauthenticated
        await self._tokens.revoke(record.id, "job")
        return plain(json.dumps({"revoked": record.id}) + "\n", content_type="application/json")


def bearer(request: Request) -> str:
    """The one bearer token of the request. Raises Unauthenticated."""
    values = request.headers.getall("Authorization", [])
    match = _bearer(values[0]) if len(values) == 1 else None
    if match is None:
        raise Unauthenticated
    return match[1]


def refusal(error: Exception, what: str = "a token that is in force") -> web.Response:
    """The answer to an error that its user can cure. ``what``: what was expected as the bearer token."""
    if isinstance(error, Unauthenticated):
        remedy = f"send {what} as 'Authorization: Bearer TOKEN', and take a fresh one if it is an old one"
        return answer(401, str(error), remedy, WWW_Authenticate="Bearer")
    if isinstance(error, BadWish | NotClaimable):
        return answer(400 if isinstance(error, BadWish) else 403, str(error), error.remedy)
    if isinstance(error, InvalidValue):
        return answer(400, str(error), "send less")
    if isinstance(error, TooManyRequests):
        return answer(429, str(error), "wait, and keep the token that works", Retry_After=str(error.retry_after_s))
    return answer(503, str(error), "try again in a few seconds", Retry_After="5")


def _in_words(route: Callable[[Request], Awaitable[web.Response]]) -> Route:
    async def answered(request: Request) -> web.Response:
        try:
            return await route(request)
        except Refused:  # revoked between two looks at it
            return refusal(Unauthenticated())
        except (BadWish, NotClaimable, Unauthenticated, InvalidValue, TooManyRequests, StoreUnavailable) as error:
            return refusal(error)

    return answered
