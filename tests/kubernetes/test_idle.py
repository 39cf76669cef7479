"""Sessions in which nothing is said for half an hour. On demand: `make soak`."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kubernetes.conftest import CONFIG_PROJECT, JOBS_PROJECT, RunningCluster
from tests.support.kubectls import Kubectl, any_kubectl, kubectl_program
from tests.support.product import Product

IDLE_S = int(os.environ.get("KAS_SOAK") or 0)


@pytest.fixture
def job(cluster: RunningCluster, admin: Kubectl, tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig that is good for longer than that, in a namespace with a pod that echoes: apart from the other tests'."""
    namespace = f"idle-{os.urandom(2).hex()}"
    script = "exec nc -ll -p 8080 -e cat"  # it has no time limit of its own
    image = ("--image=localhost/busybox:1", "--image-pull-policy=Never")
    admin.run("create", "namespace", namespace)
    try:
        admin.run("--namespace", namespace, "run", "shell", *image, "--command", "--", "sh", "-c", script)
        admin.run("--namespace", namespace, "wait", "--for=condition=Ready", "--timeout=60s", "pod/shell")
        with Product(tmp_path / "product") as product:
            agent = product.register("idle", CONFIG_PROJECT)
            project = {"id": JOBS_PROJECT, "default_namespace": namespace}
            product.configure(agent, json.dumps({"ci_access": {"projects": [project]}}))
            product.start_agentk(agent, cluster.kubeconfig)
            kubeconfig = product.kubeconfig(product.job_token(JOBS_PROJECT, "--ttl", f"{2 * IDLE_S + 600}s"))
            Kubectl(any_kubectl(), kubeconfig, tmp_path).run("config", "use-context", agent.context)
            yield kubeconfig
    finally:
        admin.run("delete", "namespace", namespace, "--wait=false")


@pytest.mark.covers("U-09")
@pytest.mark.skipif(not IDLE_S, reason="takes half an hour: make soak")
@pytest.mark.usefixtures("node")
def test_an_exec_a_forwarded_connection_and_a_watch_that_are_idle_live_on(job: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        sessions = []
        for minor in ("1.27", "1.33"):
            kubectl = Kubectl(kubectl_program(minor), job, tmp_path / minor)
            echoing = stack.enter_context(
                subprocess.Popen(
                    [kubectl.program, "exec", "--stdin", "shell", "--", "cat"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=kubectl.environment_now(),
                )
            )
            stack.callback(echoing.kill)
            forward = stack.enter_context(kubectl.running("port-forward", "shell", ":8080"))
            assert forward.stdout is not None
            port = re.search(rb"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert port is not None
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", int(port[1]))))
            watch = stack.enter_context(
                kubectl.running("get", "configmaps", "--watch-only", "--output=name", f"--selector=idle=v{minor}")
            )
            sessions.append((minor, kubectl, echoing, connection, watch))
        time.sleep(IDLE_S)
        for minor, kubectl, echoing, connection, watch in sessions:
            assert echoing.stdin is not None
            assert echoing.stdout is not None
            echoing.stdin.write(b"still there\n")
            echoing.stdin.flush()
            assert echoing.stdout.readline() == b"still there\n", minor
            echoing.stdin.close()
            assert echoing.wait(20) == 0
            connection.settimeout(20)
            connection.sendall(b"so is this\n")
            assert connection.recv(4096) == b"so is this\n", minor
            name = f"idle-{minor.replace('.', '-')}"
            kubectl.run("create", "configmap", name)
            kubectl.run("label", "configmap", name, f"idle=v{minor}")
            # The API server ends each watch within an hour, which kubectl does not hide; half of one it lives.
            assert watch.stdout is not None
            assert watch.stdout.readline() == f"configmap/{name}\n".encode(), minor
            kubectl.run("delete", "configmap", name)
