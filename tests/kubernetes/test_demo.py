"""The demo on the real Kubernetes: the steps of the main job, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kubectls import Kubectl, kubectl_program

KAS = Path(sys.executable).parent / "kas"


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("minor", ["1.27", "1.33"])
def test_the_demo_plays_on_a_real_cluster(admin: Kubectl, minor: str, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAS_", "AGENTK_", "KUBE"))}
    env = {**kept, "TMPDIR": str(tmp_path), "KUBECTL": str(kubectl_program(minor)), "NO_COLOR": "1"}
    command = [KAS, "demo", "--once", "--kube", admin.kubeconfig, "--image", "localhost/busybox:1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 15 steps passed" in done.stdout
    assert "kas-demo" not in admin.run("get", "namespaces", "--output=name")
    assert not list(tmp_path.glob("kas-demo-*"))
