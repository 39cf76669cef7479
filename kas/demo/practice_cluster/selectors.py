"""Label and field selectors: of lists and watches (text), and of workloads (objects)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kas.demo.practice_cluster.status import bad_request

Object = dict[str, Any]
Selector = Callable[[Object], bool]

_REQUIREMENT = re.compile(
    r"\s*(?:"
    r"(?P<set_key>[^\s,!=()]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^)]*)\)"
    r"|(?P<key>[^\s,!=()]+)\s*(?P<equals>==|=|!=)\s*(?P<value>[^\s,()]*)"
    r"|!\s*(?P<absent>[^\s,!=()]+)"
    r"|(?P<present>[^\s,!=()]+)"
    r")\s*(?:,|$)"
)


def everything(_: Object) -> bool:
    """Selects all objects."""
    return True


def label_selector(text: str) -> Selector:
    """``app=x,tier in (a,b),!gone`` and so on. Raises ApiError 400."""
    requirements = []
    position = 0
    while position < len(text):
        match = _REQUIREMENT.match(text, position)
        if match is None or match.end() == position:
            raise bad_request(f"unable to parse requirement: {text[position:]!r} in label selector {text!r}")
        requirements.append(_label_requirement(match))
        position = match.end()
    if not requirements:
        return everything
    return lambda item: all(test(item["metadata"].get("labels") or {}) for test in requirements)


def field_selector(text: str) -> Selector:
    """``metadata.name=x,status.phase!=Running``, on any field that holds text. Raises ApiError 400."""
    requirements: list[tuple[list[str], bool, str]] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([\w.]+)(==|=|!=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid field selector {part!r}")
        requirements.append((match[1].split("."), match[2] != "!=", match[3]))
    if not requirements:
        return everything
    return lambda item: all((_field(item, path) == value) is wanted for path, wanted, value in requirements)


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a LabelSelector object (``matchLabels``, ``matchExpressions``) selects ``labels``; None selects nothing."""
    if selector is None:
        return False
    wanted = (selector.get("matchLabels") or {}).items()
    if any(labels.get(key) != value for key, value in wanted):
        return False
    return all(_expression(each, labels) for each in selector.get("matchExpressions") or [])


def as_text(selector: Object | None) -> str:
    """A LabelSelector as tables print it."""
    if selector is None:
        return "<none>"
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for each in selector.get("matchExpressions") or []:
        match each["operator"]:
            case "In" | "NotIn":
                parts.append(f"{each['key']} {each['operator'].lower()} ({','.join(sorted(each['values']))})")
            case "Exists":
                parts.append(each["key"])
            case _:
                parts.append(f"!{each['key']}")
    return ",".join(parts) or "<none>"


def _label_requirement(match: re.Match[str]) -> Callable[[dict[str, str]], bool]:
    if key := match["set_key"]:
        values = {value.strip() for value in match["values"].split(",")}
        if match["operator"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if key := match["key"]:
        value = match["value"]
        if match["equals"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if key := match["absent"]:
        return lambda labels: key not in labels
    key = match["present"]
    return lambda labels: key in labels


def _expression(expression: Object, labels: dict[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in (expression.get("values") or [])
        case "NotIn":
            return value not in (expression.get("values") or [])
        case "Exists":
            return value is not None
        case _:
            return value is None


def _field(item: Object, path: list[str]) -> str:
    value: Any = item
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
