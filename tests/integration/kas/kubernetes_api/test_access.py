"""Who is refused, with which words, and what never reaches an agent."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from kas.access.grants import Grant
from kas.errors import AccessDenied, IssuerUnavailable, JobIsOver, KasError
from kastunnel.link.frames import AsAgent, Code, Hop, Impersonate, Reset
from tests.fakes.kubernetes_door import BEARER, FakeOpenExchange, get, grant
from tests.integration.kas.kubernetes_api.conftest import Stage

WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
SPDY = b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
AS_JOB = Impersonate("gitlab:ci_job:7", ("gitlab:ci_job",))


@pytest.mark.covers("A-01", "A-02", "A-03", "A-04", "A-05", "A-14")
@pytest.mark.parametrize(
    "bearer",
    [
        b"",
        b"Authorization:\r\n",
        b"Authorization: Basic Y2k6MTpnb29k\r\n",
        b"Authorization: Bearer  ci:1:good\r\n",
        b"Authorization: Bearer\tci:1:good\r\n",
        b"Authorization: Bearer good\r\n",
        b"Authorization: Bearer ci:\r\n",
        b"Authorization: Bearer ci:1\r\n",
        b"Authorization: Bearer ci::good\r\n",
        b"Authorization: Bearer ci:1:\r\n",
        b"Authorization: Bearer ci:-1:good\r\n",
        b"Authorization: Bearer ci:0x1:good\r\n",
        b"Authorization: Bearer ci:01:good\r\n",
        b"Authorization: Bearer ci:0:good\r\n",
        b"Authorization: Bearer ci:\xd9\xa3:good\r\n",
        b"Authorization: Bearer ci:1e3:good\r\n",
        b"Authorization: Bearer ci:9223372036854775808:good\r\n",
        b"Authorization: Bearer ci:1:bad\r\n",
        b"Authorization: Bearer pat:1:good\r\n",
        b"Authorization: Bearer foo:1:good\r\n",
        b"Cookie: token=ci:1:good\r\n",
    ],
)
async def test_without_a_good_credential_the_answer_is_always_the_same_401(plain: Stage, bearer: bytes) -> None:
    async with plain.client() as client:
        client.say(get(b"/k8s-proxy/api/v1/pods?access_token=ci:1:good", bearer=bearer))
        response = await client.response()
    assert response.status == 401
    assert response[b"WWW-Authenticate"] == b"Bearer"
    status = json.loads(response.body)
    assert (status["kind"], status["status"], status["reason"], status["code"]) == (
        "Status",
        "Failure",
        "Unauthorized",
        401,
    )
    assert status["message"].startswith("kas: the token is missing, malformed, unknown, expired or revoked (request ")
    assert response[b"Warning"] == b'299 kas "' + status["message"].encode() + b'"'
    assert response[b"X-Request-Id"].decode() in status["message"]
    assert plain.upstream.opened == []


async def test_each_request_of_a_connection_has_the_credential_that_it_shows(plain: Stage) -> None:
    plain.gate.grants[1, b"other"] = grant()
    said = [
        (b"good", 200),
        (b"good", 200),
        (b"wrong", 401),
        (b"other", 200),
        (b"good", 200),
        (b"", 401),
        (b"good", 200),
    ]
    async with plain.client() as client:
        for token, status in said:
            client.say(get(bearer=b"Authorization: Bearer ci:1:%b\r\n" % token))
            assert (await client.response()).status == status


@pytest.mark.covers("A-02", "A-06")
@pytest.mark.parametrize(("bearer", "token"), [(b"bearer ci:1:good", b"good"), (b"BEARER ci:1:a:b:c", b"a:b:c")])
async def test_the_scheme_has_no_case_and_a_token_may_hold_colons(plain: Stage, bearer: bytes, token: bytes) -> None:
    plain.gate.grants[1, token] = grant()
    async with plain.client() as client:
        client.say(get(bearer=b"Authorization: " + bearer + b"\r\n"))
        assert (await client.response()).status == 200


@pytest.mark.covers("A-03")
async def test_two_credentials_are_none(plain: Stage) -> None:
    async with plain.client() as client:
        client.say(get(fields=BEARER))
        assert (await client.response()).status == 401
        assert await client.is_closed()


@pytest.mark.covers("A-07")
@pytest.mark.parametrize(("size", "status"), [(8192, 200), (16384, 200), (65536, 431)])
async def test_long_tokens(plain: Stage, size: int, status: int) -> None:
    token = b"x" * size
    plain.gate.grants[1, token] = grant()
    async with plain.client() as client:
        client.say(get(bearer=b"Authorization: Bearer ci:1:" + token + b"\r\n"))
        assert (await client.response()).status == status


@pytest.mark.covers("A-08", "A-11", "Z-03")
@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (AccessDenied("secret reason"), 403, "this job may not use this agent, or there is no such agent"),
        (IssuerUnavailable("secret reason"), 503, "who vouches for this token cannot be asked right now; try again"),
        (KasError("secret reason"), 500, "something went wrong in kas"),
    ],
)
async def test_what_the_gate_says_becomes_a_status_without_its_reason(
    plain: Stage, error: KasError, status: int, text: str
) -> None:
    plain.gate.is_warm = False
    plain.gate.error = error
    async with plain.client() as client:
        client.say(get(b"/k8s-proxy/api/v1/pods"))
        response = await client.response()
    assert response.status == status
    assert response.message.startswith(f"kas: {text} (request ")
    assert b"secret" not in response.body
    assert response[b"Retry-After"] == b""


async def test_discovery_is_refused_in_plain_text_which_kubectl_shows(plain: Stage) -> None:
    async with plain.client() as client:
        for path in (
            b"/api",
            b"/apis",
            b"/version",
            b"/openapi/v3",
            b"/swagger-2.0.0.pb-v1",
            b"/api/v1",
            b"/apis/apps/v1",
        ):
            client.say(get(b"/k8s-proxy" + path, bearer=b""))
            response = await client.response()
            assert response[b"Content-Type"] == b"text/plain; charset=utf-8"
            assert b"\n" not in response.body
        client.say(get(b"/k8s-proxy/api/v1/pods", b"Accept: application/json;g=apidiscovery.k8s.io\r\n", bearer=b""))
        assert (await client.response())[b"Content-Type"] == b"text/plain; charset=utf-8"
        client.say(get(b"/k8s-proxy/api/v1/pods", bearer=b"", method=b"HEAD"))
        response = await client.response(is_head=True)
        assert int(response[b"Content-Length"]) > 100
        client.say(get())
        assert (await client.response()).status == 200


@pytest.mark.covers("I-01", "I-02", "I-05", "I-11")
@pytest.mark.parametrize("upgrade", [b"", WEBSOCKET, SPDY])
@pytest.mark.parametrize(
    "fields",
    [
        b"Impersonate-User: admin\r\n",
        b"impersonate-user: admin\r\n",
        b"Impersonate_User: admin\r\n",
        b"Impersonate-Uid: 1\r\n",
        b"Impersonate-Extra-a: 1\r\n",
        b"Impersonate-User:\r\n",
    ],
)
@pytest.mark.parametrize("granted", [grant(), grant(identity=AS_JOB)])
async def test_impersonation_by_the_client_is_refused(
    plain: Stage, fields: bytes, upgrade: bytes, granted: Grant
) -> None:
    plain.gate.grants[1, b"good"] = granted
    async with plain.client() as client:
        client.say(get(b"/agents/1/api/v1/namespaces/d/pods/p/exec", fields + upgrade))
        response = await client.response()
    assert response.status == 403
    assert "impersonation" in response.message
    assert plain.upstream.opened == []


@pytest.mark.covers("I-12")
async def test_where_the_operator_allows_it_the_clients_identity_goes_as_typed_values(plain: Stage) -> None:
    plain.change(allow_user_impersonation=True)
    fields = (
        b"Impersonate-User: bob\r\nImpersonate-Group: a,b\r\nImpersonate-Group: c\r\nImpersonate-Uid: u\r\n"
        b"Impersonate-Extra-Agent.example%2fid: 1\r\nImpersonate-Extra-agent.example%2Fid: 2\r\n"
    )
    async with plain.client() as client:
        client.say(get(fields=fields))
        assert (await client.response()).status == 200
        [asked] = plain.upstream.opened
        assert asked.wanted.identity == Impersonate("bob", ("a,b", "c"), "u", (("agent.example/id", ("1", "2")),))
        assert not [name for name, _ in asked.wanted.headers if b"mpersonate" in name]
        # Never on top of an impersonation, and never where a spelling is in doubt.
        client.say(get(fields=fields + b"Impersonate_Group: system:masters\r\n"))
        assert (await client.response()).status == 403
        client.say(get(fields=fields + b"Impersonate-User: admin\r\n"))
        assert (await client.response()).status == 403
        plain.gate.grants[1, b"good"] = grant(identity=AS_JOB)
        client.say(get(fields=fields))
        assert (await client.response()).status == 403


@pytest.mark.parametrize(
    ("origin", "status", "allow"),
    [
        (b"https://kas", 200, b""),
        (b"https://KAS:443", 200, b""),
        (b"https://console.example.com", 200, b"https://console.example.com"),
        (b"https://evil.example.com", 403, b""),
        (b"http://kas", 403, b""),
        (b"null", 403, b""),
    ],
)
async def test_browsers_are_let_in_by_origin(plain: Stage, origin: bytes, status: int, allow: bytes) -> None:
    plain.change(allowed_origins=frozenset({b"https://console.example.com"}))
    plain.upstream.script = lambda asked: asked.answer(200, b"", [(b"Access-Control-Allow-Origin", b"*")])
    async with plain.client() as client:
        client.say(get(fields=b"Origin: " + origin + b"\r\n"))
        response = await client.response()
        assert (response.status, response[b"Access-Control-Allow-Origin"]) == (status, allow)
        client.say(get(fields=b"Origin: " + origin + b"\r\n", method=b"OPTIONS", bearer=b""))
        response = await client.response()
        assert response.status == (204 if status == 200 else 403)
        assert response[b"Access-Control-Allow-Origin"] == allow
    assert all(name != b"Origin" for asked in plain.upstream.opened for name, _ in asked.wanted.headers)


@pytest.mark.covers("S-11")
async def test_options_is_answered_here(plain: Stage) -> None:
    async with plain.client() as client:
        client.say(get(method=b"OPTIONS", bearer=b""))
        response = await client.response()
        assert response.status == 204
        assert b"PATCH" in response[b"Allow"]
        client.say(get())
        assert (await client.response()).status == 200


async def _watching(stage: Stage) -> FakeOpenExchange:
    asked = await stage.upstream.request()
    asked.answer(200, b"x", end=False)
    return asked


@pytest.mark.covers("T-21", "Z-08", "T22")
@pytest.mark.parametrize("change", ["revoked", "denied", "identity"])
async def test_an_open_stream_ends_when_its_grant_does(plain: Stage, change: str) -> None:
    plain.change(recheck_s=0.02)
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(get(b"/agents/1/api/v1/pods?watch=1"))
        asked = await _watching(plain)
        await client.head()
        await asyncio.sleep(0.06)
        assert asked.reset_said is None
        if change == "identity":
            plain.gate.grants[1, b"good"] = grant(identity=AS_JOB)
        elif change == "denied":
            plain.gate.error = AccessDenied()
            plain.gate.is_warm = False
        else:
            plain.gate.grants.clear()
        await asked.until(lambda it: it.reset_said)
        assert asked.reset_said is not None
        assert asked.reset_said.code == Code.ACCESS_ENDED
        assert not (await client.rest()).endswith(b"0\r\n\r\n")


async def test_an_open_stream_outlives_an_issuer_that_cannot_be_asked(plain: Stage) -> None:
    plain.change(recheck_s=0.02)
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(get(b"/agents/1/api/v1/pods?watch=1"))
        asked = await _watching(plain)
        plain.gate.is_warm = False
        plain.gate.error = IssuerUnavailable()
        await asyncio.sleep(0.08)
        assert asked.reset_said is None
        asked.handler.on_end(False)
        await client.response()


async def test_a_grant_without_a_different_identity_changes_nothing(plain: Stage) -> None:
    plain.change(recheck_s=0.02)
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(get(b"/agents/1/api/v1/pods?watch=1"))
        asked = await _watching(plain)
        plain.gate.grants[1, b"good"] = grant(identity=AsAgent())
        await asyncio.sleep(0.05)
        assert asked.reset_said is None
        asked.handler.on_end(False)
        assert (await client.response()).body == b"x"


JSON = ((b"Content-Type", b"application/json"),)
WATCH = b"/agents/1/api/v1/pods?watch=1"


@pytest.mark.covers("T-21")
@pytest.mark.parametrize(
    ("target", "headers", "said", "is_told"),
    [
        (WATCH, JSON, b'{"type":"ADDED"}\n', True),
        (WATCH, JSON, b"", True),
        (WATCH, ((b"Content-Type", b"application/json;as=Table"),), b"{}\n", True),
        (WATCH, JSON, b'{"type":"AD', False),  # never inside an event
        (WATCH, ((b"Content-Type", b"application/vnd.kubernetes.protobuf;stream=watch"),), b"\n", False),
        (WATCH, (*JSON, (b"Content-Encoding", b"gzip")), b"\n", False),
    ],
)
async def test_a_watch_that_ends_with_its_access_says_why_in_a_last_event(
    plain: Stage, target: bytes, headers: tuple, said: bytes, is_told: bool
) -> None:
    plain.change(recheck_s=0.02)
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(get(target))
        asked = await plain.upstream.request(1)
        asked.answer(200, b"", headers, end=False)
        if said:
            asked.handler.on_data(said)
        await client.head()
        await asyncio.sleep(0.05)
        plain.gate.is_warm = False
        plain.gate.error = JobIsOver()
        rest = await client.rest()
    assert not rest.endswith(b"0\r\n\r\n")
    told = [json.loads(line) for line in rest.split(b"\r\n") if b'"ERROR"' in line]
    assert len(told) == is_told
    if told:
        status = told[0]["object"]
        assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", 401)
        assert "kas: the job that this token was made for is over (request " in status["message"]


TEXT = ((b"Content-Type", b"text/plain; charset=utf-8"),)
LOG = b"/agents/1/api/v1/namespaces/a/pods/p/log"


@pytest.mark.covers("T-21")
@pytest.mark.parametrize(
    ("target", "headers", "said", "told"),
    [
        (LOG + b"?follow=true", TEXT, b"one\n", b"one\nkas: "),
        (LOG + b"?tailLines=3&follow=1&timestamps=true", TEXT, b"one", b"one\nkas: "),  # a line that was not complete
        (LOG + b"?follow=true", TEXT, b"", b"kas: "),
        (LOG + b"?follow=false", TEXT, b"one\n", None),  # a log that is fetched is what was logged, nothing else
        (LOG + b"?container=follow=true", TEXT, b"one\n", None),
        (LOG + b"?follow=true", JSON, b"{}\n", None),
        (LOG.replace(b"/log", b"/other") + b"?follow=true", TEXT, b"one\n", None),
    ],
)
async def test_a_followed_log_that_ends_with_its_access_says_why_in_a_last_line(
    plain: Stage, target: bytes, headers: tuple, said: bytes, told: bytes | None
) -> None:
    plain.upstream.script = None
    async with plain.client() as client:
        client.say(get(target))
        asked = await plain.upstream.request(1)
        asked.answer(200, b"", headers, end=False)
        if said:
            asked.handler.on_data(said)
        await client.head()
        asked.handler.on_reset(Reset(Code.ACCESS_ENDED, "over", Hop.AGENTK))
        rest = await client.rest()
    assert not rest.endswith(b"0\r\n\r\n")
    body = b"".join(re.findall(rb"[0-9a-f]+\r\n(.*?)\r\n", rest, re.DOTALL))
    if told is None:
        assert body == said
    else:
        assert body.startswith(told)
        assert re.search(rb"\(request [^)]+\)\n\Z", body)
