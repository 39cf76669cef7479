"""Decodes Kubernetes' protobuf bodies into JSON objects: typed commands of kubectl ≥ 1.32 send them and do not fall back.

The envelope is ``k8s\\0`` and a ``runtime.Unknown``; field numbers come from a recorded table. Answers stay JSON,
which every client accepts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from kas.demo.practice_cluster import documents

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
META_V1 = "io.k8s.apimachinery.pkg.apis.meta.v1."
UNKNOWN = "io.k8s.apimachinery.pkg.runtime.Unknown"
TIMES = {META_V1 + "Time": "%Y-%m-%dT%H:%M:%SZ", META_V1 + "MicroTime": "%Y-%m-%dT%H:%M:%S.%fZ"}


class BadProtobuf(ValueError):
    """The body is not a protobuf message of a kind that is served."""


def decode(body: bytes, schema: str) -> dict[str, Any]:
    """The object in ``body``, of the OpenAPI schema named ``schema``. Raises BadProtobuf."""
    if not body.startswith(MAGIC):
        raise BadProtobuf("the body does not start with the protobuf envelope")
    try:
        envelope = _decoded(body[len(MAGIC) :], UNKNOWN)
        content = _decoded(base64.b64decode(envelope.get("raw", "")), schema)
    except (IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise BadProtobuf(f"cannot decode {schema}: {error!r}") from error
    return {**envelope.get("typeMeta", {}), **content}


def _decoded(message: bytes, schema: str) -> dict[str, Any]:
    fields = documents.protobuf_fields()[schema]
    result: dict[str, Any] = {}
    for number, value in _fields(message):
        if (field := fields.get(str(number))) is None:
            continue
        name, kind, often = field
        if often == "map":
            key, entry = _map_entry(value, kind)
            result.setdefault(name, {})[key] = entry
        elif often == "many":
            result.setdefault(name, []).append(_value(value, kind))
        elif often == "inline":
            result.update(_value(value, kind))
        else:
            result[name] = _value(value, kind)
    return {name: value for name, value in result.items() if value not in ("", None)}


def _map_entry(message: int | bytes, kind: str) -> tuple[str, Any]:
    key, value = "", None
    for number, raw in _fields(_bytes(message)):
        if number == 1:
            key = _bytes(raw).decode()
        else:
            value = _value(raw, kind)
    return key, "" if value is None else value


def _value(raw: int | bytes, kind: str) -> Any:
    match kind:
        case "string":
            return _bytes(raw).decode()
        case "bytes":
            return base64.b64encode(_bytes(raw)).decode()
        case "bool":
            return bool(raw)
        case "int32" | "int64":
            if not isinstance(raw, int):
                raise BadProtobuf("a number was expected")
            return raw - (1 << 64) if raw >> 63 else raw
    return _message_value(_bytes(raw), kind)


def _message_value(raw: bytes, kind: str) -> Any:
    """A message, or one of those that JSON writes as a scalar."""
    if kind == "io.k8s.apimachinery.pkg.api.resource.Quantity":
        return _decoded(raw, kind).get("string", "0")
    if kind == "io.k8s.apimachinery.pkg.util.intstr.IntOrString":
        value = _decoded(raw, kind)
        return value.get("strVal", "") if value.get("type") == 1 else value.get("intVal", 0)
    if kind in TIMES:
        value = _decoded(raw, META_V1 + "Time") if raw else {}
        if not value.get("seconds"):
            return None  # the zero time
        moment = datetime.fromtimestamp(value["seconds"] + value.get("nanos", 0) / 1e9, UTC)
        return moment.strftime(TIMES[kind])
    return _decoded(raw, kind)


def _bytes(raw: int | bytes) -> bytes:
    if isinstance(raw, int):
        raise BadProtobuf("a length-delimited field was expected")
    return raw


def _fields(message: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, varint or content) of each field; fixed-width fields do not occur in the kinds served."""
    data, position = _bytes(message), 0
    while position < len(data):
        key, position = _varint(data, position)
        value, position = _varint(data, position)
        if key & 7 == 0:
            yield key >> 3, value
        elif key & 7 == 2:
            if position + value > len(data):
                raise BadProtobuf("a field is longer than the message")
            yield key >> 3, data[position : position + value]
            position += value
        else:
            raise BadProtobuf(f"wire type {key & 7} is not used by Kubernetes")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise BadProtobuf("a varint is longer than 64 bits")
