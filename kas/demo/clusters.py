"""The cluster that the demo plays on: the practice cluster, or a real one that was named with --kube."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml

from kas.demo.narrator import Narrator
from kas.demo.processes import DemoFailed, Processes, environment

NAMESPACE = "kas-demo"
_LABELS = {"app.kubernetes.io/part-of": "kas-demo"}
_READ = ["get", "list", "watch"]
RULES = [
    {
        "apiGroups": [""],
        "resources": ["configmaps", "services"],
        "verbs": [*_READ, "create", "update", "patch", "delete"],
    },
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": [*_READ, "create", "update", "patch", "delete"]},
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["pods", "events"], "verbs": _READ},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    # kubectl execs by GET over WebSocket and by POST over SPDY: both verbs, or half of the kubectls are refused.
    {"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["get", "create"]},
]


class Cluster(NamedTuple):
    """How agentk reaches it, and where the example goes."""

    kubeconfig: Path
    namespace: str


def practice_cluster(folder: Path, processes: Processes, narrator: Narrator) -> Cluster:
    """Start the practice cluster as a process of its own."""
    where = folder / "cluster"
    processes.start("cluster", (sys.executable, "-m", "kas.demo.practice_cluster", "--directory", where))
    processes.wait("cluster", lambda: bool(processes.log("cluster").read_text().strip()))
    narrator.passed("a practice cluster runs: a small API server whose pods are local processes. It is not Kubernetes")
    return Cluster(Path(processes.log("cluster").read_text().split()[-1]), "default")


@contextmanager
def real_cluster(kubeconfig: Path, kubectl: Path, folder: Path, narrator: Narrator) -> Iterator[Cluster]:
    """Install an identity for agentk with the rights that the transcript needs; remove all of it at the end."""
    admin = _Admin(kubeconfig.absolute(), kubectl, folder)
    narrator.say(f"In the cluster of {kubeconfig}, namespace {NAMESPACE}: a service account for agentk that may")
    for rule in RULES:
        narrator.say(f"  {', '.join(rule['verbs'])}: {', '.join(rule['resources'])}")
    try:
        admin.run("apply", "--filename", "-", given=yaml.safe_dump_all(_manifests()))
        token = admin.run("create", "token", "agentk", "--namespace", NAMESPACE, "--duration", "8h").strip()
        narrator.passed("installed; removed again at the end")
        yield Cluster(admin.kubeconfig_with(token), NAMESPACE)
    finally:
        narrator.say(f"Deleting namespace {NAMESPACE}, with all that was installed …")
        admin.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=80s")


class _Admin:
    def __init__(self, kubeconfig: Path, kubectl: Path, folder: Path) -> None:
        self._kubeconfig = kubeconfig
        self._kubectl = kubectl
        self._folder = folder

    def run(self, *words: str, given: str = "") -> str:
        done = subprocess.run(
            [self._kubectl, "--kubeconfig", self._kubeconfig, *words],
            input=given,
            capture_output=True,
            text=True,
            env=environment(self._folder),
            timeout=90,
            check=False,
        )
        if done.returncode:
            raise DemoFailed(f"kubectl {' '.join(words[:3])} failed in the cluster of --kube: {done.stderr}")
        return done.stdout

    def kubeconfig_with(self, token: str) -> Path:
        view = json.loads(self.run("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "demo", "cluster": view["clusters"][0]["cluster"]}],
            "users": [{"name": "agentk", "user": {"token": token}}],
            "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "agentk"}}],
            "current-context": "demo",
        }
        file = self._folder / "agentk.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(document))
        return file


def _manifests() -> list[dict[str, object]]:
    rbac = "rbac.authorization.k8s.io"
    here = {"namespace": NAMESPACE, "labels": _LABELS}
    account = {"kind": "ServiceAccount", "name": "agentk", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": _LABELS}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agentk", **here}},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "agentk", **here}, "rules": RULES},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "agentk", **here},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "agentk"},
            "subjects": [account],
        },
    ]
