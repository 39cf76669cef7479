"""What the status of a deployment says: counts, and the conditions that ``rollout status`` and ``wait`` look at."""

from __future__ import annotations

from kas.demo.practice_cluster.objects import Object


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is true."""
    return is_true(pod, "Ready")


def is_true(item: Object, name: str) -> bool:
    """Whether a condition of that name is true."""
    conditions = item.get("status", {}).get("conditions") or []
    return any(each["type"] == name and each["status"] == "True" for each in conditions)


def deployment_status(deployment: Object, newest: Object, owned: list[Object], now: str) -> Object:
    """The status of ``deployment``, whose replica sets are ``owned``."""
    replicas = deployment["spec"]["replicas"]
    total = sum(each["status"].get("replicas", 0) for each in owned)
    available = sum(each["status"].get("availableReplicas", 0) for each in owned)
    updated = newest["status"].get("replicas", 0)
    counts = {
        "replicas": total,
        "updatedReplicas": updated,
        "readyReplicas": sum(each["status"].get("readyReplicas", 0) for each in owned),
        "availableReplicas": available,
        "unavailableReplicas": max(replicas - available, 0),
    }
    before = {each["type"]: each for each in deployment.get("status", {}).get("conditions") or []}
    is_complete = updated == replicas == total == available
    written = [_available(before, available >= replicas, now), _progressing(before, newest, is_complete, now)]
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        **{name: count for name, count in counts.items() if count},
        "conditions": written,
    }


def _available(before: dict[str, Object], is_available: bool, now: str) -> Object:
    if is_available:
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
    else:
        reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    return _condition(before, "Available", is_available, reason, message, now)


def _progressing(before: dict[str, Object], newest: Object, is_complete: bool, now: str) -> Object:
    name = newest["metadata"]["name"]
    if is_complete:
        reason, message = "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.'
    else:
        reason, message = "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.'
    return _condition(before, "Progressing", True, reason, message, now)


def _condition(before: dict[str, Object], name: str, value: bool, reason: str, message: str, now: str) -> Object:
    old = before.get(name, {})
    status = "True" if value else "False"
    if (old.get("status"), old.get("reason"), old.get("message")) == (status, reason, message):
        return old
    since = old["lastTransitionTime"] if old.get("status") == status else now
    return {
        "type": name,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": now,
        "lastTransitionTime": since,
    }
