"""The controllers of deployments and replica sets, level-triggered: each looks at what is and does the next step."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from kas.demo.practice_cluster import conditions
from kas.demo.practice_cluster.deletion import DeleteOptions, Deletion
from kas.demo.practice_cluster.events import Events
from kas.demo.practice_cluster.kinds import kind_of
from kas.demo.practice_cluster.objects import Object, Store

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Workloads:
    """Deployments make replica sets, replica sets make pods."""

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events
        self._deletion = Deletion(store)
        self._deployments = kind_of("deployments", "apps")
        self._replica_sets = kind_of("replicasets", "apps")
        self._pods = kind_of("pods")

    def reconcile(self) -> None:
        """One step of everything that is due."""
        for deployment in self._store.select(self._deployments):
            if "deletionTimestamp" not in deployment["metadata"]:
                self._deployment(deployment)
        for replica_set in self._store.select(self._replica_sets):
            if "deletionTimestamp" not in replica_set["metadata"]:
                self._replica_set(replica_set)

    def _deployment(self, deployment: Object) -> None:
        owned = self._owned(self._replica_sets, deployment)
        wanted = _template_hash(deployment["spec"]["template"])
        newest = next((each for each in owned if each["metadata"]["labels"].get(HASH) == wanted), None)
        if deployment["spec"].get("paused") and newest is None:
            newest = max(owned, key=_revision, default=None)
        if newest is None:
            newest = self._new_replica_set(deployment, wanted, owned)
        elif _revision(newest) < max(map(_revision, owned)):  # rolled back to
            newest = self._annotated(newest, max(map(_revision, owned)) + 1)
        old = [each for each in owned if each["metadata"]["uid"] != newest["metadata"]["uid"]]
        if not deployment["spec"].get("paused"):
            self._roll(deployment, newest, old)
        self._forget_history(deployment, old)
        self._report_deployment(deployment)

    def _new_replica_set(self, deployment: Object, template_hash: str, owned: list[Object]) -> Object:
        metadata, spec = deployment["metadata"], deployment["spec"]
        template = spec["template"]
        labels = {**(template["metadata"].get("labels") or {}), HASH: template_hash}
        annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != LAST_APPLIED}
        annotations[REVISION] = str(max(map(_revision, owned), default=0) + 1)
        replica_set = {
            "metadata": {
                "name": f"{metadata['name']}-{template_hash}",
                "namespace": metadata["namespace"],
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [_owner(deployment)],
            },
            "spec": {
                "replicas": 0,
                "selector": {
                    **spec["selector"],
                    "matchLabels": {**(spec["selector"].get("matchLabels") or {}), HASH: template_hash},
                },
                "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
            },
            "status": {"replicas": 0},
        }
        return self._store.create(self._replica_sets, replica_set)

    def _annotated(self, replica_set: Object, revision: int) -> Object:
        annotations = {**replica_set["metadata"].get("annotations", {}), REVISION: str(revision)}
        metadata = {**replica_set["metadata"], "annotations": annotations}
        return self._store.replace(self._replica_sets, {**replica_set, "metadata": metadata})

    def _roll(self, deployment: Object, newest: Object, old: list[Object]) -> None:
        """The next step from the old replica sets to the new one, within maxSurge and maxUnavailable."""
        spec = deployment["spec"]
        replicas = spec["replicas"]
        if spec["strategy"]["type"] == "Recreate":
            for each in old:
                self._scale(deployment, each, 0)
            if not any(each["status"].get("replicas") for each in old):
                self._scale(deployment, newest, replicas)
            return
        rolling = spec["strategy"].get("rollingUpdate", {})
        surge = _share(rolling.get("maxSurge", "25%"), replicas, round_up=True)
        missing = _share(rolling.get("maxUnavailable", "25%"), replicas, round_up=False)
        if surge == 0 and missing == 0:
            missing = 1
        total = sum(each["spec"]["replicas"] for each in [newest, *old])
        room = max(replicas + surge - total, 0)
        wanted = min(replicas, newest["spec"]["replicas"] + room) if old else replicas
        if newest["spec"]["replicas"] > replicas:
            wanted = replicas
        newest = self._scale(deployment, newest, wanted)
        available = sum(each["status"].get("availableReplicas", 0) for each in [newest, *old])
        spare = max(available - (replicas - missing), 0)
        for each in sorted(old, key=_revision):
            unavailable = max(each["spec"]["replicas"] - each["status"].get("availableReplicas", 0), 0)
            fewer = min(each["spec"]["replicas"], unavailable + spare)
            spare -= max(fewer - unavailable, 0)
            self._scale(deployment, each, each["spec"]["replicas"] - fewer)

    def _scale(self, deployment: Object, replica_set: Object, replicas: int) -> Object:
        before = replica_set["spec"]["replicas"]
        if before == replicas:
            return replica_set
        verb = "up" if replicas > before else "down"
        message = f"Scaled {verb} replica set {replica_set['metadata']['name']} from {before} to {replicas}"
        self._tell(self._deployments, deployment, "deployment-controller", "ScalingReplicaSet", message)
        scaled = {**replica_set, "spec": {**replica_set["spec"], "replicas": replicas}}
        return self._store.replace(self._replica_sets, scaled)

    def _forget_history(self, deployment: Object, old: list[Object]) -> None:
        idle = [each for each in old if not each["spec"]["replicas"] and not each["status"].get("replicas")]
        kept = deployment["spec"].get("revisionHistoryLimit", 10)
        for each in sorted(idle, key=_revision)[: max(len(idle) - kept, 0)]:
            self._store.remove(self._replica_sets, each["metadata"]["namespace"], each["metadata"]["name"])

    def _report_deployment(self, deployment: Object) -> None:
        metadata = deployment["metadata"]
        current = self._store.get(self._deployments, metadata["namespace"], metadata["name"])
        owned = self._owned(self._replica_sets, current)
        newest = max(owned, key=_revision)
        annotations = {**(current["metadata"].get("annotations") or {}), REVISION: str(_revision(newest))}
        status = conditions.deployment_status(current, newest, owned, self._store.timestamp())
        written = {**current, "metadata": {**current["metadata"], "annotations": annotations}, "status": status}
        self._store.replace(self._deployments, written)

    def _replica_set(self, replica_set: Object) -> None:
        pods = [
            pod
            for pod in self._owned(self._pods, replica_set)
            if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in {"Failed", "Succeeded"}
        ]
        surplus = len(pods) - replica_set["spec"]["replicas"]
        for _ in range(-surplus):
            self._new_pod(replica_set)
        by_use = sorted(pods, key=lambda pod: (conditions.is_ready(pod), pod["metadata"]["creationTimestamp"]))
        for pod in by_use[: max(surplus, 0)]:
            self._tell(
                self._replica_sets,
                replica_set,
                "replicaset-controller",
                "SuccessfulDelete",
                f"Deleted pod: {pod['metadata']['name']}",
            )
            self._deletion.delete(self._pods, pod, DeleteOptions())
        left = [pod for pod in self._owned(self._pods, replica_set) if "deletionTimestamp" not in pod["metadata"]]
        ready = sum(conditions.is_ready(pod) for pod in left)
        status = {"replicas": len(left), "observedGeneration": replica_set["metadata"]["generation"]}
        if left:
            status["fullyLabeledReplicas"] = len(left)
        if ready:
            status.update(readyReplicas=ready, availableReplicas=ready)
        self._store.replace(self._replica_sets, {**replica_set, "status": status})

    def _new_pod(self, replica_set: Object) -> None:
        metadata, template = replica_set["metadata"], replica_set["spec"]["template"]
        pod = {
            "metadata": {
                **template["metadata"],
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
                "ownerReferences": [_owner(replica_set)],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        }
        created = self._store.create(self._pods, pod)
        message = f"Created pod: {created['metadata']['name']}"
        self._tell(self._replica_sets, replica_set, "replicaset-controller", "SuccessfulCreate", message)

    def _owned(self, kind: Any, owner: Object) -> list[Object]:
        uid = owner["metadata"]["uid"]

        def is_owned(item: Object) -> bool:
            return any(each["uid"] == uid for each in item["metadata"].get("ownerReferences") or [])

        return self._store.select(kind, owner["metadata"]["namespace"], is_owned)

    def _tell(self, kind: Any, item: Object, component: str, reason: str, message: str) -> None:
        self._events.record(kind, item, component, "Normal", reason, message)


def _owner(item: Object) -> Object:
    return {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "name": item["metadata"]["name"],
        "uid": item["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _template_hash(template: Object) -> str:
    """The same for equal templates; of characters that spell no words, as Kubernetes has it."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join("bcdfghjklmnpqrstvwxz2456789"[byte % 27] for byte in digest[:10])


def _revision(replica_set: Object) -> int:
    return int((replica_set["metadata"].get("annotations") or {}).get(REVISION, "0"))


def _share(value: str | int, replicas: int, *, round_up: bool) -> int:
    """A number, or a percentage of ``replicas``."""
    if isinstance(value, int):
        return value
    exact = int(value.rstrip("%")) * replicas / 100
    return math.ceil(exact) if round_up else math.floor(exact)
