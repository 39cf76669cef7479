"""Service accounts with the rights of the RBAC examples in deploy/rbac, and kubeconfigs with their tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.support.kubectls import Kubectl

EXAMPLES = Path(__file__).parents[2] / "deploy" / "rbac"


class Identities:
    """One service account per example, each in a namespace of its own, so that the rights of two never add up."""

    def __init__(self, admin: Kubectl, folder: Path) -> None:
        self._admin = admin
        self._folder = folder

    def namespace(self, name: str) -> None:
        """Make the namespace, unless it is there."""
        self._apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def with_rights_of(self, example: str, *, namespace: str = "default") -> Path:
        """A kubeconfig whose user has the rights of ``example`` and no others; ``namespace`` is the context's."""
        home = f"agentk-{example}"
        self.namespace(home)
        for document in yaml.safe_load_all((EXAMPLES / f"{example}.yaml").read_text()):
            self._apply(_moved(document, home))
        account = {"name": "agentk", "namespace": home}
        self._apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        token = self._admin.run("--namespace", home, "create", "token", "agentk", "--duration=8h").strip()
        return self._kubeconfig(example, token, namespace)

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
