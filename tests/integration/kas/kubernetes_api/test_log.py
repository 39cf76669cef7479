"""What is logged and counted about requests, and what never is."""

from __future__ import annotations

import json
import logging
from io import StringIO

import pytest

from kas.metrics import Outcome
from kastunnel.link.frames import Code, Head, Hop, Reset
from kastunnel.toolkit.logs import JsonFormatter
from tests.fakes.kubernetes_door import get
from tests.integration.kas.kubernetes_api.conftest import Stage

SECRET = b"Authorization: Bearer ci:1:s3cr3t\r\n"


@pytest.fixture
def lines() -> StringIO:
    """Every line of the door's log as an operator's collector gets it."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("kas.kubernetes_api")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream  # type: ignore[misc]
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def read(lines: StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


async def test_ordinary_reads_are_silent_and_everything_else_is_one_line(plain: Stage, lines: StringIO) -> None:
    async with plain.client() as client:
        client.say(get(b"/agents/1/api/v1/pods"))
        await client.response()
        assert lines.getvalue() == ""
        client.say(get(b"/agents/1/api/v1/namespaces/d/pods/p", method=b"DELETE"))
        answered = await client.response()
        plain.change(log_all_requests=True)
        client.say(get(b"/agents/1/api/v1/pods"))
        await client.response()
    deleted, listed = read(lines)
    assert deleted["message"] == "request answered"
    assert deleted["level"] == "info"
    expected = {
        "request_id": answered[b"X-Request-Id"].decode(), "agent_id": 1, "agent": "group/agents:prod", "project": "group/project",
        "caller": "group/project job 7", "rule": "ci_access.projects[0]", "method": "DELETE", "path": "/api/v1/namespaces/d/pods/p",
        "verb": "delete", "resource": "pods", "namespace": "d", "status": 200, "bytes_out": 5,
    }  # fmt: skip
    assert expected.items() <= deleted.items()
    assert listed["verb"] == "list"


async def test_refusals_failures_and_upgrades_say_why(plain: Stage, lines: StringIO) -> None:
    reset = Reset(Code.UPSTREAM_DIAL, "connection refused", Hop.API_SERVER)
    plain.upstream.script = lambda asked: asked.handler.on_reset(reset)
    async with plain.client() as client:
        client.say(get(b"/agents/1/api"))
        await client.response()
        client.say(get(b"/agents/1/api", bearer=b""))
        await client.response()
        client.say(b"GET / HTTP/9.9\r\n\r\n")
        await client.response()
    failed, refused, bad = read(lines)
    assert (failed["message"], failed["code"], failed["reason"]) == (
        "request failed",
        "UPSTREAM_DIAL",
        "connection refused",
    )
    assert failed["hop"] == "kas: agent 1: API server"
    assert (refused["message"], refused["status"]) == ("request refused", 401)
    assert (bad["message"], bad["status"]) == ("bad request", 505)


@pytest.mark.covers("A-14", "A-15", "S-20")
async def test_secrets_and_what_a_terminal_obeys_never_get_into_a_log(plain: Stage, lines: StringIO) -> None:
    plain.change(log_all_requests=True)
    plain.gate.grants[1, b"s3cr3t"] = plain.gate.grants[1, b"good"]
    hostile = (
        b"User-Agent: \xff\xc2\x9b31m" + b"A" * 9000 + b"\r\nKubectl-Command: x \xe2\x80\xae y\r\nCookie: s3cr3t\r\n"
    )
    websocket = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.s3cr3t, v5.channel.k8s.io\r\n"
    )
    async with plain.client() as client:
        client.say(
            get(b"/agents/1/api/v1/x?token=s3cr3t&command=s3cr3t", hostile + b"Content-Length: 6\r\n", bearer=SECRET)
            + b"s3cr3t"
        )
        response = await client.response()
        assert response.status == 200
        client.say(get(b"/agents/1/api?access_token=s3cr3t", websocket, bearer=SECRET))
        response = await client.response()
        assert response.status == 400
        assert b"s3cr3t" not in response.body
    text = lines.getvalue()
    assert "s3cr3t" not in text
    assert text.isascii()
    assert len(read(lines)) == 2
    assert max(len(line) for line in text.splitlines()) < 2000
    assert "s3cr3t" not in repr(plain.door)


async def test_requests_are_counted_by_outcome_and_bytes_by_direction(plain: Stage) -> None:
    requests = plain.door.metrics.requests
    plain.upstream.script = lambda asked: asked.handler.on_head(Head(201, [], b"12345", True))
    async with plain.client() as client:
        client.say(get(b"/agents/1/api", b"Content-Length: 3\r\n", method=b"POST") + b"abc")
        await client.response()
        client.say(get(bearer=b""))
        await client.response()
        client.say(b"\r\n\r\n")
        await client.response()
    assert (requests.to_cluster.value, requests.from_cluster.value, requests.bad_requests.value) == (3, 5, 1)
    counted = {
        (sample.labels["outcome"], sample.labels["code"]): sample.value
        for family in plain.door.metrics.registry.collect()
        if family.name == "kas_requests"
        for sample in family.samples
        if sample.value and sample.name.endswith("_total")
    }
    assert counted == {(Outcome.ANSWERED, "2xx"): 1, (Outcome.REFUSED, "4xx"): 2}
