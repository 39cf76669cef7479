"""The four kinds of patch: JSON patch, JSON merge patch, strategic merge patch, and server-side apply.

Server-side apply here only merges: there is no field ownership, so it neither conflicts nor removes what an earlier
apply had and this one lacks.
"""

from __future__ import annotations

import copy
from typing import Any

from kas.demo.practice_cluster import schema as schemas
from kas.demo.practice_cluster.schema import Schema
from kas.demo.practice_cluster.status import ApiError, bad_request

ORDER, FROM_PRIMITIVES, RETAIN, DIRECTIVE = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys", "$patch"


def merge_patch(item: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(item) if isinstance(item, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def json_patch(item: Any, operations: Any) -> Any:
    """RFC 6902, on a copy. Raises ApiError 400 (malformed) or 422 (does not apply)."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    result = copy.deepcopy(item)
    for operation in operations:
        try:
            result = _operated(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiError(422, "Invalid", f"the server rejected our request: {operation}: {error}") from error
    return result


def strategic_merge(item: Any, patch: Any, schema: Schema) -> Any:
    """Kubernetes' own merge, in which the schema says by which key lists are merged."""
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch is an object")
    match patch.get(DIRECTIVE):
        case "replace":
            return {name: value for name, value in patch.items() if name != DIRECTIVE}
        case "delete":
            return {}
    result = dict(item) if isinstance(item, dict) else {}
    if RETAIN in patch:
        result = {name: value for name, value in result.items() if name in patch[RETAIN]}
    for name, value in patch.items():
        if name.startswith(FROM_PRIMITIVES):
            field = name.removeprefix(FROM_PRIMITIVES)
            result[field] = [each for each in result.get(field, []) if each not in value]
        elif name in (DIRECTIVE, RETAIN) or name.startswith(ORDER):
            continue
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = _strategic_value(result.get(name), value, schemas.of_field(schema, name))
    for name, order in patch.items():
        if name.startswith(ORDER):
            field = name.removeprefix(ORDER)
            key = schemas.of_field(schema, field).get("x-kubernetes-patch-merge-key")
            result[field] = _ordered(result.get(field, []), order, key)
    return result


def apply(item: Any, applied: Any, field: Schema) -> Any:
    """``item`` with all that ``applied`` says; lists are merged by the keys that the schema names."""
    schema = schemas.resolved(field)
    if isinstance(applied, dict) and isinstance(item, dict) and field.get("x-kubernetes-map-type") != "atomic":
        result = dict(item)
        for name, value in applied.items():
            below = schemas.of_field(schema, name)
            if value is None:
                result.pop(name, None)
            else:
                result[name] = apply(item[name], value, below) if name in item else value
        return result
    if isinstance(applied, list) and isinstance(item, list):
        match schema.get("x-kubernetes-list-type"):
            case "map":
                return _applied_list(item, applied, schema)
            case "set":
                return [*item, *(each for each in applied if each not in item)]
    return copy.deepcopy(applied)


def _applied_list(items: list[Any], applied: list[Any], schema: Schema) -> list[Any]:
    below = schemas.of_items(schema)
    keys = schema["x-kubernetes-list-map-keys"]

    def key_of(each: Any) -> list[Any]:
        return [each.get(key, schemas.of_field(below, key).get("default")) for key in keys]

    result = list(items)
    places = {repr(key_of(each)): index for index, each in enumerate(items)}
    for each in applied:
        if (index := places.get(repr(key_of(each)))) is None:
            result.append(each)
        else:
            result[index] = apply(items[index], each, below)
    return result


def _strategic_value(value: Any, patch: Any, field: Schema) -> Any:
    strategies = field.get("x-kubernetes-patch-strategy", "").split(",")
    if isinstance(patch, dict):
        below = schemas.resolved(field)
        known = isinstance(value, dict) and "replace" not in strategies
        return strategic_merge(value if known else {}, patch, below)
    if isinstance(patch, list) and "merge" in strategies:
        existing = value if isinstance(value, list) else []
        if key := field.get("x-kubernetes-patch-merge-key"):
            return _merged_list(existing, patch, key, schemas.of_items(field))
        return [*existing, *(each for each in patch if each not in existing)]
    return copy.deepcopy(patch)


def _merged_list(items: list[Any], patch: list[Any], key: str, schema: Schema) -> list[Any]:
    """A list of objects in which ``key`` names each."""
    if any(each.get(DIRECTIVE) == "replace" for each in patch):
        return [each for each in patch if DIRECTIVE not in each]
    result = list(items)
    for each in patch:
        if key not in each:
            raise bad_request(f"map: {each} does not contain declared merge key: {key}")
        place = next((index for index, item in enumerate(result) if item.get(key) == each[key]), None)
        if each.get(DIRECTIVE) == "delete":
            result = [item for item in result if item.get(key) != each[key]]
        elif place is None:
            result.append(strategic_merge({}, each, schema))
        else:
            result[place] = strategic_merge(result[place], each, schema)
    return result


def _ordered(items: list[Any], order: list[Any], key: str | None) -> list[Any]:
    """The items that ``order`` names in that order, then those that only the server had."""
    wanted = [each.get(key) if key else each for each in order]

    def place(item: Any) -> int:
        name = item.get(key) if key else item
        return wanted.index(name) if name in wanted else len(wanted)

    return sorted(items, key=place)


def _operated(item: Any, operation: dict[str, Any]) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            return _added(item, path, operation["value"])
        case "replace":
            _at(item, path)
            return _added(_removed(item, path), path, operation["value"])
        case "remove":
            return _removed(item, path)
        case "move":
            source = _pointer(operation["from"])
            value = _at(item, source)
            return _added(_removed(item, source), path, value)
        case "copy":
            return _added(item, path, copy.deepcopy(_at(item, _pointer(operation["from"]))))
        case "test":
            if _at(item, path) != operation["value"]:
                raise ValueError("the test failed")
            return item
    raise ValueError("unknown operation")


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} is not a JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _at(item: Any, path: list[str]) -> Any:
    for part in path:
        item = item[int(part)] if isinstance(item, list) else item[part]
    return item


def _added(item: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    holder = _at(item, path[:-1])
    if not isinstance(holder, list):
        holder[path[-1]] = value
    elif path[-1] == "-":
        holder.append(value)
    elif 0 <= int(path[-1]) <= len(holder):
        holder.insert(int(path[-1]), value)
    else:
        raise IndexError(path[-1])
    return item


def _removed(item: Any, path: list[str]) -> Any:
    if not path:
        return None
    holder = _at(item, path[:-1])
    holder.pop(int(path[-1]) if isinstance(holder, list) else path[-1])
    return item
