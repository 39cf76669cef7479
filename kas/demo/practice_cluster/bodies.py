"""Reads what clients send: JSON, YAML and protobuf bodies, checked against the schema of their kind."""

from __future__ import annotations

import json
from typing import Any

import yaml

from kas.demo.practice_cluster import protobuf_bodies, schema, status
from kas.demo.practice_cluster.kinds import Kind
from kas.demo.practice_cluster.status import bad_request

Object = dict[str, Any]
ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
MAX_BYTES = 3 * 1024 * 1024  # what an API server reads of a body


def decoded(body: bytes, content_type: str, kind_schema: str) -> Any:
    """The document in ``body``. Raises ApiError 400 or 415."""
    media_type = content_type.partition(";")[0].strip().lower()
    try:
        match media_type:
            case "application/yaml" | "application/apply-patch+yaml":
                return yaml.safe_load(body)
            case protobuf_bodies.CONTENT_TYPE:
                return protobuf_bodies.decode(body, kind_schema)
            case "" | "application/json":
                return json.loads(body)
            case _ if media_type.endswith("+json"):
                return json.loads(body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"error decoding the body of the request: {error}") from error
    raise status.unsupported_media_type(ACCEPTED)


def checked(kind: Kind, item: Any, validation: str) -> tuple[Object, list[str]]:
    """``item`` without unknown fields, and warnings about them. Raises ApiError 400.

    ``validation`` is the parameter ``fieldValidation``: Strict refuses unknown fields, Warn (default) warns, Ignore
    is silent.
    """
    if not isinstance(item, dict) or not isinstance(item.get("metadata", {}), dict):
        raise bad_request(f"{kind.name} in version {kind.version!r} cannot be handled: it is not an object")
    for field, wanted in (("kind", kind.name), ("apiVersion", kind.api_version)):
        if item.setdefault(field, wanted) != wanted:
            raise bad_request(f"the {field} in the data ({item[field]}) does not match the expected one ({wanted})")
    prefix = f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: '
    kind_schema = schema.named(kind.schema)
    for problem in schema.wrong_types(item, kind_schema):
        raise bad_request(f"{prefix}json: {problem}")
    unknown = [f'unknown field "{path}"' for path in schema.unknown_fields(item, kind_schema)]
    if unknown and validation == "Strict":
        raise bad_request(f"{prefix}strict decoding error: {', '.join(unknown)}")
    known: Object = schema.without_unknown_fields(item, kind_schema) if unknown else _without_nulls(item)
    metadata = known.setdefault("metadata", {})
    for field in ("annotations", "finalizers", "labels", "ownerReferences"):
        if not metadata.get(field, True):
            del metadata[field]  # nothing and empty are the same
    return known, [] if validation == "Ignore" else unknown


def _without_nulls(item: Any) -> Any:
    if isinstance(item, dict):
        return {name: _without_nulls(value) for name, value in item.items() if value is not None}
    return [_without_nulls(each) for each in item] if isinstance(item, list) else item
