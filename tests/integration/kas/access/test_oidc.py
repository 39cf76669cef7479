"""ID tokens checked against a real issuer over HTTPS: what counts, and that nothing else ever does."""

from __future__ import annotations

import asyncio
import hmac
import json
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from kas.access.caller import Caller, Environment
from kas.access.issuers.jwks import Keys
from kas.access.issuers.oidc import MAX_TOKEN_BYTES, OidcTokens, issuer_of
from kas.access.issuers.presets import ALGORITHMS, READERS
from kas.errors import IssuerUnavailable, Unauthenticated
from kas.outbound import Outbound
from tests.fakes.forge import Forge, SigningKey, unsigned

NOW = 1_800_000_000
AUDIENCE = "https://kas.example.com"
KEY = SigningKey()
OTHER = SigningKey("k2")


class World:
    """An issuer, and what kas makes of its tokens; both clocks are in the test's hands."""

    def __init__(self, forge: Forge, outbound: Outbound) -> None:
        self.forge = forge
        self.now = float(NOW)
        self.monotonic = 1000.0
        self.tokens = self.issuer(outbound)

    def issuer(self, outbound: Outbound, **options: Any) -> OidcTokens:
        tls = self.forge.authority.client_context()
        keys = Keys("github", self.forge.url, None, outbound, tls, lambda: self.monotonic)
        return OidcTokens(
            "github",
            self.forge.url,
            AUDIENCE,
            READERS["github"],
            keys,
            clock=lambda: self.now,
            **{"algorithms": ALGORITHMS["github"], "owners": ["acme"], "is_public": True, **options},
        )

    def claims(self, **changed: Any) -> dict[str, Any]:
        claims = {
            "iss": self.forge.url,
            "aud": AUDIENCE,
            "iat": NOW - 10,
            "nbf": NOW - 10,
            "exp": NOW + 300,
            "repository": "acme/web",
            "repository_id": "17",
            "repository_owner_id": "5",
            "ref": "refs/heads/main",
            "ref_protected": "true",
            "environment": "production",
            "event_name": "push",
            "run_id": "900",
            "run_attempt": "2",
            "actor": "ana",
            "actor_id": "3",
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    async def refusal(self, token: bytes) -> str:
        with pytest.raises(Unauthenticated) as caught:
            await self.tokens.caller(token)
        assert token.decode("latin-1") not in str(caught.value)
        return str(caught.value)


@pytest.fixture
async def world(tmp_path):
    async with Forge(tmp_path) as forge, Outbound() as outbound:
        forge.publish(KEY)
        yield World(forge, outbound)


async def test_a_good_token_is_its_job(world):
    assert await world.tokens.caller(KEY.sign(world.claims())) == Caller(
        issuer="github",
        project="acme/web",
        project_id="17",
        group_ids=("5",),
        ref="main",
        ref_type="branch",
        ref_protected=True,
        environment=Environment("production"),
        pipeline_id="900",
        job_id="900-2",
        username="ana",
        user_id="3",
        expires_at=NOW + 360.0,
        is_public_issuer=True,
        from_id_token=True,
    )


@pytest.mark.covers("T20")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"aud": "https://other.example.com"}, "another audience"),
        ({"aud": None}, "lacks the claim aud"),
        ({"aud": ["https://other.example.com"]}, "another audience"),
        ({"aud": ""}, "lacks the claim aud"),
        ({"aud": 5}, "another audience"),
        ({"aud": {}}, "lacks the claim aud"),
        ({"exp": None}, "lacks the claim exp"),
        ({"iat": None}, "lacks the claim iat"),
        ({"exp": NOW - 61}, "has expired 61 s ago"),
        ({"exp": "soon"}, "times"),
        ({"exp": True}, "times"),
        ({"exp": 1e300}, "times"),
        ({"nbf": NOW + 61}, "from the future"),
        ({"iat": NOW + 61}, "from the future"),
        ({"exp": NOW + 90_000}, "more than a day"),
        ({"repository": None}, "does not say its project"),
        ({"repository": "web"}, "does not say its project"),
        ({"repository": "../../etc"}, "does not say its project"),
        ({"repository": ["acme/web"]}, "the claim repository is not a short text"),
        ({"repository": "acme/" + "x" * 300}, "the claim repository is not a short text"),
        ({"actor": "a\nb"}, "the claim actor is not a short text"),
        ({"ref_protected": "maybe"}, "the claim ref_protected is not true or false"),
        ({"repository": "evil/web"}, "owner"),
        ({"repository": "acmeevil/web"}, "owner"),
        ({"repository": "evil/acme"}, "owner"),
    ],
)
async def test_a_token_of_the_issuer_that_does_not_count_says_why(world, changed, said):
    assert said in await world.refusal(KEY.sign(world.claims(**changed)))


@pytest.mark.covers("A-10")
@pytest.mark.parametrize("skew_s", [-300, -59, 59, 300, 86_400, -86_400])
async def test_clocks_may_differ_by_a_minute(world, skew_s):
    world.now += skew_s
    token = KEY.sign(world.claims(exp=NOW + 1))
    if abs(skew_s) < 60:
        assert await world.tokens.caller(token)
    else:
        await world.refusal(token)


async def test_several_audiences_are_enough_if_one_is_kas(world):
    assert await world.tokens.caller(KEY.sign(world.claims(aud=["x", AUDIENCE])))


async def test_a_token_may_be_shown_again(world):
    token = KEY.sign(world.claims(jti="once"))
    assert await world.tokens.caller(token) == await world.tokens.caller(token)


@pytest.mark.covers("T20")
async def test_signatures_that_do_not_count(world):
    claims = world.claims()
    header = {"alg": "RS256", "kid": "k1"}
    pem = KEY.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = KEY.sign(claims).split(b".")
    confused = unsigned({"alg": "HS256", "kid": "k1"}, claims).rpartition(b".")[0]
    evil = SigningKey("k1")
    tokens = [
        unsigned({"alg": "none", "kid": "k1"}, claims),
        unsigned({"alg": "None"}, claims),
        unsigned({"kid": "k1"}, claims),
        unsigned(header, claims),
        unsigned(header, claims, b"x" * 256),
        confused + b"." + signed[2],
        unsigned({"alg": "HS256", "kid": "k1"}, claims, hmac.digest(pem, confused, sha256)),
        evil.sign(claims),
        evil.sign(claims, jwk=evil.public),
        evil.sign(claims, jku="https://evil.example.com/jwks"),
        evil.sign(claims, x5u="https://evil.example.com/crt"),
        KEY.sign(claims, crit=["exp"]),
        unsigned(header, claims | {"repository": "acme/other"}, b"").rpartition(b".")[0] + b"." + signed[2],
        SigningKey("k1", "EC").sign(claims),
    ]
    for token in tokens:
        await world.refusal(token)
    assert {line for line in world.forge.asked if "jwks" in line} == {"GET /jwks"}


async def test_a_token_of_another_issuer_is_not_looked_at(world):
    for token in (
        KEY.sign(world.claims(iss="https://evil.example.com")),
        KEY.sign(world.claims(iss=world.forge.url + "/")),
        KEY.sign(world.claims(iss=None)),
        KEY.sign(world.claims(iss="x" * 20_000)),
        b"kasjob-abc",
        b"a.b.c",
        b"..",
        b"",
    ):
        assert await world.tokens.caller(token) is None
    assert world.forge.asked == []


async def test_keys_are_fetched_once_and_a_new_one_when_it_is_used(world):
    token = KEY.sign(world.claims())
    await asyncio.gather(*(world.tokens.caller(token) for _ in range(20)))
    assert world.forge.asked == ["GET /.well-known/openid-configuration", "GET /jwks"]

    world.forge.publish(KEY, OTHER)
    assert "does not publish" in await world.refusal(OTHER.sign(world.claims()))  # asked a moment ago
    world.monotonic += 30
    assert await world.tokens.caller(OTHER.sign(world.claims()))
    assert len(world.forge.asked) == 4


async def test_a_flood_of_unknown_keys_asks_the_issuer_twice_a_minute(world):
    await world.tokens.caller(KEY.sign(world.claims()))
    for number in range(50):
        await world.refusal(SigningKeyLike(f"x{number}").sign(world.claims()))
        world.monotonic += 1
    assert len(world.forge.asked) <= 2 + 2 * 2


class SigningKeyLike:
    """KEY under another name: quicker than a new key."""

    def __init__(self, kid: str) -> None:
        self._kid = kid

    def sign(self, claims: dict[str, Any]) -> bytes:
        return KEY.sign(claims, kid=self._kid)


async def test_a_key_that_was_taken_back_stops_counting_when_the_keys_are_fetched_anew(world):
    token = KEY.sign(world.claims())
    assert await world.tokens.caller(token)
    world.forge.publish(OTHER)
    world.monotonic += 3600
    await world.refusal(token)


@pytest.mark.covers("A-11")
@pytest.mark.parametrize(
    "knob",
    [
        {"status": 500},
        {"status": 404},
        {"status": 301},
        {"body": b"not json"},
        {"body": b"[]"},
        {"body": b'{"issuer": "https://evil.example.com", "jwks_uri": "https://localhost/"}'},
        {"body": b'{"keys": []}'},
        {"body": b"[" * 100_000},
        {"body": b'{"a": "' + b"x" * 300_000 + b'"}'},
        {"cut": True},
    ],
    ids=lambda knob: f"{next(iter(knob))}={str(next(iter(knob.values())))[:12]}",
)
async def test_an_issuer_that_fails_lets_nobody_in_and_says_so(world, knob):
    for name, value in knob.items():
        setattr(world.forge, name, value)
    token = KEY.sign(world.claims())
    with pytest.raises(IssuerUnavailable, match="the keys of the issuer github cannot be fetched right now"):
        await world.tokens.caller(token)

    world.forge.status = world.forge.body = None
    world.forge.cut = False
    world.monotonic += 30
    assert await world.tokens.caller(token)

    # Keys that are known outlast it for a bounded time.
    for name, value in knob.items():
        setattr(world.forge, name, value)
    world.monotonic += 3700
    assert await world.tokens.caller(token)
    world.monotonic += 3600
    with pytest.raises(IssuerUnavailable):
        await world.tokens.caller(token)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_weak_and_foreign_keys_are_left_out(world):
    weak = SigningKey("weak", bits=1024)
    signed_weakly = weak.sign(world.claims())
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}
    encrypting = {**OTHER.public, "use": "enc"}
    world.forge.publish(KEY)
    world.forge.answers["/jwks"]["keys"] += [weak.public, secret, encrypting, {"kty": "new"}, "x", None]
    assert await world.tokens.caller(KEY.sign(world.claims()))
    await world.refusal(OTHER.sign(world.claims()))
    await world.refusal(signed_weakly)


@pytest.mark.parametrize(
    ("owners", "expected"), [((), True), (("id:5",), True), (("5",), False), (("id:17",), False), (("acme",), True)]
)
async def test_owners_by_path_or_by_immutable_id(world, tmp_path, owners, expected):
    async with Outbound() as outbound:
        tokens = world.issuer(outbound, owners=owners)
        token = KEY.sign(world.claims())
        if expected:
            assert await tokens.caller(token)
        else:
            with pytest.raises(Unauthenticated):
                await tokens.caller(token)


PARTS = st.binary(max_size=60) | st.dictionaries(
    st.text(max_size=5), st.none() | st.integers() | st.text(), max_size=4
).map(lambda value: json.dumps(value).encode())


@given(st.lists(PARTS, min_size=1, max_size=5).map(b".".join) | st.binary(max_size=MAX_TOKEN_BYTES + 10))
def test_any_bytes_are_looked_at_without_a_crash(token):
    issuer_of(token)
