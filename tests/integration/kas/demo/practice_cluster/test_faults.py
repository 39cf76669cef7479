"""Each fault knob does what it says, as often as it says."""

from __future__ import annotations

import asyncio
import json
import ssl

import aiohttp
import pytest

from kas.demo.practice_cluster import PracticeCluster

from .conftest import LIMIT_S, Client


async def raw_answer(cluster: PracticeCluster, path: str = "/version") -> bytes:
    """Every byte of an answer, until the connection ends or nothing more comes."""
    context = ssl.create_default_context(cafile=str(cluster.ca_file))
    port = int(cluster.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    received = b""
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {cluster.token}\r\n\r\n".encode())
        async with asyncio.timeout(0.5):
            while data := await reader.read(65536):
                received += data
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass
    return received


async def test_an_answer_instead_and_then_as_usual(client: Client, cluster: PracticeCluster):
    cluster.faults.answer(503, body="later", headers={"Retry-After": "1"}, path="/version", times=2)
    for _ in range(2):
        answer = await client.send("GET", "/version")
        assert (answer.status, answer.text(), answer.headers["Retry-After"]) == (503, "later", "1")
        assert (await client.send("GET", "/apis")).status == 200
    assert (await client.send("GET", "/version")).status == 200


async def test_a_redirect(client: Client, cluster: PracticeCluster):
    cluster.faults.redirect("https://elsewhere.example/", method="GET")
    answer = await client.send("GET", "/version")
    assert (answer.status, answer.headers["Location"]) == (302, "https://elsewhere.example/")


async def test_connections_are_refused_and_then_accepted(client: Client, cluster: PracticeCluster):
    cluster.faults.refuse_connections(1)
    with pytest.raises(aiohttp.ClientError):
        await client.send("POST", "/version")
    assert (await client.send("GET", "/version")).status == 200


async def test_a_body_that_is_cut(client: Client, cluster: PracticeCluster):
    whole = await raw_answer(cluster)
    cluster.faults.cut_body(10)
    received = await raw_answer(cluster)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % len(whole.partition(b"\r\n\r\n")[2]) in head.lower() + b"\r\n"
    assert len(body) == 10
    cluster.faults.cut_body(10)
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.send("GET", "/version")


async def test_a_stream_that_is_cut(client: Client, cluster: PracticeCluster):
    cluster.faults.cut_body(300, path="/api/v1/namespaces")
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.send("GET", "/api/v1/namespaces?watch=true")


async def test_no_answer(client: Client, cluster: PracticeCluster):
    cluster.faults.never_answer()
    with pytest.raises(TimeoutError):
        await client.send("GET", "/version", timeout=aiohttp.ClientTimeout(total=0.2))
    cluster.faults.delay(0.05)
    assert (await client.send("GET", "/version", timeout=aiohttp.ClientTimeout(total=LIMIT_S))).status == 200


async def test_answers_that_are_not_http(cluster: PracticeCluster):
    cluster.faults.malformed_head()
    assert b"no colon here" in await raw_answer(cluster)
    cluster.faults.close_delimited(b"{}")
    received = await raw_answer(cluster)
    assert received.endswith(b"\r\n\r\n{}")
    assert b"length" not in received.lower()
    cluster.faults.unsolicited_101()
    assert (await raw_answer(cluster)).startswith(b"HTTP/1.1 101 ")
    cluster.faults.raw(b"HTTP/1.1 200 OK\r\n", then="abort")
    await raw_answer(cluster)


async def test_knobs_can_be_unset(client: Client, cluster: PracticeCluster):
    cluster.faults.answer(500)
    cluster.faults.refuse_connections(5)
    cluster.faults.clear()
    assert json.loads((await raw_answer(cluster)).rpartition(b"\r\n\r\n")[2])
