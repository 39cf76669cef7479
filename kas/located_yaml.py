"""YAML that a person wrote, with the place of every value, so that each mistake is told as ``file:line:column``.

Much less than YAML: one document, no anchors or aliases (no bombs), no duplicate keys, no tags beyond the core schema, plain
scalars by YAML 1.2's core schema (``no`` and ``2024-01-01`` are text; so is ``0600``, which two versions of YAML read differently).
Keys are always text. Built from parser events in a loop: nesting costs no stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

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
    """The file has mistakes."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.position))
        lines = [str(mistake) for mistake in self.mistakes[:MAX_MISTAKES]]
        if (more := len(mistakes) - MAX_MISTAKES) > 0:
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


class _Open(NamedTuple):
    """A collection that is being read, and the key that waits for its value."""

    path: Path
    into: dict[str, Any] | list[Any]
    key: list[str]


class _Reader:
    """Parser events to data, positions and mistakes. Reading goes on after a mistake, to find the others."""

    def __init__(self, source: str, max_nodes: int) -> None:
        self._source = source
        self._max_nodes = max_nodes
        self._stack: list[_Open] = []
        self._nodes = 0
        self._documents = 0
        self.root: Any = None
        self.values: dict[Path, Position] = {}
        self.keys: dict[Path, Position] = {}
        self.mistakes: list[Mistake] = []

    def read(self, text: str) -> None:
        """Read all of ``text``, or until a mistake after which nothing can be understood."""
        try:
            for event in _events(text):
                if not self._take(event):
                    return
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._refuse(mark, (), _syntax(error, text[mark.index] if mark and mark.index < len(text) else ""))
        except yaml.YAMLError:
            self._refuse(None, (), "this is not YAML")

    def _take(self, event: Any) -> bool:
        """False: stop, there is no sense in going on."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                return self._refuse(event.start_mark, (), "one YAML document was expected: remove this '---'")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            return self._node(event)
        return True

    def _node(self, event: Any) -> bool:
        self._nodes += 1
        if self._nodes > self._max_nodes:
            return self._refuse(event.start_mark, (), f"more than {self._max_nodes} values in one file")
        if len(self._stack) >= MAX_DEPTH:
            return self._refuse(event.start_mark, (), f"nested more than {MAX_DEPTH} deep")
        top = self._stack[-1] if self._stack else None
        path = _next_path(top)
        if event.anchor is not None:  # an alias has one too
            self._refuse(event.start_mark, path, "anchors and aliases (& and *) are not accepted: write the value out")
        if top is not None and _wants_key(top):
            return self._key(top, event)
        if isinstance(event, yaml.AliasEvent):
            return self._put(top, path, event, None)
        if isinstance(event, yaml.ScalarEvent):
            return self._put(top, path, event, self._scalar(event, path))
        return self._collection(top, path, event)

    def _key(self, top: _Open, event: Any) -> bool:
        if isinstance(event, yaml.CollectionStartEvent):
            return self._refuse(event.start_mark, top.path, "a key must be text")
        key = event.value if isinstance(event, yaml.ScalarEvent) else ""
        path = (*top.path, key)
        if path in self.keys:
            self._refuse(event.start_mark, path, f"this key is there already, in line {self.keys[path].line}")
        self.keys[path] = _position(event.start_mark)
        top.key.append(key)
        return True

    def _collection(self, top: _Open | None, path: Path, event: Any) -> bool:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_CORE}{'map' if mapping else 'seq'}"):
            self._refuse(event.start_mark, path, f"the tag {shown(event.tag)} is not accepted")
        into: dict[str, Any] | list[Any] = {} if mapping else []
        self._put(top, path, event, into)
        self._stack.append(_Open(path, into, []))
        return True

    def _put(self, top: _Open | None, path: Path, event: Any, value: Any) -> bool:
        self.values[path] = _position(event.start_mark)
        if top is None:
            self.root = value
        elif isinstance(top.into, list):
            top.into.append(value)
        else:
            top.into[top.key.pop()] = value
        return True

    def _scalar(self, event: Any, path: Path) -> Any:
        if event.tag is None:
            value = _plain(event.value) if event.implicit[0] else event.value
        elif event.tag in ("!", f"{_CORE}str"):
            value = event.value
        else:
            value = _plain(event.value)
            kind = {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value), "")
            if event.tag != _CORE + kind:
                self._refuse(event.start_mark, path, f"the tag {shown(event.tag)} is not accepted here")
        if value is _OUT_OF_RANGE:
            self._refuse(event.start_mark, path, "this number is out of range")
        return value

    def _refuse(self, mark: Any, path: Path, message: str) -> bool:
        position = Position(1, 1) if mark is None else _position(mark)
        self.mistakes.append(Mistake(self._source, position, text_of(path), message))
        return False


def _events(text: str) -> Iterator[Any]:
    events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
    return events


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _wants_key(top: _Open) -> bool:
    return isinstance(top.into, dict) and not top.key


def _next_path(top: _Open | None) -> Path:
    if top is None:
        return ()
    if isinstance(top.into, list):
        return (*top.path, len(top.into))
    return (*top.path, top.key[-1]) if top.key else top.path


_OUT_OF_RANGE = object()


def _plain(text: str) -> Any:
    """A plain scalar by the core schema."""
    if text in _WORDS:
        return _WORDS[text]
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
