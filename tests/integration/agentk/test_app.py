"""The whole program as a process: between a stand-in for kas and one for the API server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml

from tests.fakes.api_server import OK, Call, FakeApiServer, well
from tests.fakes.kas import FakeKas
from tests.support.ports import free_ports

pytestmark = pytest.mark.slow

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def kubeconfig(path: Path, port: int) -> Path:
    content = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "of-the-agent"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


@asynccontextmanager
async def agentk(*arguments: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTK_", "KUBE"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentk", *arguments, env=clean | environ, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # its pipes, which may not have ended yet


async def ready(port: int) -> int:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"http://127.0.0.1:{port}/readiness") as answer:
                return answer.status
        except aiohttp.ClientConnectionError:
            return 0


async def version(call: Call) -> None:
    if call.target == b"/version":
        body = b'{"gitVersion": "v1.33.1"}'
        await call.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    else:
        await well(call)


async def test_it_links_carries_and_says_bye_when_it_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("kasagent-secret\n")
    (port,) = free_ports(1)
    async with FakeApiServer(version) as server, FakeKas() as kas:
        arguments = [
            f"--kas-address=grpc://127.0.0.1:{kas.port}",
            f"--token-file={tmp_path / 'token'}",
            f"--kubeconfig={kubeconfig(tmp_path / 'config', server.port)}",
            f"--observability-listen=127.0.0.1:{port}",
            "--instance=kas/agentk-0",
        ]
        async with agentk(*arguments) as process, asyncio.timeout(30):
            await kas.linked.wait()
            assert kas.tokens == ["kasagent-secret"]
            assert kas.hellos[0].instance == "kas/agentk-0"
            asked = kas.get(b"/api/v1/pods")
            await asked.until("is_over")
            assert (asked.status, asked.body) == (200, b"{}")
            assert server.calls[-1].header(b"Authorization") == [b"Bearer of-the-agent"]
            while await ready(port) != 200:
                await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
            assert process.returncode == 0
            await kas.said_bye.wait()
        assert kas.byes == ["agentk is stopping"]
        assert b"secret" not in errors
        assert b"Traceback" not in errors


@pytest.mark.covers("T-03")
async def test_open_requests_may_end_before_it_stops_and_the_others_are_reset(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def answer(call: Call) -> None:
        if call.target == b"/slow":
            await finish.wait()
            await call.say(OK)
        elif call.target == b"/watch":
            await call.say(CHUNKED + b"1\r\na\r\n")
            await call.hear()
        else:
            await version(call)

    async with FakeApiServer(answer) as server, FakeKas() as kas:
        config = kubeconfig(tmp_path / "config", server.port)
        environ = {
            "AGENTK_KAS_ADDRESS": f"grpc://127.0.0.1:{kas.port}",
            "AGENTK_TOKEN": "kasagent-secret",
            "AGENTK_KUBECONFIG": str(config),
            "AGENTK_OBSERVABILITY_LISTEN": "off",
            "AGENTK_DRAIN_TIMEOUT": "1",
        }
        async with agentk(**environ) as process, asyncio.timeout(30):
            await kas.linked.wait()
            slow, watch = kas.get(b"/slow"), kas.get(b"/watch")
            await watch.until("body")
            process.send_signal(signal.SIGTERM)
            finish.set()
            await slow.until("is_over")
            assert slow.status == 200
            await watch.until("is_over")
            assert watch.reset is not None
            assert watch.body == b"a"
            await process.communicate()
            assert process.returncode == 0


@pytest.mark.covers("X-02")
async def test_a_request_in_the_envelope_of_the_welcome_is_answered(tmp_path: Path) -> None:
    async with FakeApiServer(version) as server, FakeKas(eager=True) as kas:
        config = kubeconfig(tmp_path / "config", server.port)
        async with agentk(
            f"--kas-address=grpc://127.0.0.1:{kas.port}",
            f"--kubeconfig={config}",
            "--observability-listen=off",
            AGENTK_TOKEN="kasagent-secret",
        ):
            await kas.linked.wait()
            asked = kas.get(b"/api/v1/pods")
            await asked.until("is_over", timeout_s=2)
            assert asked.status == 200


@pytest.mark.covers("C-05")
async def test_a_kubeconfig_that_cannot_be_used_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("current-context: nowhere\ncontexts: []\nclusters: []\n")
    async with agentk(
        "--kas-address=grpc://127.0.0.1:1", f"--kubeconfig={tmp_path / 'config'}", AGENTK_TOKEN="kasagent-x"
    ) as process:
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.startswith(b"agentk: kubeconfig ")
    assert errors.count(b"\n") == 1


async def test_an_observability_address_that_is_taken_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    async with (
        FakeApiServer() as server,
        agentk(
            "--kas-address=grpc://127.0.0.1:1",
            f"--kubeconfig={kubeconfig(tmp_path / 'config', server.port)}",
            f"--observability-listen=127.0.0.1:{server.port}",
            AGENTK_TOKEN="kasagent-x",
        ) as process,
    ):
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"choose a free address, or off" in errors
    assert b"Traceback" not in errors
