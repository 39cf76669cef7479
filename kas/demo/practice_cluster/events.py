"""Events, as ``kubectl describe`` and ``kubectl events`` show them."""

from __future__ import annotations

import uuid
from collections import deque

from kas.demo.practice_cluster.kinds import Kind, kind_of
from kas.demo.practice_cluster.objects import Object, Store

MAX_EVENTS = 300  # in the whole cluster; the oldest go first


class Events:
    """Writes events into the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: dict[tuple[str, str, str], str] = {}  # what happened to whom → event
        self._order: deque[tuple[str, str, str]] = deque()

    def record(self, kind: Kind, item: Object, component: str, type_: str, reason: str, message: str) -> None:
        """Something happened to ``item``; the same thing again only counts up."""
        metadata = item["metadata"]
        namespace = metadata.get("namespace") or "default"
        key = (metadata["uid"], reason, message)
        events = kind_of("events")
        if (name := self._names.get(key)) and (event := self._store.find(events, namespace, name)):
            again = {**event, "count": event["count"] + 1, "lastTimestamp": self._store.timestamp()}
            self._store.replace(events, again)
            return
        where = self._store.find(kind_of("namespaces"), "", namespace)
        if where is None or "deletionTimestamp" in where["metadata"]:
            return
        name = f"{metadata['name']}.{uuid.uuid4().hex[:16]}"
        now = self._store.timestamp()
        involved = {
            "kind": kind.name,
            "apiVersion": kind.api_version,
            "namespace": namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        event = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "type": type_,
            "reason": reason,
            "message": message,
            "source": {"component": component},
            "reportingComponent": component,
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "eventTime": None,
            "count": 1,
        }
        self._store.create(events, event)
        self._names[key] = name
        self._order.append(key)
        if len(self._order) > MAX_EVENTS:
            self._forget(self._order.popleft())

    def _forget(self, key: tuple[str, str, str]) -> None:
        name = self._names.pop(key)
        for event in self._store.select(kind_of("events"), selector=lambda item: item["metadata"]["name"] == name):
            self._store.remove(kind_of("events"), event["metadata"]["namespace"], name)
