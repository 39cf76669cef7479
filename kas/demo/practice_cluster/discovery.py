"""Discovery in its three forms, all derived from the one recorded document."""

from __future__ import annotations

import hashlib
from typing import Any

from kas.demo.practice_cluster import documents

# It must parse as a semantic version; everything after the dash says what this is.
VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0-practice-cluster",
    "gitCommit": "this is the practice cluster, not Kubernetes",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "python",
}


def aggregated(root: str, accept: str) -> tuple[str, dict[str, Any]] | None:
    """(content type, document) of ``/api`` or ``/apis`` when ``accept`` asks for the aggregated form, else None.

    The first of v2 and v2beta1 that the client names is taken, as the API server does.
    """
    for offer in accept.split(","):
        parameters = dict(part.strip().partition("=")[::2] for part in offer.split(";")[1:])
        version = parameters.get("v", "")
        if parameters.get("as") != "APIGroupDiscoveryList" or version not in {"v2", "v2beta1"}:
            continue
        content_type = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
        items = [item for item in documents.discovery() if bool(item["metadata"].get("name")) == (root == "/apis")]
        return content_type, {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{version}",
            "metadata": {},
            "items": items,
        }
    return None


def plain(path: str) -> dict[str, Any] | None:
    """The document at ``/api``, ``/apis``, ``/apis/G``, ``/api/v1`` or ``/apis/G/V``; None if there is none."""
    match path.strip("/").split("/"):
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(item) for item in documents.discovery() if item["metadata"].get("name")]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", name]:
            for item in documents.discovery():
                if item["metadata"].get("name") == name:
                    return {"kind": "APIGroup", "apiVersion": "v1", **_group(item)}
        case ["api", version]:
            return _resource_list("", version)
        case ["apis", name, version]:
            return _resource_list(name, version)
    return None


def openapi_v3_index() -> dict[str, Any]:
    """Where the OpenAPI v3 documents are; the hash lets clients keep them."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={openapi_v3_hash(path)}"}
            for path in documents.OPENAPI_V3_PATHS
        }
    }


def openapi_v3_hash(path: str) -> str:
    """Changes when the document at ``path`` changes."""
    return hashlib.sha256(documents.openapi_v3(path)).hexdigest().upper()


def _group(item: dict[str, Any]) -> dict[str, Any]:
    name = item["metadata"]["name"]
    versions = [{"groupVersion": f"{name}/{each['version']}", "version": each["version"]} for each in item["versions"]]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _resource_list(group: str, version: str) -> dict[str, Any] | None:
    for item in documents.discovery():
        for each in item["versions"]:
            if item["metadata"].get("name", "") == group and each["version"] == version:
                group_version = f"{group}/{version}" if group else version
                resources = [entry for resource in each["resources"] for entry in _entries(resource)]
                return {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}
    return None


def _entries(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """A resource and its subresources, as the plain list names them."""
    namespaced = resource["scope"] == "Namespaced"
    entry = {
        "name": resource["resource"],
        "singularName": resource["singularResource"],
        "namespaced": namespaced,
        "kind": resource["responseKind"]["kind"],
        "verbs": resource["verbs"],
    }
    entry.update({key: resource[key] for key in ("shortNames", "categories") if key in resource})
    entries = [entry]
    for each in resource.get("subresources", []):
        below = {
            "name": f"{resource['resource']}/{each['subresource']}",
            "singularName": "",
            "namespaced": namespaced,
            "kind": each["responseKind"]["kind"],
            "verbs": each["verbs"],
        }
        if each["responseKind"]["group"]:
            below.update(group=each["responseKind"]["group"], version=each["responseKind"]["version"])
        entries.append(below)
    return entries
