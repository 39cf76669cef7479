"""OpenAPI v2, derived from the recorded v3 documents, as JSON and in the protobuf form that kubectl ≤ 1.28 reads.

Field numbers are those of gnostic's OpenAPIv2.proto, checked against what a real API server sends.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

from kas.demo.practice_cluster import documents

PROTOBUF_CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
METHOD_FIELDS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}


@cache
def as_json() -> dict[str, Any]:
    """The whole Swagger document."""
    paths: dict[str, Any] = {}
    info: dict[str, Any] = {}
    for path in documents.OPENAPI_V3_PATHS:
        document = json.loads(gzip.decompress(documents.openapi_v3(path)))
        info = document["info"]
        paths.update({name: _v2_path(item) for name, item in document["paths"].items()})
    definitions = {name: _v2_schema(schema) for name, schema in sorted(documents.schemas().items())}
    return {"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions}


@cache
def as_protobuf() -> bytes:
    """The same document, serialised as gnostic does."""
    document = as_json()
    paths = [_message(2, _text(1, name) + _message(2, _path(item))) for name, item in document["paths"].items()]
    definitions = [_message(1, _named_schema(name, schema)) for name, schema in document["definitions"].items()]
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    return b"".join(
        (
            _text(1, document["swagger"]),
            _message(2, info),
            _message(8, b"".join(paths)),
            _message(9, b"".join(definitions)),
        )
    )


def _v2_path(item: dict[str, Any]) -> dict[str, Any]:
    converted = {}
    for method, operation in item.items():
        parameters = [
            {"name": each["name"], "in": each["in"], "type": each["schema"]["type"], "uniqueItems": True}
            for each in operation["parameters"]
        ]
        converted[method] = {**operation, "parameters": parameters}
    return converted


def _v2_schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_v2_schema(each) for each in schema]
    if isinstance(schema, str):
        return schema.replace("#/components/schemas/", "#/definitions/")
    if not isinstance(schema, dict):
        return schema
    if "allOf" in schema and len(schema["allOf"]) == 1:  # v3 wraps a reference that has neighbours
        neighbours = {key: value for key, value in schema.items() if key.startswith("x-")}
        return _v2_schema({**schema["allOf"][0], **neighbours})
    if "oneOf" in schema:  # a quantity, or a number or a name: v2 knows it as text with a format
        return {"type": "string", **({"format": schema["format"]} if "format" in schema else {})}
    dropped = {"default", "enum"} if isinstance(schema.get("type"), str) else set()
    return {key: _v2_schema(value) for key, value in schema.items() if key not in dropped}


def _path(item: dict[str, Any]) -> bytes:
    return b"".join(_message(METHOD_FIELDS[method], _operation(operation)) for method, operation in item.items())


def _operation(operation: dict[str, Any]) -> bytes:
    parts = []
    for each in operation["parameters"]:
        query = _text(2, each["in"]) + _text(4, each["name"]) + _text(6, each["type"])
        parts.append(_message(8, _message(1, _message(2, _message(3, query)))))
    ok = _text(1, "200") + _message(2, _message(1, _text(1, "OK")))
    parts.append(_message(9, _message(1, ok)))
    return b"".join(parts) + _extensions(13, operation)


def _named_schema(name: str, schema: dict[str, Any]) -> bytes:
    return _text(1, name) + _message(2, _schema(schema))


def _schema(schema: dict[str, Any]) -> bytes:
    parts = []
    if "$ref" in schema:
        parts.append(_text(1, schema["$ref"]))
    if "format" in schema:
        parts.append(_text(2, schema["format"]))
    parts += [_text(19, name) for name in schema.get("required", [])]
    if isinstance(schema.get("additionalProperties"), dict):
        parts.append(_message(21, _message(1, _schema(schema["additionalProperties"]))))
    if "type" in schema:
        parts.append(_message(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_message(23, _message(1, _schema(schema["items"]))))
    if "properties" in schema:
        named = [_message(1, _named_schema(name, each)) for name, each in schema["properties"].items()]
        parts.append(_message(25, b"".join(named)))
    return b"".join(parts) + _extensions(31, schema)


def _extensions(field: int, holder: dict[str, Any]) -> bytes:
    """``x-…`` as YAML text; JSON is YAML."""
    named = ((key, json.dumps(value)) for key, value in holder.items() if key.startswith("x-"))
    return _join(_message(field, _text(1, key) + _message(2, _text(2, value))) for key, value in named)


def _join(parts: Iterable[bytes]) -> bytes:
    return b"".join(parts)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
