"""agentk behind a proxy that alone leads to kas: HTTPS_PROXY and NO_PROXY of its environment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.fakes.connect_proxy import ConnectProxy
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Agent, Process, Product

KAS = "grpcs://kas.test:8150"  # a name that only the proxy knows


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    running = Product(tmp_path / "product", {"agent_api": {"external_url": KAS}})
    try:
        await asyncio.to_thread(running.__enter__)
        yield running
    finally:
        await asyncio.to_thread(running.close)


@pytest.fixture
async def agent(product: Product) -> Agent:
    made = await asyncio.to_thread(product.register, "production", CONFIG_PROJECT)
    config = json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}})
    await asyncio.to_thread(product.configure, made, config)
    return made


@pytest.fixture
async def proxy(product: Product) -> AsyncIterator[ConnectProxy]:
    """It leads to the agent door of kas, and nowhere else."""
    port = urlsplit(product.kas_address).port
    assert port is not None
    async with ConnectProxy({"kas.test": ("127.0.0.1", port)}) as proxy:
        yield proxy


async def started(product: Product, agent: Agent, cluster: Path, *, wait: bool = True, **environment: str) -> Process:
    return await asyncio.to_thread(
        product.start_agentk, agent, cluster, environment=environment, kas_address=KAS, wait=wait
    )


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY"])
async def test_agentk_dials_kas_through_the_proxy_again_after_a_cut_and_its_api_server_never(
    product: Product, agent: Agent, cluster: Path, proxy: ConnectProxy, name: str
) -> None:
    # A rule of NO_PROXY that gRPC's own reading of it would take for kas: it compares ends of names, not labels.
    environment = {
        name: proxy.url,
        name.replace("https", "http").replace("HTTPS", "HTTP"): proxy.url,
        "no_proxy": "s.test",
    }
    agentk = await started(product, agent, cluster, **environment)
    token = await asyncio.to_thread(product.job_token, JOBS_PROJECT)
    kubeconfig = await asyncio.to_thread(product.kubeconfig, token)
    job = Kubectl(any_kubectl(), await asyncio.to_thread(chosen, product, kubeconfig, agent), product.folder)
    assert "kube-system" in await asyncio.to_thread(job.run, "get", "namespaces")
    proxy.cut()
    await asyncio.to_thread(agentk.wait_until, lambda: "link resumed" in agentk.said(), "the link is resumed")
    assert "kube-system" in await asyncio.to_thread(job.run, "get", "namespaces")
    assert proxy.asked == ["kas.test:8150"] * 2
    assert str(urlsplit(proxy.url).netloc) in agentk.said()


async def test_a_proxy_that_refuses_is_told_with_the_remedy_and_without_the_login(
    product: Product, agent: Agent, cluster: Path, proxy: ConnectProxy
) -> None:
    proxy.authorization = "Basic other"
    url = proxy.url.replace("//", "//joe:p%3Aass@")
    agentk = await started(product, agent, cluster, wait=False, HTTPS_PROXY=url)
    await asyncio.to_thread(agentk.wait_until, lambda: "the proxy wants a login" in agentk.said(), "the log says why")
    proxy.authorization, proxy.status = proxy.shown[0], 403
    await asyncio.to_thread(agentk.wait_until, lambda: "allow CONNECT" in agentk.said(), "the log says why")
    proxy.status = 200
    await asyncio.to_thread(agentk.wait_ready)
    assert set(proxy.shown) == {"Basic am9lOnA6YXNz"}  # joe:p:ass
    lines = [json.loads(line) for line in agentk.said().splitlines()]  # not one line of gRPC's own
    assert not any("ass@" in json.dumps(line) or "am9l" in json.dumps(line) for line in lines)


async def test_a_proxy_that_is_slow_delays_the_link_only(
    product: Product, agent: Agent, cluster: Path, proxy: ConnectProxy
) -> None:
    proxy.delay_s = 1.0
    await started(product, agent, cluster, HTTPS_PROXY=proxy.url)
    assert proxy.asked == ["kas.test:8150"]


async def test_an_exception_is_dialled_directly(
    product: Product, agent: Agent, cluster: Path, proxy: ConnectProxy
) -> None:
    environment = {"HTTPS_PROXY": proxy.url, "NO_PROXY": ".test"}
    agentk = await started(product, agent, cluster, wait=False, **environment)
    await asyncio.to_thread(agentk.wait_until, lambda: "unknown here" in agentk.said(), "the name is unknown here")
    assert proxy.asked == []
