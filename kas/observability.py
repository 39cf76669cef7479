"""DOOR for the operator: /metrics for Prometheus, /liveness and /readiness for whoever restarts and balances."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from kas.http_door import DoorLimits, Request, open_door, plain
from kas.metrics import Door, DoorMetrics

Readiness = Callable[[], str]
"""Empty: ready. Else why not, in a few words: ``draining``, ``starting``, ``the database is unavailable``."""

LIMITS = DoorLimits(max_connections=64)  # Prometheus, probes and a person
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def open_observability(
    listener: socket.socket,
    registry: CollectorRegistry,
    readiness: Readiness,
    metrics: DoorMetrics,
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Serve for as long as the block runs; open it first and close it last, so that probes see a start and a drain."""

    async def liveness(_: Request) -> web.Response:
        return plain("ok\n")  # that this loop answers is all that it says

    async def ready(_: Request) -> web.Response:
        why_not = readiness()
        return plain(f"{why_not}\n", 503) if why_not else plain("ok\n")

    async def figures(_: Request) -> web.Response:
        headers = {"Server": "kas", "Content-Type": METRICS_TYPE, "Cache-Control": "no-store"}
        return web.Response(body=generate_latest(registry), headers=headers)

    routes = {"/liveness": liveness, "/readiness": ready, "/metrics": figures}
    async with open_door(Door.OBSERVABILITY, routes, listener, metrics, tls=tls, limits=LIMITS):
        yield
