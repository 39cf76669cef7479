"""Who may do what: kas's verdicts, and the cluster's own with the RBAC examples of deploy/rbac."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.conftest import CONFIG_PROJECT, JOBS_PROJECT, NAMESPACE
from tests.kubernetes.identities import EXAMPLES, Identities
from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.product import Agent, Product

WHO_AM_I = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})


def job(product: Product, agent: Agent, token_file: Path, tmp_path: Path) -> Kubectl:
    kubectl = Kubectl(any_kubectl(), product.kubeconfig(token_file), tmp_path)
    kubectl.run("config", "use-context", agent.context)
    return kubectl


def who_am_i(kubectl: Kubectl) -> dict[str, Any]:
    answer = json.loads(kubectl.run("create", "--validate=false", "--filename", "-", "--output=json", input=WHO_AM_I))
    info: dict[str, Any] = answer["status"]["userInfo"]
    return info


@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_a_job_of_a_project_that_is_not_let_in_is_told_so(
    product: Product, deployer: Agent, job_kubeconfig: Path, minor: str, tmp_path: Path
) -> None:
    stranger = product.job_token("else/where")
    kubectl = Kubectl(kubectl_program(minor), product.kubeconfig(stranger), tmp_path)
    assert kubectl.run("config", "get-contexts", "--output=name") == ""
    forged = tmp_path / "forged"
    allowed = Kubectl(kubectl.program, job_kubeconfig, tmp_path)
    document = json.loads(allowed.run("config", "view", "--raw", "--output=json"))
    document["users"][0]["user"]["token"] = f"ci:{deployer.id}:{stranger.read_text()}"
    forged.write_text(json.dumps(document))
    said = kubectl.with_kubeconfig(forged).run("get", "pods", fails=True)
    assert "Warning: " in said
    assert "may not use this agent" in said


def test_the_kubeconfig_of_a_job_holds_no_credential_of_the_cluster(
    job_kubeconfig: Path, identities: Identities
) -> None:
    text = job_kubeconfig.read_text()
    of_cluster = json.loads(identities.with_rights_of("namespace-deployer").read_text())
    assert of_cluster["users"][0]["user"]["token"] not in text
    assert "client-key" not in text


def test_the_deployer_ends_at_its_namespace(kubectl: Kubectl) -> None:
    said = kubectl.run("--namespace", "untouchable", "create", "configmap", "x", fails=True)
    assert "is forbidden" in said
    assert "system:serviceaccount:agentk-namespace-deployer:agentk" in said
    assert kubectl.run("auth", "can-i", "get", "secrets", "--all-namespaces", fails=True) == ""


def test_the_reader_reads_and_no_more(product: Product, identities: Identities, shell_pod: str, tmp_path: Path) -> None:
    agent = product.register("reading", CONFIG_PROJECT)
    product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
    product.start_agentk(agent, identities.with_rights_of("read-only"))
    kubectl = job(product, agent, product.job_token(JOBS_PROJECT), tmp_path)
    assert f"pod/{shell_pod}" in kubectl.run("get", "pods", "--all-namespaces", "--output=name")
    for words in (("get", "secrets"), ("create", "configmap", "x"), ("exec", shell_pod, "--", "true")):
        assert "forbidden" in kubectl.run("--namespace", NAMESPACE, *words, fails=True).lower()


def test_a_job_is_known_to_the_cluster_by_its_own_name(
    product: Product, identities: Identities, tmp_path: Path
) -> None:
    agent = product.register("per-job", CONFIG_PROJECT)
    project = {"id": JOBS_PROJECT, "access_as": {"ci_job": {}}, "default_namespace": NAMESPACE}
    product.configure(agent, json.dumps({"ci_access": {"projects": [project]}}))
    product.start_agentk(agent, identities.with_rights_of("impersonate-ci-jobs"))
    ids = ("--project-id", "17", "--group-id", "5", "--pipeline-id", "3", "--job-id", "42", "--user", "sam")
    production = ("--environment", "production", "--environment-slug", "production", "--environment-tier", "production")
    token = product.job_token(JOBS_PROJECT, *ids, *production)
    kubectl = job(product, agent, token, tmp_path)
    info = who_am_i(kubectl)
    assert info["username"] == "gitlab:ci_job:42"
    assert {"gitlab:ci_job", "gitlab:group:5", "gitlab:project:17"} <= set(info["groups"])
    assert info["extra"]["agent.gitlab.com/ci_job_id"] == ["42"]
    # The example binds the production tier of project 17 to "edit" in one namespace.
    kubectl.run("create", "configmap", "by-job-42")
    kubectl.run("delete", "configmap", "by-job-42")
    assert "is forbidden" in kubectl.run("--namespace", "untouchable", "get", "pods", fails=True)


def test_another_project_cannot_be_impersonated_whatever_kas_asks_for(
    product: Product, identities: Identities, tmp_path: Path
) -> None:
    agent = product.register("named-groups", CONFIG_PROJECT)
    project = {"id": "shop/other", "access_as": {"ci_job": {}}}
    product.configure(agent, json.dumps({"ci_access": {"projects": [project]}}))
    product.start_agentk(agent, identities.with_rights_of("impersonate-ci-jobs"))
    ids = ("--project-id", "99", "--group-id", "5", "--pipeline-id", "3", "--job-id", "43", "--user", "sam")
    kubectl = job(product, agent, product.job_token("shop/other", *ids), tmp_path)
    said = kubectl.run("get", "--raw", "/api/v1/pods", fails=True)  # kubectl shows no reason when discovery is denied
    assert "cannot impersonate" in said
    assert "gitlab:project:99" in said


def test_one_identity_for_all_jobs(product: Product, identities: Identities, tmp_path: Path) -> None:
    agent = product.register("one-identity", CONFIG_PROJECT)
    identity = {"username": "ci:deployer", "groups": ["ci:deployers"]}
    project = {"id": JOBS_PROJECT, "access_as": {"impersonate": identity}, "default_namespace": NAMESPACE}
    product.configure(agent, json.dumps({"ci_access": {"projects": [project]}}))
    product.start_agentk(agent, identities.with_rights_of("impersonate-one-identity"))
    kubectl = job(product, agent, product.job_token(JOBS_PROJECT), tmp_path)
    info = who_am_i(kubectl)
    assert info["username"] == "ci:deployer"
    assert set(info["groups"]) == {"ci:deployers", "system:authenticated"}


@pytest.mark.covers("I-01", "T1")
def test_a_job_cannot_choose_another_identity(product: Product, kubectl: Kubectl) -> None:
    said = kubectl.run("--as", "admin", "--as-group", "system:masters", "get", "pods", fails=True)
    assert "impersonat" in said.lower()


@pytest.mark.parametrize("example", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_the_api_server_takes_each_example_as_it_stands(admin: Kubectl, identities: Identities, example: str) -> None:
    identities.namespace("agentk")
    admin.run("apply", "--dry-run=server", "--filename", str(EXAMPLES / f"{example}.yaml"))
