"""exec and attach over both transports, byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from kas.demo.practice_cluster import PracticeCluster

from .conftest import LIMIT_S, Client, eventually
from .spdy_client import SpdyClient
from .test_pods import is_alive

POD = "/api/v1/namespaces/default/pods/a"
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"


def exec_path(*command: str, **flags: str) -> str:
    flags = {"stdout": "true", "stderr": "true", **flags}
    return f"{POD}/exec?" + urlencode([*(("command", part) for part in command), *flags.items()])


@pytest.fixture(autouse=True)
async def pod(client: Client) -> None:
    await client.run_pod("a", "sh", "-c", "while read line; do echo got $line; done; exit 4", container={"stdin": True})


@asynccontextmanager
async def websocket(client: Client, path: str, *protocols: str) -> AsyncIterator[ClientWebSocketResponse]:
    headers = {"Authorization": f"Bearer {client.cluster.token}"}
    url = client.cluster.url + path
    async with asyncio.timeout(LIMIT_S), client.session.ws_connect(url, protocols=protocols, headers=headers) as socket:
        yield socket


async def everything(socket: ClientWebSocketResponse) -> dict[int, bytes]:
    """What comes on each channel until the server closes."""
    channels: dict[int, bytes] = {}
    async for message in socket:
        assert message.type is WSMsgType.BINARY
        channels[message.data[0]] = channels.get(message.data[0], b"") + message.data[1:]
    return channels


@pytest.mark.parametrize("code", [0, 3])
async def test_a_websocket_carries_output_and_the_exit_code(client: Client, code: int):
    path = exec_path("sh", "-c", f"echo out; echo err >&2; exit {code}")
    async with websocket(client, path, V5, V4) as socket:
        assert socket.protocol == V5
        channels = await everything(socket)
        assert socket.close_code == 1000
    assert (channels[1], channels[2]) == (b"out\n", b"err\n")
    status = json.loads(channels[3])
    assert status["status"] == ("Failure" if code else "Success")
    if code:
        assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_a_websocket_of_v5_ends_stdin_in_band(client: Client):
    async with websocket(client, exec_path("cat", stdin="true"), V5) as socket:
        await socket.send_bytes(b"\x00hello ")
        await socket.send_bytes(b"\x00world")
        await socket.send_bytes(b"\xff\x00")
        assert (await everything(socket))[1] == b"hello world"


async def test_protocols_in_one_header_are_understood(client: Client):
    async with websocket(client, exec_path("echo", "hi"), f"{V5},{V4}") as socket:
        assert (await everything(socket))[1] == b"hi\n"


async def test_spdy_carries_output_and_the_exit_code(cluster: PracticeCluster):
    path = exec_path("sh", "-c", "echo out; echo err >&2; exit 3")
    async with SpdyClient(cluster, path, (V5, V4, "channel.k8s.io")) as client:
        assert client.status == 101
        assert b"x-stream-protocol-version: v4.channel.k8s.io" in client.head.lower()
        error, stdout, stderr = (client.open(streamtype=name) for name in ("error", "stdout", "stderr"))
        await client.until(error, stdout, stderr)
        assert (client.received[stdout], client.received[stderr]) == (b"out\n", b"err\n")
        assert client.told(error)["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_spdy_ends_stdin_with_fin(cluster: PracticeCluster):
    sent = bytes(range(256)) * 1000
    async with SpdyClient(cluster, exec_path("cat", stdin="true", stderr="false"), (V4,)) as client:
        error, stdin, stdout = (client.open(streamtype=name) for name in ("error", "stdin", "stdout"))
        client.send(stdin, sent, fin=True)
        await client.until(error, stdout)
        assert client.received[stdout] == sent
        assert client.told(error)["status"] == "Success"


async def test_a_terminal_is_resized_and_has_no_stderr(cluster: PracticeCluster):
    path = exec_path("sh", "-c", "read line; stty size", stdin="true", stderr="false", tty="true")
    async with SpdyClient(cluster, path, (V4,)) as client:
        names = ("error", "stdin", "stdout", "resize")
        error, stdin, stdout, resize = (client.open(streamtype=name) for name in names)
        client.send(resize, b'{"Width":91,"Height":17}\n')
        client.send(stdin, b"go\n")
        await client.until(error, stdout)
        assert b"17 91" in client.received[stdout]


async def test_a_program_that_is_not_there_is_told_as_a_failure(cluster: PracticeCluster):
    async with SpdyClient(cluster, exec_path("no-such-program"), (V4,)) as client:
        streams = [client.open(streamtype=name) for name in ("error", "stdout", "stderr")]
        await client.until(*streams)
        assert "no-such-program" in client.told(streams[0])["message"]


async def test_the_process_dies_with_the_connection(cluster: PracticeCluster):
    async with SpdyClient(cluster, exec_path("sh", "-c", "echo $$; sleep 1000"), (V4,)) as client:
        _, stdout, _ = (client.open(streamtype=name) for name in ("error", "stdout", "stderr"))
        await client.until_received(stdout, b"\n")
        pid = int(client.received[stdout])
        assert is_alive(pid)
    await eventually(lambda: not is_alive(pid))


async def test_what_is_no_upgrade_is_refused_with_a_status(client: Client, cluster: PracticeCluster):
    plain = await client.send("POST", exec_path("true"))
    assert (plain.status, plain.json()["message"]) == (400, "Upgrade request required")
    async with SpdyClient(cluster, exec_path("true"), ("v9.channel.k8s.io",)) as spdy_client:
        assert spdy_client.status == 400
    async with SpdyClient(cluster, exec_path(), (V4,)) as spdy_client:
        assert spdy_client.status == 400
    async with SpdyClient(cluster, exec_path("true", stdout="false", stderr="false"), (V4,)) as spdy_client:
        assert spdy_client.status == 400


async def test_a_pod_that_is_over_takes_no_exec(client: Client):
    await client.run_pod("over", "true", restartPolicy="Never")
    path = exec_path("true").replace("/pods/a/", "/pods/over/")
    assert (await client.send("POST", path)).status == 400


async def test_attach_joins_the_containers_own_process(client: Client, cluster: PracticeCluster):
    path = f"{POD}/attach?stdin=true&stdout=true&stderr=true"
    async with websocket(client, path, V5) as first, SpdyClient(cluster, path, (V4,)) as second:
        names = ("error", "stdin", "stdout", "stderr")
        _, stdin, stdout, _ = (second.open(streamtype=name) for name in names)
        second.send(stdin, b"hello\n")
        await second.until_received(stdout, b"got hello\n")
        received = b""
        while b"got hello\n" not in received:
            message: Any = await first.receive()
            received += message.data[1:]


async def test_attach_ends_when_the_process_does(client: Client):
    container = {"stdin": True, "stdinOnce": True}
    await client.run_pod("once", "sh", "-c", "cat; exit 5", container=container, restartPolicy="Never")
    path = "/api/v1/namespaces/default/pods/once/attach?stdin=true&stdout=true&stderr=true"
    async with websocket(client, path, V5) as socket:
        await socket.send_bytes(b"\x00last words")
        await socket.send_bytes(b"\xff\x00")
        channels = await everything(socket)
    assert channels[1] == b"last words"
    assert json.loads(channels[3])["details"]["causes"][0]["message"] == "5"
