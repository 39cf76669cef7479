"""DOOR for the operator: /metrics /liveness /readiness. Nothing in here takes part in carrying requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentk.config import Address
from agentk.errors import ConfigurationError
from agentk.kube_api.statistics import Statistics


class Sources:
    """What the pages are made of, asked at each visit: the hot path only adds to plain integers."""

    def __init__(
        self, statistics: Statistics, *, connected: Callable[[], bool], reachable: Callable[[], bool], version: str
    ) -> None:
        self.statistics = statistics
        self.connected = connected
        self.reachable = reachable
        self.version = version

    def missing(self) -> list[str]:
        """What keeps agentk from being ready, for people; empty when it is ready."""
        lacks = []
        if not self.connected():
            lacks.append("not linked to kas")
        if not self.reachable():
            lacks.append("the API server could not be reached at the last try")
        return lacks


class _Metrics(Collector):
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """Read every counter now."""
        counts = self._sources.statistics
        yield GaugeMetricFamily("agentk_linked", "1 while linked to kas.", float(self._sources.connected()))
        yield GaugeMetricFamily(
            "agentk_api_server_reachable",
            "1 if the last try to reach the API server succeeded.",
            float(counts.reachable),
        )
        yield GaugeMetricFamily("agentk_requests_open", "Requests being carried.", counts.requests_open)
        yield GaugeMetricFamily(
            "agentk_api_server_connections_open", "Connections to the API server.", counts.connections_open
        )
        yield GaugeMetricFamily(
            "agentk_api_server_connections_idle", "Of these, kept for reuse.", counts.connections_idle
        )
        yield CounterMetricFamily(
            "agentk_requests", "Requests of kas, and agentk's own looks at the API server.", counts.requests
        )
        yield CounterMetricFamily("agentk_upgrades", "Of these, upgraded to a byte pipe.", counts.upgrades)
        yield CounterMetricFamily("agentk_api_server_dials", "Connections that were opened.", counts.dials)
        yield CounterMetricFamily(
            "agentk_stale_retries", "Reads repeated because a kept connection was stale.", counts.retries
        )
        yield CounterMetricFamily(
            "agentk_unauthorized", "Times the API server refused agentk's credential.", counts.unauthorized
        )
        failed = CounterMetricFamily("agentk_requests_failed", "Requests that ended with a failure.", labels=["code"])
        for code, count in counts.failed.items():
            failed.add_metric([code.name.lower()], count)
        yield failed
        info = GaugeMetricFamily("agentk_build_info", "The version that runs.", labels=["version"])
        info.add_metric([self._sources.version], 1)
        yield info


@asynccontextmanager
async def observability(listen: Address | None, sources: Sources) -> AsyncIterator[Address | None]:
    """Answer on ``listen`` for as long as the block runs; yields the address in use (port 0 takes a free one).

    Raises ConfigurationError if the address cannot be had.
    """
    if listen is None:
        yield None
        return
    runner = web.AppRunner(_pages(sources), access_log=None, keepalive_timeout=30)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host, listen.port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                f"--observability-listen {listen}: {error.strerror}: choose a free address, or off"
            ) from error
        host, port = runner.addresses[0][:2]
        yield Address(host, port)
    finally:
        await runner.cleanup()


def _pages(sources: Sources) -> web.Application:
    registry = CollectorRegistry()
    registry.register(_Metrics(sources))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def liveness(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")  # the loop turns; a lost link is not cured by a restart

    async def readiness(_: web.Request) -> web.Response:
        lacks = sources.missing()
        return web.Response(status=503 if lacks else 200, text="".join(f"{line}\n" for line in lacks or ["ready"]))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/liveness", liveness)
    app.router.add_get("/readiness", readiness)
    return app
