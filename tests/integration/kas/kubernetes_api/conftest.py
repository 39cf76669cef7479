"""A kubectl door on a real socket, between a fake gate and fake links."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from kas.kubernetes_api.door import KubernetesApiDoor
from kas.kubernetes_api.settings import DoorSettings
from tests.fakes.certificates import Authority
from tests.fakes.kubernetes_door import FakeGate, FakeUpstream, RawClient

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The hook that pytest-asyncio recommends instead is global, and at odds with looptime's plugin.
    quiet = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(quiet)


@pytest.fixture
def event_loop_policy() -> uvloop.EventLoopPolicy:
    """The loop that the product runs on."""
    return uvloop.EventLoopPolicy()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory: Path = tmp_path_factory.mktemp("tls")
    return Authority(directory)


@pytest.fixture(scope="session")
def server_tls(authority: Authority) -> ssl.SSLContext:
    return authority.server_context()


@pytest.fixture(scope="session")
def client_tls(authority: Authority) -> ssl.SSLContext:
    return authority.client_context()


class Stage:
    """A door with its fakes; ``client`` connects to it."""

    def __init__(
        self, gate: FakeGate, upstream: FakeUpstream, door: KubernetesApiDoor, tls: ssl.SSLContext | None
    ) -> None:
        self.gate = gate
        self.upstream = upstream
        self.door = door
        self.port = 0
        self._tls = tls

    def client(self) -> RawClient:
        return RawClient(self.port, self._tls)

    async def deserted(self) -> None:
        """Wait until no connection and no request is open."""
        async with asyncio.timeout(5):
            while self.door.open_connections or self.door.open_requests:
                await asyncio.sleep(0.005)

    def change(self, **values: Any) -> None:
        """Other settings from now on."""
        now = {name: getattr(self.door.settings, name) for name in DoorSettings.__slots__}
        self.door.settings = DoorSettings(**{**now, **values})


async def _stage(server: ssl.SSLContext | None, client: ssl.SSLContext | None) -> AsyncIterator[Stage]:
    gate, upstream = FakeGate(), FakeUpstream()
    async with KubernetesApiDoor(gate, upstream, DoorSettings(sweep_s=0.01, linger_s=0.1)) as door:
        stage = Stage(gate, upstream, door, client)
        [(_, stage.port)] = await door.start("127.0.0.1", 0, server)
        yield stage
    assert len(door.tasks) == 0
    assert door.open_connections == 0


@pytest.fixture(params=["plain", "tls"])
async def stage(
    request: pytest.FixtureRequest, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> AsyncIterator[Stage]:
    """Every test with it runs over TCP and over TLS."""
    is_tls = request.param == "tls"
    async for each in _stage(server_tls if is_tls else None, client_tls if is_tls else None):
        yield each


@pytest.fixture
async def plain(server_tls: ssl.SSLContext) -> AsyncIterator[Stage]:
    """Over TCP alone, where TLS would show nothing more."""
    async for each in _stage(None, None):
        yield each
