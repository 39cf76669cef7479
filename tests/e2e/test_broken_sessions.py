"""exec and attach that cannot go on: the job fails with a sentence, also where kubectl alone would exit 0."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, installed, kubectl_program
from tests.support.product import Agent, Product

POD = """\
apiVersion: v1
kind: Pod
metadata: {name: session}
spec: {containers: [{name: main, image: busybox, command: [sh, -c, "while sleep 0.3; do echo begun; done"]}]}
"""
EXEC = ("exec", "session", "--", "sh", "-c", "echo begun; sleep 60")


@pytest.fixture(scope="module", autouse=True)
def session(admin: Kubectl) -> Iterator[None]:
    admin.run("apply", "-f", "-", input=POD)
    admin.run("wait", "--for=condition=Ready", "pod/session", "--timeout=30s")
    yield
    admin.run("delete", "pod", "session", "--now")


@pytest.fixture
def job(minor: str, product: Product, agent: Agent, tmp_path: Path) -> Kubectl:
    if minor not in installed():
        pytest.skip(f"there is no kubectl {minor}")
    kubeconfig = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
    return Kubectl(kubectl_program(minor), kubeconfig, tmp_path)


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that sends back what comes: to the practice cluster, whose pods are local processes, it is the pod's."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                while data := self.request.recv(4096):
                    self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


def broken(job: Kubectl, words: tuple[str, ...], breaking: Callable[[], object]) -> tuple[int, str]:
    """Exit code and standard error of a session that is broken once it has begun."""
    with job.running(*words) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"begun\n"
        breaking()
        _, said = command.communicate(timeout=30)
    return command.returncode, said.decode()


def revoke(product: Product) -> None:
    for line in product.command("job-token", "list").splitlines()[1:]:
        product.command("job-token", "revoke", line.split()[0])


REVOKED = "kas: the token is missing, malformed, unknown, expired or revoked (request "


@pytest.mark.covers("U-14", "T-01")
@pytest.mark.parametrize("minor", ["1.27", "1.29", "1.30", "1.33"])
def test_when_agentk_dies_the_job_fails_with_a_sentence(
    job: Kubectl, product: Product, agent: Agent, cluster: Path
) -> None:
    def die() -> None:
        product.agentks.pop().stop(signal.SIGKILL)
        product.start_agentk(agent, cluster)

    code, said = broken(job, EXEC, die)
    assert code == 1, said
    assert f"kas: agent {agent.id}: the connection to the agent was lost" in said
    assert "(request " in said
    assert job.run("exec", "session", "--", "echo", "again") == "again\n"


@pytest.mark.covers("U-14", "T-21", "T22")
@pytest.mark.parametrize(("minor", "words"), [("1.27", ("attach", "session")), ("1.33", EXEC)])
def test_when_access_ends_the_job_reads_why(job: Kubectl, product: Product, words: tuple[str, ...]) -> None:
    code, said = broken(job, words, lambda: revoke(product))
    assert code == 1, said
    assert REVOKED in said


@pytest.mark.covers("T-21", "T22")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_when_access_ends_a_followed_log_says_why_in_its_last_line_and_fails(job: Kubectl, product: Product) -> None:
    with job.running("logs", "--follow", "session") as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"begun\n"
        revoke(product)
        said, _ = command.communicate(timeout=30)
    assert command.returncode == 1
    *logged, last = said.decode().splitlines()
    assert set(logged) == {"begun"}
    assert last.startswith(REVOKED)


@pytest.mark.covers("T-21", "T22")
@pytest.mark.parametrize("minor", ["1.27", "1.30", "1.33"])
def test_when_access_ends_a_forwarded_connection_ends_and_the_job_reads_why(
    job: Kubectl, product: Product, listener: int
) -> None:
    with job.running("port-forward", "pod/session", f":{listener}") as command:
        assert command.stdout is not None
        (port,) = re.findall(rb"127.0.0.1:(\d+)", command.stdout.readline())
        with socket.create_connection(("127.0.0.1", int(port)), 10) as connection:
            connection.sendall(b"hello")
            assert connection.recv(5) == b"hello"
            revoke(product)
            assert connection.recv(5) == b""
        _, said = command.communicate(timeout=30)
    assert command.returncode == 1
    assert REVOKED in said.decode()


@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_a_session_that_ends_by_itself_is_as_before(job: Kubectl) -> None:
    assert job.result("exec", "session", "--", "sh", "-c", "exit 7").returncode == 7
    assert job.run("exec", "session", "-i", "--", "cat", input=b"x" * 300_000) == "x" * 300_000
