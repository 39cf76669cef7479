"""YAML with positions: every mistake at its place, and nothing of YAML that is dangerous."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kas import located_yaml
from kas.errors import ConfigurationError
from kas.located_yaml import MistakesInFile, Position, load, validate


def check_even(value: int) -> int:
    if value % 2:
        raise ValueError("an even number was expected")
    return value


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Door(Strict):
    listen: str
    port: Annotated[int, Field(ge=1, le=65535)] = 1
    names: list[str] = []


class File(Strict):
    doors: list[Door] = []
    by_name: dict[str, Door] = {}
    level: Literal["debug", "info"] = "info"
    even: Annotated[int, AfterValidator(check_even)] = 0
    on: bool = False
    ratio: float = 0.5
    door: Door | None = None


def mistakes(text: bytes, max_bytes: int = 100_000) -> list[str]:
    with pytest.raises(MistakesInFile) as caught:
        validate(File, load(text, "kas.yaml", max_bytes))
    return [str(mistake) for mistake in caught.value.mistakes]


def test_plain_data_is_what_was_written():
    located = load(b"a: [1, -2.5, true, ~, no, 2024-01-01, '3', 0x10, 007]\nb:\n  c: |\n    text\n", "f", 1000)

    assert located.data == {"a": [1, -2.5, True, None, "no", "2024-01-01", "3", 16, "007"], "b": {"c": "text\n"}}


def test_every_value_and_key_has_its_place():
    located = load(b"a:\n  - b: 1\n    c: two\n", "f", 1000)

    assert located.values["a", 0, "c"] == Position(3, 8)
    assert located.keys["a", 0, "c"] == Position(3, 5)


@pytest.mark.parametrize("text", [b"", b"# nothing\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_document_is_an_empty_mapping(text):
    assert load(text, "f", 1000).data == {}


@pytest.mark.covers("C-01")
def test_a_byte_order_mark_is_tolerated():
    assert load(b"\xef\xbb\xbflevel: debug\n", "f", 1000).data == {"level": "debug"}


@pytest.mark.covers("C-01")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a: [1,\n", "f:2:1: did not find expected node content, while parsing a flow node"),
        (b"a:\n\t- b\n", "f:2:1: a tab cannot indent YAML: use spaces"),
        (b"ok: 1\n  bad: 2\n", "f:2:6: mapping values are not allowed in this context"),
        (b"a: 1\nb: 2\na: 3\n", "f:3:1: a: this key is there already, in line 1"),
        (b"a: {b: 1, b: 2}\n", "f:1:11: a.b: this key is there already, in line 1"),
        (b"a: &x 1\n", "f:1:4: a: anchors and aliases (& and *) are not accepted: write the value out"),
        (b"a: \xff\n", "f:1:4: UTF-8 was expected, not the byte 0xff"),
        (b"a: 1\nb: '\xc3'\n", "f:2:5: UTF-8 was expected, not the byte 0xc3"),
        ("a: 1\n".encode("utf-16"), "f:1:1: UTF-8 was expected, not the byte 0xff"),
        (b"a: 1\nb: \x1b[31m\n", "f:2:4: the control character U+001B must not stand in YAML"),
        (b"a: 1\n---\nb: 2\n", "f:2:1: one YAML document was expected: remove this '---'"),
        (b"? [a]\n: b\n", "f:1:3: a key must be text"),
        (
            b"a: !!python/object:os.system 1\n",
            "f:1:4: a: the tag tag:yaml.org,2002:python/object:os.system is not accepted here",
        ),
        (b"a: !mine 1\n", "f:1:4: a: the tag !mine is not accepted here"),
        (b"a: !mine [1]\n", "f:1:4: a: the tag !mine is not accepted"),
        (b"a: !!int x\n", "f:1:4: a: the tag tag:yaml.org,2002:int is not accepted here"),
        (b"a: " + b"9" * 5000 + b"\n", "f:1:4: a: this number is out of range"),
        (b"a: 1e999\n", "f:1:4: a: this number is out of range"),
        (b"[" * 40 + b"]" * 40, "f:1:33: "),
        (b"a: '" + b"x" * 1000 + b"'\n", "f:1:1: the file is larger than 1000 bytes"),
    ],
)
def test_what_is_dangerous_or_broken_is_refused_at_its_place(text, expected):
    with pytest.raises(MistakesInFile) as caught:
        load(text, "f", 1000 if b"xxx" in text else 6000)
    assert str(caught.value).startswith(expected)


@pytest.mark.covers("C-01")
def test_a_bomb_of_aliases_is_refused_without_being_expanded():
    lines = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)]

    with pytest.raises(MistakesInFile, match="anchors and aliases"):
        load(b"\n".join(lines), "f", 100_000)


@pytest.mark.covers("C-01")
@pytest.mark.parametrize("text", [b"[" * 100_000, b"{a: " * 25_000, b"- " * 50_000, b"[" + b"1," * 60_000 + b"]"])
def test_deep_and_wide_files_cost_neither_stack_nor_time(text):
    with pytest.raises(MistakesInFile, match=r"nest|more than 50000 values"):
        load(text, "f", 1_000_000)


def test_core_tags_are_accepted():
    assert load(
        b"a: !!str 5\nb: !!int 5\nc: !!map {}\nd: !!seq []\ne: !<tag:yaml.org,2002:null> ~\n", "f", 1000
    ).data == {
        "a": "5",
        "b": 5,
        "c": {},
        "d": [],
        "e": None,
    }


@pytest.mark.covers("C-02")
def test_all_mistakes_are_told_each_in_a_line_with_file_line_and_column():
    text = b"""\
doors:
  - listen: 8150
    prot: 1
  - port: 70000
  - listen: x
    names: y
level: verbose
even: 3
on: yes
levle: debug
by_name:
  a: {listen: x, q: 1}
door: 5
"""
    assert mistakes(text) == [
        "kas.yaml:2:13: doors[0].listen: text was expected, not a number (put it in quotes)",
        "kas.yaml:3:5: doors[0].prot: there is no such key (did you mean 'port'?)",
        "kas.yaml:4:5: doors[1].listen: this key is missing",
        "kas.yaml:4:11: doors[1].port: at most 65535 was expected",
        "kas.yaml:6:12: doors[2].names: a list was expected, not text",
        "kas.yaml:7:8: level: 'debug' or 'info' was expected",
        "kas.yaml:8:7: even: an even number was expected",
        "kas.yaml:9:5: on: true or false was expected, not text",
        "kas.yaml:10:1: levle: there is no such key (did you mean 'level'?)",
        "kas.yaml:12:18: by_name.a.q: there is no such key (known here: listen, names, port)",
        "kas.yaml:13:7: door: a mapping (key: value) was expected, not a number",
    ]


def test_dashes_and_capitals_are_recognised_as_the_key_that_was_meant():
    assert mistakes(b"By-Name: {}\n") == ["kas.yaml:1:1: By-Name: there is no such key (did you mean 'by_name'?)"]


@pytest.mark.parametrize("text", [b"- 1\n", b"5\n", b"text\n"])
def test_a_document_that_is_not_a_mapping_is_refused(text):
    assert mistakes(text)[0].startswith("kas.yaml:1:1: a mapping (key: value) was expected, not ")


def test_at_most_twenty_mistakes_are_shown_and_the_others_counted():
    with pytest.raises(ConfigurationError) as caught:
        validate(File, load(b"".join(b"x%d: 1\n" % n for n in range(50)), "f", 10_000))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "f: and 30 more"


def test_a_message_never_shows_a_value_or_obeys_a_terminal():
    text = rb"""door: {listen: s3cret, port: "s3cret"}
"\e[31mred": s3cret
level: s3cret
"""
    said = "\n".join(mistakes(text))
    assert "s3cret" not in said
    assert "\x1b" not in said


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(min_size=1, max_size=6), PLAIN, max_size=4))
def test_what_a_yaml_writer_wrote_is_read_back(data):
    text = yaml.dump(data, allow_unicode=True, Dumper=yaml.SafeDumper).encode()
    if b"&id" in text:
        return

    class Quoting(yaml.SafeDumper):
        """Quotes all text: YAML 1.1 leaves plain what 1.2 reads differently."""

    Quoting.add_representer(
        str, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"')
    )
    text = yaml.dump(data, Dumper=Quoting).encode()
    assert load(text, "f", 1_000_000).data == data


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_mistakes(text):
    with suppress(MistakesInFile):
        validate(File, load(text, "f", 1000))


@given(st.text(alphabet="ab:-[]{}&*!#|>'\"?,% \n\t~0.e", max_size=60))
def test_no_text_like_yaml_raises_anything_but_mistakes(text):
    with suppress(MistakesInFile):
        located = load(text.encode(), "f", 1000)
        assert () in located.values or located.data == {}


def test_the_pure_python_parser_says_the_same(monkeypatch):
    monkeypatch.setattr(located_yaml, "_LOADER", yaml.SafeLoader)
    assert load(b"a: [1, 'x']\n", "f", 100).values["a", 1] == Position(1, 8)
    with pytest.raises(MistakesInFile, match="f:2:1: a tab cannot indent YAML"):
        load(b"a:\n\t- b\n", "f", 100)
