"""The kinds that the practice cluster serves: one table, read from the recorded discovery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from kas.demo.practice_cluster import documents


@dataclass(frozen=True)
class Kind:
    """One resource of the API."""

    group: str  # "" for the core group
    version: str
    resource: str  # plural, as in paths
    singular: str
    name: str  # CamelCase, as in ``kind:``
    namespaced: bool
    verbs: frozenset[str]
    subresources: frozenset[str]

    @cached_property
    def api_version(self) -> str:
        """As in ``apiVersion:``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def qualified_resource(self) -> str:
        """``deployments.apps``, as error messages say it."""
        return f"{self.resource}.{self.group}" if self.group else self.resource

    @cached_property
    def schema(self) -> str:
        """The full name of its OpenAPI schema."""
        wanted = {"group": self.group, "version": self.version, "kind": self.name}
        for name, schema in documents.schemas().items():
            if wanted in schema.get("x-kubernetes-group-version-kind", []):
                return name
        raise KeyError(self.name)


@cache
def kinds() -> dict[tuple[str, str, str], Kind]:
    """Every kind by (group, version, resource)."""
    return {(kind.group, kind.version, kind.resource): kind for kind in _read()}


def kind_of(resource: str, group: str = "", version: str = "v1") -> Kind:
    """The kind served at that resource. Raises KeyError."""
    return kinds()[group, version, resource]


def _read() -> Iterator[Kind]:
    for item in documents.discovery():
        for version in item["versions"]:
            for resource in version["resources"]:
                yield _kind(item["metadata"].get("name", ""), version["version"], resource)


def _kind(group: str, version: str, resource: dict[str, Any]) -> Kind:
    return Kind(
        group=group,
        version=version,
        resource=resource["resource"],
        singular=resource["singularResource"],
        name=resource["responseKind"]["kind"],
        namespaced=resource["scope"] == "Namespaced",
        verbs=frozenset(resource["verbs"]),
        subresources=frozenset(each["subresource"] for each in resource.get("subresources", [])),
    )
