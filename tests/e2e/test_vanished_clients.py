"""A client that is gone without a word, as when a laptop loses its network: what it had open ends, at the API server too."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.network import alone, drop
from tests.support.practice import practice_cluster
from tests.support.product import Product

FOUND_S = 120  # what TCP's keep-alive promises; a little more is for the looks at it
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec: {containers: [{name: main, image: busybox, command: [sh, -c, "while sleep 1; do echo talking; done"]}]}
"""


def carried(product: Product) -> int:
    """Requests that agentk has open at the API server."""
    with urllib.request.urlopen(f"{product.agentks[0].observability}/metrics", timeout=10) as page:
        said = page.read().decode()
    return int(float(re.findall(r"^agentk_requests_open (\S+)$", said, re.MULTILINE)[0]))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.covers("T-06")
def test_what_it_had_open_is_found_whether_it_is_quiet_or_has_something_to_say(tmp_path: Path) -> None:
    def body() -> None:
        with practice_cluster(tmp_path / "cluster") as cluster, Product(tmp_path / "product") as product:
            admin = Kubectl(any_kubectl(), cluster, tmp_path)
            admin.run("apply", "-f", "-", input=POD)
            admin.run("wait", "--for=condition=Ready", "pod/talker", "--timeout=30s")
            agent = product.register("far", CONFIG_PROJECT)
            product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
            agentk = product.start_agentk(agent, cluster)
            kubeconfig = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
            job = Kubectl(any_kubectl(), kubeconfig, tmp_path)
            with (
                job.running("get", "configmaps", "--watch-only", "--selector=of=nobody"),
                job.running("logs", "--follow", "talker"),
            ):
                agentk.wait_until(lambda: carried(product) == 2, "a quiet watch and a log that talks are open")
                drop(int(product.kubernetes_url.rpartition(":")[2]))
                begun = time.monotonic()
                agentk.wait_until(lambda: carried(product) == 0, "both are ended", FOUND_S + 15)
                assert time.monotonic() - begun > 10, "the packets were not dropped"

    alone(body, 230)
