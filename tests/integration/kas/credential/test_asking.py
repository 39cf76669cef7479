"""The plugin's questions over real sockets: to a management door that is not as it should be, and to GitHub."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from kas.credential.asking import MAX_BYTES, JobToken, exchange, trust
from kas.credential.id_tokens import GITHUB_TOKEN, GITHUB_URL, Source, fresh
from kas.errors import KasError, Unauthenticated
from tests.fakes.forge import Forge

SECRET = "eyJ.hush.x"


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Forge]:
    async with Forge(tmp_path) as running:
        yield running


async def exchanged(door: Forge, url: str | None = None, ttl_s: int | None = None) -> JobToken:
    context = trust(str(door.authority.ca), None)
    return await asyncio.to_thread(exchange, url or door.url, SECRET, context, ttl_s)


async def failure(door: Forge, url: str | None = None) -> KasError:
    with pytest.raises(KasError) as caught:
        await exchanged(door, url)
    assert SECRET not in str(caught.value)
    assert str(caught.value).isprintable()
    return caught.value


async def test_the_form_is_that_of_rfc_8693(door: Forge) -> None:
    forms = []

    async def token(request: web.BaseRequest) -> dict[str, object]:
        forms.append(dict(await request.post()))
        return {"access_token": "kasjob-x", "expires_in": 60}

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.json_response(await token(request))

    original = door._answer

    async def routed(request: web.BaseRequest) -> web.StreamResponse:
        return await answer(request) if request.path == "/kas/v1/token" else await original(request)

    door._server.request_handler = routed
    assert await exchanged(door, ttl_s=60) == JobToken("kasjob-x", 60)
    assert forms == [
        {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": SECRET,
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "expires_in": "60",
        }
    ]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "answers 200, not as the management door would: check --server"),
        (200, b'{"access_token": 1, "expires_in": 60}', "not as the management door would"),
        (200, b'{"access_token": "x", "expires_in": 0}', "not as the management door would"),
        (200, b'{"access_token": "x"}', "not as the management door would"),
        (200, b"[" * 50_000, "not as the management door would"),
        (302, b"", "answers 302, not as"),
        (404, b'{"message": "404"}', "answers 404, not as"),
        (400, b'{"error": "x", "error_description": "\\u001b[31m"}', "answers 400, not as"),
        (
            503,
            b'{"error": "temporarily_unavailable", "error_description": "github cannot be asked"}',
            "answers 503: github",
        ),
        (429, b'{"error": "invalid_request", "error_description": "too often"}', "answers 429: too often"),
    ],
)
async def test_any_other_answer_is_one_line(door: Forge, status: int, body: bytes, said: str) -> None:
    door.status, door.body = status, body
    assert said in str(await failure(door))


async def test_a_refusal_is_told_from_trouble(door: Forge) -> None:
    door.status, door.body = 400, b'{"error": "invalid_request", "error_description": "the ID token has expired"}'
    error = await failure(door)
    assert isinstance(error, Unauthenticated)
    assert "does not exchange the ID token: the ID token has expired" in str(error)


async def test_an_answer_without_end_is_not_read_to_its_end(door: Forge) -> None:
    door.status, door.body = 200, b" " * (4 * MAX_BYTES)
    assert "not as the management door would" in str(await failure(door))


async def test_what_cannot_be_reached_or_trusted_says_what_to_do(door: Forge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "cannot be reached" in str(await failure(door, f"https://localhost:{port}"))
    door.cut = True
    assert "cannot be reached" in str(await failure(door))
    with pytest.raises(KasError, match="is not trusted: .*name kas's ca.crt with --ca-file"):
        await asyncio.to_thread(exchange, door.url, SECRET, ssl.create_default_context())


@pytest.mark.parametrize(
    "url", ["http://kas", "kas:8153", "https://", "https://user@kas", "https://kas/path", "https://kas:x"]
)
async def test_a_server_that_cannot_be_meant_is_named(door: Forge, url: str) -> None:
    assert "--server" in str(await failure(door, url))


class TestGithub:
    @pytest.fixture(autouse=True)
    def trusted(self, door: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(door.authority.ca))

    async def ask(self, door: Forge, audience: str = "") -> str:
        environment = {GITHUB_URL: f"{door.url}/token?api-version=2.0", GITHUB_TOKEN: "hush"}
        return await asyncio.to_thread(fresh, Source("github", audience=audience), environment)

    async def test_it_is_asked_for_a_token_for_this_audience(self, door: Forge) -> None:
        shown = []

        def token(request: web.BaseRequest) -> dict[str, str]:
            shown.append(request.headers["Authorization"])
            return {"value": SECRET}

        door.answers["/token"] = token
        assert await self.ask(door) == SECRET
        assert await self.ask(door, "https://kas.example.com/a&b") == SECRET
        assert shown == ["Bearer hush"] * 2
        assert door.asked == [
            "GET /token?api-version=2.0",
            "GET /token?api-version=2.0&audience=https%3A%2F%2Fkas.example.com%2Fa%26b",
        ]

    @pytest.mark.parametrize(
        ("status", "body", "said"),
        [
            (403, b"hush", "GitHub answers 403"),
            (302, b"", "GitHub answers 302"),
            (200, b"<html>", "cannot be asked for an ID token: JSONDecodeError"),
            (200, b"[]", "gives no ID token"),
            (200, b'{"value": null}', "gives no ID token"),
            (200, b'{"value": "hush hush"}', "gives no ID token"),
        ],
    )
    async def test_any_other_answer_is_named_without_a_secret(
        self, door: Forge, status: int, body: bytes, said: str
    ) -> None:
        door.status, door.body = status, body
        with pytest.raises(KasError) as caught:
            await self.ask(door)
        assert said in str(caught.value)
        assert "hush" not in str(caught.value)

    async def test_the_secret_does_not_follow_a_redirection(self, door: Forge) -> None:
        elsewhere = web.Response(status=307, headers={"Location": f"{door.url}/elsewhere"})
        door.answers["/token"] = lambda request: elsewhere
        with pytest.raises(KasError, match="GitHub answers 307"):
            await self.ask(door)
        assert door.asked == ["GET /token?api-version=2.0"]
