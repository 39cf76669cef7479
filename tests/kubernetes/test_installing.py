"""What installs agentk, judged by the real API server; and helm itself through the tunnel."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.kubernetes.conftest import CONFIG_PROJECT, JOBS_PROJECT
from tests.kubernetes.identities import Identities
from tests.support.helm import helm
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Agent, Product

CHART = str(Path(__file__).parents[2] / "deploy" / "charts" / "agentk")
ROLES = ["none", "read-only", "namespace-deployer", "cluster-admin"]


@pytest.fixture(scope="session")
def installing(admin: Kubectl, product: Product, identities: Identities) -> Agent:
    """An agent that is to be installed, and the namespace for it, with the strictest of the pod security standards."""
    identities.namespace("agentk")
    admin.run("label", "namespace", "agentk", "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    return product.register("installing", CONFIG_PROJECT)


@pytest.mark.parametrize("role", ROLES)
def test_the_api_server_takes_the_manifest(admin: Kubectl, product: Product, installing: Agent, role: str) -> None:
    words = ["agent", "manifest", installing.name, "--token-file", str(installing.token_file), "--role", role]
    if role == "namespace-deployer":
        words += ["--deploy-namespace", "production"]
    manifest = product.command(*words)
    said = admin.run("apply", "--dry-run=server", "--filename", "-", input=manifest)
    assert "deployment.apps/agentk created (server dry run)" in said
    assert "Warning" not in admin.result("apply", "--dry-run=server", "--filename", "-", input=manifest).stderr.decode()


@pytest.mark.parametrize("role", ["none", "read-only", "namespace-deployer", "cluster-admin"])
def test_the_api_server_takes_what_the_chart_renders(
    admin: Kubectl, product: Product, installing: Agent, role: str
) -> None:
    files = ("--set-file", f"token={installing.token_file}", "--set-file", f"caCert={product.ca_file}")
    settings = ("--set-string", f"kasAddress={product.kas_address}", "--set", f"rbac.role={role}")
    network = ("--set", "networkPolicy.enabled=true")
    text = helm("template", "agentk", CHART, "--namespace", "agentk", *settings, *files, *network)
    result = admin.result("apply", "--dry-run=server", "--filename", "-", input=text)
    assert result.returncode == 0, result.stderr.decode()
    assert b"deployment.apps/agentk created (server dry run)" in result.stdout
    assert b"Warning" not in result.stderr


def test_helm_installs_and_uninstalls_through_the_tunnel(
    product: Product, identities: Identities, installing: Agent, tmp_path: Path
) -> None:
    agent = product.register("everything", CONFIG_PROJECT)
    project = {"id": JOBS_PROJECT, "default_namespace": "agentk"}
    product.configure(agent, json.dumps({"ci_access": {"projects": [project]}}))
    product.start_agentk(agent, identities.with_rights_of("cluster-admin"))
    kubectl = Kubectl(any_kubectl(), product.kubeconfig(product.job_token(JOBS_PROJECT)), tmp_path)
    kubectl.run("config", "use-context", agent.context)
    environment = {**os.environ, "KUBECONFIG": str(kubectl.kubeconfig), "HOME": str(tmp_path)}
    files = ("--set-file", f"token={installing.token_file}", "--set-file", f"caCert={product.ca_file}")
    words = ("--namespace", "agentk", "--set-string", f"kasAddress={product.kas_address}", *files)
    helm("upgrade", "--install", "agentk", CHART, *words, environment=environment)
    assert "deployment.apps/agentk" in kubectl.run("get", "deployments", "--output=name")
    assert "STATUS: deployed" in helm("status", "agentk", "--namespace", "agentk", environment=environment)
    helm("uninstall", "agentk", "--namespace", "agentk", environment=environment)
    assert kubectl.run("get", "deployments", "--output=name") == ""
