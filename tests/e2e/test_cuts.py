"""The way between agentk and kas is cut again and again, or swallows everything: kubectl's users see nothing of it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.matrix.comparing import compare
from tests.matrix.rows import ROWS, prepare
from tests.matrix.sides import MIB, Side
from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.product import Product
from tests.support.tcp_relay import Road, TcpRelay

STREAMS = ("get -w", "wait", "rollout", "logs -f", "exec", "exec -i", "exec -it", "attach", "cp", "apply", "create")
NOTICED_S = 30  # by both ends
PIECE = hashlib.shake_256(b"large").digest(64 * MIB)
PIECES = 16  # a GiB
LIST_BYTES = 100 * MIB
LIMIT_S = 300


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory, cluster: Path) -> Iterator[tuple[Road, Product, Path]]:
    """A road between agentk and kas, kas, and a job's kubeconfig."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        port = int(product.kas_address.rpartition(":")[2])
        with Road(port) as road:
            agent = product.register("cut", CONFIG_PROJECT)
            product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
            product.start_agentk(agent, cluster, kas_address=f"grpcs://localhost:{road.port}")
            yield road, product, chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
            product.close()


def sides(minor: str, cluster: Path, job: Path, folder: Path, name: str) -> list[Side]:
    made = []
    for way, kubeconfig in (("direct", cluster), ("kas", job)):
        home = folder / way
        home.mkdir()
        shutil.copy(kubeconfig, home / "kubeconfig")
        kubectl = Kubectl(kubectl_program(minor), home / "kubeconfig", home)
        made.append(Side(way, kubectl, f"cuts-{name}-{minor.replace('.', '-')}-{way}", home, "busybox"))
        prepare(made[-1], "exec sleep 100000")
    return made


@pytest.mark.covers("T-05", "U-12")
@pytest.mark.parametrize(("minor", "cut"), [("1.27", TcpRelay.cut), ("1.33", TcpRelay.finish)])
def test_what_is_done_and_printed_is_that_of_an_uncut_run(
    way: tuple[Road, Product, Path], cluster: Path, minor: str, cut: object, tmp_path: Path
) -> None:
    road, _, job = way
    direct, kas = sides(minor, cluster, job, tmp_path, cut.__name__)
    before = road.accepted
    with road.every(0.5, cut):
        found = compare([row for row in ROWS if row.name in STREAMS], direct, kas)
    differences = [f"{outcome.row}:\n{outcome.difference}" for outcome in found if outcome.difference]
    assert not differences, "\n\n".join(differences)
    assert road.accepted - before > len(STREAMS)


@pytest.fixture
def side(way: tuple[Road, Product, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Side:
    """A job with a pod to work with."""
    (tmp_path / "kubeconfig").write_bytes(way[2].read_bytes())
    name = re.sub(r"\W+", "-", request.node.name.replace("_", "-"))[5:50].strip("-")
    made = Side("kas", Kubectl(any_kubectl(), tmp_path / "kubeconfig", tmp_path), f"cuts-{name}", tmp_path, "busybox")
    prepare(made, "exec sleep 100000")
    return made


def test_a_gib_goes_up_whole_and_much_comes_down(way: tuple[Road, Product, Path], side: Side) -> None:
    road = way[0]
    before = road.accepted
    sent = hashlib.sha256()
    with road.every(0.3, TcpRelay.cut):
        command = [side.kubectl.program, "exec", "--stdin", "shell", "--", "sha256sum"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=side.kubectl.environment_now()
        ) as process:
            assert process.stdin is not None
            for _ in range(PIECES):
                process.stdin.write(PIECE)
                sent.update(PIECE)
            said, _ = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, said.split()[:1]) == (0, [sent.hexdigest().encode()])
        came = side.kubectl.result("exec", "shell", "--", "head", "-c", str(100 * MIB), "/dev/zero")
    assert (came.returncode, len(came.stdout)) == (0, 100 * MIB), came.stderr[-500:]
    assert not came.stdout.strip(b"\0")
    assert road.accepted - before >= 10


def test_a_large_list_comes_whole(way: tuple[Road, Product, Path], admin: Kubectl, side: Side) -> None:
    road = way[0]
    namespace = "cuts-large-list"
    admin.run("create", "namespace", namespace)
    one = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"text": "x" * 900_000}}
    count = LIST_BYTES // 900_000 + 1
    items = [{**one, "metadata": {"name": f"large-{number}", "namespace": namespace}} for number in range(count)]
    for number in range(0, count, 10):
        admin.run(
            "create",
            "-f",
            "-",
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items[number : number + 10]}),
        )
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    expected = admin.result("get", "--raw", path).stdout
    assert len(expected) > LIST_BYTES
    before = road.accepted
    with road.every(0.3, TcpRelay.cut):
        came = side.kubectl.result("get", "--raw", path)
    assert (came.returncode, came.stderr) == (0, b"")
    assert hashlib.sha256(came.stdout).digest() == hashlib.sha256(expected).digest()
    assert road.accepted > before
    admin.run("delete", "namespace", namespace, "--wait=false")


class _Echo(socketserver.BaseRequestHandler):
    """What comes in goes out."""

    def handle(self) -> None:
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


def test_a_forwarded_connection_goes_on(way: tuple[Road, Product, Path], side: Side) -> None:
    road = way[0]
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        port = server.server_address[1]
        with side.running("port-forward", "pod/shell", f":{port}") as forward:
            assert forward.stdout is not None
            match = re.search(rb"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert match is not None
            before = road.accepted
            with road.every(0.3, TcpRelay.cut), socket.create_connection(("127.0.0.1", int(match[1]))) as talk:
                sending = threading.Thread(target=talk.sendall, args=(PIECE,))
                sending.start()
                came = hashlib.sha256()
                left = len(PIECE)
                while left:
                    data = talk.recv(1 << 16)
                    assert data, "the connection has ended"
                    came.update(data)
                    left -= len(data)
                sending.join()
            assert forward.poll() is None
        server.shutdown()
        serving.join()
    assert came.digest() == hashlib.sha256(PIECE).digest()
    assert road.accepted - before >= 3


@pytest.mark.covers("T-05")
def test_a_way_that_swallows_everything_is_given_up_by_both_ends_and_nothing_is_lost(
    way: tuple[Road, Product, Path], side: Side
) -> None:
    road = way[0]
    with (
        side.running("exec", "shell", "--", "sh", "-c", "for i in $(seq 300); do echo $i; sleep 0.1; done") as numbers,
        side.running("get", "configmaps", "--watch-only", "--output=name") as watch,
    ):
        assert numbers.stdout is not None
        assert watch.stdout is not None
        assert numbers.stdout.readline() == b"1\n"
        before, begun = road.accepted, time.monotonic()
        road.now(TcpRelay.mute)
        while road.accepted == before:
            assert time.monotonic() - begun < NOTICED_S, "agentk has not noticed"
            time.sleep(0.1)
        side.kubectl.run("create", "configmap", "heard")
        assert time.monotonic() - begun < NOTICED_S + 5, "kas has not noticed"
        while (line := watch.stdout.readline()) != b"configmap/heard\n":
            assert re.fullmatch(rb"configmap/[\w.-]+\n", line)
        rest, said = numbers.communicate(timeout=60)
        assert rest.split() == [b"%d" % number for number in range(2, 301)], said
        assert numbers.returncode == 0
