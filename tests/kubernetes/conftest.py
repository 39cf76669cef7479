"""One cluster and one kas for the whole ring.

KAS_NO_KUBERNETES=1     skips the ring
KAS_KUBERNETES=FILE     uses the cluster of that kubeconfig (python -m tests.kubernetes.testbed up), which saves its start
KAS_DIRECT=1            leaves kas and agentk out: when a test fails, this tells whether the cluster or kas is to blame
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kubernetes.identities import Identities
from tests.kubernetes.testbed.build import kubernetes_programs
from tests.kubernetes.testbed.cluster import Cluster, missing_for_control_plane
from tests.kubernetes.testbed.node import missing_for_node
from tests.support.go_programs import CannotBuild
from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.product import Agent, Product

HERE = Path(__file__).parent
BUILD_AND_START_LIMIT_S = 40 * 60  # the first test of a new machine waits for the build
NAMESPACE = "production"
JOBS_PROJECT = "shop/web"
CONFIG_PROJECT = "platform/clusters"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kubernetes)
            item.add_marker(pytest.mark.timeout(BUILD_AND_START_LIMIT_S))


@dataclass(frozen=True)
class RunningCluster:
    """The administrator's kubeconfig, and why it has no node, where it has none."""

    kubeconfig: Path
    no_node: str | None


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """A real Kubernetes; skips where it can neither be found nor built."""
    if os.environ.get("KAS_NO_KUBERNETES"):
        pytest.skip("KAS_NO_KUBERNETES is set")
    given = os.environ.get("KAS_KUBERNETES")
    if given:
        yield RunningCluster(Path(given).resolve(), None)
        return
    any_kubectl()
    missing = missing_for_control_plane()
    if missing:
        pytest.skip(missing)
    try:
        programs = kubernetes_programs()
    except CannotBuild as error:
        pytest.skip(f"Kubernetes: {error}")
    no_node = missing_for_node()
    states = os.environ.get("KAS_KUBERNETES_STATE")
    if states:
        Path(states).mkdir(parents=True, exist_ok=True)
    # Not pytest's tmp_path: the name of a socket in it may have 107 characters at most.
    state = Path(tempfile.mkdtemp(prefix="kube-", dir=states))
    running = Cluster(state, programs)
    try:
        yield RunningCluster(running.up(node=no_node is None), no_node)
    finally:
        running.down()
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture
def node(cluster: RunningCluster) -> None:
    """For tests that need pods to run."""
    if cluster.no_node:
        pytest.skip(cluster.no_node)


@pytest.fixture(scope="session")
def admin(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl with the administrator's rights, straight to the API server."""
    return Kubectl(any_kubectl(), cluster.kubeconfig, tmp_path_factory.mktemp("admin"))


@pytest.fixture(scope="session")
def identities(admin: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """Service accounts for agentk, each with the rights of one of the RBAC examples."""
    made = Identities(admin, tmp_path_factory.mktemp("identities"))
    for namespace in (NAMESPACE, "untouchable"):
        made.namespace(namespace)
    return made


@pytest.fixture(scope="session")
def product(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """kas, running."""
    with Product(tmp_path_factory.mktemp("product")) as running:
        yield running


@pytest.fixture(scope="session")
def deployer(product: Product, identities: Identities) -> Agent:
    """An agent, linked, that may deploy into the namespace "production"; jobs of shop/web may use it as itself."""
    agent = product.register("production", CONFIG_PROJECT)
    project = {"id": JOBS_PROJECT, "default_namespace": NAMESPACE}
    product.configure(agent, json.dumps({"ci_access": {"projects": [project]}}))
    product.start_agentk(agent, identities.with_rights_of("namespace-deployer"))
    return agent


@pytest.fixture(scope="session")
def job_kubeconfig(request: pytest.FixtureRequest, identities: Identities) -> Path:
    """What a job of shop/web gets."""
    if os.environ.get("KAS_DIRECT"):
        return identities.with_rights_of("namespace-deployer", namespace=NAMESPACE)
    product: Product = request.getfixturevalue("product")
    agent: Agent = request.getfixturevalue("deployer")
    kubeconfig = product.kubeconfig(product.job_token(JOBS_PROJECT))
    # As in a job: the kubeconfig names no current context.
    job = Kubectl(any_kubectl(), kubeconfig, product.folder)
    assert job.run("config", "get-contexts", "--output=name").split() == [agent.context]
    job.run("config", "use-context", agent.context)
    return kubeconfig


@pytest.fixture(scope="session", params=["1.27", "1.33"])
def kubectl(request: pytest.FixtureRequest, job_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl in a job of shop/web: the oldest that speaks only SPDY, and one that prefers WebSocket."""
    return Kubectl(kubectl_program(request.param), job_kubeconfig, tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="session")
def shell_pod(cluster: RunningCluster, identities: Identities, admin: Kubectl) -> Iterator[str]:
    """A pod that sleeps, with a web server on port 8080."""
    if cluster.no_node:
        pytest.skip(cluster.no_node)
    script = "mkdir /www; echo 'it works' >/www/index.html; httpd -p 8080 -h /www; exec sleep 100000"
    image = ("--image=localhost/busybox:1", "--image-pull-policy=Never")
    admin.run("--namespace", NAMESPACE, "run", "shell", *image, "--command", "--", "sh", "-c", script)
    admin.run("--namespace", NAMESPACE, "wait", "--for=condition=Ready", "--timeout=60s", "pod/shell")
    yield "shell"
    admin.run("--namespace", NAMESPACE, "delete", "pod", "shell", "--now")
