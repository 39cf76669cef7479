"""What the management door answers: a job shows its token and gets its kubeconfig."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from aiohttp import web

from kas.access.grants import Grant
from kas.errors import IssuerUnavailable, StoreUnavailable, Unauthenticated
from kas.http_door import Request, answer, open_door, plain
from kas.management_api.kubeconfig import render_kubeconfig
from kas.metrics import Door, DoorMetrics

KUBECONFIG = "/kas/v1/kubeconfig"
_bearer = re.compile(r"bearer ([!-~]+)", re.IGNORECASE).fullmatch  # exactly one space, visible ASCII


class Grants(Protocol):
    """What is needed of the gate."""

    def grants(self, token: bytes) -> Awaitable[list[Grant]]:
        """One for each agent that the holder may use. Raises Unauthenticated, or IssuerUnavailable."""


@asynccontextmanager
async def open_management_api(
    listener: socket.socket,
    tls: ssl.SSLContext,
    gate: Grants,
    metrics: DoorMetrics,
    *,
    server: Callable[[], str],
    ca: Callable[[], bytes | None],
) -> AsyncIterator[None]:
    """Serve for as long as the block runs.

    ``server``: the kubectl door's external URL; ``ca``: what signs its certificate (PEM), None if clients trust that already. Both are
    asked for each kubeconfig, since a reload may change them.
    """

    async def kubeconfig(request: Request) -> web.Response:
        try:
            token = _token(request)
            grants = await gate.grants(token.encode("ascii"))
        except Unauthenticated:
            remedy = "send the job's token as 'Authorization: Bearer TOKEN', and take a fresh one if it is an old one"
            return answer(401, str(Unauthenticated()), remedy, WWW_Authenticate="Bearer")
        except (IssuerUnavailable, StoreUnavailable) as error:
            return answer(503, str(error), "try again in a few seconds", Retry_After="5")
        return plain(render_kubeconfig(grants, token, server(), ca()), content_type="application/yaml")

    async with open_door(Door.MANAGEMENT, {KUBECONFIG: kubeconfig}, listener, metrics, tls=tls):
        yield


def _token(request: Request) -> str:
    values = request.headers.getall("Authorization", [])
    match = _bearer(values[0]) if len(values) == 1 else None
    if match is None:
        raise Unauthenticated
    return match[1]
