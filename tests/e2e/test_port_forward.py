"""port-forward through kas, in the cases of Kubernetes' own test/e2e/kubectl/portforward.go, and where nobody is there."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, installed, kubectl_program
from tests.support.ports import free_ports
from tests.support.product import Agent, Product

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: forwarded}
spec: {containers: [{name: main, image: busybox, command: [sleep, "600"]}]}
"""
LIMIT_S = 20
LARGE = bytes(range(256)) * 8192  # 2 MiB, more than every buffer on the way
Speak = Callable[[socket.socket], None]


@pytest.fixture(scope="module", autouse=True)
def pod(admin: Kubectl) -> Iterator[None]:
    admin.run("apply", "-f", "-", input=POD)
    admin.run("wait", "--for=condition=Ready", "pod/forwarded", "--timeout=30s")
    yield
    admin.run("delete", "pod", "forwarded", "--now")


@pytest.fixture(params=["1.27", "1.30", "1.33"])
def job(request: pytest.FixtureRequest, product: Product, agent: Agent, tmp_path: Path) -> Kubectl:
    """SPDY; SPDY as well, for port-forward; SPDY in a WebSocket."""
    if request.param not in installed():
        pytest.skip(f"there is no kubectl {request.param}")
    kubeconfig = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
    return Kubectl(kubectl_program(request.param), kubeconfig, tmp_path)


@contextlib.contextmanager
def serving(speak: Speak) -> Iterator[int]:
    """A port where each connection is spoken to by ``speak``. Pods of the practice cluster are local processes: it is the pod's."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                speak(self.request)

    class Server(socketserver.ThreadingTCPServer):
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def forwarded(kubectl: Kubectl, port: int) -> Iterator[Callable[[], socket.socket]]:
    """A way to connect to the pod's port, while kubectl forwards it."""
    with kubectl.running("port-forward", "pod/forwarded", f":{port}") as command:
        assert command.stdout is not None
        (local,) = re.findall(rb"127\.0\.0\.1:(\d+)", command.stdout.readline())
        yield lambda: socket.create_connection(("127.0.0.1", int(local)), LIMIT_S)
        assert command.poll() is None


def everything(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.covers("U-07")
def test_a_server_that_speaks_first_and_closes_is_heard_to_the_end(job: Kubectl) -> None:
    with serving(lambda connection: connection.sendall(LARGE)) as port, forwarded(job, port) as connect:
        for _ in range(2):
            with connect() as connection:
                assert everything(connection) == LARGE


@pytest.mark.covers("U-07")
def test_a_client_that_has_said_all_still_hears_the_answer(job: Kubectl) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"%d:" % len(everything(connection)) + LARGE)

    with serving(answer) as port, forwarded(job, port) as connect, connect() as connection:
        connection.sendall(LARGE)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection) == b"%d:" % len(LARGE) + LARGE


@pytest.mark.covers("U-07")
@pytest.mark.parametrize("said", [b"", b"abc"])
def test_a_client_that_leaves_is_known_to_have_left(job: Kubectl, said: bytes) -> None:
    heard: list[bytes] = []
    over = threading.Event()

    def listen(connection: socket.socket) -> None:
        heard.append(everything(connection))
        over.set()

    with serving(listen) as port, forwarded(job, port) as connect:
        with connect() as connection:
            connection.sendall(said)
        assert over.wait(LIMIT_S)
        assert heard == [said]
        with connect() as connection:  # the forward goes on
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection) == b""


@pytest.mark.covers("U-07")
def test_a_hundred_connections_at_once_are_not_mixed(job: Kubectl) -> None:
    def echo(connection: socket.socket) -> None:
        while data := connection.recv(4096):
            connection.sendall(data)

    def talk(number: int) -> bool:
        said = b"%04d" % number * 2500
        with connect() as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            return everything(connection) == said

    with serving(echo) as port, forwarded(job, port) as connect, ThreadPoolExecutor(100) as pool:
        assert list(pool.map(talk, range(100))) == [True] * 100


@pytest.mark.covers("U-08")
def test_where_nobody_listens_kubectl_says_and_ends_as_without_kas(job: Kubectl, admin: Kubectl) -> None:
    (closed,) = free_ports(1)
    ends = []
    for kubectl in (job, Kubectl(job.program, admin.kubeconfig, admin.home)):
        with kubectl.running("port-forward", "pod/forwarded", f":{closed}") as command:
            assert command.stdout is not None
            (local,) = re.findall(rb"127\.0\.0\.1:(\d+)", command.stdout.readline())
            with socket.create_connection(("127.0.0.1", int(local)), LIMIT_S) as connection:
                assert everything(connection) == b""
            _, said = command.communicate(timeout=LIMIT_S)
        plain = re.sub(rb"(?m)^E\d.*?\] |\b%s\b|\b%d\b" % (local, closed), b"", said)
        ends.append((command.returncode, plain))
    assert ends[0] == ends[1]
    assert ends[0][0] == 1
    assert b"an error occurred forwarding" in ends[0][1]
    assert b"lost connection to pod" in ends[0][1]
