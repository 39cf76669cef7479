"""API servers that offer less than today's: kubectl falls back through kas as it does without it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kas.demo.practice_cluster.cluster import PracticeCluster
from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.practice import practice_cluster_here
from tests.support.product import Product

MANY = 10_000  # requests that a fault concerns: all of a test's
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec: {containers: [{name: main, image: busybox, command: [sh, -c, "exec sleep 1000"]}]}
"""
EXEC = "/api/v1/namespaces/default/pods/shell/exec"
COMMAND = ("exec", "--stdin", "shell", "--", "sh", "-c", "cat; echo said >&2; exit 3")
WEBSOCKET, SPDY = "GET", "POST"  # how kubectl asks for either


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeCluster]:
    """An API server whose knobs are at hand, with a pod."""
    with practice_cluster_here(tmp_path_factory.mktemp("old")) as cluster:
        admin = Kubectl(any_kubectl(), cluster.kubeconfig, tmp_path_factory.mktemp("admin"))
        admin.run("apply", "-f", "-", input=POD)
        admin.run("wait", "--for=condition=Ready", "pod/shell", "--timeout=30s")
        yield cluster


@pytest.fixture(scope="module")
def job(product: Product, old: PracticeCluster) -> Path:
    """The kubeconfig of a job that may use it."""
    agent = product.register("old", CONFIG_PROJECT)
    product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
    product.start_agentk(agent, old.kubeconfig)
    return chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)


@pytest.fixture(autouse=True)
def well(old: PracticeCluster) -> Iterator[None]:
    yield
    old.faults.clear()


Outcome = tuple[int, bytes, bytes]


def both(old: PracticeCluster, job: Path, folder: Path, minor: str, *words: str) -> tuple[Outcome, Outcome]:
    """What a command does without kas, and through it; each in a home of its own, so that nothing is remembered."""
    outcomes = []
    for way, kubeconfig in (("direct", old.kubeconfig), ("kas", job)):
        home = folder / way
        home.mkdir()
        shutil.copy(kubeconfig, home / "kubeconfig")
        done = Kubectl(kubectl_program(minor), home / "kubeconfig", home).result(*words, input=b"came in\n")
        outcomes.append((done.returncode, done.stdout, done.stderr))
    return outcomes[0], outcomes[1]


def asked(old: PracticeCluster) -> list[str]:
    """The methods of the exec requests that arrived, and forget them."""
    methods = [request.method for request in old.requests if request.path.startswith(EXEC)]
    old.requests.clear()
    return methods


@pytest.mark.covers("U-10", "U-11")
@pytest.mark.parametrize("status", [400, 403, 404, 501])
@pytest.mark.parametrize("minor", ["1.30", "1.33"])
def test_where_websocket_is_refused_spdy_is_tried(
    old: PracticeCluster, job: Path, tmp_path: Path, minor: str, status: int
) -> None:
    old.faults.answer(status, body="no WebSocket here", path=EXEC, method=WEBSOCKET, times=MANY)
    asked(old)
    direct, kas = both(old, job, tmp_path, minor, *COMMAND)
    assert kas == direct
    assert kas[:2] == (3, b"came in\n")
    assert asked(old) == [WEBSOCKET, SPDY] * 2


@pytest.mark.covers("U-11")
@pytest.mark.parametrize(("minor", "expected"), [("1.27", [SPDY] * 2), ("1.33", [WEBSOCKET] * 2)])
@pytest.mark.parametrize("status", [400, 403])
def test_where_spdy_is_refused_who_needs_it_is_told_the_same(
    old: PracticeCluster, job: Path, tmp_path: Path, minor: str, expected: list[str], status: int
) -> None:
    message = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no SPDY here", "code": status}
    json_headers = {"Content-Type": "application/json"}
    old.faults.answer(status, body=json.dumps(message), headers=json_headers, path=EXEC, method=SPDY, times=MANY)
    asked(old)
    direct, kas = both(old, job, tmp_path, minor, *COMMAND)
    assert kas == direct
    assert kas[0] == (3 if expected[0] == WEBSOCKET else 1)
    assert asked(old) == expected


@pytest.mark.covers("U-10")
def test_either_try_is_in_the_audit_log(old: PracticeCluster, product: Product, job: Path, tmp_path: Path) -> None:
    def tried() -> list[int]:
        found = json.loads(product.command("audit", "query", "--output", "json"))
        return [one["status"] for one in found if one["event"] == "request" and one.get("subresource") == "exec"]

    before = len(tried())
    old.faults.answer(400, path=EXEC, method=WEBSOCKET, times=MANY)
    assert both(old, job, tmp_path, "1.33", *COMMAND)[1][0] == 3
    assert product.kas is not None
    product.kas.wait_until(lambda: len(tried()) >= before + 2, "both tries are recorded")
    assert tried()[before:] == [400, 101]


@pytest.mark.covers("P-11")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_where_discovery_is_not_aggregated_each_group_is_asked_for(
    old: PracticeCluster, job: Path, tmp_path: Path, minor: str
) -> None:
    old.faults.plain_discovery(times=MANY)
    old.requests.clear()
    direct, kas = both(old, job, tmp_path, minor, "api-resources", "--sort-by=name", "--no-headers")
    assert kas == direct
    assert (kas[0], kas[2]) == (0, b"")
    paths = [request.path for request in old.requests if request.path.startswith("/api")]
    assert {"/api", "/apis", "/api/v1", "/apis/apps/v1", "/apis/authorization.k8s.io/v1"} <= set(paths)
    assert all(paths.count(path) == 2 for path in set(paths))
