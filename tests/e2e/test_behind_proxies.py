"""kas behind nginx, HAProxy and Apache, set up as docs/operating.md says: everything works, and nothing is read in two ways."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import json
import random
import re
import socket
import ssl
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.apache import apache
from tests.support.haproxy import haproxy
from tests.support.kubectls import Kubectl, kubectl_program
from tests.support.nginx import Front, nginx
from tests.support.product import Agent, Product
from tests.unit.kastunnel.http.test_request_mutations import lines

HELLO = Path(__file__).parents[2] / "examples" / "hello"
GOOD = json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}})


PROXIES = {"nginx": nginx, "haproxy": haproxy, "apache": apache}


def behind(name: str, product: Product, folder: Path) -> AbstractContextManager[Front]:
    """The proxy that the block ``name`` of the document is for, with that block."""
    return PROXIES[name.partition("-")[0]](name, product, folder)


@pytest.fixture(
    scope="module",
    params=[
        "nginx-reencrypted",
        "nginx-passthrough",
        "haproxy-reencrypted",
        "haproxy-passthrough",
        "apache-reencrypted",
    ],
)
def front(
    request: pytest.FixtureRequest, product: Product, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """The proxy with the block of that name."""
    with behind(request.param, product, tmp_path_factory.mktemp("front") / "proxy") as running:
        yield running


@pytest.fixture(scope="module")
def linked(front: Front, product: Product, cluster: Path) -> Agent:
    """An agent that dialled kas through the proxy."""
    made = product.register(f"through-{urlsplit(front.agents).port}", CONFIG_PROJECT)
    product.configure(made, GOOD)
    product.start_agentk(made, cluster, kas_address=front.agents)
    return made


@pytest.fixture(params=["1.27", "1.33"])
def kubectl(request: pytest.FixtureRequest, front: Front, product: Product, linked: Agent, tmp_path: Path) -> Kubectl:
    """kubectl that reaches kas through the proxy."""
    kubeconfig = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), linked)
    kubeconfig.write_text(kubeconfig.read_text().replace(product.kubernetes_url, front.kubernetes))
    return Kubectl(kubectl_program(request.param), kubeconfig, tmp_path)


@pytest.mark.covers("T-23", "U-01")
def test_a_job_works_through_a_proxy(kubectl: Kubectl) -> None:
    namespace = f"proxied-{random.randrange(1 << 30)}"
    kubectl.run("create", "namespace", namespace)
    there = ("--namespace", namespace)
    kubectl.run(*there, "apply", "-k", str(HELLO))
    kubectl.run(*there, "rollout", "status", "deployment/hello", "--timeout=30s")
    pod = kubectl.run(*there, "get", "pods", "-o", "jsonpath={.items[0].metadata.name}")
    with kubectl.running(*there, "logs", "--follow", pod) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline().startswith(b"Hello")
    content = random.Random(3).randbytes(1_000_000)
    said = kubectl.run(*there, "exec", "-i", pod, "--", "sha256sum", input=content)
    assert said.split()[0] == hashlib.sha256(content).hexdigest()
    assert kubectl.result(*there, "exec", pod, "--", "sh", "-c", "exit 7").returncode == 7
    with kubectl.running(*there, "get", "configmaps", "--watch", "--no-headers") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline()
        kubectl.run(*there, "create", "configmap", "seen-at-once")
        assert any(b"seen-at-once" in watch.stdout.readline() for _ in range(3))
    with kubectl.running(*there, "port-forward", pod, ":8080") as forward:
        assert forward.stdout is not None
        match = re.search(rb"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert match is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{int(match[1])}/", timeout=10) as page:
            assert b"Hello" in page.read()
    kubectl.run("delete", "namespace", namespace, "--wait=false")


class _Counting(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[str]

    def _answer(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        length = self.headers.get("Content-Length")
        if length is not None:
            self.rfile.read(int(length))
        elif self.headers.get("Transfer-Encoding"):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


@contextmanager
def counting_api_server(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """An API server that says yes; its kubeconfig, and every request that it saw."""
    seen: list[str] = []
    handler = type("Handler", (_Counting,), {"seen": seen})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    document = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "of-the-agent"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    kubeconfig = folder / "counting.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(document))
    try:
        yield kubeconfig, seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.covers("S-03")
@pytest.mark.parametrize("name", ["nginx-reencrypted", "haproxy-reencrypted", "apache-reencrypted"])
def test_no_mutation_of_the_framing_becomes_two_requests_behind_a_proxy(
    name: str, product: Product, tmp_path: Path
) -> None:
    agent = product.register(f"counted-by-{name.partition('-')[0]}", CONFIG_PROJECT)
    product.configure(agent, GOOD)
    token = product.job_token(JOBS_PROJECT).read_text()
    trust = ssl.create_default_context(cafile=str(product.ca_file))
    mutations = list(itertools.product(lines(), (True, False)))
    with (
        counting_api_server(tmp_path) as (kubeconfig, seen),
        behind(name, product, tmp_path / "proxy") as front,
    ):
        product.start_agentk(agent, kubeconfig)
        port = urlsplit(front.kubernetes).port or 0
        common = f"Host: localhost\r\nAuthorization: Bearer ci:{agent.id}:{token}\r\n".encode()
        for number, (line, is_first) in enumerate(mutations):
            inner = f"GET /agents/{agent.id}/api/inner-{number}. HTTP/1.1\r\n".encode() + common + b"\r\n"
            outer = f"POST /agents/{agent.id}/api/outer-{number}. HTTP/1.1\r\n".encode() + common
            length = b"Content-Length: %d" % (5 + len(inner))
            pair = (line, length) if is_first else (length, line)
            _send(trust, port, outer + b"\r\n".join(pair) + b"\r\n\r\n0\r\n\r\n" + inner)
        asked = [line for line in front.requests() if line.rsplit(" ", 1)[1] != "-"]
    reached = Counter(re.findall(r"(?:inner|outer)-\d+", " ".join(seen)))
    assert sum(reached.values()) > 20, "hardly anything got through: the test would prove nothing"
    assert max(reached.values()) == 1
    # An inner request at the API server is one that the proxy itself read as a request, never one that only kas saw.
    assert any("outer" in line for line in asked), "the proxy's log is not what this test takes it for"
    by_proxy = set(re.findall(r"inner-\d+", " ".join(asked)))
    assert {request for request in reached if request.startswith("inner")} <= by_proxy
    assert {mutations[int(request.partition("-")[2])][0] for request in by_proxy} == READ_AS_TWO[name]


# What the proxy itself reads as two requests although a length covers both: reviewed, and so it may change only knowingly.
READ_AS_TWO: dict[str, set[bytes]] = {
    "nginx-reencrypted": set(),
    "haproxy-reencrypted": set(),
    "apache-reencrypted": set(),
}


def _send(trust: ssl.SSLContext, port: int, message: bytes) -> None:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(message)
        tls.settimeout(0.15)  # for what a second request would answer; an answer to the first one comes much sooner
        try:
            while tls.recv(65536):
                pass
        except (TimeoutError, OSError):
            pass
