"""The hops where nothing comes back: each gives up by itself and says what does not answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kastunnel.doctor import road as roads
from kastunnel.doctor import tunnel
from kastunnel.doctor.certificates import trusting
from kastunnel.doctor.findings import State
from kastunnel.doctor.road import Road, Words, utc_now
from kastunnel.toolkit.proxies import Proxy
from tests.fakes.certificates import Authority
from tests.fakes.connect_proxy import ConnectProxy
from tests.support.raw_server import serving

WORDS = Words("--kas-address", "--ca-cert-file", "kas")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roads, "HOP_S", 0.2)
    monkeypatch.setattr(tunnel, "ANSWER_S", 0.5)
    monkeypatch.setattr(tunnel, "BEGIN_S", 0.2)


def road(port: int, *, host: str = "127.0.0.1", proxy: Proxy | None = None, ca: bytes | None = None) -> Road:
    return Road("kas", host, port, WORDS, trust=lambda: trusting(ca, "h2"), now=utc_now, proxy=proxy)


@asynccontextmanager
async def deaf() -> AsyncIterator[int]:
    """A listener whose queue is full: nobody accepts, and no connection is made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


@asynccontextmanager
async def accepting(*, cuts: bool = False) -> AsyncIterator[int]:
    """Takes connections and says nothing, or cuts them at the first byte."""

    async def connected(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(1) and not cuts:
            pass

    async with serving(connected) as port:
        yield port


async def test_a_host_that_drops_connections_is_told_at_tcp() -> None:
    async with deaf() as port:
        found = await road(port).tcp()
    assert found.state is State.BROKEN
    assert "no answer from 127.0.0.1" in found.said
    assert "firewall" in found.remedy


async def test_a_listener_that_says_nothing_or_cuts_is_told_at_tls() -> None:
    async with accepting() as port:
        silent = await road(port).tls()
    async with accepting(cuts=True) as port:
        cut = await road(port).tls()
    assert (silent.state, "no answer to TLS" in silent.said) == (State.BROKEN, True)
    assert (cut.state, "cut during the handshake" in cut.said) == (State.BROKEN, True)


async def test_a_proxy_that_is_slow_or_cuts_is_told_at_connect() -> None:
    async with ConnectProxy() as proxy:
        proxy.delay_s = 5
        way = road(8150, host="kas.test", proxy=Proxy("127.0.0.1", proxy.port))
        slow = await way.connect()
    async with accepting(cuts=True) as port:
        cut = await road(8150, host="kas.test", proxy=Proxy("127.0.0.1", port)).connect()
    assert (slow.state, "does not answer CONNECT kas.test:8150" in slow.said) == (State.BROKEN, True)
    assert cut.state is State.BROKEN


async def test_a_tunnel_that_the_proxy_cuts_is_told_at_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("kas.test"))

    async def served(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(served, context) as port, ConnectProxy({"kas.test": ("127.0.0.1", port)}) as proxy:
        way = road(8150, host="kas.test", proxy=Proxy("127.0.0.1", proxy.port), ca=authority.pem)
        assert (await way.tls()).state is State.OK
        proxy.cut_after = 100
        found = await way.tls()
    assert found.state is State.BROKEN


async def test_a_stream_that_is_never_answered_is_given_up() -> None:
    async with accepting() as port:
        told = await tunnel.ask(f"127.0.0.1:{port}", tls=False, ca=None, token="x")
    assert told == tunnel.Told(None)
    assert "buffering" in tunnel.reachability(told).remedy


async def test_an_ipv6_target_stands_in_brackets() -> None:
    async with ConnectProxy() as proxy:
        await road(8150, host="fd00::1", proxy=Proxy("127.0.0.1", proxy.port)).connect()
        assert proxy.asked == ["[fd00::1]:8150"]
