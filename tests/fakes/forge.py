"""A forge as kas sees it: HTTPS with JSON answers that a test sets, and knobs for everything that can go wrong."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import jwt
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.fakes.certificates import Authority

Answer = Callable[[web.Request], Any]


class SigningKey:
    """One key of an issuer, and tokens signed with it."""

    def __init__(self, kid: str = "k1", kind: str = "RSA", bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = "RS256" if kind == "RSA" else "ES256"
        self.private: Any = (
            rsa.generate_private_key(65537, bits) if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def public(self) -> dict[str, Any]:
        """As a JWK."""
        algorithm: Any = jwt.algorithms.RSAAlgorithm if self.algorithm == "RS256" else jwt.algorithms.ECAlgorithm
        return {**algorithm.to_jwk(self.private.public_key(), as_dict=True), "kid": self.kid, "use": "sig"}

    def sign(self, claims: dict[str, Any], **header: Any) -> bytes:
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid, **header}).encode()


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> bytes:
    """A token with exactly these parts."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


class _Connection(RequestHandler):
    """One that is remembered."""

    __slots__ = ("_made",)

    def __init__(self, server: web.Server, made: list[asyncio.Transport], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, access_log=None)
        self._made = made

    def connection_made(self, transport: Any) -> None:
        self._made.append(transport)
        super().connection_made(transport)


class Forge:
    """``async with`` it. ``answers``: path to what is answered, a value for JSON or a function of the request.

    Knobs for every path: ``status``, ``body`` (raw), ``delay_s``, ``cut`` (the connection is closed), ``retry_after``.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "forge CA")
        self._folder = folder
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.status: int | None = None
        self.body: bytes | None = None
        self.delay_s = 0.0
        self.cut = False
        self.retry_after: int | None = None
        self.fallback: Answer | None = None  # for every path without an answer
        self.url = ""
        self._transports: list[asyncio.Transport] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = web.Server(self._answer)
        self._listening = await loop.create_server(
            lambda: _Connection(self._server, self._transports, loop),
            "127.0.0.1",
            0,
            ssl=self.authority.server_context("localhost"),
        )
        self.url = f"https://localhost:{self._listening.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        await self._server.shutdown(0.1)
        # A client that went away in the midst of an answer says no goodbye in TLS, which would be waited for after the loop's end.
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)

    async def _answer(self, request: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.cut:
            request.transport.abort()
            return web.Response()
        if self.status is not None or self.body is not None:
            headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
            return web.Response(status=self.status or 200, body=self.body or b"", headers=headers)
        answer = self.answers.get(request.path, self.fallback)
        if callable(answer):
            answer = answer(request)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.json_response(
            {"message": "404 Not Found"} if answer is None else answer, status=404 if answer is None else 200
        )

    def publish(self, *keys: SigningKey, issuer: str | None = None) -> None:
        """Be an OpenID Connect issuer with these keys."""
        self.answers["/.well-known/openid-configuration"] = {
            "issuer": issuer or self.url,
            "jwks_uri": f"{self.url}/jwks",
        }
        self.answers["/jwks"] = {"keys": [key.public for key in keys]}
