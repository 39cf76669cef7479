"""What a real Kubernetes says about its API, trimmed to what the practice cluster serves, as data files.

This package only reads its files; README.md beside them says where they come from.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib import resources
from typing import Any

OPENAPI_V3_PATHS = ("api/v1", "apis/apps/v1", "apis/authentication.k8s.io/v1", "apis/authorization.k8s.io/v1")


@cache
def discovery() -> list[Any]:
    """The items of an aggregated discovery document, core group first."""
    items: list[Any] = json.loads(_read("discovery.json"))
    return items


@cache
def openapi_v3(path: str) -> bytes:
    """The OpenAPI v3 document of ``path`` (one of ``OPENAPI_V3_PATHS``), as JSON, compressed with gzip."""
    return _read(f"openapi_v3_{path.replace('/', '_')}.json.gz")


@cache
def schemas() -> dict[str, Any]:
    """Every schema of every document, by its full name."""
    found: dict[str, Any] = {}
    for path in OPENAPI_V3_PATHS:
        found.update(json.loads(gzip.decompress(openapi_v3(path)))["components"]["schemas"])
    return found


@cache
def protobuf_fields() -> dict[str, dict[str, tuple[str, str, str]]]:
    """Message → field number → (JSON name, type, "one"|"many"|"map"|"inline")."""
    fields: dict[str, dict[str, tuple[str, str, str]]] = json.loads(gzip.decompress(_read("protobuf_fields.json.gz")))
    return fields


def _read(name: str) -> bytes:
    return (resources.files(__package__) / name).read_bytes()
