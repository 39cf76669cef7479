"""Two clusters with different kinds behind one kas, used in turn from one home: kubectl remembers kinds by host and path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.conftest import RunningCluster
from tests.support.kubectls import Kubectl, kubectl_program
from tests.support.practice import practice_cluster
from tests.support.product import Agent, Product

PROJECT = "shop/two-clusters"
WIDGETS = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.shop.example.com}
spec:
  group: shop.example.com
  scope: Cluster
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
WIDGET = "apiVersion: shop.example.com/v1\nkind: Widget\nmetadata: {name: large}\n"


@pytest.fixture(scope="module")
def widgets(admin: Kubectl) -> Iterator[None]:
    """A kind that only the real cluster has, and one of it."""
    admin.run("apply", "-f", "-", input=WIDGETS)
    admin.run("wait", "--for=condition=Established", "crd/widgets.shop.example.com", "--timeout=30s")
    admin.run("apply", "-f", "-", input=WIDGET)
    yield
    admin.run("delete", "crd", "widgets.shop.example.com")


@pytest.fixture(scope="module")
def agents(
    product: Product, cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Agent, Agent]]:
    """One in the real cluster, one in a practice cluster."""
    with practice_cluster(tmp_path_factory.mktemp("practice")) as practice:
        made = []
        for name, kubeconfig in (("with-widgets", cluster.kubeconfig), ("without-widgets", practice)):
            agent = product.register(name, "platform/two-clusters")
            product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": PROJECT}]}}))
            product.start_agentk(agent, kubeconfig)
            made.append(agent)
        yield made[0], made[1]


@pytest.mark.usefixtures("widgets")
@pytest.mark.covers("X-05")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_a_kind_is_known_where_it_is_and_only_there(
    product: Product, agents: tuple[Agent, Agent], tmp_path: Path, minor: str
) -> None:
    has, lacks = (f"--context={agent.context}" for agent in agents)
    job = Kubectl(kubectl_program(minor), product.kubeconfig(product.job_token(PROJECT)), tmp_path)
    for _ in range(2):  # then from the caches, too
        assert job.run(has, "get", "wd", "--output=name") == "widget.shop.example.com/large\n"
        assert "the server doesn't have a resource type" in job.run(lacks, "get", "wd", fails=True)
    assert "widgets" in job.run(has, "api-resources", "--output=name")
    assert "widgets" not in job.run(lacks, "api-resources", "--output=name")
    assert "no matches for kind" in job.run(lacks, "apply", "-f", "-", input=WIDGET, fails=True)
    assert "unchanged" in job.run(has, "apply", "-f", "-", input=WIDGET)
    assert len([*(tmp_path / ".kube" / "cache" / "discovery").glob("localhost_*/agents/*")]) == 2


@pytest.mark.usefixtures("widgets")
@pytest.mark.covers("X-05")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_at_gitlabs_path_which_all_agents_share_a_cache_of_ones_own_keeps_them_apart(
    product: Product, agents: tuple[Agent, Agent], tmp_path: Path, minor: str
) -> None:
    """As docs/kubectl.md says."""
    has, lacks = (f"--context={agent.context}" for agent in agents)
    kubeconfig = product.kubeconfig(product.job_token(PROJECT))
    kubeconfig.write_text(re.sub(r"/agents/\d+", "/k8s-proxy", kubeconfig.read_text()))
    program = kubectl_program(minor)
    shared = Kubectl(program, kubeconfig, tmp_path)
    assert shared.run(has, "get", "wd", "--output=name") == "widget.shop.example.com/large\n"
    assert "could not find the requested resource" in shared.run(lacks, "get", "wd", fails=True)
    apart = Kubectl(program, kubeconfig, tmp_path, {"KUBECACHEDIR": str(tmp_path / "lacks")})
    assert "the server doesn't have a resource type" in apart.run(lacks, "get", "wd", fails=True)
