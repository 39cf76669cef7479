"""kubectl's commands on objects, directly against the practice cluster."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.practice_cluster.conftest import HELLO
from tests.support.kubectls import Kubectl

Run = Callable[..., str]
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}


def test_version_says_that_it_is_not_kubernetes(kubectl: Kubectl):
    assert "practice-cluster" in kubectl.run("version", "-o", "json")


def test_api_resources_and_versions_are_those_of_the_demo(kubectl: Kubectl):
    resources = kubectl.run("api-resources", "-o", "name").split()
    assert {"pods", "deployments.apps", "configmaps", "services"} <= set(resources)
    assert kubectl.run("api-versions").split() == [
        "apps/v1",
        "authentication.k8s.io/v1",
        "authorization.k8s.io/v1",
        "v1",
    ]


def test_explain_knows_the_fields(kubectl: Kubectl):
    assert "replicas" in kubectl.run("explain", "deployment.spec")
    assert "integer" in kubectl.run("explain", "deployment.spec.replicas")


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_example_is_applied_twice_and_differs_in_nothing(run: Run, side: str):
    words = ("apply", "-k", str(HELLO)) + (("--server-side",) if side == "server" else ())
    assert "deployment.apps/hello" in run(*words)
    run("rollout", "status", "deployment/hello", "--timeout=20s")
    run(*words)
    assert run("diff", "-k", str(HELLO)) == ""
    assert run("get", "deployment", "hello", "-o", "jsonpath={.metadata.generation}") == "1"


def test_a_changed_manifest_is_a_difference_and_then_applied(run: Run, kubectl: Kubectl, namespace: str):
    run("apply", "-f", "-", input=json.dumps(CONFIG_MAP))
    changed = json.dumps({**CONFIG_MAP, "data": {"b": "2"}})
    difference = kubectl.result("-n", namespace, "diff", "-f", "-", input=changed)
    assert difference.returncode == 1
    assert b"b:" in difference.stdout
    run("apply", "-f", "-", input=changed)
    assert json.loads(run("get", "configmap", "settings", "-o", "json"))["data"] == {"b": "2"}


@pytest.mark.parametrize("command", ["create", "apply"])
def test_an_unknown_field_is_refused_by_name(run: Run, command: str):
    bad = json.dumps({**CONFIG_MAP, "dta": {}})
    assert 'unknown field "dta"' in run(command, "-f", "-", input=bad, fails=True)


def test_a_dry_run_changes_nothing(run: Run):
    run("apply", "-f", "-", "--dry-run=server", input=json.dumps(CONFIG_MAP))
    assert "NotFound" in run("get", "configmap", "settings", fails=True)


def test_typed_commands_create(run: Run):
    run("create", "configmap", "settings", "--from-literal=a=1")
    run("create", "secret", "generic", "password", "--from-literal=p=q")
    run("create", "serviceaccount", "robot")
    run("create", "service", "clusterip", "web", "--tcp=80:8080")
    run("create", "deployment", "web", "--image=any", "--replicas=0")
    names = run("get", "configmap,secret,serviceaccount,service,deployment", "-o", "name").split()
    assert {"configmap/settings", "secret/password", "serviceaccount/robot", "service/web"} <= set(names)
    assert run("get", "secret", "password", "-o", "jsonpath={.data.p}") == "cQ=="
    assert run("get", "service", "web", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"


def test_every_kind_of_patch(run: Run):
    run("create", "configmap", "settings", "--from-literal=a=1")
    run("label", "configmap", "settings", "tier=x")
    run("annotate", "configmap", "settings", "note=y")
    run("patch", "configmap", "settings", "-p", '{"data":{"b":"2"}}')
    run("patch", "configmap", "settings", "--type=json", "-p", '[{"op":"remove","path":"/data/a"}]')
    run("patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"c":"3"}}')
    item = json.loads(run("get", "configmap", "settings", "-o", "json"))
    assert item["data"] == {"b": "2", "c": "3"}
    assert (item["metadata"]["labels"], item["metadata"]["annotations"]) == ({"tier": "x"}, {"note": "y"})
    assert "settings" in run("get", "configmap", "-l", "tier in (x,z)", "-o", "name")
    assert run("get", "configmap", "-l", "tier!=x", "-o", "name") == ""


def test_a_table_has_the_columns_that_everybody_knows(run: Run, pod: str):
    head, first, *_ = run("get", "pods", "-o", "wide").splitlines()
    assert head.split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert first.split()[1:4] == ["1/1", "Running", "0"]
    assert "hello" in run("get", "all")
    assert pod in run("get", "pods", "--field-selector", "status.phase=Running", "--sort-by", ".metadata.name")


def test_describe_shows_events(run: Run, pod: str):
    assert "ScalingReplicaSet" in run("describe", "deployment", "hello")
    assert "Started container hello" in run("describe", "pod", pod)
    assert "TargetPort" in run("describe", "service", "hello")
    assert "ScalingReplicaSet" in run("get", "events")


def test_a_deployment_is_scaled_restarted_and_rolled_back(run: Run, pod: str):
    run("scale", "deployment/hello", "--replicas=3")
    run("wait", "--for=condition=Available", "deployment/hello", "--timeout=20s")
    run("rollout", "restart", "deployment/hello")
    run("rollout", "status", "deployment/hello", "--timeout=30s")
    assert pod not in run("get", "pods", "--field-selector", "status.phase=Running", "-o", "name")
    run("rollout", "undo", "deployment/hello")
    run("rollout", "status", "deployment/hello", "--timeout=30s")
    assert run("get", "deployment", "hello", "-o", "jsonpath={.status.readyReplicas}") == "3"


def test_a_watch_shows_changes_as_they_come(run: Run, kubectl: Kubectl, namespace: str):
    run("create", "configmap", "first")
    with kubectl.running("-n", namespace, "get", "configmaps", "-w", "-o", "name") as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().strip() == b"configmap/first"
        run("create", "configmap", "second")
        assert watch.stdout.readline().strip() == b"configmap/second"


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_deleting_a_deployment(run: Run, pod: str, cascade: str):
    run("delete", "deployment", "hello", f"--cascade={cascade}")
    if cascade == "orphan":
        assert pod in run("get", "pods", "-o", "name")
    else:
        run("wait", "--for=delete", f"pod/{pod}", "--timeout=10s")
        assert run("get", "pods", "-o", "name") == ""


def test_who_am_i_and_what_may_i(kubectl: Kubectl):
    assert kubectl.run("auth", "can-i", "create", "pods").strip() == "yes"
    if not kubectl.program.name.endswith("1.27"):  # that one asks for a version that Kubernetes 1.34 lacks as well
        said = kubectl.run("auth", "whoami", "--as=bob", "--as-group=g1", "--as-group=g2", "--as-uid=u1")
        assert "bob" in said
        assert "[g1 g2 system:authenticated]" in said


def test_raw_paths_and_what_is_not_served(kubectl: Kubectl):
    assert json.loads(kubectl.run("get", "--raw", "/version"))["gitVersion"].endswith("practice-cluster")
    assert kubectl.run("get", "--raw", "/readyz") == "ok"
    assert "Metrics API not available" in kubectl.run("top", "pods", fails=True)
    assert "resource type" in kubectl.run("get", "nodes", fails=True)
    assert '"nope" not found' in kubectl.run("get", "pod", "nope", fails=True)
