from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kas.cli.manifest import ManifestOptions, Role, objects, render

DEPLOY = Path(__file__).parents[4] / "deploy"
BASE = ManifestOptions(agent="shop/infra:prod", kas_address="grpcs://kas.example.com:8150")
FULL = ManifestOptions(
    agent="shop/infra:prod",
    kas_address="grpcs://kas.example.com:8150",
    namespace="tools",
    role=Role.NAMESPACE_DEPLOYER,
    deploy_namespaces=("web", "shop"),
    token="kasagent-secret",
    ca_certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
)


def kinds(options: ManifestOptions) -> list[str]:
    return [one["kind"] for one in objects(options)]


def one(options: ManifestOptions, kind: str) -> dict[str, Any]:
    return next(found for found in objects(options) if found["kind"] == kind)


def pod(options: ManifestOptions) -> dict[str, Any]:
    spec: dict[str, Any] = one(options, "Deployment")["spec"]["template"]["spec"]
    return spec


def test_objects_come_in_the_order_in_which_they_must_be_made():
    assert kinds(FULL) == [
        *("Namespace", "ServiceAccount", "Secret", "ConfigMap"),
        *("Role", "RoleBinding", "Role", "RoleBinding"),
        *("Deployment", "PodDisruptionBudget"),
    ]


def test_without_a_token_the_secret_is_expected_and_said():
    assert "Secret" not in kinds(BASE)
    assert "kubectl -n agentk create secret generic agentk-token --from-file=token=FILE" in render(BASE)
    assert pod(BASE)["volumes"][0]["secret"]["secretName"] == "agentk-token"


def test_without_a_ca_agentk_trusts_what_its_image_trusts():
    assert "ConfigMap" not in kinds(BASE)
    assert "ca-cert-file" not in render(BASE)
    assert [volume["name"] for volume in pod(BASE)["volumes"]] == ["token", "tmp"]


def test_the_text_is_the_objects():
    assert list(yaml.safe_load_all(render(FULL))) == list(objects(FULL))
    assert "&id" not in render(FULL)
    assert "ca.crt: |\n    -----BEGIN CERTIFICATE-----" in render(FULL)


@pytest.mark.parametrize(
    ("role", "bound"),
    [
        (Role.NONE, []),
        (Role.READ_ONLY, [("ClusterRoleBinding", "view")]),
        (Role.CLUSTER_ADMIN, [("ClusterRoleBinding", "cluster-admin")]),
        (Role.NAMESPACE_DEPLOYER, [("RoleBinding", "agentk-agentk-deployer")]),
    ],
)
def test_a_role_binds_no_more_than_it_says(role: Role, bound: list[tuple[str, str]]):
    options = ManifestOptions(agent="a/a:a", kas_address="grpcs://a:1", role=role, deploy_namespaces=("web",))
    bindings = [found for found in objects(options) if "roleRef" in found]
    assert [(binding["kind"], binding["roleRef"]["name"]) for binding in bindings] == bound
    for binding in bindings:
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "agentk", "namespace": "agentk"}]


def test_the_least_is_the_default():
    assert BASE.role is Role.READ_ONLY


def test_the_deployers_rules_are_those_of_the_example():
    path = DEPLOY / "rbac/namespace-deployer.yaml"
    role = next(document for document in yaml.safe_load_all(path.read_text()) if document["kind"] == "Role")
    assert one(FULL, "Role")["rules"] == role["rules"]


def test_cluster_wide_names_carry_the_namespace():
    first = ManifestOptions(agent="a/a:a", kas_address="grpcs://a:1", namespace="one")
    second = ManifestOptions(agent="a/a:b", kas_address="grpcs://a:1", namespace="two")
    names = [one(options, "ClusterRoleBinding")["metadata"]["name"] for options in (first, second)]
    assert names == ["one-agentk-read-only", "two-agentk-read-only"]


def test_the_pod_keeps_the_restricted_standard():
    spec = pod(FULL)
    assert one(FULL, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume["name"] for volume in spec["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


def test_agentk_is_told_where_kas_is_and_who_it_is():
    (container,) = pod(FULL)["containers"]
    assert container["args"] == ["--observability-listen=0.0.0.0:8080", "--drain-timeout=20"]
    assert {variable["name"]: variable.get("value") for variable in container["env"]} == {
        "POD_NAME": None,
        "POD_NAMESPACE": None,
        "AGENTK_KAS_ADDRESS": "grpcs://kas.example.com:8150",
        "AGENTK_TOKEN_FILE": "/etc/agentk/secrets/token",
        "AGENTK_CA_CERT_FILE": "/etc/agentk/ca/ca.crt",
    }
    assert {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")} == {
        "/liveness",
        "/readiness",
    }


def test_a_new_ca_makes_new_pods():
    before = one(FULL, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    after = one(BASE, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert before != after


def test_the_representation_of_the_options_hides_the_token():
    assert "kasagent-secret" not in repr(FULL)
