"""port-forward over SPDY, straight and tunnelled through a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSMsgType

from kas.demo.practice_cluster import PracticeCluster, spdy
from kas.demo.practice_cluster.portforward import PROTOCOL, TUNNEL_PROTOCOL
from tests.support.raw_server import serving

from .conftest import LIMIT_S, Client
from .spdy_client import SpdyClient

PATH = "/api/v1/namespaces/default/pods/a/portforward"


@pytest.fixture
async def echo_port(client: Client) -> AsyncIterator[int]:
    """A port where everything comes back; half-closed, the rest comes and then the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    await client.run_pod("a", "sleep", "1000")
    async with serving(serve) as port:
        yield port


def opened(client: SpdyClient, port: int, number: int) -> tuple[int, int]:
    """The error and data streams of a connection."""
    common = {"port": str(port), "requestid": str(number)}
    return client.open(streamtype="error", **common), client.open(streamtype="data", **common)


async def test_connections_side_by_side_with_half_close(cluster: PracticeCluster, echo_port: int):
    async with SpdyClient(cluster, PATH, (PROTOCOL,)) as client:
        pairs = [opened(client, echo_port, number) for number in range(3)]
        for number, (error, data) in enumerate(pairs):
            client.send(error, b"", fin=True)
            client.send(data, b"%d" % number * 100_000, fin=True)
        await client.until(*(stream for pair in pairs for stream in pair))
        assert [client.received[data] for _, data in pairs] == [b"%d" % number * 100_000 for number in range(3)]
        assert all(client.received[error] == b"" for error, _ in pairs)


async def test_nobody_listens(cluster: PracticeCluster, echo_port: int):
    assert echo_port
    async with SpdyClient(cluster, PATH, (PROTOCOL,)) as client:
        error, data = opened(client, 1, 0)
        await client.until(error, data)
        assert client.received[error].startswith(b"error forwarding port 1 ")
        assert data in client.reset


async def test_a_tunnel_through_a_websocket(client: Client, echo_port: int):
    codec, received = spdy.Spdy(client=True), b""
    error = codec.open({"streamtype": "error", "port": str(echo_port), "requestid": "0"})
    data = codec.open({"streamtype": "data", "port": str(echo_port), "requestid": "0"})
    codec.data(data, b"x" * 100_000, fin=True)
    wire = codec.taken()
    headers = {"Authorization": f"Bearer {client.cluster.token}"}
    url = client.cluster.url + PATH
    async with (
        asyncio.timeout(LIMIT_S),
        client.session.ws_connect(url, protocols=(TUNNEL_PROTOCOL,), headers=headers) as socket,
    ):
        assert socket.protocol == TUNNEL_PROTOCOL
        for start in range(0, len(wire), 1000):  # message boundaries mean nothing
            await socket.send_bytes(wire[start : start + 1000])
        ended: set[int] = set()
        while ended != {error, data}:
            message = await socket.receive()
            assert message.type is WSMsgType.BINARY
            for event in codec.feed(message.data):
                if isinstance(event, spdy.DataReceived):
                    received += event.data
                    ended |= {event.stream} if event.fin else set()
    assert received == b"x" * 100_000


async def test_what_is_no_upgrade_is_refused(client: Client, cluster: PracticeCluster, echo_port: int):
    assert echo_port
    assert (await client.send("POST", PATH)).status == 400
    async with SpdyClient(cluster, PATH, ("v9",)) as spdy_client:
        assert spdy_client.status == 400


async def test_nonsense_ends_the_connection_and_not_the_cluster(
    cluster: PracticeCluster, client: Client, echo_port: int
):
    assert echo_port
    async with SpdyClient(cluster, PATH, (PROTOCOL,)) as spdy_client:
        spdy_client._writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await spdy_client.until(1)
    assert (await client.send("GET", "/version")).status == 200
