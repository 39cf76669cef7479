"""What a deployment job does, with stock kubectl: apply, roll out, look, delete."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from tests.kubernetes.conftest import NAMESPACE
from tests.support.kubectls import Kubectl

APP = str(Path(__file__).parent / "app")
pytestmark = pytest.mark.usefixtures("node")


@pytest.mark.parametrize("where", ["client", "server"])
def test_apply_roll_out_and_delete(kubectl: Kubectl, where: str) -> None:
    side = ("--server-side",) if where == "server" else ()
    try:
        created = kubectl.run("apply", "--kustomize", APP, *side)
        assert "deployment.apps/web" in created
        assert "successfully rolled out" in kubectl.run("rollout", "status", "deployment/web", "--timeout=55s")
        again = kubectl.run("apply", "--kustomize", APP, *side)
        assert "deployment.apps/web unchanged" in again or "deployment.apps/web serverside-applied" in again
        assert re.search(r"^web-\S+ +1/1 +Running", kubectl.run("get", "pods", "-l", "app=web"), re.MULTILINE)
    finally:
        deleted = kubectl.run("delete", "--kustomize", APP, "--wait", "--timeout=55s")
    assert 'deployment.apps "web" deleted' in deleted
    assert kubectl.run("get", "deployments", "--output=name") == ""


def test_a_diff_is_shown_with_its_exit_code(kubectl: Kubectl) -> None:
    result = kubectl.result("diff", "--kustomize", APP)
    assert result.returncode == 1, result.stderr.decode()
    assert b"+kind: Deployment" in result.stdout


def test_a_watch_shows_a_change_at_once(kubectl: Kubectl, admin: Kubectl) -> None:
    with kubectl.running("get", "configmaps", "--watch", "--output-watch-events", "--output=name") as watch:
        assert watch.stdout is not None
        lines = iter(watch.stdout.readline, b"")
        next(line for line in lines if b"kube-root-ca.crt" in line)  # the list has come: the watch begins
        admin.run("--namespace", NAMESPACE, "create", "configmap", "seen")
        try:
            guard = threading.Timer(10, watch.kill)
            guard.start()
            seen = next((line for line in lines if b"configmap/seen" in line), None)
            guard.cancel()
        finally:
            admin.run("--namespace", NAMESPACE, "delete", "configmap", "seen")
    assert seen is not None, "the watch did not show the change within 10 s"


def test_deleting_waits_until_the_pod_is_gone(kubectl: Kubectl) -> None:
    image = ("--image=localhost/busybox:1", "--image-pull-policy=Never")
    kubectl.run("run", "doomed", *image, "--command", "--", "sleep", "1000")
    kubectl.run("wait", "--for=condition=Ready", "--timeout=55s", "pod/doomed")
    kubectl.run("delete", "pod", "doomed", "--now", "--wait", "--timeout=55s")
    assert "not found" in kubectl.run("get", "pod", "doomed", fails=True)
