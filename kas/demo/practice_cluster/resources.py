"""The verbs on objects: create, update, patch, delete, with what Kubernetes does on the way."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from kas.demo.practice_cluster import bodies, defaults, patch, schema, status
from kas.demo.practice_cluster.deletion import DeleteOptions, Deletion
from kas.demo.practice_cluster.kinds import Kind, kind_of
from kas.demo.practice_cluster.objects import Object, Store
from kas.demo.practice_cluster.requests import Asked, Target

APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
PATCH_TYPES = f"application/json-patch+json, application/merge-patch+json, {STRATEGIC}, {APPLY}"


@dataclass(frozen=True)
class Done:
    """An answer: what to send, the HTTP status, and what to warn of."""

    item: Object
    status: int = 200
    warnings: list[str] = field(default_factory=list)


class Resources:
    """What the server lets clients do to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._deletion = Deletion(store)
        self._addresses = 0

    def create(self, target: Target, asked: Asked, body: bytes, content_type: str) -> Done:
        """POST: store a new object."""
        kind = target.kind
        item = bodies.decoded(body, content_type, kind.schema)
        return self._created(target, asked, item)

    def update(self, target: Target, asked: Asked, body: bytes, content_type: str) -> Done:
        """PUT: replace an object, its status or its scale."""
        before = self._store.get(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            scale = bodies.decoded(body, content_type, SCALE_SCHEMA)
            return self._rescaled(target, asked, before, scale)
        item, warnings = self._checked(target, asked, bodies.decoded(body, content_type, target.kind.schema))
        return self._updated(target, asked, before, item, warnings)

    def patch(self, target: Target, asked: Asked, body: bytes, content_type: str) -> Done:
        """PATCH: change an object, its status or its scale; server-side apply creates what is not there."""
        media_type = content_type.partition(";")[0].strip()
        document = bodies.decoded(body, content_type, target.kind.schema)
        if media_type == APPLY and not asked.query.get("fieldManager"):
            raise status.bad_request("PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        before = self._store.find(target.kind, target.namespace, target.name)
        if before is None:
            if media_type == APPLY and not target.subresource:
                return self._created(target, asked, document)
            raise status.not_found(target.kind, target.name)
        if target.subresource == "scale":
            changed = _patched(scale_of(target.kind, before), document, media_type, SCALE_SCHEMA)
            return self._rescaled(target, asked, before, changed)
        changed = _patched(before, document, media_type, target.kind.schema)
        item, warnings = self._checked(target, asked, changed)
        return self._updated(target, asked, before, item, warnings)

    def delete(self, target: Target, asked: Asked, body: bytes, content_type: str) -> Done:
        """DELETE of one object."""
        options = DeleteOptions.of(asked, body, content_type)
        item = self._store.get(target.kind, target.namespace, target.name)
        return Done(self._deletion.delete(target.kind, item, options))

    def delete_collection(self, target: Target, items: list[Object], asked: Asked, body: bytes, media: str) -> Done:
        """DELETE of all ``items``."""
        options = DeleteOptions.of(asked, body, media)
        for item in items:
            self._deletion.delete(target.kind, item, options)
        return Done({"kind": f"{target.kind.name}List", "apiVersion": target.kind.api_version, "items": items})

    def _checked(self, target: Target, asked: Asked, document: Any) -> tuple[Object, list[str]]:
        item, warnings = bodies.checked(target.kind, document, asked.query.get("fieldValidation", "Warn"))
        metadata = item["metadata"]
        metadata.pop("managedFields", None)
        if target.kind.namespaced:
            if metadata.setdefault("namespace", target.namespace) != target.namespace:
                raise status.bad_request("the namespace of the provided object does not match the namespace sent")
        else:
            metadata.pop("namespace", None)
        if target.name and metadata.setdefault("name", target.name) != target.name:
            raise status.bad_request("the name of the object does not match the name on the URL")
        return item, warnings

    def _created(self, target: Target, asked: Asked, document: Any) -> Done:
        kind = target.kind
        item, warnings = self._checked(target, asked, document)
        self._check_namespace(target, item)
        item["metadata"].pop("resourceVersion", None)
        if "status" in kind.subresources:
            item.pop("status", None)
        defaults.check(kind, item)
        item = defaults.with_defaults(kind, self._store.prepared(kind, item))
        if asked.all("dryRun"):
            return Done(item, 201, warnings)
        if kind.name == "Service" and item["spec"]["type"] != "ExternalName":
            self._give_address(item)
        created = self._store.create(kind, item)
        if kind.name == "Namespace":
            account = {"metadata": {"name": "default", "namespace": item["metadata"]["name"]}}
            self._store.create(kind_of("serviceaccounts"), account)
        return Done(created, 201, warnings)

    def _check_namespace(self, target: Target, item: Object) -> None:
        if not target.kind.namespaced:
            return
        namespace = self._store.get(kind_of("namespaces"), "", target.namespace)
        if "deletionTimestamp" in namespace["metadata"]:
            name = item["metadata"].get("name", "")
            why = f"unable to create new content in namespace {target.namespace} because it is being terminated"
            message = f'{target.kind.qualified_resource} "{name}" is forbidden: {why}'
            raise status.ApiError(403, "Forbidden", message, {"name": name, "kind": target.kind.resource})

    def _updated(self, target: Target, asked: Asked, before: Object, item: Object, warnings: list[str]) -> Done:
        kind = target.kind
        if target.subresource == "status":
            item = {**before, "metadata": {**before["metadata"]}, "status": item.get("status", {})}
        else:
            if "status" in kind.subresources and "status" in before:
                item["status"] = before["status"]
            item = defaults.with_defaults(kind, item)
            if kind.name == "Service" and "clusterIP" in before["spec"]:
                for name in ("clusterIP", "clusterIPs"):
                    item["spec"].setdefault(name, before["spec"].get(name))
            defaults.check(kind, item)
            defaults.check_update(kind, item, before)
        if asked.all("dryRun"):
            return Done(self._store.successor(item, before), 200, warnings)
        return Done(self._store.replace(kind, item), 200, warnings)

    def _rescaled(self, target: Target, asked: Asked, before: Object, scale: Any) -> Done:
        replicas = scale.get("spec", {}).get("replicas", 0) if isinstance(scale, dict) else None
        if not isinstance(replicas, int) or replicas < 0:
            raise status.bad_request("Scale: spec.replicas: a number of at least 0 was expected")
        item = copy.deepcopy(before)
        item["spec"]["replicas"] = replicas
        if version := scale.get("metadata", {}).get("resourceVersion"):
            item["metadata"]["resourceVersion"] = version
        if not asked.all("dryRun"):
            item = self._store.replace(target.kind, item)
        return Done(scale_of(target.kind, item))

    def _give_address(self, service: Object) -> None:
        if not service["spec"].get("clusterIP"):
            self._addresses += 1
            service["spec"]["clusterIP"] = f"10.96.{self._addresses >> 8 & 255}.{self._addresses & 255}"
        service["spec"]["clusterIPs"] = [service["spec"]["clusterIP"]]


SCALE_SCHEMA = "io.k8s.api.autoscaling.v1.Scale"


def scale_of(kind: Kind, item: Object) -> Object:
    """The Scale object of a deployment or replica set."""
    metadata = {
        name: item["metadata"][name]
        for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if name in item["metadata"]
    }
    labels = item["spec"]["selector"].get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": item["spec"]["replicas"]},
        "status": {
            "replicas": item.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def _patched(item: Object, document: Any, media_type: str, schema_name: str) -> Any:
    match media_type:
        case "application/json-patch+json":
            return patch.json_patch(item, document)
        case "application/merge-patch+json":
            return patch.merge_patch(item, document)
        case "application/strategic-merge-patch+json":
            return patch.strategic_merge(item, document, schema.named(schema_name))
        case "application/apply-patch+yaml":
            return patch.apply(item, document, schema.named(schema_name))
    raise status.unsupported_media_type(PATCH_TYPES)
