"""A long, slow and lossy way between agentk and kas: everything takes longer, and nothing else differs."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG_PROJECT, JOBS_PROJECT, chosen
from tests.matrix.comparing import compare
from tests.matrix.rows import ROWS, prepare
from tests.matrix.sides import Side
from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Product
from tests.support.tcp_relay import Road, Weather

POOR = Weather(delay_s=0.15, bytes_per_s=1_000_000 / 8, loss=0.02)
NAMES = ("get -w", "apply", "logs", "exec", "exec -it")
BULK = hashlib.shake_256(b"poor").digest(1 << 20)  # eight seconds each way


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, cluster: Path) -> Iterator[tuple[Side, Side]]:
    """The same rows' sides: direct, and over the poor road."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        port = int(product.kas_address.rpartition(":")[2])
        with Road(port, POOR) as road:
            agent = product.register("far", CONFIG_PROJECT)
            product.configure(agent, json.dumps({"ci_access": {"projects": [{"id": JOBS_PROJECT}]}}))
            product.start_agentk(agent, cluster, kas_address=f"grpcs://localhost:{road.port}")
            job = chosen(product, product.kubeconfig(product.job_token(JOBS_PROJECT)), agent)
            made = []
            for way, kubeconfig in (("direct", cluster), ("kas", job)):
                home = tmp_path_factory.mktemp(way)
                shutil.copy(kubeconfig, home / "kubeconfig")
                kubectl = Kubectl(any_kubectl(), home / "kubeconfig", home)
                made.append(Side(way, kubectl, f"poor-road-{way}", home, "busybox"))
                prepare(made[-1], "exec sleep 100000")
            yield made[0], made[1]
            product.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.covers("T-07")
def test_what_is_done_and_printed_is_that_of_a_short_way(two: tuple[Side, Side]) -> None:
    found = compare([row for row in ROWS if row.name in NAMES], *two)
    differences = [f"{outcome.row}:\n{outcome.difference}" for outcome in found if outcome.difference]
    assert not differences, "\n\n".join(differences)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.covers("T-07")
def test_a_mib_goes_up_and_comes_down_whole_at_the_speed_of_the_road(two: tuple[Side, Side]) -> None:
    begun = time.monotonic()
    came = two[1].kubectl.result("exec", "--stdin", "shell", "--", "cat", input=BULK)
    took_s = time.monotonic() - begun
    assert (came.returncode, came.stderr) == (0, b"")
    assert hashlib.sha256(came.stdout).digest() == hashlib.sha256(BULK).digest()
    assert took_s > len(BULK) / POOR.bytes_per_s  # or the weather was never felt
