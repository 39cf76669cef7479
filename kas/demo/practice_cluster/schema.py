"""What the recorded OpenAPI schemas say about an object: unknown fields, wrong types, how lists are merged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kas.demo.practice_cluster import documents

Schema = dict[str, Any]
REFERENCE = "#/components/schemas/"
ANYTHING: Schema = {}
# JSON Schema knows them as objects or strings; JSON has them as numbers, names or anything.
FREE_FORMS = {
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
}
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def named(name: str) -> Schema:
    """The schema of that full name."""
    schema: Schema = documents.schemas()[name]
    return schema


def resolved(schema: Schema) -> Schema:
    """``schema`` with a reference replaced by what it refers to; its own extensions win."""
    if "allOf" in schema:
        own = {key: value for key, value in schema.items() if key != "allOf"}
        return {**resolved(schema["allOf"][0]), **own}
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REFERENCE)
        return ANYTHING if name in FREE_FORMS else named(name)
    return schema


def of_field(schema: Schema, name: str) -> Schema:
    """The schema of a property (unresolved: its extensions say how it is merged); of anything, anything."""
    field: Schema = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or ANYTHING
    return field


def of_items(schema: Schema) -> Schema:
    """The schema of a list's items, resolved."""
    return resolved(schema.get("items", ANYTHING))


def unknown_fields(item: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """The paths of the fields that the schema does not know: ``spec.foo``."""
    if isinstance(item, list):
        for index, each in enumerate(item):
            yield from unknown_fields(each, of_items(schema), f"{path}[{index}]")
    if not isinstance(item, dict):
        return
    is_closed = "properties" in schema
    for name, value in item.items():
        where = f"{path}.{name}" if path else name
        if is_closed and name not in schema["properties"]:
            yield where
        else:
            yield from unknown_fields(value, resolved(of_field(schema, name)), where)


def without_unknown_fields(item: Any, schema: Schema) -> Any:
    """A copy of ``item`` that has only the fields that the schema knows, and no nulls."""
    if isinstance(item, list):
        return [without_unknown_fields(each, of_items(schema)) for each in item]
    if not isinstance(item, dict):
        return item
    known = schema.get("properties")
    return {
        name: without_unknown_fields(value, resolved(of_field(schema, name)))
        for name, value in item.items()
        if value is not None and (known is None or name in known)
    }


def wrong_types(item: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """What is not of the type that the schema demands: ``cannot unmarshal string into field spec.replicas of …``."""
    wanted = schema.get("type")
    if item is None:
        return
    if wanted in TYPES and (not isinstance(item, TYPES[wanted]) or (isinstance(item, bool) and wanted != "boolean")):
        yield f"cannot unmarshal {_json_type(item)} into field {path} of type {wanted}"
    elif isinstance(item, list):
        for each in item:
            yield from wrong_types(each, of_items(schema), path)
    elif isinstance(item, dict):
        for name, value in item.items():
            yield from wrong_types(value, resolved(of_field(schema, name)), f"{path}.{name}" if path else name)


def _json_type(item: Any) -> str:
    match item:
        case bool():
            return "bool"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return "number"
