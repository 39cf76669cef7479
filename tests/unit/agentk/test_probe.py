"""What agentk finds out about its cluster, and that it links without."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from agentk import probe
from agentk.dispatcher import DEAF
from agentk.probe import CLUSTER, VERSION, Probe
from kastunnel.link.frames import Code, Open
from kastunnel.link.handler import Exchange, Handler

UID = "4052f109-6c1d-4f0e-9c4f-287850749335"
ANSWERS = {
    VERSION: (200, json.dumps({"gitVersion": "v1.34.0"}).encode()),
    CLUSTER: (200, json.dumps({"metadata": {"name": "kube-system", "uid": UID}}).encode()),
}


class ApiServer:
    """A dispatcher that answers by itself; nothing, where there is no answer."""

    def __init__(self) -> None:
        self.statistics = SimpleNamespace(reachable=False)
        self.answers: dict[bytes, tuple[int, bytes] | None] = {**ANSWERS}
        self.asked: list[bytes] = []

    def opened(self, wanted: Open, exchange: Exchange) -> Handler:
        self.asked.append(wanted.target)
        found = self.answers[wanted.target]
        if found is None:
            exchange.reset(Code.UPSTREAM_DIAL, "nobody is there")
        else:
            exchange.send_head(found[0], [], found[1], end=True)
        return DEAF


async def test_version_and_cluster_are_known_before_kas_is_dialled():
    looking = Probe(ApiServer(), {"instance": "pod-0"})
    await looking.first()
    assert looking.about == {"instance": "pod-0", "kubernetes": "v1.34.0", "cluster": UID}


@pytest.mark.parametrize("answer", [(403, b"{}"), (404, b""), (200, b"[]"), (200, b"{"), (200, b'{"metadata": 1}')])
async def test_who_may_not_know_the_cluster_asks_once(answer):
    server = ApiServer()
    server.answers[CLUSTER] = answer
    looking = Probe(server, {})
    await looking.first()
    await looking._ask(1)
    assert looking.about.get("cluster", "") == ""
    assert server.asked == [VERSION, CLUSTER, VERSION]


@pytest.mark.parametrize("answer", [None, (401, b""), (429, b""), (503, b"")])
async def test_who_got_no_answer_to_that_asks_again(answer):
    server = ApiServer()
    server.answers[CLUSTER] = answer
    looking = Probe(server, {})
    await looking.first()
    assert "cluster" not in looking.about
    server.answers[CLUSTER] = ANSWERS[CLUSTER]
    await looking._ask(1)
    assert looking.about["cluster"] == UID


async def test_an_api_server_that_is_not_there_is_asked_again(monkeypatch):
    monkeypatch.setattr(probe, "RETRY_S", 0.01)
    server = ApiServer()
    server.answers[VERSION] = None
    looking = Probe(server, {})
    await looking.first()
    assert (looking.about, server.statistics.reachable, server.asked) == ({}, False, [VERSION])
    server.answers[VERSION] = ANSWERS[VERSION]
    running = asyncio.create_task(looking.run())
    async with asyncio.timeout(5):
        while "cluster" not in looking.about:
            await asyncio.sleep(0.01)
    running.cancel()
    assert server.statistics.reachable
