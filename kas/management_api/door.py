"""What the management door answers: a job shows its token and gets its kubeconfig, or asks for a token of kas's own."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from kas.errors import IssuerUnavailable, StoreUnavailable, TooManyRequests, Unauthenticated
from kas.http_door import Request, open_door, plain
from kas.management_api.job_tokens import JobTokens, Verifier, bearer, refusal
from kas.management_api.kubeconfig import render_kubeconfig
from kas.management_api.webhooks import Webhooks
from kas.metrics import Door, DoorMetrics
from kas.store import InvalidValue

KUBECONFIG = "/kas/v1/kubeconfig"


@asynccontextmanager
async def open_management_api(
    listener: socket.socket,
    tls: ssl.SSLContext,
    gate: Verifier,
    job_tokens: JobTokens,
    metrics: DoorMetrics,
    *,
    webhooks: Webhooks | None = None,
    server: Callable[[], str],
    ca: Callable[[], bytes | None],
) -> AsyncIterator[None]:
    """Serve for as long as the block runs.

    ``server``: the kubectl door's external URL; ``ca``: what signs its certificate (PEM), None if clients trust that already. Both are
    asked for each kubeconfig, since a reload may change them.
    """

    async def kubeconfig(request: Request) -> web.Response:
        try:
            token = bearer(request)
            caller = await job_tokens.identify(request, token.encode("ascii"))
            grants = await gate.grants(token.encode("ascii"))
            if caller.from_id_token and grants:
                _, token = await job_tokens.exchanged(caller, token.encode("ascii"))
        except (Unauthenticated, TooManyRequests, InvalidValue, IssuerUnavailable, StoreUnavailable) as error:
            return refusal(error, "the job's token")
        return plain(render_kubeconfig(grants, token, server(), ca()), content_type="application/yaml")

    posts = {**job_tokens.posts, **(webhooks.posts if webhooks is not None else {})}
    async with open_door(Door.MANAGEMENT, {KUBECONFIG: kubeconfig}, listener, metrics, posts=posts, tls=tls):
        yield
