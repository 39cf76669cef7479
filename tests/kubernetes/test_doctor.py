"""What `agentk doctor` says of the RBAC examples, by a real API server's own reviews."""

from __future__ import annotations

import pytest

from tests.kubernetes.conftest import NAMESPACE
from tests.kubernetes.identities import Identities
from tests.support.doctor import Examined, examined
from tests.support.product import Agent, Product


def examine(product: Product, agent: Agent, identities: Identities, example: str, *words: str) -> Examined:
    options = (
        "--kas-address",
        product.kas_address,
        "--token-file",
        agent.token_file,
        "--ca-cert-file",
        product.ca_file,
    )
    return examined("agentk", *options, "--kubeconfig", identities.with_rights_of(example), *words)


@pytest.mark.parametrize(
    ("example", "words", "code", "impersonate", "exec_"),
    [
        ("cluster-admin", (), 0, "ok", "skipped"),
        ("impersonate-ci-jobs", (), 0, "ok", "skipped"),
        ("impersonate-one-identity", ("--access-as", "impersonate"), 0, "ok", "skipped"),
        ("read-only", (), 3, "warning", "warning"),
        ("read-only", ("--access-as", "ci_job"), 1, "broken", "skipped"),
        ("namespace-deployer", ("--access-as", "agent", "--namespace", NAMESPACE), 0, "skipped", "ok"),
        ("namespace-deployer", ("--access-as", "agent", "--namespace", "untouchable"), 3, "skipped", "warning"),
    ],
)
def test_doctor_tells_what_an_example_is_good_for(
    product: Product,
    deployer: Agent,
    identities: Identities,
    example: str,
    words: tuple[str, ...],
    code: int,
    impersonate: str,
    exec_: str,
) -> None:
    found = examine(product, deployer, identities, example, *words)
    told = found.rows["RBAC: impersonate"], found.rows["RBAC: exec"]
    assert tuple(row.state for row in told) == (impersonate, exec_), told
    assert found.code == code, found.rows
    assert found.rows["API server: version"].said.startswith("Kubernetes v1.")
    assert found.rows["API server: clock"].state == "ok"


def test_names_that_alone_may_be_impersonated_are_told(
    product: Product, deployer: Agent, identities: Identities
) -> None:
    said = examine(product, deployer, identities, "impersonate-one-identity").rows["RBAC: impersonate"].said
    assert "users (only " in said
    said = examine(product, deployer, identities, "impersonate-ci-jobs").rows["RBAC: impersonate"].said
    assert said.startswith("agentk may impersonate users, groups (only gitlab:ci_job, ")
    assert "userextras" in said.partition("; not")[0]
