"""Deleting: grace, propagation to dependents, finalizers, namespaces; and the collector that finishes what was begun."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from kas.demo.practice_cluster import bodies, status
from kas.demo.practice_cluster.kinds import Kind, kind_of
from kas.demo.practice_cluster.objects import Object, Store
from kas.demo.practice_cluster.requests import Asked

FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True)
class DeleteOptions:
    """How to delete."""

    propagation: str = "Background"
    grace_s: int | None = None
    uid: str | None = None
    dry_run: bool = False

    @classmethod
    def of(cls, asked: Asked, body: bytes, content_type: str) -> DeleteOptions:
        """From the body of a DELETE, or else its query. Raises ApiError 400."""
        document: Any = bodies.decoded(body, content_type, DELETE_OPTIONS_SCHEMA) if body.strip() else {}
        if not isinstance(document, dict):
            raise status.bad_request("DeleteOptions: an object was expected")
        query = asked.query
        grace = document.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        return cls(
            propagation=document.get("propagationPolicy") or query.get("propagationPolicy") or "Background",
            grace_s=None if grace is None else int(grace),
            uid=(document.get("preconditions") or {}).get("uid"),
            dry_run=bool(document.get("dryRun") or asked.all("dryRun")),
        )


DELETE_OPTIONS_SCHEMA = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"


class Deletion:
    """Begins to delete."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def delete(self, kind: Kind, item: Object, options: DeleteOptions) -> Object:
        """Delete, or begin to; what the client is told. Raises ApiError 409 if it is not the object that was meant."""
        metadata = item["metadata"]
        if options.uid not in (None, metadata["uid"]):
            why = f"Precondition failed: UID in precondition: {options.uid}, UID in object meta: {metadata['uid']}"
            raise status.conflict(kind, metadata["name"], why)
        if options.dry_run:
            return item if kind.name in {"Pod", "Namespace"} else status.success(kind, metadata)
        if kind.name == "Pod":
            return self._delete_pod(kind, item, options)
        if kind.name == "Namespace":
            marked = self._store.mark_deleted(kind, item)
            return self._store.replace(kind, {**marked, "status": {"phase": "Terminating"}})
        finalizers = list(metadata.get("finalizers") or [])
        if options.propagation == "Orphan":
            self._orphan_dependents(metadata["uid"])
        elif options.propagation == "Foreground" and FOREGROUND not in finalizers:
            finalizers.append(FOREGROUND)
        if finalizers:
            return self._store.mark_deleted(kind, item, finalizers=finalizers)
        self._store.remove(kind, metadata.get("namespace", ""), metadata["name"])
        return status.success(kind, metadata)

    def _delete_pod(self, kind: Kind, pod: Object, options: DeleteOptions) -> Object:
        """A running pod is only marked: who runs it removes it when its processes have ended."""
        grace_s = options.grace_s
        if grace_s is None:
            grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30)
        is_over = pod["status"].get("phase") in {"Succeeded", "Failed"}
        if grace_s <= 0 or is_over or not pod["spec"].get("nodeName"):
            return self._store.remove(kind, pod["metadata"]["namespace"], pod["metadata"]["name"])
        return self._store.mark_deleted(kind, pod, deletionGracePeriodSeconds=grace_s)

    def _orphan_dependents(self, uid: str) -> None:
        for kind, item in self._store.everything():
            owners = item["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == uid for owner in owners):
                orphan = copy.deepcopy(item)
                orphan["metadata"]["ownerReferences"] = [owner for owner in owners if owner["uid"] != uid]
                self._store.replace(kind, orphan)


class Collector:
    """Finishes deletions: dependents of what is gone, owners whose dependents are gone, contents of namespaces."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._deletion = Deletion(store)

    def reconcile(self) -> None:
        """One step of everything that is due."""
        living = {item["metadata"]["uid"] for _, item in self._store.everything()}
        dependents: dict[str, list[tuple[Kind, Object]]] = {}
        for kind, item in self._store.everything():
            owners = [owner["uid"] for owner in item["metadata"].get("ownerReferences") or []]
            for owner in owners:
                dependents.setdefault(owner, []).append((kind, item))
            if owners and not living.intersection(owners):
                self._begin(kind, item)
        for kind, item in self._store.everything():
            if FOREGROUND in (item["metadata"].get("finalizers") or []):
                self._foreground(kind, item, dependents.get(item["metadata"]["uid"], []))
        for namespace in self._store.select(kind_of("namespaces")):
            if "deletionTimestamp" in namespace["metadata"]:
                self._empty(namespace)

    def _foreground(self, kind: Kind, item: Object, dependents: list[tuple[Kind, Object]]) -> None:
        for dependent_kind, dependent in dependents:
            self._begin(dependent_kind, dependent)
        if not dependents:
            done = copy.deepcopy(item)
            done["metadata"]["finalizers"].remove(FOREGROUND)
            self._store.replace(kind, done)

    def _empty(self, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        contents = self._store.all_in(name)
        for kind, item in contents:
            self._begin(kind, item)
        if not self._store.all_in(name):
            self._store.remove(kind_of("namespaces"), "", name)

    def _begin(self, kind: Kind, item: Object) -> None:
        """Delete it unless that has begun, or it went together with another."""
        metadata = item["metadata"]
        current = self._store.find(kind, metadata.get("namespace", ""), metadata["name"])
        if current is not None and "deletionTimestamp" not in current["metadata"]:
            self._deletion.delete(kind, current, DeleteOptions())
