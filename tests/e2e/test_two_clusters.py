"""One agent's tokens are used in two clusters, as after a manifest was copied: both serve, and the operator is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.practice import practice_cluster
from tests.support.product import Product

UID = ("get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")
ASKED = 10


@pytest.mark.covers("T-09")
def test_the_operator_is_told_and_each_answer_is_one_clusters(cluster: Path, tmp_path: Path) -> None:
    with practice_cluster(tmp_path / "other") as other, Product(tmp_path / "product") as product:
        agent = product.register("copied", CONFIG_PROJECT)
        second = tmp_path / "second.token"
        product.command("agent", "token", "create", "copied", "--token-file", str(second))
        product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
        product.start_agentk(agent, cluster)
        product.start_agentk(replace(agent, token_file=second), other)
        uids = {Kubectl(any_kubectl(), admin, tmp_path).run(*UID) for admin in (cluster, other)}
        assert len(uids) == 2

        job = Kubectl(
            any_kubectl(), chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent), tmp_path
        )
        assert {job.run(*UID) for _ in range(ASKED)} <= uids

        kas = product.kas
        assert kas is not None
        (warning,) = [json.loads(line) for line in kas.said().splitlines() if "several clusters" in line]
        assert warning["level"] == "warning"
        assert {warning["cluster"], warning["names"]} == uids
        assert "register an agent for each cluster" in warning["message"]
        product.close()
        linked = [
            one
            for one in json.loads(product.command("audit", "query", "--output", "json"))
            if one["event"] == "agent_linked"
        ]
        assert {one["cluster"] for one in linked} == uids
        assert len({one["token_id"] for one in linked}) == 2
