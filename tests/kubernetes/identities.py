"""Service accounts with the rights of the RBAC examples in deploy/rbac, and kubeconfigs with their tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.support.kubectls import Kubectl

EXAMPLES = Path(__file__).parents[2] / "deploy" / "rbac"
IN_FORCE_S = 30  # the API server decides by caches that follow what was applied


class Identities:
    """One service account per example, each in a namespace of its own, so that the rights of two never add up."""

    def __init__(self, admin: Kubectl, folder: Path) -> None:
        self._admin = admin
        self._folder = folder

    def namespace(self, name: str) -> None:
        """Make the namespace, unless it is there."""
        self._apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def with_rights_of(self, example: str, *, namespace: str = "default") -> Path:
        """A kubeconfig whose user has the rights of ``example``, in force, and no others; ``namespace`` is the context's."""
        home = f"agentk-{example}"
        self.namespace(home)
        documents = [_moved(one, home) for one in yaml.safe_load_all((EXAMPLES / f"{example}.yaml").read_text())]
        for document in documents:
            self._apply(document)
        account = {"name": "agentk", "namespace": home}
        self._apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        for attributes in _one_right_of_each_role(documents, home):
            self._in_force(f"system:serviceaccount:{home}:agentk", attributes)
        token = self._admin.run("--namespace", home, "create", "token", "agentk", "--duration=8h").strip()
        return self._kubeconfig(example, token, namespace)

    def _in_force(self, user: str, attributes: dict[str, str]) -> None:
        """Wait until the API server grants what was applied."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        until = time.monotonic() + IN_FORCE_S
        while True:
            answer = self._admin.run("create", "--filename", "-", "--output=json", input=json.dumps(review))
            if json.loads(answer)["status"]["allowed"]:
                return
            assert time.monotonic() < until, f"{user} was never granted {attributes}"
            time.sleep(0.1)

    def _apply(self, document: dict[str, Any]) -> None:
        self._admin.run("apply", "--filename", "-", input=json.dumps(document))

    def _kubeconfig(self, example: str, token: str, namespace: str) -> Path:
        document = json.loads(self._admin.run("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        (context,) = document["contexts"]
        context["context"] = {**context["context"], "namespace": namespace}
        document["users"] = [{"name": context["context"]["user"], "user": {"token": token}}]
        file = self._folder / f"{example}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(json.dumps(document))
        return file


def _moved(document: dict[str, Any], home: str) -> dict[str, Any]:
    """The same with agentk's service account in the namespace ``home``, and names of its own for what is cluster-wide."""
    for subject in document.get("subjects", []):
        if subject["kind"] == "ServiceAccount":
            subject["namespace"] = home
    if document["kind"].startswith("Cluster"):
        document["metadata"]["name"] += f"-{home}"
        if document.get("roleRef", {}).get("name", "").startswith("agentk-"):
            document["roleRef"]["name"] += f"-{home}"
    return document


def _one_right_of_each_role(documents: list[dict[str, Any]], home: str) -> Iterable[dict[str, str]]:
    """For each role that is bound to agentk in ``home`` one right, as attributes of a review: a role is in force as a whole."""
    rules = {(one["kind"], one["metadata"]["name"]): one["rules"][0] for one in documents if "rules" in one}
    built_in = {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["get"],
    }  # view, edit, admin and cluster-admin all may
    ours = {"kind": "ServiceAccount", "name": "agentk", "namespace": home}
    for document in documents:
        if ours in document.get("subjects", []):
            rule = rules.get((document["roleRef"]["kind"], document["roleRef"]["name"]), built_in)
            resource, _, subresource = rule["resources"][0].partition("/")
            yield {
                "namespace": document["metadata"].get("namespace", ""),
                "verb": rule["verbs"][0],
                "group": rule["apiGroups"][0],
                "resource": resource,
                "subresource": subresource,
                "name": rule.get("resourceNames", [""])[0],
            }
