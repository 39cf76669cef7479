"""exec, cp and a restart on a real Kubernetes, directly and through kas in one run: ``python -m bench.sessions``.

Needs what tests/kubernetes needs, or KAS_KUBERNETES=FILE with the kubeconfig of a cluster's administrator. A ratio is the median
of pairs, in which now one side and now the other goes first, with the interval that holds the true median with a probability of
95 %; through kas means TLS on every leg, rules and the audit log on.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import floor, sqrt
from pathlib import Path
from statistics import median

from tests.kubernetes.testbed.build import kubernetes_programs
from tests.kubernetes.testbed.cluster import Cluster
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Agent, Product

MB = 1_000_000
BYTES = 40 * MB
PAIRS = 60  # of 15 the median of a cp was anything between 1.36 and 1.44
PAIRS_OF_EXECS = 15
RESTARTS = 5
IMAGE = "localhost/busybox:1"
NAMESPACE = f"sessions-{os.getpid()}"
KEYSTROKES = 200
EXECS = 15
OPTIONS = {"fair_use": {"token": {"requests_per_s": 100_000, "burst": 100_000}}}


@contextmanager
def _cluster() -> Iterator[Path]:
    if given := os.environ.get("KAS_KUBERNETES"):
        yield Path(given)
        return
    state = Path(tempfile.mkdtemp(prefix="kube-"))
    running = Cluster(state, kubernetes_programs())
    try:
        yield running.up(node=True)
    finally:
        running.down()
        shutil.rmtree(state, ignore_errors=True)


def _took(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _compare(act: Callable[[Kubectl], object], direct: Kubectl, kas: Kubectl, pairs: int) -> str:
    """Seconds directly, seconds through kas and the ratio with its interval, as cells of the table."""
    one: list[float] = []
    other: list[float] = []
    sides = [(direct, one), (kas, other)]
    for _ in range(1 + pairs):
        for kubectl, took in sides:
            took.append(_took(partial(act, kubectl)))
        sides.reverse()
    del one[0], other[0]  # they warmed up
    ratios = [b / a for a, b in zip(one, other, strict=True)]
    low, high = _interval(ratios)
    return f"{median(one):.2f} s | {median(other):.2f} s | {median(ratios):.2f} ({low:.2f} to {high:.2f})"


def _interval(values: list[float]) -> tuple[float, float]:
    """Where the median of what ``values`` are a sample of lies, with 95 %: by ranks, so without an assumption about its shape."""
    aside = (len(values) - 1.96 * sqrt(len(values))) / 2
    found = sorted(values)
    return found[floor(aside)], found[-1 - floor(aside)]


def _echoes(kubectl: Kubectl) -> float:
    """Milliseconds from a keystroke to its echo, by a shell that copies lines; the median."""
    with subprocess.Popen(
        [kubectl.program, "exec", "--stdin", "shell", "--", "cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=kubectl.environment_now(), bufsize=0,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        took = []
        for _ in range(KEYSTROKES):
            begun = time.perf_counter()
            process.stdin.write(b"x\n")
            assert process.stdout.read(2) == b"x\n"
            took.append((time.perf_counter() - begun) * 1000)
        process.stdin.close()
        return median(took[10:])


def _restart(product: Product, job: Kubectl, agent: Agent) -> float:
    """Seconds from the moment that the agents' door listens again, after a kill, until a request is answered."""
    assert product.kas is not None
    agent_port = int(product.kas_address.rpartition(":")[2])
    kubectl_port = int(product.kubernetes_url.rpartition(":")[2])
    token = json.loads(job.run("config", "view", "--raw", "--output=json"))["users"][0]["user"]["token"]
    product.kas.stop(signal.SIGKILL)
    product.start_kas(wait=False)
    while not _listens(agent_port):
        time.sleep(0.002)
    begun = time.perf_counter()
    trust = ssl.create_default_context(cafile=str(product.ca_file))
    while True:
        try:
            with trust.wrap_socket(
                socket.create_connection(("127.0.0.1", kubectl_port), 5), server_hostname="localhost"
            ) as tls:
                ask = f"GET /agents/{agent.id}/version HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
                tls.sendall(ask.encode())
                if tls.recv(20).startswith(b"HTTP/1.1 200"):
                    return time.perf_counter() - begun
        except OSError:
            pass
        time.sleep(0.005)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory(prefix="sessions-") as name, _cluster() as administrator:
        folder = Path(name)
        own = folder / "kubeconfig"
        shutil.copy(administrator, own)
        direct = Kubectl(any_kubectl(), own, folder / "direct")
        direct.run("create", "namespace", NAMESPACE)
        try:
            direct.run("config", "set-context", "--current", f"--namespace={NAMESPACE}")
            direct.run(
                "run", "shell", f"--image={IMAGE}", "--image-pull-policy=Never", "--command", "--", "sleep", "100000"
            )
            direct.run("wait", "--for=condition=Ready", "--timeout=60s", "pod/shell")
            _measure(folder, administrator, direct)
        finally:
            direct.run("delete", "namespace", NAMESPACE, "--wait=false")


def _measure(folder: Path, administrator: Path, direct: Kubectl) -> None:
    with Product(folder / "product", OPTIONS) as product:
        agent = product.register("sessions", "platform/clusters")
        config = {"ci_access": {"projects": [{"id": "shop/web", "default_namespace": NAMESPACE}]}}
        product.configure(agent, json.dumps(config))
        product.start_agentk(agent, administrator)
        kubeconfig = product.kubeconfig(product.job_token("shop/web", "--ttl", "4h"))
        kas = Kubectl(any_kubectl(), kubeconfig, folder / "kas")
        kas.run("config", "use-context", agent.context)
        file, back = folder / "file", folder / "back"
        file.write_bytes(os.urandom(BYTES))
        content = file.read_bytes()
        works: dict[str, tuple[int, Callable[[Kubectl], object]]] = {
            "exec -i of 40 MB": (
                PAIRS,
                lambda kubectl: kubectl.run("exec", "-i", "shell", "--", "md5sum", input=content),
            ),
            "cp of 40 MB into a pod": (PAIRS, lambda kubectl: kubectl.run("cp", str(file), "shell:/tmp/file")),
            "cp of 40 MB out of a pod": (PAIRS, lambda kubectl: kubectl.run("cp", "shell:/tmp/file", str(back))),
            f"{EXECS} execs, one after the other": (
                PAIRS_OF_EXECS,
                lambda kubectl: [kubectl.run("exec", "shell", "--", "true") for _ in range(EXECS)],
            ),
        }
        print("| on a real Kubernetes | directly | through kas | ratio |\n|---|---|---|---|")
        for what, (pairs, act) in works.items():
            print(f"| {what} | {_compare(act, direct, kas, pairs)} |", flush=True)
        one, other = _echoes(direct), _echoes(kas)
        print(f"| a keystroke's echo, p50 | {one:.2f} ms | {other:.2f} ms | + {other - one:.2f} ms |", flush=True)
        again = [_restart(product, kas, agent) for _ in range(RESTARTS)]
        said = ", ".join(f"{seconds:.2f}" for seconds in again)
        print(f"| served again after kill -9 and restart, each time | | {said} s | |")


if __name__ == "__main__":
    sys.exit(main())
