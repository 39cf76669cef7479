"""YAML that a person wrote, with the place of every value, so that each mistake is told as ``file:line:column``.

Much less than YAML: one document, no anchors or aliases (no bombs), no duplicate keys, no tags beyond the core schema, plain
scalars by YAML 1.2's core schema (``no`` and ``2024-01-01`` are text; so is ``0600``, which two versions of YAML read differently).
Keys are always text. Built from parser events; nesting is bounded, and so is the stack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from kas.errors import ConfigurationError
from kas.located_yaml_phrases import known_keys, phrase, shown

Path = tuple[str | int, ...]
ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_DEPTH = 32  # a hand-written configuration needs a dozen; code that walks the result may recurse
MAX_NODES = 50_000  # about 3,000 entries of ci_access; bounds what a small file of `[,,,]` can cost
MAX_MISTAKES = 20  # as many as a person reads before mending the file
MAX_DIGITS = 32  # int() of a very long number is quadratic, and refused by Python from 4,300 digits

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: eight times faster
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML's own set
_CORE = "tag:yaml.org,2002:"
_MAP, _SEQ = f"{_CORE}map", f"{_CORE}seq"
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Position(NamedTuple):
    """Where something stands in a file; both count from 1."""

    line: int
    column: int


class Mistake(NamedTuple):
    """One thing that is wrong in a file, for people (``str``) and for programs."""

    source: str
    position: Position
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.position.line}:{self.position.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class MistakesInFile(ConfigurationError):
    """The file has mistakes: ``count`` of them, and ``mistakes``, the first MAX_MISTAKES in the file's order."""

    def __init__(self, mistakes: list[Mistake], count: int | None = None) -> None:
        """``count``: where only the first ones are known."""
        self.count = len(mistakes) if count is None else count
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.position)[:MAX_MISTAKES])
        lines = [str(mistake) for mistake in self.mistakes]
        if (more := self.count - len(self.mistakes)) > 0:
            lines.append(f"{mistakes[0].source}: and {more} more")
        super().__init__("\n".join(lines))


class Located(NamedTuple):
    """Plain data (dict, list, str, int, float, bool, None) and where each part of it stands."""

    data: Any
    source: str
    values: Mapping[Path, Position]
    keys: Mapping[Path, Position]


def load(text: bytes, source: str, max_bytes: int, max_nodes: int = MAX_NODES) -> Located:
    """Read one YAML document; an empty one is an empty mapping. ``source`` names the file in messages.

    Raises MistakesInFile for what is not YAML or more than the subset above, and for a file over ``max_bytes``.
    """
    if len(text) > max_bytes:
        raise MistakesInFile([Mistake(source, Position(1, 1), "", f"the file is larger than {max_bytes} bytes")])
    reader = _Reader(source, max_nodes)
    reader.read(_decoded(text, source))
    if reader.mistakes:
        raise MistakesInFile(reader.mistakes)
    data = {} if reader.root is None else reader.root
    return Located(data, source, reader.values, reader.keys)


def validate(model: type[ModelT], located: Located, context: Any = None) -> ModelT:
    """Make a ``model`` of the data; ``context`` is pydantic's validation context.

    Raises MistakesInFile with every mistake, each at its place, with a suggestion for an unknown key.
    """
    try:
        return model.model_validate(located.data, context=context)
    except ValidationError as error:
        found = [_mistake(model, located, one) for one in error.errors(include_url=False, include_input=False)]
        raise MistakesInFile(found) from None  # pydantic's text quotes values, which may be secrets


def _decoded(text: bytes, source: str) -> str:
    try:
        decoded = text.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8")
        mistake = Mistake(
            source, _position_after(before), "", f"UTF-8 was expected, not the byte 0x{text[error.start]:02x}"
        )
        raise MistakesInFile([mistake]) from None
    if bad := _UNPRINTABLE.search(decoded):
        where = _position_after(decoded[: bad.start()])
        message = f"the control character U+{ord(bad[0]):04X} must not stand in YAML"
        raise MistakesInFile([Mistake(source, where, "", message)])
    return decoded


def _position_after(text: str) -> Position:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return Position(len(lines), len(lines[-1]) + 1)


def _mistake(model: type[BaseModel], located: Located, error: Any) -> Mistake:
    path: Path = ()
    rest: list[str | int] = []
    for part in error["loc"]:
        # Parts that stand nowhere in the file are a missing key, or pydantic's names of union members and validators.
        if not rest and (*path, part) in located.values:
            path = (*path, part)
        else:
            rest.append(part)
    unknown = error["type"] == "extra_forbidden"
    position = located.keys.get(path) if unknown or rest == ["[key]"] else located.values.get(path)
    if error["type"] == "missing" and rest:
        path = (*path, rest[-1])
    message = known_keys(model, path) if unknown else phrase(error, _value_at(located.data, path))
    return Mistake(located.source, position or Position(1, 1), text_of(path), message)


def text_of(path: Path) -> str:
    """``ci_access.projects[0].id``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if text else shown(part)
    return text


def _value_at(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


class _Stop(Exception):
    """There is no sense in reading on."""


class _Reader:
    """Parser events, pulled one by one, to data, positions and mistakes. Reading goes on after a mistake, to find the others."""

    def __init__(self, source: str, max_nodes: int) -> None:
        self._source = source
        self._max_nodes = max_nodes
        self._nodes = 0
        self._next: Callable[[], Any] = lambda: None
        self.root: Any = None
        self.values: dict[Path, Position] = {}
        self.keys: dict[Path, Position] = {}
        self.mistakes: list[Mistake] = []

    def read(self, text: str) -> None:
        """Read all of ``text``, or until a mistake after which nothing can be understood."""
        loader = _LOADER(text)
        self._next = loader.get_event
        try:
            self._stream()
        except _Stop:
            pass
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._refuse(mark, (), _syntax(error, text[mark.index] if mark and mark.index < len(text) else ""))
        except yaml.YAMLError:
            self._refuse(None, (), "this is not YAML")
        finally:
            loader.dispose()

    def _stream(self) -> None:
        documents = 0
        while (event := self._next()) is not None:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(event.start_mark, "one YAML document was expected: remove this '---'")
            elif isinstance(event, yaml.NodeEvent):
                self.root = self._value(event, (), 0)

    def _value(self, event: Any, path: Path, depth: int) -> Any:
        """The value that begins with the event; all its events are taken."""
        self._admit(event, path, depth)
        mark = event.start_mark
        self.values[path] = Position(mark.line + 1, mark.column + 1)
        kind = type(event)
        if kind is yaml.ScalarEvent:
            return self._scalar(event, path)
        if kind is yaml.AliasEvent:
            return None
        is_mapping = kind is yaml.MappingStartEvent
        if event.tag not in (None, "!", _MAP if is_mapping else _SEQ):
            self._refuse(mark, path, f"the tag {shown(event.tag)} is not accepted")
        return self._mapping(path, depth + 1) if is_mapping else self._sequence(path, depth + 1)

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while type(event := self._next()) is not yaml.MappingEndEvent:
            self._admit(event, path, depth)
            if isinstance(event, yaml.CollectionStartEvent):
                self._stop(event.start_mark, "a key must be text", path)
            key = event.value if type(event) is yaml.ScalarEvent else ""
            place = (*path, key)
            if place in self.keys:
                self._refuse(event.start_mark, place, f"this key is there already, in line {self.keys[place].line}")
            mark = event.start_mark
            self.keys[place] = Position(mark.line + 1, mark.column + 1)
            found[key] = self._value(self._next(), place, depth)
        return found

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        found: list[Any] = []
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            found.append(self._value(event, (*path, len(found)), depth))
        return found

    def _admit(self, event: Any, path: Path, depth: int) -> None:
        """Of a value or key: whether there may be another, here."""
        self._nodes += 1
        if self._nodes > self._max_nodes:
            self._stop(event.start_mark, f"more than {self._max_nodes} values in one file")
        if depth >= MAX_DEPTH:
            self._stop(event.start_mark, f"nested more than {MAX_DEPTH} deep")
        if event.anchor is not None:  # an alias has one too
            what = "anchors and aliases (& and *) are not accepted: write the value out"
            self._refuse(event.start_mark, path, what)

    def _scalar(self, event: Any, path: Path) -> Any:
        tag = event.tag
        if tag is None:
            value = _plain(event.value) if event.implicit[0] else event.value
        elif tag in ("!", f"{_CORE}str"):
            value = event.value
        else:
            value = _plain(event.value)
            kind = {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value), "")
            if tag != _CORE + kind:
                self._refuse(event.start_mark, path, f"the tag {shown(tag)} is not accepted here")
        if value is _OUT_OF_RANGE:
            self._refuse(event.start_mark, path, "this number is out of range")
        return value

    def _refuse(self, mark: Any, path: Path, message: str) -> None:
        position = Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)
        self.mistakes.append(Mistake(self._source, position, text_of(path), message))

    def _stop(self, mark: Any, message: str, path: Path = ()) -> NoReturn:
        self._refuse(mark, path, message)
        raise _Stop


_OUT_OF_RANGE = object()


def _plain(text: str) -> Any:
    """A plain scalar by the core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text, 0) if len(text) <= MAX_DIGITS else _OUT_OF_RANGE
    if _FLOAT.fullmatch(text) and not re.fullmatch(r"[-+]?0[0-9]+", text):
        value = float(text)
        return value if abs(value) != float("inf") else _OUT_OF_RANGE
    return text


def _syntax(error: yaml.MarkedYAMLError, character: str) -> str:
    problem = error.problem or "this is not YAML"
    if character == "\t" and "cannot start any token" in problem:
        return "a tab cannot indent YAML: use spaces"
    return f"{problem}, {error.context}" if error.context else problem
