"""The server-side tables that ``kubectl get`` prints: columns and cells by kind, as a real API server has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kas.demo.practice_cluster import selectors
from kas.demo.practice_cluster.kinds import Kind

Object = dict[str, Any]
ACCEPTED = "as=Table"
VERSIONS = ("v1", "v1beta1")


@dataclass(frozen=True)
class Row:
    """What the cells of one object are made from."""

    item: Object
    now: datetime

    def age(self) -> str:
        """Since it was created."""
        return self.since(self.item["metadata"].get("creationTimestamp"))

    def since(self, timestamp: str | None) -> str:
        """``5s``, ``3m12s``, ``<unknown>``."""
        if not timestamp:
            return "<unknown>"
        return duration((self.now - parsed(timestamp)).total_seconds())

    def spec(self, name: str, default: Any = None) -> Any:
        """A field of the spec."""
        return self.item.get("spec", {}).get(name, default)

    def status(self, name: str, default: Any = None) -> Any:
        """A field of the status."""
        return self.item.get("status", {}).get(name, default)


@dataclass(frozen=True)
class Column:
    """One column: priority 1 is for ``-o wide``."""

    name: str
    cell: Callable[[Row], Any]
    priority: int = 0
    type: str = "string"

    def definition(self) -> Object:
        """As the table's head says it."""
        is_name = "name" if self.name == "Name" else ""
        return {"name": self.name, "type": self.type, "format": is_name, "description": "", "priority": self.priority}


def wanted_version(accept: str) -> str | None:
    """``v1`` or ``v1beta1`` if the client's first choice is a table, else None."""
    first = accept.split(",")[0]
    parameters = dict(part.strip().partition("=")[::2] for part in first.split(";")[1:])
    return parameters.get("v") if parameters.get("as") == "Table" and parameters.get("v") in VERSIONS else None


def table(kind: Kind, items: list[Object], *, version: str, now: datetime, query: dict[str, str], head: bool) -> Object:
    """A Table object; ``query`` may hold ``includeObject``; without ``head`` the columns are left out."""
    columns = COLUMNS.get(kind.name, BY_NAME_ONLY)
    rows = [
        {
            "cells": [column.cell(Row(item, now)) for column in columns],
            "object": _row_object(item, query.get("includeObject", "Metadata"), version),
        }
        for item in items
    ]
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": {},
        "columnDefinitions": [column.definition() for column in columns] if head else None,
        "rows": rows,
    }


def parsed(timestamp: str) -> datetime:
    """A Kubernetes timestamp, with or without fractions of a second."""
    return datetime.fromisoformat(timestamp).astimezone(UTC)


def duration(seconds: float) -> str:
    """As kubectl shortens it: two units while the first is small."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    return f"{days}d"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def _row_object(item: Object, include: str, version: str) -> Object | None:
    if include == "None":
        return None
    if include == "Object":
        return item
    partial = {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}"}
    return {**partial, "metadata": item["metadata"]}


def _pod_ready(row: Row) -> str:
    states = row.status("containerStatuses", [])
    return f"{sum(each['ready'] for each in states)}/{len(row.spec('containers', []))}"


def _pod_status(row: Row) -> str:
    if "deletionTimestamp" in row.item["metadata"]:
        return "Terminating"
    for each in row.status("containerStatuses", []):
        state = each["state"]
        if reason := (state.get("waiting") or state.get("terminated") or {}).get("reason"):
            return str(reason)
    return str(row.status("reason") or row.status("phase", "Unknown"))


def _restarts(row: Row) -> str:
    states = row.status("containerStatuses", [])
    count = sum(each["restartCount"] for each in states)
    ends = [
        ended["finishedAt"] for each in states if (ended := each.get("lastState", {}).get("terminated")) is not None
    ]
    return f"{count} ({row.since(max(ends))} ago)" if count and ends else str(count)


def _ports(row: Row) -> str:
    ports = []
    for port in row.spec("ports", []):
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port['port']}{node_port}/{port['protocol']}")
    return ",".join(ports) or "<none>"


def _labels(row: Row) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((row.spec("selector") or {}).items())) or "<none>"


def _of_containers(field: str) -> Callable[[Row], str]:
    return lambda row: ",".join(each.get(field, "") for each in row.spec("template", {})["spec"]["containers"])


def _involved(row: Row) -> str:
    involved = row.item.get("involvedObject", {})
    return f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"


def _source(row: Row) -> str:
    source = row.item.get("source", {})
    return ", ".join(filter(None, (source.get("component"), source.get("host"))))


NAME = Column("Name", lambda row: row.item["metadata"]["name"])
AGE = Column("Age", Row.age)
BY_NAME_ONLY = [NAME, AGE]
TEMPLATE = [
    Column("Containers", _of_containers("name"), 1),
    Column("Images", _of_containers("image"), 1),
    Column("Selector", lambda row: selectors.as_text(row.spec("selector")), 1),
]
COLUMNS: dict[str, list[Column]] = {
    "Namespace": [NAME, Column("Status", lambda row: row.status("phase")), AGE],
    "ConfigMap": [
        NAME,
        Column("Data", lambda row: len(row.item.get("data") or {}) + len(row.item.get("binaryData") or {})),
        AGE,
    ],
    "Secret": [
        NAME,
        Column("Type", lambda row: row.item.get("type")),
        Column("Data", lambda row: len(row.item.get("data") or {})),
        AGE,
    ],
    "ServiceAccount": [NAME, Column("Secrets", lambda row: len(row.item.get("secrets") or [])), AGE],
    "Service": [
        NAME,
        Column("Type", lambda row: row.spec("type")),
        Column("Cluster-IP", lambda row: row.spec("clusterIP", "<none>")),
        Column("External-IP", lambda row: row.spec("externalName", "<none>")),
        Column("Port(s)", _ports),
        AGE,
        Column("Selector", _labels, 1),
    ],
    "Pod": [
        NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        AGE,
        Column("IP", lambda row: row.status("podIP", "<none>"), 1),
        Column("Node", lambda row: row.spec("nodeName", "<none>"), 1),
        Column("Nominated Node", lambda _: "<none>", 1),
        Column("Readiness Gates", lambda _: "<none>", 1),
    ],
    "Event": [
        Column("Last Seen", lambda row: row.since(row.item.get("lastTimestamp") or row.item.get("eventTime"))),
        Column("Type", lambda row: row.item.get("type", "")),
        Column("Reason", lambda row: row.item.get("reason", "")),
        Column("Object", _involved),
        Column("Subobject", lambda row: row.item.get("involvedObject", {}).get("fieldPath", ""), 1),
        Column("Source", _source, 1),
        Column("Message", lambda row: row.item.get("message", "").strip()),
        Column("First Seen", lambda row: row.since(row.item.get("firstTimestamp") or row.item.get("eventTime")), 1),
        Column("Count", lambda row: row.item.get("count", 1), 1),
        Column("Name", lambda row: row.item["metadata"]["name"], 1),
    ],
    "Deployment": [
        NAME,
        Column("Ready", lambda row: f"{row.status('readyReplicas', 0)}/{row.spec('replicas', 0)}"),
        Column("Up-to-date", lambda row: row.status("updatedReplicas", 0)),
        Column("Available", lambda row: row.status("availableReplicas", 0)),
        AGE,
        *TEMPLATE,
    ],
    "ReplicaSet": [
        NAME,
        Column("Desired", lambda row: row.spec("replicas", 0), type="integer"),
        Column("Current", lambda row: row.status("replicas", 0), type="integer"),
        Column("Ready", lambda row: row.status("readyReplicas", 0), type="integer"),
        AGE,
        *TEMPLATE,
    ],
}
