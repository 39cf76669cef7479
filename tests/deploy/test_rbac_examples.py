"""The RBAC examples: what they promise in their comments. That Kubernetes takes them is shown in tests/kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "rbac"
CHART = FOLDER.parent / "charts" / "agentk"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for document in documents(path) for rule in document.get("rules", [])]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_it_binds_agentks_service_account(path: Path) -> None:
    subjects = [subject for document in documents(path) for subject in document.get("subjects", [])]
    assert {"kind": "ServiceAccount", "name": "agentk", "namespace": "agentk"} in subjects


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_no_rule_of_our_own_is_a_wildcard(path: Path) -> None:
    for rule in rules(path):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_exec_and_its_kin_have_both_verbs(path: Path) -> None:
    # Which of the two kubectl needs depends on its version and on the API server's.
    for rule in rules(path):
        if {"pods/exec", "pods/attach", "pods/portforward"} & set(rule["resources"]):
            assert {"get", "create"} <= set(rule["verbs"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_groups_are_impersonated_by_name_only(path: Path) -> None:
    for rule in rules(path):
        if "impersonate" in rule["verbs"] and "groups" in rule["resources"]:
            assert rule["resources"] == ["groups"]
            assert rule["resourceNames"]
            assert not [name for name in rule["resourceNames"] if name.startswith("system:")]


def test_the_one_identity_is_limited_in_every_part() -> None:
    for rule in rules(FOLDER / "impersonate-one-identity.yaml"):
        assert rule["resourceNames"]


def test_the_charts_deployer_has_the_rules_of_the_example() -> None:
    template = (CHART / "templates" / "rbac.yaml").read_text()
    start = template.index("rules:\n", template.index('eq $role "namespace-deployer"'))
    of_chart = yaml.safe_load(template[start : template.index("---", start)])["rules"]
    assert of_chart == rules(FOLDER / "namespace-deployer.yaml")
