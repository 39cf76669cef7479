"""Every kubectl command, straight to the real Kubernetes and through kas: the same output, exit code and hashes.

KAS_MATRIX=full (make kubectl-matrix): every kubectl of this machine, with WebSocket and without; else three with their default transport.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kubernetes.conftest import CONFIG_PROJECT, JOBS_PROJECT, RunningCluster
from tests.matrix.comparing import Outcome, compare, table
from tests.matrix.rows import ROWS, prepare
from tests.matrix.sides import Side
from tests.support.kubectls import Kubectl, any_kubectl, installed, kubectl_program
from tests.support.product import Product

IS_FULL = os.environ.get("KAS_MATRIX") == "full"
TABLE = Path(__file__).parents[2] / "build" / "kubectl-matrix.md"
IMAGE = "localhost/busybox:1"
DEFAULT = "default"
SWITCHES = {
    DEFAULT: {},
    "WebSocket": {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "true", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "true"},
    "SPDY": {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"},
}
# kubectl before 1.29 knows no WebSocket; 1.29 uses it when told, later ones unless told.
CASES = (
    [(minor, way) for minor in sorted(installed()) for way in ("SPDY", "WebSocket") if way == "SPDY" or minor >= "1.29"]
    if IS_FULL
    else [(minor, DEFAULT) for minor in ("1.27", "1.30", "1.33")]
)


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, list[Outcome]]]:
    """By kubectl; written as a table at the end."""
    found: dict[str, list[Outcome]] = {}
    yield found
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table(found) + "\n")
    if IS_FULL:
        print(f"\n\n{table(found)}\n\nwritten: {TABLE}")


@pytest.fixture(scope="module")
def as_administrator(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a job that acts as the cluster's administrator, so that both sides have the same rights."""
    if cluster.no_node:
        pytest.skip(cluster.no_node)
    options = {"kubernetes_api": {"allow_user_impersonation": True}}
    with Product(tmp_path_factory.mktemp("matrix"), options) as product:
        agent = product.register("all", CONFIG_PROJECT)
        product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
        product.start_agentk(agent, cluster.kubeconfig)
        kubeconfig = product.kubeconfig(product.job_token(JOBS_PROJECT, "--ttl", "4h"))
        Kubectl(any_kubectl(), kubeconfig, product.folder).run("config", "use-context", agent.context)
        yield kubeconfig


def run(minor: str, way: str, kubeconfigs: dict[str, Path], folder: Path) -> list[Outcome]:
    """All rows with one kubectl."""
    sides = []
    for name, kubeconfig in kubeconfigs.items():
        home = folder / minor / way / name
        home.mkdir(parents=True)
        shutil.copy(kubeconfig, home / "kubeconfig")
        kubectl = Kubectl(kubectl_program(minor), home / "kubeconfig", home, SWITCHES[way])
        namespace = f"matrix-{minor.replace('.', '-')}-{way.lower()}-{os.urandom(2).hex()}-{name}"
        sides.append(Side(name, kubectl, namespace, home, IMAGE))
    try:
        for side in sides:
            prepare(side)
        return compare(ROWS, *sides)
    finally:
        for side in sides:
            side.kubectl.result("delete", "namespace", side.namespace, "--wait=false")


@pytest.mark.covers("U-01")
@pytest.mark.parametrize("cases", [[case] for case in CASES] if IS_FULL else [CASES], ids=str)
def test_through_kas_as_without_it(
    cases: list[tuple[str, str]],
    cluster: RunningCluster,
    as_administrator: Path,
    outcomes: dict[str, list[Outcome]],
    tmp_path: Path,
) -> None:
    kubeconfigs = {"direct": cluster.kubeconfig, "kas": as_administrator}
    cases = [case for case in cases if case[0] in installed()]
    if not cases:
        pytest.skip("there is none of these kubectls here")
    with ThreadPoolExecutor(len(cases)) as pool:  # they wait for pods most of the time
        running = {case: pool.submit(run, *case, kubeconfigs, tmp_path) for case in cases}
    differences = []
    for (minor, way), done in running.items():
        found = outcomes[f"{minor} {way}" if way != DEFAULT else minor] = done.result()
        differences += [f"{minor} {outcome.row}:\n{outcome.difference}" for outcome in found if outcome.difference]
    assert not differences, "\n\n".join(differences)
