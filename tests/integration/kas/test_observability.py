"""The operator's door: probes and metrics."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

from kas.metrics import Metrics, Outcome
from kas.observability import open_observability


@asynccontextmanager
async def door(metrics: Metrics, readiness=lambda: ""):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    async def get(path: str) -> tuple[int, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.decode()

    async with open_observability(listener, metrics.registry, readiness, metrics.doors):
        yield get


async def test_it_lives_and_is_ready():
    async with door(Metrics()) as get:
        assert await get("/liveness") == (200, "ok\n")
        assert await get("/readiness") == (200, "ok\n")


async def test_readiness_is_red_while_draining_and_liveness_is_not():
    state = ""
    async with door(Metrics(), lambda: state) as get:
        state = "draining"
        assert await get("/readiness") == (503, "draining\n")
        assert await get("/liveness") == (200, "ok\n")


async def test_metrics_are_what_was_counted():
    metrics = Metrics(version="1.2.3", process=True)
    metrics.requests.done(Outcome.ANSWERED, 200)
    metrics.requests.done(Outcome.FAILED, 502)
    metrics.requests.done(Outcome.CANCELLED, 0)
    metrics.gate.cache_hits.value += 3
    metrics.links.resumed.value += 1
    metrics.open_links.set_function(lambda: 7)
    metrics.head_s.observe(0.004)
    async with door(metrics) as get:
        status, text = await get("/metrics")
    lines = text.splitlines()
    assert status == 200
    assert 'kas_requests_total{code="2xx",outcome="answered"} 1.0' in lines
    assert 'kas_requests_total{code="5xx",outcome="failed"} 1.0' in lines
    assert 'kas_requests_total{code="none",outcome="cancelled"} 1.0' in lines
    assert "kas_grant_cache_hits_total 3.0" in lines
    assert "kas_links_resumed_total 1.0" in lines
    assert "kas_links 7.0" in lines
    assert 'kas_request_head_seconds_bucket{le="0.005"} 1.0' in lines
    assert 'kas_build_info{version="1.2.3"} 1.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
