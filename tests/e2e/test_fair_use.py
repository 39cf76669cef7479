"""Limits, as a job's kubectl meets them: it waits and goes on by itself, and the operator sees it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.product import Product

COMMANDS = 6
LIMITS = {"token": {"requests_per_s": 4, "burst": 2, "max_streams": 1}}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with Product(tmp_path_factory.mktemp("limited"), {"fair_use": LIMITS}) as running:
        yield running


def refused(product: Product, kind: str) -> float:
    assert product.kas is not None
    with urllib.request.urlopen(f"{product.kas.observability}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    (found,) = (line for line in lines if line.startswith(f'kas_limits_refused_total{{kind="{kind}",scope="token"}}'))
    return float(found.split()[-1])


@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_commands_beyond_the_rate_are_refused_and_repeated_until_each_is_done(
    product: Product, job_kubeconfig: Path, minor: str, tmp_path: Path
) -> None:
    kubectl = Kubectl(kubectl_program(minor), job_kubeconfig, tmp_path)
    before = refused(product, "requests")
    with ThreadPoolExecutor(COMMANDS) as pool:
        done = list(pool.map(lambda _: kubectl.result("get", "--raw", "/version"), range(COMMANDS)))
    assert [one.returncode for one in done] == [0] * COMMANDS, [one.stderr for one in done]
    assert all("gitVersion" in json.loads(one.stdout) for one in done)
    assert refused(product, "requests") > before


def test_a_watch_too_many_begins_when_another_ends(product: Product, job_kubeconfig: Path, tmp_path: Path) -> None:
    kubectl = Kubectl(any_kubectl(), job_kubeconfig, tmp_path)
    watch = ("get", "--raw", "/api/v1/namespaces?watch=1&fieldSelector=metadata.name%3Ddefault")
    before = refused(product, "streams")
    with kubectl.running(*watch) as first:
        assert first.stdout is not None
        assert json.loads(first.stdout.readline())["type"] == "ADDED"
        with ThreadPoolExecutor(1) as pool, kubectl.running(*watch) as second:
            assert second.stdout is not None
            came = pool.submit(second.stdout.readline)
            while refused(product, "streams") == before:
                assert second.poll() is None
            assert not came.done()
            first.kill()
            assert json.loads(came.result(timeout=30))["type"] == "ADDED"
