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

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.authority.server_context("localhost"))
        await site.start()
        self.url = f"https://localhost:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

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
