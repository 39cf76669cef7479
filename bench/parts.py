"""Everything that a bench needs, started in order and ended in reverse: nginx twice, kas, agentk, and the roads between them."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.load import Target, asked
from bench.nginx import DOWNLOAD, POD, Nginx
from tests.fakes.certificates import Authority
from tests.support.ports import free_ports
from tests.support.product import Agent, Process, Product

PROJECT = "group/config"
# One token makes the load of a thousand jobs: its limits are out of the way, though they are counted.
MANY = {"requests_per_s": 1_000_000, "burst": 1_000_000}
MUCH = {"fair_use": {"token": MANY, "project": MANY, "max_in_flight": 100_000}}
JOB_PROJECT = "group/app"
BENCH, CUT, IDLE = "bench", "cut", "idle"  # agents
NEEDED = ("nginx", "wrk", "curl")
HERE = Path(__file__).parent
READY_S = 10
# As little as there can be to decide: an entry, and the job's own identity instead of the agent's.
ACCESS = f"ci_access:\n  projects:\n    - id: {JOB_PROJECT}\n      access_as: {{ci_job: {{}}}}\n"
CLAIMS = (
    "--project-id",
    "7",
    "--group-id",
    "3",
    "--pipeline-id",
    "11",
    "--job-id",
    "13",
    "--user",
    "dev",
    "--ttl",
    "8h",
)


@dataclass(frozen=True)
class Parts:
    """What runs. ``ours`` and ``reference`` carry the same requests to the same upstream."""

    ours: Target
    reference: Target
    product: Product
    kas: Process
    bulk_file: Path
    idle: Agent
    """An agent without an agentk."""
    _cut: Agent
    _token: str
    kubeconfig: Path
    """Of agentk."""

    @asynccontextmanager
    async def detour(self, kas_address: str) -> AsyncIterator[Target]:
        """Another agent, whose agentk dials ``kas_address``, where something in this event loop must carry it on."""
        loop = asyncio.get_running_loop()
        authorization = f"Bearer ci:{self._cut.id}:{self._token}"
        target = Target("kas (cut)", f"{self.product.kubernetes_url}/agents/{self._cut.id}", authorization, {})
        start = partial(self.product.start_agentk, self._cut, self.kubeconfig, kas_address=kas_address)
        process = await loop.run_in_executor(None, start)
        try:
            await loop.run_in_executor(None, _wait_until_answered, target)
            yield target
        finally:
            self.product.agentks.remove(process)
            await loop.run_in_executor(None, process.stop)


class MeasuredProduct(Product):
    """The product with its own defaults, where those for tests would cost or gain something; one program may be profiled."""

    profile: str = ""

    def _base_config(self) -> dict[str, Any]:
        return {**super()._base_config(), "logging": {}, "poll_interval_s": 5, **MUCH}

    def _start(self, name: str, command: list[Any], observability: str, more: Mapping[str, str]) -> Process:
        if self.profile and name.startswith(self.profile):
            command = [sys.executable, HERE / "profiled.py", self.folder / f"{name}.pstats", *command]
        return super()._start(name, command, observability, more)


def missing() -> str:
    """Why nothing can be measured on this machine; empty if it can."""
    absent = [program for program in NEEDED if shutil.which(program) is None]
    return (
        f"not installed: {', '.join(absent)} (on Debian and Ubuntu: apt-get install {' '.join(absent)})"
        if absent
        else ""
    )


@contextmanager
def started(profile: str = "") -> Iterator[Parts]:
    """All parts, on free ports, their files in a temporary folder. ``profile``: kas or agentk, to run under cProfile."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kas-bench-")))
        authority = Authority(folder)
        certificate = authority.issue("localhost")
        odd = stack.enter_context(_odd_upstream(folder))
        upstream = stack.enter_context(Nginx.api_server(folder, certificate, odd))
        proxy = stack.enter_context(Nginx.reverse_proxy(folder, certificate, upstream.port, authority.ca))
        product = MeasuredProduct(folder / "product")
        product.profile = profile
        product.commit(PROJECT, {f".gitlab/agents/{name}/config.yaml": ACCESS for name in (BENCH, CUT)})
        stack.enter_context(product)
        assert product.kas is not None
        agent, cut, idle = (product.register(name, PROJECT) for name in (BENCH, CUT, IDLE))
        kubeconfig = _kubeconfig(folder, upstream, authority.ca)
        agentk = product.start_agentk(agent, kubeconfig)
        token = product.job_token(JOB_PROJECT, *CLAIMS).read_text().strip()
        pids = {"kas": product.kas.pid, "agentk": agentk.pid}
        ours = Target("kas", f"{product.kubernetes_url}/agents/{agent.id}", f"Bearer ci:{agent.id}:{token}", pids)
        reference = Target("nginx", proxy.url, ours.authorization, {"nginx": proxy.worker_pid})
        _wait_until_answered(ours)
        yield Parts(
            ours, reference, product, product.kas, folder / "www" / DOWNLOAD.strip("/"), idle, cut, token, kubeconfig
        )


def _wait_until_answered(target: Target) -> None:
    """Until a request is admitted: kas reads the configuration of a new agent within seconds."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            asked(target, POD)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _kubeconfig(folder: Path, upstream: Nginx, ca: Path) -> Path:
    file = folder / "agentk.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: bench
clusters: [{{name: bench, cluster: {{server: "{upstream.url}", certificate-authority: "{ca}"}}}}]
users: [{{name: bench, user: {{token: service-account-token}}}}]
contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]
"""
    )
    return file


@contextmanager
def _odd_upstream(folder: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    with (folder / "odd.log").open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, HERE / "odd_upstream.py", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_for_port(port)
        yield port
    finally:
        popen.terminate()
        popen.wait(READY_S)


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
