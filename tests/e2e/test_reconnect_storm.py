"""A thousand agents whose kas is killed: all of them are back within a minute of its return, and it goes on working meanwhile."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from agentk.config import settings
from agentk.uplink import Uplink
from kastunnel.link.frames import Open
from kastunnel.link.handler import Exchange, Handler
from tests.e2e.conftest import CONFIG_PROJECT
from tests.support.product import Product

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture"),
]

AGENTS = 1_000
BACK_WITHIN_S = 60


@pytest.fixture
def event_loop_policy() -> uvloop.EventLoopPolicy:
    return uvloop.EventLoopPolicy()


class Idle:
    """What an agent without requests has."""

    def opened(self, wanted: Open, exchange: Exchange) -> Handler:
        raise AssertionError("nobody asks these agents")


@asynccontextmanager
async def linked(product: Product, token_file: Path) -> AsyncIterator[list[Uplink]]:
    """agentk's own links, without the rest of it."""
    uplinks = []
    for number in range(AGENTS):
        one = settings(
            kas_address=product.kas_address,
            token_file=token_file,
            ca_cert_file=product.ca_file,
            instance=f"storm/{number}",
            environ={},
        )
        uplinks.append(Uplink(one, Idle(), {"version": "storm", "instance": one.instance}))
    tasks = [asyncio.create_task(uplink.run()) for uplink in uplinks]
    try:
        yield uplinks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until_all_are_linked(uplinks: list[Uplink], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not all(uplink.connected for uplink in uplinks):
            await asyncio.sleep(0.1)


@pytest.mark.covers("T-10")
async def test_a_thousand_agents_come_back_after_a_restart(tmp_path: Path) -> None:
    with Product(tmp_path / "product", {"agent_api": {"max_links": 2 * AGENTS}}) as product:
        agent = await asyncio.to_thread(product.register, "storm", CONFIG_PROJECT)
        async with linked(product, agent.token_file) as uplinks:
            await until_all_are_linked(uplinks, 120)
            assert product.kas is not None
            await asyncio.to_thread(product.kas.stop, signal.SIGKILL)
            product.kas = None
            await asyncio.to_thread(product.start_kas)
            began = time.monotonic()
            back = asyncio.create_task(until_all_are_linked(uplinks, BACK_WITHIN_S))
            slowest = 0.0
            while not back.done():
                asked = time.monotonic()
                await asyncio.to_thread(_alive, product)
                slowest = max(slowest, time.monotonic() - asked)
                await asyncio.sleep(0.05)
            await back
            print(
                f"{AGENTS} agents were back after {time.monotonic() - began:.1f} s, /liveness took {slowest:.2f} s at most"
            )
        await asyncio.to_thread(product.close)


def _alive(product: Product) -> None:
    assert product.kas is not None
    with urllib.request.urlopen(f"{product.kas.observability}/liveness", timeout=10) as answer:
        assert answer.status == 200
