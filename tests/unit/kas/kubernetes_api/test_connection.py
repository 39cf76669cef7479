"""A connection on a transport that behaves as badly as uvloop's may."""

from __future__ import annotations

import asyncio
from typing import Any

from kas.kubernetes_api.connection import Connection
from kas.kubernetes_api.door import KubernetesApiDoor
from kas.kubernetes_api.settings import DoorSettings
from kastunnel.link.frames import Code
from tests.fakes.kubernetes_door import FakeGate, FakeUpstream, get


class ClosedTransport(asyncio.Transport):
    """Works until ``is_gone``; then everything but asking raises, as on uvloop before connection_lost."""

    def __init__(self) -> None:
        super().__init__()
        self.is_gone = False
        self.written = b""

    def is_closing(self) -> bool:
        return self.is_gone

    def write(self, data: Any) -> None:
        assert not self.is_gone
        self.written += bytes(data)

    def pause_reading(self) -> None:
        assert not self.is_gone

    def resume_reading(self) -> None:
        assert not self.is_gone

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass


async def test_what_comes_between_a_broken_connection_and_its_report_raises_nothing() -> None:
    gate, upstream = FakeGate(), FakeUpstream()
    upstream.script = None
    upstream.window = 10
    async with KubernetesApiDoor(gate, upstream, DoorSettings()) as door:
        connection, transport = Connection(door, "peer"), ClosedTransport()
        connection.connection_made(transport)
        connection.data_received(get(fields=b"Content-Length: 100\r\n", method=b"POST"))
        asked = await upstream.request()
        transport.is_gone = True
        connection.data_received(b"x" * 50)
        asked.answer(200, b"a", end=False)
        asked.handler.on_data(b"b")
        asked.give_room(1000)
        connection.connection_lost(ConnectionResetError())
        assert asked.reset_said is not None
        assert asked.reset_said.code == Code.CANCELLED
        assert transport.written == b""
