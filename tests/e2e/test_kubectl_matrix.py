"""The kubectl matrix against the practice cluster, as far as that offers the command. The real Kubernetes: tests/kubernetes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.matrix.comparing import compare, difference
from tests.matrix.rows import ROWS, prepare
from tests.matrix.sides import Seen, Side
from tests.support.kubectls import Kubectl, kubectl_program
from tests.support.product import Product


@pytest.fixture(scope="module")
def job_kubeconfig(tmp_path_factory: pytest.TempPathFactory, cluster: Path) -> Iterator[Path]:
    """Of a job with the administrator's rights, so that both sides may do the same."""
    options = {"kubernetes_api": {"allow_user_impersonation": True}}
    with Product(tmp_path_factory.mktemp("product"), options) as product:
        agent = product.register("all", CONFIG_PROJECT)
        product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
        product.start_agentk(agent, cluster)
        yield chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)


@pytest.mark.covers("U-01")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_through_kas_as_without_it(minor: str, cluster: Path, job_kubeconfig: Path, tmp_path: Path) -> None:
    sides = []
    for name, kubeconfig in (("direct", cluster), ("kas", job_kubeconfig)):
        folder = tmp_path / name
        folder.mkdir()
        own = folder / "kubeconfig"
        shutil.copy(kubeconfig, own)
        kubectl = Kubectl(kubectl_program(minor), own, folder)
        sides.append(Side(name, kubectl, f"matrix-{minor.replace('.', '-')}-{name}", folder, "busybox"))
    for side in sides:
        prepare(side, "mkdir -p www; exec sleep 100000")
    found = compare([row for row in ROWS if row.practice], *sides)
    differences = [f"{outcome.row}:\n{outcome.difference}" for outcome in found if outcome.difference]
    assert not differences, "\n\n".join(differences)


def test_a_difference_is_found() -> None:
    one, other = Seen("get pods", 0, "pod/a\n"), Seen("get pods", 0, "pod/b\n")
    assert difference([one], [one]) == ""
    for unlike in (other, Seen("get pods", 1, "pod/a\n"), Seen("get pods", 0, "pod/a\n", "Warning: x")):
        assert difference([one], [unlike])
    assert difference([one], [])
    assert difference([Seen("broken off", None, "why")], [Seen("broken off", None, "why")])
