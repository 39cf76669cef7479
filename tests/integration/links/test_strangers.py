"""Who has no token gets nothing from the agents' door, whatever method is called and however its path is spelt."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from kastunnel.link import codec, greeting
from kastunnel.link.frames import Code
from kastunnel.v1 import link_pb2
from tests.integration.links.conftest import AGENT, Kas

SERVICES = link_pb2.DESCRIPTOR.services_by_name
HELLO = codec.envelope(1, 0, [greeting.hello_frame(greeting.Hello("stranger", 1, 1, 1))])
METHODS = [f"/{service.full_name}/{method.name}" for service in SERVICES.values() for method in service.methods]
ODD = [
    *(
        spelt
        for path in METHODS
        for spelt in (
            path[1:],
            f"/{path}",
            path.replace("/", "//"),
            path.replace("L", "%4c"),
            path.lower(),
            f"{path}/",
            f"{path}?x",
        )
    ),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/Check",
    "/",
]


async def answered(
    kas: Kas, path: str, metadata: tuple[tuple[str, str | bytes], ...] = ()
) -> tuple[object, grpc.StatusCode]:
    """The only message, and the status behind it."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{kas.relay.port}") as channel:
        call = channel.stream_stream(path)(metadata=metadata)
        message: object = None
        async with asyncio.timeout(5):
            try:
                await call.write(HELLO)
                message = await call.read()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass
            return message, await call.code()


def test_there_are_methods() -> None:
    assert METHODS


@pytest.mark.covers("T10")
@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize(
    "metadata",
    [(), (("authorization", "Bearer "),), (("authorization", "Bearer nobody"),), (("authorization", "Basic Z29vZA=="),),
     (("x-forwarded-user", "good"), ("cookie", "good"))],
)  # fmt: skip
async def test_every_method_needs_a_token(kas: Kas, path: str, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
    message, _ = await answered(kas, path, metadata)
    assert isinstance(message, bytes)
    (frame,) = codec.read_envelope(message).frames
    assert frame.WhichOneof("kind") == "refusal"
    assert frame.refusal.code == Code.UNAUTHENTICATED
    assert kas.links.pick(AGENT) is None


@pytest.mark.covers("T11")
@pytest.mark.parametrize("path", ODD)
async def test_an_odd_path_leads_nowhere_also_with_a_token(kas: Kas, path: str) -> None:
    message, code = await answered(kas, path, (("authorization", "Bearer good"),))
    assert not isinstance(message, bytes)
    assert code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    assert kas.links.pick(AGENT) is None
