"""Makes the data files of this package from a real Kubernetes; README.md beside it says how to run it."""

from __future__ import annotations

import gzip
import json
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

# Group and version → resource → the subresources that the practice cluster serves.
KEPT: dict[tuple[str, str], dict[str, set[str]]] = {
    ("", "v1"): {
        "configmaps": set(),
        "events": set(),
        "namespaces": {"status"},
        "pods": {"attach", "exec", "log", "portforward", "status"},
        "secrets": set(),
        "serviceaccounts": set(),
        "services": {"status"},
    },
    ("apps", "v1"): {"deployments": {"scale", "status"}, "replicasets": {"scale", "status"}},
    ("authentication.k8s.io", "v1"): {"selfsubjectreviews": set()},
    ("authorization.k8s.io", "v1"): {"selfsubjectaccessreviews": set()},
}
SCALE_VERSION = ("autoscaling", "v1")  # the kind that .../scale speaks
REFERENCE = "#/components/schemas/"


def main(base_url: str, api_source: str) -> None:
    """Write every data file: ``base_url`` is a ``kubectl proxy``, ``api_source`` the Go module k8s.io/api with siblings."""
    discovery = trimmed_discovery(base_url)
    (HERE / "discovery.json").write_text(json.dumps(discovery, indent=1) + "\n")
    schemas: dict[str, Any] = {}
    for group, version in KEPT:
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        document = trimmed_openapi(fetch(f"{base_url}/openapi/v3/{path}"), group, version)
        schemas.update(document["components"]["schemas"])
        write_compressed(HERE / f"openapi_v3_{path.replace('/', '_')}.json.gz", document)
    write_compressed(HERE / "protobuf_fields.json.gz", protobuf_fields(Path(api_source), schemas))


def fetch(url: str, accept: str = "application/json") -> Any:
    """The JSON at ``url``."""
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310 the operator's own address
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)


def write_compressed(path: Path, document: Any) -> None:
    """The same document gives the same bytes."""
    path.write_bytes(gzip.compress(json.dumps(document, separators=(",", ":"), sort_keys=True).encode(), 9, mtime=0))


def trimmed_discovery(base_url: str) -> list[Any]:
    """The aggregated discovery's items of the kept groups, versions, resources and subresources."""
    items = fetch(f"{base_url}/api", DISCOVERY)["items"] + fetch(f"{base_url}/apis", DISCOVERY)["items"]
    kept = []
    for item in items:
        group = item["metadata"].get("name", "")
        item["metadata"] = {"name": group} if group else {}
        item["versions"] = [
            {"version": version["version"], "resources": trimmed_resources(version["resources"], wanted)}
            for version in item["versions"]
            if (wanted := KEPT.get((group, version["version"])))
        ]
        if item["versions"]:
            kept.append(item)
    return kept


def trimmed_resources(resources: list[Any], wanted: dict[str, set[str]]) -> list[Any]:
    """``resources`` without what the practice cluster does not serve."""
    kept = [resource for resource in resources if resource["resource"] in wanted]
    for resource in kept:
        names = wanted[resource["resource"]]
        below = [each for each in resource.pop("subresources", []) if each["subresource"] in names]
        if below:
            resource["subresources"] = below
    return kept


def trimmed_openapi(document: Any, group: str, version: str) -> Any:
    """``document`` with the kept kinds' schemas and the query parameters of their paths; all prose is dropped."""
    kinds = {
        name: schema
        for name, schema in document["components"]["schemas"].items()
        for gvk in schema.get("x-kubernetes-group-version-kind", [])
        if (gvk["group"], gvk["version"]) in {(group, version), SCALE_VERSION}
    }
    paths = {path: trimmed_path(item) for path, item in document["paths"].items() if is_kept_path(path, group, version)}
    wanted = {
        item[method]["x-kubernetes-group-version-kind"]["kind"]
        for item in paths.values()
        for method in item
        if "x-kubernetes-group-version-kind" in item[method]
    }
    roots = [name for name in kinds if name.rpartition(".")[2].removesuffix("List") in wanted]
    schemas = reachable(document["components"]["schemas"], roots)
    return {
        "openapi": document["openapi"],
        "info": {"title": "Practice cluster (not Kubernetes)", "version": document["info"]["version"]},
        "paths": paths,
        "components": {"schemas": {name: without_prose(schema) for name, schema in sorted(schemas.items())}},
    }


def is_kept_path(path: str, group: str, version: str) -> bool:
    """Whether ``path`` belongs to a kept resource or subresource."""
    prefix = f"/apis/{group}/{version}/" if group else f"/api/{version}/"
    match = re.fullmatch(re.escape(prefix) + r"(?:namespaces/\{namespace\}/)?(\w+)(?:/\{name\}(?:/(\w+))?)?", path)
    if match is None or match[1] not in KEPT[group, version]:
        return False
    return match[2] is None or match[2] in KEPT[group, version][match[1]]


def trimmed_path(item: Any) -> Any:
    """Of each method: its action, its kind, and the names of its query parameters, which is what kubectl looks at."""
    kept = {}
    for method, operation in item.items():
        if method == "parameters":
            continue
        kept[method] = {
            "parameters": [
                {"name": each["name"], "in": "query", "schema": {"type": each["schema"]["type"]}}
                for each in operation.get("parameters", [])
                if each["in"] == "query"
            ],
            "responses": {"200": {"description": "OK"}},
            **{key: value for key, value in operation.items() if key.startswith("x-kubernetes-")},
        }
    return kept


def reachable(schemas: dict[str, Any], roots: list[str]) -> dict[str, Any]:
    """Every schema that ``roots`` refer to, directly or not."""
    found: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas[name]
            waiting += re.findall(re.escape(REFERENCE) + r'([^"]+)"', json.dumps(schemas[name]))
    return found


def without_prose(schema: Any) -> Any:
    """``schema`` without descriptions (a property may be named ``description``; that one is an object)."""
    if isinstance(schema, list):
        return [without_prose(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_prose(value)
        for key, value in schema.items()
        if not (key == "description" and isinstance(value, str))
    }


def protobuf_fields(api_source: Path, schemas: dict[str, Any]) -> dict[str, Any]:
    """Schema name → field number → [JSON name, type, "one"|"many"|"map"|"inline"], from the generated.proto files."""
    messages: dict[str, Any] = {}
    modules = [api_source, *api_source.parent.glob("apimachinery@" + api_source.name.partition("@")[2])]
    for file in sorted(path for module in modules for path in module.rglob("generated.proto")):
        text = re.sub(r"//.*", "", file.read_text())
        package = re.search(r"package ([\w.]+);", text)
        assert package is not None  # noqa: S101 a generated file always names its package
        for name, body in re.findall(r"message (\w+) \{(.*?)\n\}", text, re.DOTALL):
            messages[schema_name(f"{package[1]}.{name}")] = parsed_message(body, package[1])
    kept: dict[str, Any] = {}
    waiting = [*schemas, "io.k8s.apimachinery.pkg.runtime.Unknown"]
    while waiting:
        name = waiting.pop()
        if name in kept or name not in messages:
            continue
        properties = schemas.get(name, {}).get("properties", {})
        for field in messages[name].values():
            if field[2] == "one" and field[1] in messages and field[0] not in properties and properties:
                field[2] = "inline"  # embedded in the Go struct, so its fields stand in the parent's JSON
        kept[name] = messages[name]
        waiting += [field[1] for field in messages[name].values()]
    return kept


def parsed_message(body: str, package: str) -> dict[str, list[str]]:
    """Field number → [name, type, how often]."""
    fields = {}
    for kind, value, name, number in re.findall(
        r"(optional|repeated|map)[ <](?:string, )?([\w.]+)>? (\w+) = (\d+)", body
    ):
        type_name = value if value[0].islower() and "." not in value else schema_name(qualified(value, package))
        fields[number] = [name, type_name, {"optional": "one", "repeated": "many", "map": "map"}[kind]]
    return fields


def qualified(name: str, package: str) -> str:
    """The full name of a type that ``package`` refers to as ``name``."""
    return name.lstrip(".") if "." in name else f"{package}.{name}"


def schema_name(message: str) -> str:
    """``k8s.io.api.core.v1.Pod`` as OpenAPI spells it: ``io.k8s.api.core.v1.Pod``."""
    return "io.k8s." + message.removeprefix("k8s.io.")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), sys.argv[2])
