"""The chart, by helm itself. helm is built from Go modules as the real Kubernetes is, so this runs in the same ring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.helm import helm

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

CHART = Path(__file__).parents[2] / "deploy" / "charts" / "agentk"
TOKEN = "kasagent-" + "a" * 43
BASE = ("--set-string", "kasAddress=grpcs://kas.example.com:8150")
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


def rendered(*words: str | Path) -> list[dict[str, Any]]:
    text = helm("template", "agentk", str(CHART), "--namespace", "agentk", *map(str, words))
    return [document for document in yaml.safe_load_all(text) if document]


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def test_helm_lint_finds_nothing(token_file: Path) -> None:
    helm("lint", "--strict", str(CHART), *BASE, "--set-file", f"token={token_file}")


def test_the_instructions_of_agent_register_render(token_file: Path, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.crt"
    ca_file.write_text(CA)
    documents = rendered(*BASE, "--set-file", f"token={token_file}", "--set-file", f"caCert={ca_file}")
    assert {document["kind"] for document in documents} == {
        *("ServiceAccount", "Secret", "ConfigMap", "Deployment", "ClusterRoleBinding", "PodDisruptionBudget")
    }
    assert one(documents, "Secret")["metadata"]["name"] == "agentk-token"
    assert one(documents, "ConfigMap")["data"] == {"ca.crt": CA}
    container = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {variable["name"]: variable.get("value") for variable in container["env"]} == {
        "POD_NAME": None,
        "POD_NAMESPACE": None,
        "AGENTK_KAS_ADDRESS": "grpcs://kas.example.com:8150",
        "AGENTK_TOKEN_FILE": "/etc/agentk/secrets/token",
        "AGENTK_CA_CERT_FILE": "/etc/agentk/ca/ca.crt",
    }


def test_least_rights_by_default(token_file: Path) -> None:
    documents = rendered(*BASE, "--set-file", f"token={token_file}")
    assert one(documents, "ClusterRoleBinding")["roleRef"]["name"] == "view"
    assert not [document for document in documents if document["kind"] in ("Role", "ClusterRole")]


def test_the_deployer_has_roles_in_the_namespaces_named_and_nowhere_else(token_file: Path) -> None:
    words = ("--set", "rbac.role=namespace-deployer", "--set", "rbac.namespaces={blue,green}")
    documents = rendered(*BASE, "--set-file", f"token={token_file}", *words)
    roles = [document for document in documents if document["kind"] == "Role"]
    assert [role["metadata"]["namespace"] for role in roles] == ["blue", "green"]
    assert not [document for document in documents if document["kind"].startswith("Cluster")]


def test_impersonation_is_limited_to_the_names_given(token_file: Path) -> None:
    words = [f"rbac.impersonate.{key}" for key in ("enabled=true", "users={ci:deployer}", "groups={ci:deployers}")]
    settings = [word for setting in (*words, "rbac.role=none") for word in ("--set", setting)]
    documents = rendered(*BASE, "--set-file", f"token={token_file}", *settings)
    rules = one(documents, "ClusterRole")["rules"]
    assert [(rule["resources"], rule["resourceNames"]) for rule in rules] == [
        (["users"], ["ci:deployer"]),
        (["groups"], ["ci:deployers"]),
    ]


def test_a_secret_of_ones_own_is_used_and_none_is_made() -> None:
    documents = rendered(*BASE, "--set", "tokenSecret.name=mine", "--set", "tokenSecret.key=agent")
    assert not [document for document in documents if document["kind"] == "Secret"]
    (volume,) = [
        volume
        for volume in one(documents, "Deployment")["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "token"
    ]
    assert volume["secret"]["secretName"] == "mine"
    assert volume["secret"]["items"] == [{"key": "agent", "path": "token"}]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["tokenSecret.name=mine"], "kasAddress is missing"),
        (["kasAddress=grpcs://kas.example.com:8150"], "token is missing"),
        (["kasAddress=https://kas.example.com", "tokenSecret.name=mine"], "does not match pattern"),
        (["kasAddress=grpcs://kas.example.com", "tokenSecret.name=mine", "kasAdress=x"], "kasAdress"),
        (["kasAddress=grpcs://kas.example.com", "tokenSecret.name=mine", "rbac.role=admin"], "/rbac/role"),
        (
            ["kasAddress=grpcs://kas", "tokenSecret.name=mine", "rbac.impersonate.groups={system:masters}"],
            "/rbac/impersonate/groups/0",
        ),
        (["kasAddress=grpcs://kas", "tokenSecret.name=mine", "rbac.impersonate.enabled=true"], "names no user"),
    ],
)
def test_mistakes_are_refused_with_their_name(settings: list[str], said: str) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    assert said in helm("template", "agentk", str(CHART), *words, code=1)


def test_a_wrong_token_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("kasjob-secret")
    said = helm("template", "agentk", str(CHART), *BASE, "--set-file", f"token={file}", code=1)
    assert "not an agent's token" in said
    assert "kasjob-secret" not in said
