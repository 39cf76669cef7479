"""A practice cluster in a process of its own, and kas with an agentk as an operator runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.practice import practice_cluster
from tests.support.product import Agent, Product

CONFIG_PROJECT = "platform/clusters"
JOBS_PROJECT = "shop/web"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The administrator's kubeconfig of a practice cluster that serves while the tests run."""
    with practice_cluster(tmp_path_factory.mktemp("cluster")) as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="session")
def admin(cluster: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl with the administrator's rights, straight to the practice cluster."""
    return Kubectl(any_kubectl(), cluster, tmp_path_factory.mktemp("admin"))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """kas, running, for the tests of one file."""
    with Product(tmp_path_factory.mktemp("product")) as running:
        yield running


@pytest.fixture(scope="module")
def agent(product: Product, cluster: Path) -> Agent:
    """An agent, linked, that jobs of shop/web may use as itself."""
    made = product.register("production", CONFIG_PROJECT)
    product.configure(made, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
    product.start_agentk(made, cluster)
    return made


@pytest.fixture(scope="module")
def job_kubeconfig(product: Product, agent: Agent) -> Path:
    """What a job of shop/web gets, with the agent's context chosen."""
    return chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)


def chosen(product: Product, kubeconfig: Path, agent: Agent) -> Path:
    """The same kubeconfig after `kubectl config use-context`, as every job begins."""
    Kubectl(any_kubectl(), kubeconfig, product.folder).run("config", "use-context", agent.context)
    return kubeconfig
