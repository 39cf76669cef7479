"""What pydantic found wrong, in the words of a person who edits YAML. Never a value: values may be secrets."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

MAX_SHOWN = 64  # characters of a key in a message

_NUMBER = "a number was expected"
_WHOLE = "a whole number was expected"
_YES = "true or false was expected"
_PHRASES: Mapping[str, str] = {
    "missing": "this key is missing",
    "string_type": "text was expected",
    "string_too_short": "at least {min_length} characters were expected",
    "string_too_long": "at most {max_length} characters were expected",
    "string_pattern_mismatch": "text of the form {pattern} was expected",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_type": _YES,
    "bool_parsing": _YES,
    "list_type": "a list was expected",
    "tuple_type": "a list was expected",
    "set_type": "a list was expected",
    "dict_type": "a mapping (key: value) was expected",
    "mapping_type": "a mapping (key: value) was expected",
    "model_type": "a mapping (key: value) was expected",
    "model_attributes_type": "a mapping (key: value) was expected",
    "none_required": "nothing was expected here",
    "literal_error": "{expected} was expected",
    "enum": "{expected} was expected",
    "greater_than": "more than {gt} was expected",
    "greater_than_equal": "at least {ge} was expected",
    "less_than": "less than {lt} was expected",
    "less_than_equal": "at most {le} was expected",
    "too_short": "at least {min_length} entries were expected",
    "too_long": "at most {max_length} entries were expected",
    "finite_number": _NUMBER,
    "path_type": "a path was expected",
    "path_not_file": "this file does not exist",
    "path_not_directory": "this folder does not exist",
    "value_error": "{error}",
    "assertion_error": "{error}",
}
_WANTS_TEXT = frozenset({"string_type", "path_type"})
_KINDS: Mapping[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


def phrase(error: Any, value: Any) -> str:
    """One line for one of pydantic's errors; ``value`` is looked at for its kind only."""
    kind: str = error["type"]
    template = _PHRASES.get(kind)
    if template is None:
        message: str = error["msg"]
        return message[:1].lower() + message[1:]
    text = template.format(**error.get("ctx", {}))
    if kind.endswith("_type"):
        text += f", not {_KINDS.get(type(value), 'this')}"
        if kind in _WANTS_TEXT and isinstance(value, (bool, int, float)):
            text += " (put it in quotes)"
    return text


def known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> str:
    """For the unknown key at the end of ``path``: the key that was probably meant, else all that could stand there."""
    known = sorted({key for one in _models_at(model, path[:-1]) for key in _keys(one)})
    wanted = str(path[-1])
    cutoff = 0.5 if len(wanted) < 4 else 0.6  # of two letters, one is enough
    close = difflib.get_close_matches(_folded(wanted), {_folded(key): key for key in known}, n=1, cutoff=cutoff)
    if close:
        meant = next(key for key in known if _folded(key) == close[0])
        return f"there is no such key (did you mean {meant!r}?)"
    return f"there is no such key (known here: {', '.join(known)})" if known else "no keys were expected here"


def shown(text: object) -> str:
    """Text from a file, fit for a terminal: short, on one line, without control characters."""
    cut = str(text)
    cut = cut if len(cut) <= MAX_SHOWN else cut[: MAX_SHOWN - 1] + "…"
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode("ascii")


def _folded(key: str) -> str:
    return key.lower().replace("-", "_")


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _models_at(annotation: Any, path: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """The models that the annotation allows at ``path``."""
    models: list[type[BaseModel]] = []
    for one in _alternatives(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            models += _inside(one, path)
        elif path and (inner := _element(one)) is not None:
            models += _models_at(inner, path[1:])
    return models


def _inside(model: type[BaseModel], path: tuple[str | int, ...]) -> list[type[BaseModel]]:
    if not path:
        return [model]
    for name, field in model.model_fields.items():
        if path[0] in (name, field.alias):
            return _models_at(field.annotation, path[1:])
    return []


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one)
    else:
        yield annotation


def _element(annotation: Any) -> Any:
    """What a list, tuple or mapping type holds; None for anything else."""
    arguments = get_args(annotation)
    return arguments[-1 if get_origin(annotation) is dict else 0] if arguments else None
