"""A frozen agentk, as on a machine that swaps: what is open goes on when it wakes, nothing is lost or said twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.kubectls import Kubectl, any_kubectl
from tests.support.product import Product

FROZEN_S = 10
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec: {containers: [{name: main, image: busybox, command: [sh, -c, "exec sleep 1000"]}]}
"""


@pytest.fixture(scope="module")
def counter(admin: Kubectl) -> Iterator[str]:
    admin.run("apply", "-f", "-", input=POD)
    admin.run("wait", "--for=condition=Ready", "pod/counter", "--timeout=30s")
    yield "counter"
    admin.run("delete", "pod", "counter", "--now")
    admin.run("delete", "configmap", "--selector=of=frozen")


@pytest.fixture
def job(job_kubeconfig: Path, tmp_path: Path) -> Kubectl:
    return Kubectl(any_kubectl(), job_kubeconfig, tmp_path)


@contextmanager
def frozen(product: Product) -> Iterator[None]:
    (agentk,) = product.agentks
    os.kill(agentk.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(agentk.pid, signal.SIGCONT)


def seen(job: Kubectl, name: str) -> None:
    """Something for the watch to see; the cluster is shared with other tests."""
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{of: frozen}}}}\n"
    job.run("apply", "--filename", "-", input=text)


@pytest.mark.covers("T-04")
def test_after_ten_seconds_everything_goes_on(product: Product, job: Kubectl, counter: str) -> None:
    seen(job, "before")
    counting = ("exec", counter, "--", "sh", "-c", "for i in $(seq 200); do echo $i; sleep 0.1; done")
    with (
        job.running("exec", counter, "--", "sh", "-c", "sleep 1; head -c 3000000 /dev/zero") as bulk,
        job.running(*counting) as numbers,
        job.running("get", "configmaps", "--watch", "--selector=of=frozen", "--output=name") as watch,
    ):
        assert numbers.stdout is not None
        assert watch.stdout is not None
        assert numbers.stdout.readline() == b"1\n"
        assert watch.stdout.readline() == b"configmap/before\n"
        with frozen(product):
            time.sleep(FROZEN_S)
        seen(job, "awake")
        assert watch.stdout.readline() == b"configmap/awake\n"
        rest, said = numbers.communicate(timeout=60)
        assert rest.split() == [b"%d" % number for number in range(2, 201)]
        assert numbers.returncode == 0, said
        content, said = bulk.communicate(timeout=60)
        assert (len(content), said) == (3_000_000, b"")
        assert content == bytes(3_000_000)
        assert bulk.returncode == 0, said


@pytest.mark.covers("T-04")
def test_a_request_meanwhile_is_answered_when_it_wakes(product: Product, job: Kubectl, counter: str) -> None:
    with frozen(product), job.running("get", "pod", counter, "--output=name") as asking:
        time.sleep(3)
        assert asking.poll() is None
        (agentk,) = product.agentks
        os.kill(agentk.pid, signal.SIGCONT)
        out, said = asking.communicate(timeout=30)
    assert out == f"pod/{counter}\n".encode(), said
