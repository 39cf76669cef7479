"""What the API server adds to a new object, and what it refuses: the few rules that manifests of a demo meet."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterator
from typing import Any

from kas.demo.practice_cluster import selectors, status
from kas.demo.practice_cluster.kinds import Kind

Object = dict[str, Any]
Cause = tuple[str, str]  # field, what is wrong with it

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_KINDS = {"Namespace", "Service"}
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)


def with_defaults(kind: Kind, item: Object) -> Object:
    """A copy of ``item`` with every field that Kubernetes fills in and clients look at."""
    item = copy.deepcopy(item)
    match kind.name:
        case "Namespace":
            item["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = item["metadata"]["name"]
            item["spec"] = {"finalizers": ["kubernetes"]}
            item.setdefault("status", {"phase": "Active"})
        case "Secret":
            _secret(item)
        case "Service":
            _service(item)
        case "Deployment" | "ReplicaSet":
            _workload(kind, item)
        case "Pod":
            item.setdefault("spec", {})
            _pod_spec(item["spec"])
            item.setdefault("status", {"phase": "Pending", "qosClass": "BestEffort"})
    return item


def check(kind: Kind, item: Object) -> None:
    """Refuse what breaks the rules of its kind. Raises ApiError 422."""
    name = item["metadata"].get("name") or item["metadata"].get("generateName", "")
    if causes := list(_causes(kind, item)):
        raise status.invalid(kind, name, causes)


def check_update(kind: Kind, item: Object, before: Object) -> None:
    """Refuse a change of what cannot change. Raises ApiError 422."""
    name = item["metadata"]["name"]
    causes: list[Cause] = []
    if kind.name in {"Deployment", "ReplicaSet"} and item["spec"]["selector"] != before["spec"]["selector"]:
        causes.append(("spec.selector", "Invalid value: field is immutable"))
    if kind.name == "Pod" and _fixed(item["spec"]) != _fixed(before["spec"]):
        causes.append(("spec", "Forbidden: pod updates may not change fields other than `spec.containers[*].image`"))
    if kind.name in {"ConfigMap", "Secret"} and before.get("immutable"):
        why = "Forbidden: field is immutable when `immutable` is set"
        causes += [(field, why) for field in ("data", "binaryData") if item.get(field) != before.get(field)]
    if causes:
        raise status.invalid(kind, name, causes)


def _causes(kind: Kind, item: Object) -> Iterator[Cause]:
    name = item["metadata"].get("name") or item["metadata"].get("generateName", "").rstrip("-.")
    pattern = LABEL if kind.name in LABEL_KINDS else SUBDOMAIN
    if not name:
        yield "metadata.name", "Required value: name or generateName is required"
    elif pattern.fullmatch(name) is None or len(name) > (63 if pattern is LABEL else 253):
        yield "metadata.name", f'Invalid value: "{name}": {SUBDOMAIN_RULE}'
    if kind.name == "Pod":
        yield from _pod_causes(item.get("spec", {}), "spec")
    elif kind.name in {"Deployment", "ReplicaSet"}:
        yield from _workload_causes(item.get("spec", {}))
    elif kind.name == "Service":
        spec = item.get("spec", {})
        if not spec.get("ports") and spec.get("type") != "ExternalName":
            yield "spec.ports", "Required value"


def _workload_causes(spec: Object) -> Iterator[Cause]:
    labels = spec.get("template", {}).get("metadata", {}).get("labels") or {}
    if not spec.get("selector"):
        yield "spec.selector", "Required value"
    elif not selectors.matches(spec["selector"], labels):
        yield "spec.template.metadata.labels", f"Invalid value: {labels}: `selector` does not match template `labels`"
    if spec.get("replicas", 1) < 0:
        yield "spec.replicas", f"Invalid value: {spec['replicas']}: must be greater than or equal to 0"
    yield from _pod_causes(spec.get("template", {}).get("spec", {}), "spec.template.spec")


def _pod_causes(spec: Object, path: str) -> Iterator[Cause]:
    names = set()
    if not spec.get("containers"):
        yield f"{path}.containers", "Required value"
    for index, container in enumerate(spec.get("containers") or []):
        where = f"{path}.containers[{index}]"
        if not container.get("name"):
            yield f"{where}.name", "Required value"
        elif container["name"] in names:
            yield f"{where}.name", f'Duplicate value: "{container["name"]}"'
        elif LABEL.fullmatch(container["name"]) is None:
            yield f"{where}.name", f'Invalid value: "{container["name"]}": {SUBDOMAIN_RULE}'
        if not container.get("image"):
            yield f"{where}.image", "Required value"
        names.add(container.get("name"))


def _fixed(spec: Object) -> Object:
    """The part of a pod's spec that cannot change."""
    fixed = {name: value for name, value in spec.items() if name not in {"activeDeadlineSeconds", "tolerations"}}
    fixed["containers"] = [{**container, "image": ""} for container in spec["containers"]]
    return fixed


def _secret(item: Object) -> None:
    item.setdefault("type", "Opaque")
    for name, text in (item.pop("stringData", None) or {}).items():
        item.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _service(item: Object) -> None:
    spec = item.setdefault("spec", {})
    for name, value in (
        ("type", "ClusterIP"),
        ("sessionAffinity", "None"),
        ("internalTrafficPolicy", "Cluster"),
        ("ipFamilies", ["IPv4"]),
        ("ipFamilyPolicy", "SingleStack"),
    ):
        spec.setdefault(name, value)
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    item.setdefault("status", {"loadBalancer": {}})


def _workload(kind: Kind, item: Object) -> None:
    spec = item.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    _pod_spec(template.setdefault("spec", {}))
    item.setdefault("status", {"replicas": 0} if kind.name == "ReplicaSet" else {})
    if kind.name == "ReplicaSet":
        return
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")


def _pod_spec(spec: Object) -> None:
    for name, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("terminationGracePeriodSeconds", 30),
    ):
        spec.setdefault(name, value)
    spec.setdefault("securityContext", {})
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        _container(container)


def _container(container: Object) -> None:
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    image = container.get("image", "")
    is_latest = image.endswith(":latest") or ":" not in image.rpartition("/")[2]
    container.setdefault("imagePullPolicy", "Always" if is_latest else "IfNotPresent")
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for env in container.get("env") or []:
        if reference := (env.get("valueFrom") or {}).get("fieldRef"):
            reference.setdefault("apiVersion", "v1")
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        if probe := container.get(name):
            _probe(probe)


def _probe(probe: Object) -> None:
    for name, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        probe[name] = probe.get(name) or value
    if get := probe.get("httpGet"):
        get.setdefault("path", "/")
        get.setdefault("scheme", "HTTP")
