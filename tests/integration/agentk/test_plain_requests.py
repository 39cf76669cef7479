"""One request, one answer: as whom, with which head, on which connection."""

from __future__ import annotations

import asyncio

import pytest

from kastunnel.link.frames import Code, Hop, Impersonate
from tests.integration.agentk.conftest import World, over, plain


async def test_a_small_answer_is_said_in_one_frame(world: World) -> None:
    exchange = await over(world.get())
    assert (exchange.status, exchange.body, exchange.frames) == (200, b"{}", ["head+end"])
    assert exchange.header(b"Content-Length") == []
    assert exchange.body_length == 2


async def test_connections_are_used_again_one_request_at_a_time(world: World) -> None:
    for _ in range(5):
        await over(world.get())
    assert world.server.connections == 1
    await asyncio.gather(*[over(world.get()) for _ in range(3)])
    assert world.server.connections == 3


@pytest.mark.parametrize(
    ("query", "connections"),
    [
        (b"watch=true", 2),
        (b"allowWatchBookmarks=true&watch=1", 2),
        (b"follow=true&container=a", 2),
        (b"watch=False", 1),
        (b"fieldSelector=watch%3Dtrue", 1),
        (b"limit=500", 1),
    ],
)
async def test_a_connection_that_reads_little_ahead_is_not_used_again(
    world: World, query: bytes, connections: int
) -> None:
    await over(world.get(b"/api/v1/pods?" + query))
    await over(world.get())
    assert world.server.connections == connections


async def test_credential_and_identity_come_last_and_only_from_agentk(world: World) -> None:
    identity = Impersonate("job", ("a,b", "c"), "u1", (("agent.gitlab.com/id", ("7", "8")),))
    await over(world.get(identity=identity))
    head = world.server.heads[0]
    assert head.endswith(
        b"Accept: application/json\r\nAuthorization: Bearer of-the-agent\r\nImpersonate-User: job\r\n"
        b"Impersonate-Group: a,b\r\nImpersonate-Group: c\r\nImpersonate-Uid: u1\r\n"
        b"Impersonate-Extra-agent.gitlab.com%2fid: 7\r\nImpersonate-Extra-agent.gitlab.com%2fid: 8\r\n\r\n"
    )


@pytest.mark.covers("I-13", "I-14", "T-17", "T5", "T6", "T18")
async def test_identity_in_a_hostile_header_map_is_dropped(world: World) -> None:
    hostile = [
        (b"Impersonate-User", b"admin"),
        (b"impersonate_group", b"system:masters"),
        (b"IMPERSONATE-EXTRA-x", b"y"),
        (b"Authorization", b"Bearer stolen"),
        (b"X-Remote-User", b"admin"),
        (b"Cookie", b"a=b"),
        (b"Host", b"elsewhere"),
        (b"Connection", b"Authorization"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Content-Length", b"5"),
        (b"Expect", b"100-continue"),
        (b"Accept", b"text/plain"),
    ]
    await over(world.get(headers=hostile, identity=Impersonate("job")))
    call = world.server.calls[0]
    assert [name for name, _ in call.headers] == [b"Host", b"Accept", b"Authorization", b"Impersonate-User"]
    assert call.header(b"Impersonate-User") == [b"job"]
    assert call.header(b"Authorization") == [b"Bearer of-the-agent"]
    assert call.header(b"Host") == [f"127.0.0.1:{world.server.port}".encode()]


HOSTILE_OPENS = {
    "method in lower case": {"method": b"get"},
    "CONNECT": {"method": b"CONNECT"},
    "a method with a line end": {"method": b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET"},
    "absolute form": {"target": b"http://elsewhere/api"},
    "asterisk form": {"target": b"*"},
    "empty target": {"target": b""},
    "dots": {"target": b"/api/../etc"},
    "encoded dots": {"target": b"/api/%2e%2e/etc"},
    "doubly encoded dots": {"target": b"/api/%252e%252e/etc"},
    "line end in the target": {"target": b"/api HTTP/1.1\r\nX: y"},
    "line end in a value": {"headers": [(b"A", b"b\r\nImpersonate-User: admin")]},
    "line end in a name": {"headers": [(b"A: b\r\nImpersonate-User", b"admin")]},
    "colon in a name": {"headers": [(b"Authorization: x", b"y")]},
    "NUL in a value": {"headers": [(b"A", b"\0")]},
    "more body than stated": {"method": b"POST", "body": b"abc", "body_length": 2, "end": False},
    "less body than stated": {"method": b"POST", "body": b"a", "body_length": 2, "end": True},
    "no user": {"identity": Impersonate("")},
    "a line end in a user": {"identity": Impersonate("a\r\nImpersonate-Group: system:masters")},
    "a blank around a group": {"identity": Impersonate("a", (" system:masters",))},
    "not ASCII": {"identity": Impersonate("jörg")},
    "an extra without a key": {"identity": Impersonate("a", extra=(("", ("b",)),))},
    "an unknown identity": {"identity": None},
    "an unknown upgrade": {"upgrade": True, "headers": [(b"Upgrade", b"h2c")]},
    "an upgrade without a protocol": {"upgrade": True, "headers": []},
}


@pytest.mark.covers("T-17", "I-13", "I-08", "S-19", "T6", "T16")
@pytest.mark.parametrize("what", HOSTILE_OPENS.values(), ids=HOSTILE_OPENS.keys())
async def test_a_hostile_open_is_refused_and_nothing_is_sent(world: World, what: dict[str, object]) -> None:
    exchange = world.open(**{"method": b"GET", "target": b"/api", "end": True, "body_length": 0} | what)
    said = exchange.reset_said
    assert said is not None
    assert (said.hop, said.not_run) == (Hop.AGENTK, True)
    assert said.code in (Code.PROTOCOL, Code.UNSUPPORTED)
    await over(world.get())
    assert len(world.server.calls) == 1


async def test_the_path_of_the_kubeconfigs_server_is_put_before_the_target(world: World) -> None:
    world.credentials.access = plain(world.server.port, path="/k8s/clusters/c-1/")
    await over(world.get(b"/api/v1/pods?limit=500&a=%2F+b"))
    assert world.server.calls[0].target == b"/k8s/clusters/c-1/api/v1/pods?limit=500&a=%2F+b"
    for target in (b"api", b"@elsewhere/"):
        assert world.get(target).reset_said is not None
