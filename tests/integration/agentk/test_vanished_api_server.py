"""An API server that is gone without a word in the midst of an exec: found though something is being said to it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
import uvloop

import agentk.dispatcher
import agentk.kube_api.upgrade
from agentk.dispatcher import Dispatcher
from kastunnel.link.frames import Code, Hop
from kastunnel.toolkit.vanished import is_vanished
from tests.fakes.api_server import FakeApiServer
from tests.integration.agentk.conftest import FixedCredentials, World, plain
from tests.integration.agentk.test_upgrades import echo, websocket
from tests.support.network import alone, drop


@pytest.mark.slow
def test_who_talks_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agentk.dispatcher, "LOOK_S", 0.5)
    monkeypatch.setattr(agentk.kube_api.upgrade, "is_vanished", partial(is_vanished, silent_s=2))

    async def talk() -> None:
        async with FakeApiServer() as server:
            server.answer = echo
            async with Dispatcher(FixedCredentials(plain(server.port))) as dispatcher:
                sweeping = asyncio.create_task(dispatcher.sweep())
                world = World(server, dispatcher, FixedCredentials(plain(server.port)))
                talking, quiet = websocket(world), websocket(world)
                for exchange in (talking, quiet):
                    exchange.handler.on_data(b"there?")
                    await exchange.until(lambda x: x.body == b"there?")
                drop(server.port)
                async with asyncio.timeout(20):
                    while not talking.is_over:
                        talking.handler.on_data(b"x")
                        await asyncio.sleep(0.1)
                assert talking.reset_said is not None
                assert (talking.reset_said.code, talking.reset_said.hop) == (Code.UPSTREAM_BROKEN, Hop.API_SERVER)
                assert "the way to it is cut" in talking.reset_said.reason
                assert not quiet.is_over  # TCP's keep-alive will find that one
                sweeping.cancel()

    alone(lambda: uvloop.run(talk()), 60)
