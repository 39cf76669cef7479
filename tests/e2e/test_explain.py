"""kas explain, as an operator uses it, and what a denied job reads in its kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Agent, Product

CONFIG = json.dumps(
    {
        "ci_access": {
            "projects": [
                {
                    "id": JOBS_PROJECT,
                    "refs": ["main"],
                    "allow": [{"verbs": ["get", "list"], "resources": ["pods", "configmaps"]}],
                }
            ]
        }
    }
)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with Product(tmp_path_factory.mktemp("explained")) as running:
        yield running


@pytest.fixture(scope="module")
def agent(product: Product, cluster: Path) -> Agent:
    made = product.register("explained", CONFIG_PROJECT)
    product.configure(made, CONFIG)
    product.start_agentk(made, cluster)
    return made


def explained(product: Product, agent: Agent, *words: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(product.command("explain", "--agent", agent.context, "--output", "json", *words))
    return said


def test_each_layer_says_its_verdict_the_cluster_too(product: Product, agent: Agent) -> None:
    token = str(product.job_token(JOBS_PROJECT, "--ref", "main"))
    said = explained(product, agent, "--token-file", token, "get", "pods", "-n", "default")
    assert [(one["layer"], one["verdict"]) for one in said["layers"]] == [
        ("issuer", "yes"),
        ("claims", "yes"),
        ("rule", "yes"),
        ("limits", "yes"),
        ("cluster", "yes"),
    ]
    assert said["allowed"] is True


def test_a_described_job_and_a_path_do_as_well(product: Product, agent: Agent) -> None:
    words = ("--project", JOBS_PROJECT, "--claim", "ref=main", "--claim", "ref_type=branch")
    said = explained(product, agent, *words, "--method", "GET", "--path", "/api/v1/namespaces/default/pods")
    assert said["allowed"] is True
    assert said["layers"][0]["verdict"] == "unknown"


def test_a_denial_ends_with_1_and_wrong_usage_with_2(product: Product, agent: Agent) -> None:
    product.command("explain", "--agent", agent.context, "--project", JOBS_PROJECT, "get", "pods", code=1)
    product.command("explain", "--agent", "no/such:agent", "--project", JOBS_PROJECT, code=1)
    product.command("explain", "--agent", agent.context, "--project", JOBS_PROJECT, "--token-file", "x", code=2)


def test_a_denied_job_reads_why_if_an_entry_names_it_and_nothing_otherwise(product: Product, agent: Agent) -> None:
    named = product.job_token(JOBS_PROJECT, "--ref", "feature")
    kubeconfig = product.kubeconfig(product.job_token(JOBS_PROJECT, "--ref", "main"))
    good = Kubectl(any_kubectl(), chosen(product, kubeconfig, agent), product.folder)
    text = kubeconfig.read_text()
    good.run("get", "pods")
    secret = text.split("token: ci:")[1].split(":", 1)[1].split("\n")[0]

    def said_to(token_file: Path) -> str:
        other = kubeconfig.with_name(f"{token_file.stem}.other")
        other.write_text(text.replace(secret, token_file.read_text().strip()))
        return Kubectl(any_kubectl(), other, product.folder).run("get", "pods", fails=True)

    assert "the job's ref 'refs/heads/feature' is not one of the entry's (ci_access.projects[0], line 1)" in said_to(
        named
    )
    stranger = said_to(product.job_token("other/project", "--ref", "main"))
    assert "this job may not use this agent, or there is no such agent" in stranger
    assert "ref" not in stranger.replace("Forbidden", "").replace("refused", "")
    assert "`allow` does not cover delete pods in namespace default" in good.run("delete", "pod", "x", fails=True)


def test_only_the_user_of_kas_may_ask(product: Product, agent: Agent) -> None:
    socket = product.state / "operator.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    assert agent.id
